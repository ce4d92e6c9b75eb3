//! The JSON header, read by a scanner made for it: one pass, nothing allocated, strings kept raw. It takes what the
//! clients of all languages send: keys in any order, white space, unknown keys with any value, numbers and booleans
//! as field values, the language as name or ordinal, a newline at the end. Written as Java writes it.

use super::scan;
use crate::command::{Command, DecodeError, Flags, HeadStart, Language, Text};
use crate::frame::HeaderKind;
use bytes::{BufMut, BytesMut};

/// Room for the digits of any 64-bit number with its sign.
pub(crate) const NUMBER_BYTES_MAX: usize = 20;

/// Fills `command` from a JSON header.
pub(crate) fn decode<'a>(header: &'a [u8], command: &mut Command<'a>) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(header).map_err(|error| DecodeError::NotUtf8 { at: error.valid_up_to() })?;
    let mut scanner = Scanner { text, bytes: header, at: 0 };
    scanner.white_space();
    scanner.expect(b'{', "an object")?;
    scanner.members(|scanner, key| scanner.head_member(key, command))?;
    scanner.white_space();
    if scanner.at < header.len() { Err(scanner.wrong("the end of the header")) } else { Ok(()) }
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// A value that is not a container.
enum Scalar<'a> {
    Null,
    /// A string, or the text of a number, a boolean or (as a field's value) a whole container.
    Text(Text<'a>),
}

impl<'a> Scanner<'a> {
    fn wrong(&self, expected: &'static str) -> DecodeError {
        DecodeError::Json { at: self.at, expected }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), DecodeError> {
        if self.peek() != Some(byte) {
            return Err(self.wrong(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Goes through the members of an object whose brace is already behind; `member` reads one value.
    #[inline]
    fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, Text<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.white_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.white_space();
            self.expect(b'"', "a quoted name")?;
            let key = self.string()?;
            self.white_space();
            self.expect(b':', "a colon")?;
            self.white_space();
            member(self, key)?;
            self.white_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.wrong("a comma or a closing brace")),
            }
        }
    }

    fn head_member(&mut self, key: Text<'a>, command: &mut Command<'a>) -> Result<(), DecodeError> {
        let key = key.to_cow();
        match key.as_ref() {
            "code" => command.code = self.integer()?.unwrap_or(command.code),
            "flag" => command.flags = Flags(self.integer()?.unwrap_or(command.flags.0)),
            "opaque" => command.opaque = self.integer()?.unwrap_or(command.opaque),
            "version" => command.version = self.integer()?.unwrap_or(command.version),
            "language" => {
                if let Scalar::Text(language) = self.value()? {
                    command.language = language_of(&language);
                }
            }
            "remark" => {
                if let Scalar::Text(remark) = self.value()? {
                    command.remark = Some(remark);
                }
            }
            "extFields" if self.peek() == Some(b'{') => {
                self.at += 1;
                self.members(|scanner, name| match scanner.value()? {
                    Scalar::Null => Ok(()),
                    Scalar::Text(value) if command.ext.push(name, value) => Ok(()),
                    Scalar::Text(_) => Err(DecodeError::TooManyFields),
                })?;
            }
            _ => {
                self.value()?;
            }
        }
        Ok(())
    }

    /// The rest of a string whose opening quote is behind.
    #[inline]
    fn string(&mut self) -> Result<Text<'a>, DecodeError> {
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = scan::quote_or_backslash(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => break,
                Some(_) => {
                    escaped = true;
                    self.escape()?;
                }
                None => return Err(self.wrong("the end of a string")),
            }
        }
        let raw = &self.text[start..self.at];
        self.at += 1;
        Ok(Text::json(raw, escaped))
    }

    /// Steps over one escape, so that undoing it later cannot fail.
    fn escape(&mut self) -> Result<(), DecodeError> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if hex4(self.bytes, self.at + 2).is_some() => 6,
            _ => return Err(self.wrong("an escape that JSON knows")),
        };
        self.at += length;
        Ok(())
    }

    #[inline]
    fn value(&mut self) -> Result<Scalar<'a>, DecodeError> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(Scalar::Text)
            }
            Some(b'{' | b'[') => self.container(),
            _ => self.word(),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Scalar<'a>, DecodeError> {
        let start = self.at;
        while let Some(b'0'..=b'9' | b'a'..=b'z' | b'-' | b'+' | b'.' | b'E') = self.peek() {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        let number = word.as_bytes().iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        match word {
            "null" => Ok(Scalar::Null),
            "true" | "false" => Ok(Scalar::Text(Text::plain(word))),
            _ if number && word.bytes().any(|byte| byte.is_ascii_digit()) => Ok(Scalar::Text(Text::plain(word))),
            _ => {
                self.at = start;
                Err(self.wrong("a value"))
            }
        }
    }

    /// Steps over an object or array however deep, without recursion; its text is the value.
    fn container(&mut self) -> Result<Scalar<'a>, DecodeError> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(b'"') => {
                    self.at += 1;
                    self.string()?;
                    continue;
                }
                Some(_) => {}
                None => return Err(self.wrong("the end of an object or array")),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(Scalar::Text(Text::plain(&self.text[start..self.at])));
            }
        }
    }

    /// A 32-bit number, bare or in quotes; `None` for null.
    #[inline]
    fn integer(&mut self) -> Result<Option<i32>, DecodeError> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let digits = self.at;
        let mut number = 0_i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            number = number.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        let ended = !matches!(self.peek(), Some(b'.' | b'e' | b'E' | b'"'));
        if self.at > digits && ended {
            let number = if negative { -number } else { number };
            return i32::try_from(number)
                .map(Some)
                .map_err(|_| DecodeError::Json { at: start, expected: "a 32-bit number" });
        }
        self.at = start;
        match self.value()? {
            Scalar::Null => Ok(None),
            Scalar::Text(text) => {
                text.parse_i32().map(Some).ok_or(DecodeError::Json { at: start, expected: "a 32-bit number" })
            }
        }
    }
}

fn language_of(text: &Text<'_>) -> Language {
    match text.as_plain() {
        Some("JAVA") => Language::JAVA,
        _ => match text.parse_i32() {
            Some(ordinal) => u8::try_from(ordinal).map_or(Language::OTHER, Language),
            None => Language::from_name(&text.to_cow()),
        },
    }
}

/// The four hexadecimal digits at `at`.
fn hex4(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)? as u16))
}

/// Undoes the escapes of a string that the scanner has passed.
pub(crate) fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(backslash) = rest.find('\\') {
        let (before, escape) = rest.split_at(backslash);
        text.push_str(before);
        let (character, length) = unescaped(escape.as_bytes());
        text.push(character);
        rest = &escape[length..];
    }
    text.push_str(rest);
    text
}

/// Appends what [`unescape`] gives, without the string between.
pub(crate) fn unescape_into(raw: &str, out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(backslash) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (before, escape) = rest.split_at(backslash);
        out.extend_from_slice(before.as_bytes());
        let (character, length) = unescaped(escape.as_bytes());
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &escape[length..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// The character an escape stands for, and the escape's length. A half of a surrogate pair without the other half
/// becomes U+FFFD, since UTF-8 cannot hold it.
fn unescaped(escape: &[u8]) -> (char, usize) {
    match escape.get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => unescaped_unit(escape),
        Some(other) => (char::from(*other), 2),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

fn unescaped_unit(escape: &[u8]) -> (char, usize) {
    let first = hex4(escape, 2).unwrap_or(0xFFFD);
    if let Some(character) = char::from_u32(first.into()) {
        return (character, 6);
    }
    let second = if escape.get(6..8) == Some(b"\\u") { hex4(escape, 8) } else { None };
    match second.map(|second| char::decode_utf16([first, second]).next()) {
        Some(Some(Ok(character))) => (character, 12),
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// The decimal digits of `number`, in `buffer`.
pub(crate) fn decimal(number: i64, buffer: &mut [u8; NUMBER_BYTES_MAX]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = NUMBER_BYTES_MAX;
    loop {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        start -= 1;
        buffer[start] = b'-';
    }
    &buffer[start..]
}

fn write_decimal(out: &mut BytesMut, number: i32) {
    out.put_slice(decimal(number.into(), &mut [0; NUMBER_BYTES_MAX]));
}

/// Writes the inside of a string.
fn write_escaped(out: &mut BytesMut, text: &str) {
    let bytes = text.as_bytes();
    let mut written = 0;
    loop {
        let next = scan::must_escape(bytes, written);
        out.put_slice(&bytes[written..next]);
        let Some(byte) = bytes.get(next) else { return };
        match byte {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            0x8 => out.put_slice(b"\\b"),
            0xC => out.put_slice(b"\\f"),
            control => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                let [high, low] = [control >> 4, control & 15].map(|digit| HEX[usize::from(digit)]);
                out.put_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        written = next + 1;
    }
}

/// Writes everything before the first field.
pub(crate) fn write_start(out: &mut BytesMut, head: &HeadStart) {
    out.put_slice(b"{\"code\":");
    write_decimal(out, head.code);
}

fn write_name(out: &mut BytesMut, first: bool, name: &str) {
    out.put_slice(if first { b",\"extFields\":{\"" } else { b",\"" });
    write_escaped(out, name);
    out.put_slice(b"\":\"");
}

/// Writes one field.
pub(crate) fn write_field(out: &mut BytesMut, first: bool, name: &str, value: &str) {
    write_name(out, first, name);
    write_escaped(out, value);
    out.put_slice(b"\"");
}

/// Writes one field whose value needs no escapes. Numbers are strings too: the C++ client reads nothing else.
pub(crate) fn write_number_field(out: &mut BytesMut, first: bool, name: &str, digits: &[u8]) {
    write_name(out, first, name);
    out.put_slice(digits);
    out.put_slice(b"\"");
}

/// Writes everything behind the last field.
pub(crate) fn write_end(out: &mut BytesMut, has_fields: bool, head: &HeadStart, remark: Option<&str>) {
    out.put_slice(if has_fields { b"},\"flag\":" } else { b",\"flag\":" });
    write_decimal(out, head.flags.0);
    out.put_slice(b",\"language\":\"");
    out.put_slice(head.language.name().as_bytes());
    out.put_slice(b"\",\"opaque\":");
    write_decimal(out, head.opaque);
    if let Some(remark) = remark {
        out.put_slice(b",\"remark\":\"");
        write_escaped(out, remark);
        out.put_slice(b"\"");
    }
    out.put_slice(b",\"serializeTypeCurrentRPC\":\"");
    out.put_slice(HeaderKind::Json.name().as_bytes());
    out.put_slice(b"\",\"version\":");
    write_decimal(out, head.version);
    out.put_slice(b"}");
}
