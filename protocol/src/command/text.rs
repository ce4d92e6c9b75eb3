//! A header value as it stands in the frame. JSON escapes are undone only when somebody asks for the text,
//! so that the many values nobody reads cost nothing. What `raw` holds was checked by the codec: valid UTF-8, and
//! every escape well-formed.

use crate::codec::escape;
use std::borrow::Cow;
use std::fmt;

/// A borrowed header value, possibly still carrying JSON escapes.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// A value that stands for itself.
    pub const fn plain(raw: &'a str) -> Self {
        Self { raw, escaped: false }
    }

    /// The inside of a JSON string whose escapes were checked.
    pub(crate) const fn json(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The value, unless it carries escapes.
    pub const fn as_plain(&self) -> Option<&'a str> {
        if self.escaped { None } else { Some(self.raw) }
    }

    /// The value; a copy only where escapes have to be undone.
    pub fn to_cow(&self) -> Cow<'a, str> {
        match self.as_plain() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(escape::unescape(self.raw)),
        }
    }

    /// The bytes between the quotes, escapes as they came.
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// Appends the value to `out`, escapes undone.
    pub fn unescape_into(&self, out: &mut Vec<u8>) {
        match self.as_plain() {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => escape::unescape_into(self.raw, out),
        }
    }

    /// Whether the value is exactly `other`.
    pub fn eq_str(&self, other: &str) -> bool {
        match self.as_plain() {
            Some(text) => text == other,
            None => self.to_cow() == other,
        }
    }

    /// Whether there is no character in it.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The value as a decimal number; `None` when it is not one or does not fit.
    pub fn parse_i32(&self) -> Option<i32> {
        self.parse_i64().and_then(|number| number.try_into().ok())
    }

    /// The value as a decimal number; `None` when it is not one or does not fit.
    #[inline]
    pub fn parse_i64(&self) -> Option<i64> {
        match self.as_plain() {
            Some(text) => text.parse().ok(),
            None => self.to_cow().parse().ok(),
        }
    }

    /// Java's reading of a boolean: `true` in any case is true, anything else is false.
    #[inline]
    pub fn parse_bool(&self) -> bool {
        match self.as_plain() {
            Some(text) => text.eq_ignore_ascii_case("true"),
            None => self.to_cow().eq_ignore_ascii_case("true"),
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.escaped == other.escaped && self.raw == other.raw) || self.to_cow() == other.to_cow()
    }
}

impl Eq for Text<'_> {}

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_cow())
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_cow(), formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_on_demand() {
        let text = Text::json(r#"a\u0001b\"\\\/\n\u4e2d\ud83d\ude00\ud83d!"#, true);
        assert_eq!(text.as_plain(), None);
        assert_eq!(text.to_cow(), "a\u{1}b\"\\/\n中😀\u{fffd}!");
        let mut out = b">".to_vec();
        text.unescape_into(&mut out);
        assert_eq!(out, ">a\u{1}b\"\\/\n中😀\u{fffd}!".as_bytes());
        assert!(Text::json(r"\u0061", true).eq_str("a"));
        assert_eq!(Text::json(r"\u0061", true), Text::plain("a"));
        // A backslash in a binary header is a backslash.
        assert_eq!(Text::plain(r"\u0061").to_cow(), r"\u0061");
    }

    #[test]
    fn numbers_and_booleans() {
        assert_eq!(Text::plain("-7").parse_i32(), Some(-7));
        assert_eq!(Text::json(r"\u0037", true).parse_i64(), Some(7));
        assert_eq!(Text::plain("2147483648").parse_i32(), None);
        assert_eq!(Text::plain("").parse_i32(), None);
        assert!(Text::plain("TRUE").parse_bool());
        assert!(!Text::plain("1").parse_bool());
    }
}
