//! Java `.properties` text, as RocketMQ's configuration files are written: `key=value`, `#` and `!` comments, `:` or
//! blanks as separators, continuation lines, `\uXXXX`. Values lose blanks around them, which Java keeps: there a
//! trailing blank silently turns `true ` into false.

/// The entries of a file in their order. A later entry of a name replaces an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Name and value.
    pub entries: Vec<(String, String)>,
}

/// Text that is no properties file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PropertiesError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Properties {
    /// Reads a file's text.
    ///
    /// # Errors
    /// An escape that is none; the line is named.
    pub fn parse(text: &str) -> Result<Self, PropertiesError> {
        let mut entries = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((at, first)) = lines.next() {
            let start = first.trim_start();
            if start.is_empty() || start.starts_with(['#', '!']) {
                continue;
            }
            let mut logical = start.to_owned();
            while ends_in_continuation(&logical) {
                logical.pop();
                match lines.next() {
                    Some((_, next)) => logical.push_str(next.trim_start()),
                    None => break,
                }
            }
            let (name, value) = split(&logical);
            let error = |reason: String| PropertiesError { line: at + 1, reason };
            let name = unescape(name).map_err(error)?;
            let value = unescape(value.trim_end()).map_err(error)?;
            entries.push((name, value));
        }
        Ok(Self { entries })
    }

    /// The value of a name, the last one if it is given more than once.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The text that `parse` reads back.
    pub fn to_text(&self) -> String {
        self.entries.iter().map(|(name, value)| format!("{}={}\n", escape_name(name), escape(value))).collect()
    }
}

/// An odd number of backslashes at the end joins the next line.
fn ends_in_continuation(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// Name and value: split at the first unescaped `=`, `:` or blank.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if matches!(c, '=' | ':') || c.is_whitespace() {
            let rest = line[at..].trim_start();
            let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], value.trim_start());
        }
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => out.push(unicode(&mut chars, text)?),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

/// One `\u` escape, or the two that make a character beyond U+FFFF.
fn unicode(chars: &mut std::str::Chars<'_>, text: &str) -> Result<char, String> {
    let first = code_unit(chars, text)?;
    let mut units = vec![first];
    if (0xD800..0xDC00).contains(&first) && chars.as_str().starts_with("\\u") {
        chars.by_ref().take(2).for_each(drop);
        units.push(code_unit(chars, text)?);
    }
    match String::from_utf16(&units).map(|character| character.chars().collect::<Vec<_>>()).as_deref() {
        Ok([character]) => Ok(*character),
        _ => Err(format!("{text:?} has half of a pair of \\u escapes, which is no character")),
    }
}

fn code_unit(chars: &mut std::str::Chars<'_>, text: &str) -> Result<u16, String> {
    let digits: String = chars.by_ref().take(4).collect();
    let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4 && !digits.starts_with('+'));
    unit.ok_or_else(|| format!("{text:?} has \\u{digits}, which is no character; four hexadecimal digits are expected"))
}

/// A name as `parse` reads it back: what would end it or make it a comment is escaped.
fn escape_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '=' | ':' | '#' | '!' | ' ' | '\t' | '\u{c}') {
            out.push('\\');
        }
        out.push_str(&escape(c.encode_utf8(&mut [0; 4])));
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn java_forms_are_read() {
        let text = "# a comment\n! another\n\nbrokerName=broker-a\nbrokerId : 0\n  flag value with blanks \n\
                    list = one;\\\n       two\npath=c\\:\\\\store\nname=\\u4e2d\nempty=\nlast";
        let read = Properties::parse(text).unwrap();
        let expected = [
            ("brokerName", "broker-a"),
            ("brokerId", "0"),
            ("flag", "value with blanks"),
            ("list", "one;two"),
            ("path", "c:\\store"),
            ("name", "中"),
            ("empty", ""),
            ("last", ""),
        ];
        let entries: Vec<_> = read.entries.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn a_bad_escape_names_its_line() {
        let error = Properties::parse("a=1\nb=\\u12").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.reason.contains("four hexadecimal digits"), "{error}");
    }

    #[test]
    fn pairs_of_escapes_are_one_character() {
        assert_eq!(Properties::parse("a=\\ud83d\\ude00!").unwrap().get("a"), Some("😀!"));
        for text in ["a=\\ud83d", "a=\\ude00\\ud83d", "a=\\ud83d\\u0041", "a=\\u+041"] {
            assert!(Properties::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn written_text_is_read_back(entries in prop::collection::vec(("[a-zA-Z#!=: ][a-zA-Z0-9.=: \\\\]{0,12}", "[a-z\\\\;,/]{0,20}"), 0..10)) {
            let properties = Properties { entries };
            prop_assert_eq!(Properties::parse(&properties.to_text()).unwrap(), properties);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = Properties::parse(&text);
        }
    }
}
