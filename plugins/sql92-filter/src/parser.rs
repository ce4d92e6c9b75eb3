//! Tokens to code, in one pass: a Pratt parser of RocketMQ's selector grammar with its checks at compile time. NOT binds
//! tightest; what follows a complete expression and cannot continue it is ignored, both as in RocketMQ.
//! Called once per subscription. Depth and size are bounded before they are used.

use waspmq_plugin_sdk::Refuse;
use waspmq_plugin_sdk::abi::EXPRESSION_BYTES_MAX;

use crate::lexer::{Keyword, Kind, Token, tokens};
use crate::number::Literal;
use crate::program::{Comparison, Constant, List, Op, Parts, Program, Search};
use crate::value::{Value, negated, order};

/// Brackets and prefixes within one another.
const DEPTH_MAX: usize = 64;
/// Properties, constants and list items together.
const TERMS_MAX: usize = 4096;

/// How tightly operators bind.
const OR: u8 = 1;
const AND: u8 = 2;
const EQUALITY: u8 = 3;
const COMPARISON: u8 = 4;

/// Compiles the text of a subscription.
pub fn compile(text: &str) -> Result<Program, Refuse> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let (len, max) = (text.len(), EXPRESSION_BYTES_MAX);
        return Err(Refuse::new(format!("the expression has {len} bytes; at most {max} are allowed")));
    }
    let mut parser = Parser { tokens: tokens(text), at: 0, depth: 0, terms: 0, parts: Parts::default() };
    let start = parser.column();
    let whole = parser.expression(OR)?;
    parser.truth(&whole, start)?;
    Ok(Program::new(parser.parts))
}

/// What the code emitted last computes, as far as the checks must know.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// A bare property, by index into the names.
    Property(u16),
    /// A literal, by index into the constants.
    Constant(u16),
    /// A truth value.
    Truth,
    /// A number or NULL: unary minus.
    Negated,
}

struct Parser {
    /// The last one is never passed.
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    terms: usize,
    parts: Parts,
}

impl Parser {
    /// An expression of operators that bind at least as tightly as `least`.
    fn expression(&mut self, least: u8) -> Result<Shape, Refuse> {
        let start = self.column();
        let code_start = self.parts.code.len();
        let mut left = self.unary()?;
        loop {
            let kind = self.kind().clone();
            left = match kind {
                Kind::Bad(reason) => return Err(self.refuse(reason)),
                Kind::Word(Keyword::Or) if least <= OR => self.logic(left, start, OR)?,
                Kind::Word(Keyword::And) if least <= AND => self.logic(left, start, AND)?,
                Kind::Equal | Kind::NotEqual if least <= EQUALITY => self.equality(left, start)?,
                Kind::Word(Keyword::Is) if least <= EQUALITY => self.is_null()?,
                Kind::Less => self.comparison(left, start, Comparison::Less)?,
                Kind::LessOrEqual => self.comparison(left, start, Comparison::LessOrEqual)?,
                Kind::Greater => self.comparison(left, start, Comparison::Greater)?,
                Kind::GreaterOrEqual => self.comparison(left, start, Comparison::GreaterOrEqual)?,
                Kind::Word(Keyword::Not) => {
                    self.at += 1;
                    self.test(left, start, code_start, true)?
                }
                Kind::Word(
                    Keyword::Between | Keyword::In | Keyword::Contains | Keyword::StartsWith | Keyword::EndsWith,
                ) => self.test(left, start, code_start, false)?,
                _ => return Ok(left),
            };
        }
    }

    fn unary(&mut self) -> Result<Shape, Refuse> {
        let start = self.column();
        match self.kind() {
            Kind::Plus => {
                self.at += 1;
                self.deeper(Self::unary)
            }
            Kind::Minus => {
                self.at += 1;
                self.deeper(Self::unary)?;
                self.parts.code.push(Op::Negate);
                Ok(Shape::Negated)
            }
            Kind::Word(Keyword::Not) => {
                self.at += 1;
                let operand = self.deeper(Self::unary)?;
                self.truth(&operand, start)?;
                self.parts.code.push(Op::Not);
                Ok(Shape::Truth)
            }
            Kind::Open => {
                self.at += 1;
                let inner = self.deeper(|parser| parser.expression(OR))?;
                self.expect(&Kind::Close, "a `)` is missing here")?;
                Ok(inner)
            }
            _ => self.operand(),
        }
    }

    fn operand(&mut self) -> Result<Shape, Refuse> {
        let constant = match self.kind() {
            Kind::Identifier(name) => {
                let name = name.clone();
                return self.property(name);
            }
            Kind::Text(text) => Constant::Text(text.as_bytes().into()),
            Kind::Number(number) => Constant::Number(*number),
            Kind::Word(Keyword::True) => Constant::Truth(true),
            Kind::Word(Keyword::False) => Constant::Truth(false),
            Kind::Word(Keyword::Null) => Constant::Null,
            Kind::Bad(reason) => return Err(self.refuse(*reason)),
            Kind::End => {
                return Err(self.refuse("the expression ends where a property, a number or a 'text' must stand"));
            }
            Kind::Word(_) => return Err(self.refuse("a keyword cannot stand here, nor be the name of a property")),
            _ => return Err(self.refuse("a property, a number or a 'text' must stand here")),
        };
        let index = self.constant(constant)?;
        self.at += 1;
        self.parts.code.push(Op::Constant(index));
        Ok(Shape::Constant(index))
    }

    fn property(&mut self, name: String) -> Result<Shape, Refuse> {
        self.count_term()?;
        self.at += 1;
        let index = self.parts.names.len() as u16;
        self.parts.names.push(name);
        self.parts.code.push(Op::Property(index));
        Ok(Shape::Property(index))
    }

    fn logic(&mut self, left: Shape, start: u32, power: u8) -> Result<Shape, Refuse> {
        self.truth(&left, start)?;
        self.at += 1;
        let skip = self.parts.code.len();
        let (skip_op, op): (fn(u32) -> Op, Op) =
            if power == AND { (Op::SkipIfFalse, Op::And) } else { (Op::SkipIfTrue, Op::Or) };
        self.parts.code.push(skip_op(0));
        let right_start = self.column();
        let right = self.expression(power + 1)?;
        self.truth(&right, right_start)?;
        self.parts.code.push(op);
        self.parts.code[skip] = skip_op(self.parts.code.len() as u32);
        Ok(Shape::Truth)
    }

    fn equality(&mut self, left: Shape, start: u32) -> Result<Shape, Refuse> {
        let not = *self.kind() == Kind::NotEqual;
        self.not_null(left, start)?;
        self.at += 1;
        let right_start = self.column();
        let right = self.expression(COMPARISON)?;
        self.not_null(right, right_start)?;
        let truth = |value: Option<Value<'_>>| value.map(|value| matches!(value, Value::Truth(_)));
        if truth(self.literal(left)) == Some(true) && truth(self.literal(right)) == Some(false) {
            return Err(Refuse::at(right_start, "TRUE or FALSE cannot equal this"));
        }
        self.parts.push(Op::Equal);
        if not {
            self.parts.code.push(Op::Not);
        }
        Ok(Shape::Truth)
    }

    fn is_null(&mut self) -> Result<Shape, Refuse> {
        self.at += 1;
        let not = self.eat(&Kind::Word(Keyword::Not));
        self.expect(&Kind::Word(Keyword::Null), "only NULL or NOT NULL can follow IS")?;
        self.parts.code.push(Op::IsNull);
        if not {
            self.parts.code.push(Op::Not);
        }
        Ok(Shape::Truth)
    }

    fn comparison(&mut self, left: Shape, start: u32, comparison: Comparison) -> Result<Shape, Refuse> {
        self.ordered(left, start)?;
        self.at += 1;
        let right_start = self.column();
        let right = self.unary()?;
        self.ordered(right, right_start)?;
        self.parts.push(Op::Compare(comparison));
        Ok(Shape::Truth)
    }

    /// The operators that NOT can precede; `code_start` is where the code of `left` begins.
    fn test(&mut self, left: Shape, start: u32, code_start: usize, negated: bool) -> Result<Shape, Refuse> {
        let kind = match self.kind() {
            Kind::Word(Keyword::Between) => return self.between(left, start, code_start, negated),
            Kind::Word(Keyword::In) => return self.in_list(left, start, negated),
            Kind::Word(Keyword::Contains) => Search::Anywhere,
            Kind::Word(Keyword::StartsWith) => Search::Start,
            Kind::Word(Keyword::EndsWith) => Search::End,
            _ => {
                return Err(
                    self.refuse("after NOT, only BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH can follow here")
                );
            }
        };
        self.at += 1;
        let Kind::Text(text) = self.kind() else {
            return Err(self.refuse("a 'text' must stand here"));
        };
        let text = Constant::Text(text.as_bytes().into());
        let needle = self.constant(text)?;
        self.at += 1;
        self.parts.code.push(Op::Search { kind, needle, negated });
        Ok(Shape::Truth)
    }

    /// `x BETWEEN l AND h` is `x >= l AND x <= h`, NOT BETWEEN is `x < l OR x > h`; so the code of x stands twice.
    fn between(&mut self, left: Shape, start: u32, code_start: usize, negated: bool) -> Result<Shape, Refuse> {
        self.ordered(left, start)?;
        self.at += 1;
        let left_code = self.parts.code[code_start..].to_vec();
        let low_start = self.column();
        let low = self.unary()?;
        self.ordered(low, low_start)?;
        let (below, skip_op, above, op): (_, fn(u32) -> Op, _, _) = if negated {
            (Comparison::Less, Op::SkipIfTrue, Comparison::Greater, Op::Or)
        } else {
            (Comparison::GreaterOrEqual, Op::SkipIfFalse, Comparison::LessOrEqual, Op::And)
        };
        self.parts.push(Op::Compare(below));
        let skip = self.parts.code.len();
        self.parts.code.push(skip_op(0));
        self.repeat(left_code, code_start)?;
        self.expect(&Kind::Word(Keyword::And), "BETWEEN wants `low AND high`: AND is missing here")?;
        let high_start = self.column();
        let high = self.unary()?;
        self.ordered(high, high_start)?;
        if let (false, Some(low), Some(high)) = (negated, self.literal(low), self.literal(high))
            && order(low, high).is_ok_and(|ordering| ordering.is_some_and(|it| it.is_gt()))
        {
            return Err(Refuse::at(low_start, "the lower bound is above the upper one: nothing is between"));
        }
        self.parts.push(Op::Compare(above));
        self.parts.code.push(op);
        self.parts.code[skip] = skip_op(self.parts.code.len() as u32);
        Ok(Shape::Truth)
    }

    /// Emits code a second time, which first stood at `start`. Jumps within it move along.
    fn repeat(&mut self, code: Vec<Op>, start: usize) -> Result<(), Refuse> {
        self.terms += code.len();
        self.check_terms()?;
        let moved = (self.parts.code.len() - start) as u32;
        self.parts.code.extend(code.into_iter().map(|op| match op {
            Op::SkipIfFalse(target) => Op::SkipIfFalse(target + moved),
            Op::SkipIfTrue(target) => Op::SkipIfTrue(target + moved),
            op => op,
        }));
        Ok(())
    }

    fn in_list(&mut self, left: Shape, start: u32, negated: bool) -> Result<Shape, Refuse> {
        if !matches!(left, Shape::Property(_)) {
            return Err(Refuse::at(start, "only a property can stand before IN"));
        }
        self.at += 1;
        self.expect(&Kind::Open, "a `(` must follow IN")?;
        let mut list = List::default();
        loop {
            self.list_item(&mut list)?;
            if self.eat(&Kind::Close) {
                break;
            }
            self.expect(&Kind::Comma, "a `,` or `)` must stand here")?;
        }
        list.texts.sort_unstable();
        list.texts.dedup();
        let index = self.parts.lists.len() as u16;
        self.parts.lists.push(list);
        self.parts.code.push(Op::In { list: index, negated });
        Ok(Shape::Truth)
    }

    fn list_item(&mut self, list: &mut List) -> Result<(), Refuse> {
        self.count_term()?;
        let minus = self.eat(&Kind::Minus);
        let signed = minus || self.eat(&Kind::Plus);
        match self.kind() {
            Kind::Text(text) if !signed => list.texts.push(text.as_bytes().into()),
            Kind::Number(number) => list.numbers.push(if minus { minus_number(*number) } else { *number }),
            Kind::Bad(reason) => return Err(self.refuse(*reason)),
            _ => return Err(self.refuse("IN wants a list of 'texts' or numbers: one must stand here")),
        }
        self.at += 1;
        Ok(())
    }

    /// Checks that a shape is a truth value, and makes one of a bare property.
    fn truth(&mut self, shape: &Shape, column: u32) -> Result<(), Refuse> {
        let truth = match *shape {
            Shape::Truth => true,
            Shape::Property(_) => {
                self.parts.code.push(Op::Cast);
                true
            }
            Shape::Constant(_) => matches!(self.literal(*shape), Some(Value::Truth(_) | Value::Null)),
            Shape::Negated => false,
        };
        if truth {
            Ok(())
        } else {
            Err(Refuse::at(column, "this is neither true nor false: a comparison must stand here"))
        }
    }

    /// Checks an operand of an order: a literal must be a number, a truth value is none.
    fn ordered(&self, shape: Shape, column: u32) -> Result<(), Refuse> {
        match (shape, self.literal(shape)) {
            (_, Some(Value::Number(_))) | (Shape::Property(_) | Shape::Negated, _) => Ok(()),
            _ => Err(Refuse::at(column, "only numbers and properties can be ordered")),
        }
    }

    fn not_null(&self, shape: Shape, column: u32) -> Result<(), Refuse> {
        match self.literal(shape) {
            Some(Value::Null) => Err(Refuse::at(column, "nothing equals NULL; write IS NULL or IS NOT NULL")),
            _ => Ok(()),
        }
    }

    fn literal(&self, shape: Shape) -> Option<Value<'_>> {
        match shape {
            Shape::Constant(index) => Some(self.parts.constants[usize::from(index)].value()),
            _ => None,
        }
    }

    fn constant(&mut self, constant: Constant) -> Result<u16, Refuse> {
        self.count_term()?;
        self.parts.constants.push(constant);
        Ok((self.parts.constants.len() - 1) as u16)
    }

    fn count_term(&mut self) -> Result<(), Refuse> {
        self.terms += 1;
        self.check_terms()
    }

    fn check_terms(&self) -> Result<(), Refuse> {
        if self.terms > TERMS_MAX {
            return Err(self.refuse(format!("the expression has more than {TERMS_MAX} properties and values")));
        }
        Ok(())
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Refuse>) -> Result<T, Refuse> {
        if self.depth == DEPTH_MAX {
            return Err(self.refuse(format!("more than {DEPTH_MAX} brackets or signs within one another")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn kind(&self) -> &Kind {
        self.tokens.get(self.at).map_or(&Kind::End, |token| &token.kind)
    }

    fn column(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.column)
    }

    fn eat(&mut self, kind: &Kind) -> bool {
        let eaten = self.kind() == kind;
        self.at += usize::from(eaten);
        eaten
    }

    fn expect(&mut self, kind: &Kind, otherwise: &str) -> Result<(), Refuse> {
        if let Kind::Bad(reason) = self.kind() {
            return Err(self.refuse(*reason));
        }
        if self.eat(kind) { Ok(()) } else { Err(self.refuse(otherwise)) }
    }

    fn refuse(&self, reason: impl Into<String>) -> Refuse {
        Refuse::at(self.column(), reason)
    }
}

fn minus_number(number: Literal) -> Literal {
    match negated(Value::Number(number)) {
        Value::Number(number) => number,
        _ => number,
    }
}
