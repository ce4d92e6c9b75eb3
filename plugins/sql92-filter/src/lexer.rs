//! Text to tokens. sqlparser's tokenizer does the cutting, under a dialect of RocketMQ's identifiers; here its tokens
//! are put on a whitelist, and what it cuts otherwise than RocketMQ is put right. Called by `parser`.
//! Never fails: what cannot be a token becomes `Kind::Bad`, an error only if the parser gets that far, as in RocketMQ.

use std::iter::Peekable;
use std::str::CharIndices;

use sqlparser::dialect::Dialect;
use sqlparser::tokenizer::{Location, Token as SqlToken, TokenWithSpan, Tokenizer, Whitespace};

use crate::number::{Literal, decimal_literal, float_literal};

/// A token and where it begins, counted in characters from 1 through the whole text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) column: u32,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Word(Keyword),
    Identifier(String),
    Text(String),
    Number(Literal),
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
    /// A sound token that continues no expression: the rest of the text does not count.
    Stop,
    /// No token of this language, and why.
    Bad(&'static str),
    End,
}

/// Words that cannot be property names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
}

const KEYWORDS: [(&str, Keyword); 12] = [
    ("NOT", Keyword::Not),
    ("AND", Keyword::And),
    ("OR", Keyword::Or),
    ("BETWEEN", Keyword::Between),
    ("IN", Keyword::In),
    ("TRUE", Keyword::True),
    ("FALSE", Keyword::False),
    ("NULL", Keyword::Null),
    ("IS", Keyword::Is),
    ("CONTAINS", Keyword::Contains),
    ("STARTSWITH", Keyword::StartsWith),
    ("ENDSWITH", Keyword::EndsWith),
];

/// RocketMQ's identifiers; everything optional in sqlparser stays off.
#[derive(Debug)]
struct Selector;

impl Dialect for Selector {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_ascii_alphabetic() || ch == '_' || ch == '$'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.is_identifier_start(ch) || ch.is_ascii_digit()
    }

    fn is_delimited_identifier_start(&self, _: char) -> bool {
        false
    }
}

/// Cuts `text` into tokens; the last one is `Kind::End`, `Kind::Stop` or `Kind::Bad`.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    // One allocation: at most a token per byte. Growing would hold two such tables at once.
    let mut cut: Vec<TokenWithSpan> = Vec::with_capacity(text.len());
    let failed = Tokenizer::new(&Selector, text).tokenize_with_location_into_buf(&mut cut).is_err();
    let mut lexer = Lexer { text, walk: Walk::new(text), tokens: Vec::new() };
    for (at, token) in cut.iter().enumerate() {
        lexer.walk.to(token.span.start);
        let next = cut.get(at + 1).map(|token| &token.token);
        if !lexer.take(&token.token, next) {
            return lexer.tokens;
        }
    }
    if let Some(last) = cut.last() {
        lexer.walk.to(last.span.end);
    }
    let rest = lexer.rest();
    let end = match rest.as_bytes() {
        _ if !failed => Kind::End,
        [b'.', ..] => Kind::Bad(DOT),
        [b'/', ..] => Kind::Bad("the comment is not closed: `*/` is missing"),
        [b'"', ..] => Kind::Bad(DOUBLE_QUOTES),
        _ => Kind::Bad("the string is not closed: `'` is missing"),
    };
    lexer.push(end);
    lexer.tokens
}

const DOT: &str = "property names have no dots here";
const DOUBLE_QUOTES: &str = "strings stand in single quotes here: `'text'`";

struct Lexer<'a> {
    text: &'a str,
    walk: Walk<'a>,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    /// The text from the current token on.
    fn rest(&self) -> &'a str {
        &self.text[self.walk.byte..]
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, column: self.walk.column });
    }

    /// Takes one of sqlparser's tokens. False: nothing behind it can matter.
    fn take(&mut self, token: &SqlToken, next: Option<&SqlToken>) -> bool {
        let kind = match token {
            SqlToken::Whitespace(space) => return self.take_space(space, next),
            SqlToken::Word(word) if word.value == "l" && self.behind_decimal() => return true,
            SqlToken::Word(word) => self.word(&word.value),
            SqlToken::SingleQuotedString(text) => Kind::Text(text.clone()),
            SqlToken::Number(..) => return self.take_number(),
            SqlToken::HexStringLiteral(_) => return self.take_hex(),
            SqlToken::NationalStringLiteral(_) => return self.take_prefixed_string(),
            SqlToken::LParen => Kind::Open,
            SqlToken::RParen => Kind::Close,
            SqlToken::Comma => Kind::Comma,
            SqlToken::Plus => Kind::Plus,
            SqlToken::Minus => Kind::Minus,
            // `-` `>`: no operand can begin with `>`.
            SqlToken::Arrow | SqlToken::LongArrow => Kind::Stop,
            SqlToken::Eq => Kind::Equal,
            SqlToken::Lt => Kind::Less,
            SqlToken::LtEq => Kind::LessOrEqual,
            SqlToken::Gt => Kind::Greater,
            SqlToken::GtEq => Kind::GreaterOrEqual,
            // sqlparser takes `!=` for the same.
            SqlToken::Neq if self.rest().starts_with('<') => Kind::NotEqual,
            SqlToken::Neq => Kind::Bad("`!=` is not an operator here; write `<>`"),
            SqlToken::DoubleEq => Kind::Bad("`==` is not an operator here; write `=`"),
            SqlToken::RArrow => Kind::Bad("`=>` is not an operator here; write `>=`"),
            SqlToken::DoubleQuotedString(_) => Kind::Bad(DOUBLE_QUOTES),
            SqlToken::Period => Kind::Bad(DOT),
            SqlToken::Char('\u{c}') => return true,
            SqlToken::Mul | SqlToken::Div | SqlToken::Mod => Kind::Bad("there is no arithmetic here"),
            _ => Kind::Bad("this character has no meaning here"),
        };
        let goes_on = !matches!(kind, Kind::Stop | Kind::Bad(_));
        self.push(kind);
        goes_on
    }

    /// Whether a decimal ends right here: an `l` then belongs to it, as sqlparser knows it only of `L`.
    fn behind_decimal(&self) -> bool {
        let decimal = matches!(
            self.tokens.last(),
            Some(Token { kind: Kind::Number(Literal::Integer(_) | Literal::Long(_)), .. })
        );
        decimal && self.text[..self.walk.byte].ends_with(|c: char| c.is_ascii_digit())
    }

    fn word(&self, word: &str) -> Kind {
        match KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
            Some((_, keyword)) => Kind::Word(*keyword),
            None => Kind::Identifier(word.to_string()),
        }
    }

    fn take_space(&mut self, space: &Whitespace, next: Option<&SqlToken>) -> bool {
        match space {
            // RocketMQ wants the line end; without, it sees two minus signs.
            Whitespace::SingleLineComment { .. } if next.is_none() => {
                self.push(Kind::Stop);
                false
            }
            Whitespace::SingleLineComment { comment, .. } if comment.trim_end_matches('\r').contains('\r') => {
                self.push(Kind::Bad("end the comment with a line feed"));
                false
            }
            Whitespace::Space if !self.rest().starts_with([' ', '\u{c}']) => {
                self.push(Kind::Bad("this blank is not a plain one"));
                false
            }
            _ => true,
        }
    }

    /// Cuts the number by RocketMQ's rules: `0` or digits without leading zero, with an optional L, or a float. sqlparser
    /// agrees on where each ends, but for decimals that begin with 0.
    fn take_number(&mut self) -> bool {
        let rest = self.rest().as_bytes();
        let digits = |from: usize| rest[from.min(rest.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(0);
        let point = rest.get(whole) == Some(&b'.');
        let mut end = if point { whole + 1 + digits(whole + 1) } else { whole };
        let mut float = point;
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent > 0 {
                (float, end) = (true, end + 1 + sign + exponent);
            }
        }
        let text = self.rest();
        if float {
            let literal = float_literal(&text[..end]).map(Kind::Number);
            self.push(literal.unwrap_or(Kind::Bad("this number is 0 or infinite as a double")));
        } else if text.starts_with('0') && end > 1 {
            self.push(Kind::Number(Literal::Integer(0)));
            self.push(Kind::Stop);
            return false;
        } else {
            let literal = decimal_literal(&text[..end]).map(Kind::Number);
            self.push(literal.unwrap_or(Kind::Bad("this number does not fit 64 bits")));
        }
        !matches!(self.tokens.last(), Some(Token { kind: Kind::Bad(_), .. }))
    }

    /// `0x10`: RocketMQ sees 0, then a name. `x'ab'`: a name, then a string. Either way nothing behind it matters.
    fn take_hex(&mut self) -> bool {
        if self.rest().starts_with('0') {
            self.push(Kind::Number(Literal::Integer(0)));
            self.push(Kind::Stop);
            return false;
        }
        self.take_prefixed_string()
    }

    /// `N'text'`: RocketMQ sees a name, then a string.
    fn take_prefixed_string(&mut self) -> bool {
        let name = self.rest()[..1].to_string();
        self.push(Kind::Identifier(name));
        self.push(Kind::Stop);
        false
    }
}

/// Follows sqlparser's lines and columns through the text.
struct Walk<'a> {
    chars: Peekable<CharIndices<'a>>,
    line: u64,
    line_column: u64,
    byte: usize,
    column: u32,
    len: usize,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str) -> Self {
        Self { chars: text.char_indices().peekable(), line: 1, line_column: 1, byte: 0, column: 1, len: text.len() }
    }

    fn to(&mut self, place: Location) {
        while (self.line, self.line_column) < (place.line, place.column) {
            let Some((_, ch)) = self.chars.next() else { break };
            if ch == '\n' {
                self.line += 1;
                self.line_column = 1;
            } else {
                self.line_column += 1;
            }
            self.column += 1;
            self.byte = self.chars.peek().map_or(self.len, |(byte, _)| *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    fn name(text: &str) -> Kind {
        Kind::Identifier(text.into())
    }

    fn int(value: i32) -> Kind {
        Kind::Number(Literal::Integer(value))
    }

    #[test]
    fn names_words_and_signs() {
        assert_eq!(
            kinds("a$_9 aNd not"),
            [name("a$_9"), Kind::Word(Keyword::And), Kind::Word(Keyword::Not), Kind::End]
        );
        let signs = [Kind::Less, Kind::LessOrEqual, Kind::Greater, Kind::GreaterOrEqual, Kind::NotEqual, Kind::Equal];
        assert_eq!(kinds("< <= > >= <> =")[..6], signs);
        assert_eq!(kinds("(,)+-"), [Kind::Open, Kind::Comma, Kind::Close, Kind::Plus, Kind::Minus, Kind::End]);
        assert_eq!(kinds("a<-5"), [name("a"), Kind::Less, Kind::Minus, int(5), Kind::End]);
        assert_eq!(kinds("'it''s'"), [Kind::Text("it's".into()), Kind::End]);
        assert_eq!(kinds(r"'\'"), [Kind::Text(r"\".into()), Kind::End]);
    }

    #[test]
    fn numbers() {
        assert_eq!(kinds("007"), [int(0), Kind::Stop]);
        assert_eq!(kinds("0x10"), [int(0), Kind::Stop]);
        assert_eq!(kinds("0"), [int(0), Kind::End]);
        assert_eq!(kinds("5L"), [int(5), Kind::End]);
        assert_eq!(kinds("5l 5 l"), [int(5), int(5), name("l"), Kind::End]);
        assert_eq!(kinds("5000000000"), [Kind::Number(Literal::Long(5_000_000_000)), Kind::End]);
        for (text, value) in
            [("5.5", 5.5), ("5.", 5.0), (".5", 0.5), ("5E10", 5e10), ("5.5e-3", 5.5e-3), ("007.5", 7.5)]
        {
            assert_eq!(kinds(text), [Kind::Number(Literal::Double(value)), Kind::End], "{text}");
        }
        assert_eq!(kinds("1e"), [int(1), name("e"), Kind::End]);
        assert!(matches!(kinds("0.0")[..], [Kind::Bad(_)]));
        assert!(matches!(kinds("9223372036854775808")[..], [Kind::Bad(_)]));
    }

    #[test]
    fn what_sqlparser_would_take_for_more() {
        for text in ["N'x'", "n'x'", "x'ab'", "X'ab'"] {
            assert_eq!(kinds(text), [name(&text[..1]), Kind::Stop], "{text}");
        }
        assert_eq!(kinds("b'x'"), [name("b"), Kind::Text("x".into()), Kind::End]);
        assert_eq!(kinds("e'x'"), [name("e"), Kind::Text("x".into()), Kind::End]);
        assert_eq!(kinds("a -> b"), [name("a"), Kind::Stop]);
        for text in [
            "!=", "==", "=>", "<<", "<=>", "\"a\"", "`a`", "[a]", "a.b", "a._b", "#", "?", "\u{a0}", "é", "\"", "/* *",
            "'",
        ] {
            assert!(matches!(kinds(text).last(), Some(Kind::Bad(_))), "{text}");
        }
    }

    #[test]
    fn comments() {
        assert_eq!(kinds("a -- b\n c"), [name("a"), name("c"), Kind::End]);
        assert_eq!(kinds("a /* b\n * /* */ c"), [name("a"), name("c"), Kind::End]);
        assert_eq!(kinds("a -- b"), [name("a"), Kind::Stop]);
        assert_eq!(kinds("a -- b\r\n c"), [name("a"), name("c"), Kind::End]);
        assert!(matches!(kinds("a -- b\r c\n")[..], [_, Kind::Bad(_)]));
        assert_eq!(kinds("\u{c}a\t\r\n"), [name("a"), Kind::End]);
    }

    #[test]
    fn columns_count_characters_through_all_lines() {
        let columns: Vec<u32> = tokens("'é🐝' /*\n*/ =\r\n b !").iter().map(|token| token.column).collect();
        assert_eq!(columns, [1, 12, 16, 18]);
    }
}
