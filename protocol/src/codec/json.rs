//! The JSON header, read by a scanner made for it: one pass, nothing allocated, strings kept raw. It takes what the
//! clients of all languages send: keys in any order, white space, unknown keys with any value, numbers and booleans
//! as field values, the language as name or ordinal, a newline at the end. Written as Java writes it.

use super::escape::hex4;
use super::scan;
use crate::command::{Command, DecodeError, Flags, HeadStart, Language, Text};
use bytes::{BufMut, BytesMut};

/// Room for the digits of any 64-bit number with its sign.
pub(crate) const NUMBER_BYTES_MAX: usize = 20;

/// What a header should have had where it is wrong. One byte, so that the scanner's results stay in registers.
#[derive(Clone, Copy)]
enum Wrong {
    Object,
    Name,
    Colon,
    Comma,
    StringEnd,
    Escape,
    Value,
    ContainerEnd,
    Number,
    HeaderEnd,
    FewerFields,
}

impl Wrong {
    #[cold]
    fn at(self, at: usize) -> DecodeError {
        let expected = match self {
            Self::Object => "an object",
            Self::Name => "a quoted name",
            Self::Colon => "a colon",
            Self::Comma => "a comma or a closing brace",
            Self::StringEnd => "the end of a string",
            Self::Escape => "an escape that JSON knows",
            Self::Value => "a value",
            Self::ContainerEnd => "the end of an object or array",
            Self::Number => "a 32-bit number",
            Self::HeaderEnd => "the end of the header",
            Self::FewerFields => return DecodeError::TooManyFields,
        };
        DecodeError::Json { at, expected }
    }
}

/// Fills `command` from a JSON header.
pub(crate) fn decode<'a>(header: &'a [u8], command: &mut Command<'a>) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(header).map_err(|error| DecodeError::NotUtf8 { at: error.valid_up_to() })?;
    let mut scanner = Scanner { text, bytes: header, at: 0 };
    scanner.head(command).map_err(|wrong| wrong.at(scanner.at))
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// Where a value lies, and what it is.
#[derive(Clone, Copy)]
struct Span {
    from: usize,
    to: usize,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Null,
    /// A string without escapes, or the text of a number, a boolean or a whole container.
    Plain,
    /// The inside of a string with escapes.
    Escaped,
}

impl<'a> Scanner<'a> {
    fn head(&mut self, command: &mut Command<'a>) -> Result<(), Wrong> {
        self.white_space();
        self.expect(b'{', Wrong::Object)?;
        let mut more = self.first_member()?;
        while more {
            let key = self.name()?;
            self.head_member(self.text_of(key), command)?;
            more = self.next_member()?;
        }
        self.white_space();
        if self.at < self.bytes.len() { Err(Wrong::HeaderEnd) } else { Ok(()) }
    }

    fn head_member(&mut self, key: Text<'a>, command: &mut Command<'a>) -> Result<(), Wrong> {
        let key = key.to_cow();
        match key.as_ref() {
            "code" => command.code = self.integer(command.code)?,
            "flag" => command.flags = Flags(self.integer(command.flags.0)?),
            "opaque" => command.opaque = self.integer(command.opaque)?,
            "version" => command.version = self.integer(command.version)?,
            "language" => {
                let value = self.value()?;
                if value.form != Form::Null {
                    command.language = language_of(&self.text_of(value));
                }
            }
            "remark" => {
                let value = self.value()?;
                command.remark = (value.form != Form::Null).then(|| self.text_of(value));
            }
            "extFields" if self.peek() == Some(b'{') => self.fields(command)?,
            _ => {
                self.value()?;
            }
        }
        Ok(())
    }

    fn fields(&mut self, command: &mut Command<'a>) -> Result<(), Wrong> {
        self.at += 1;
        let mut more = self.first_member()?;
        while more {
            let name = self.name()?;
            let value = self.value()?;
            if value.form != Form::Null && !command.ext.push(self.text_of(name), self.text_of(value)) {
                return Err(Wrong::FewerFields);
            }
            more = self.next_member()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn text_of(&self, span: Span) -> Text<'a> {
        Text::json(&self.text[span.from..span.to], span.form == Form::Escaped)
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8, wrong: Wrong) -> Result<(), Wrong> {
        if self.peek() != Some(byte) {
            return Err(wrong);
        }
        self.at += 1;
        Ok(())
    }

    /// Behind an opening brace: whether the object has a member.
    #[inline(always)]
    fn first_member(&mut self) -> Result<bool, Wrong> {
        self.white_space();
        let empty = self.peek() == Some(b'}');
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// Behind a member: whether there is another.
    #[inline(always)]
    fn next_member(&mut self) -> Result<bool, Wrong> {
        self.white_space();
        let byte = self.peek();
        if !matches!(byte, Some(b',' | b'}')) {
            return Err(Wrong::Comma);
        }
        self.at += 1;
        Ok(byte == Some(b','))
    }

    /// A member's name; afterwards the scanner stands before the value.
    #[inline(always)]
    fn name(&mut self) -> Result<Span, Wrong> {
        self.white_space();
        self.expect(b'"', Wrong::Name)?;
        let from = self.at;
        let form = self.string()?;
        let to = self.at - 1;
        self.white_space();
        self.expect(b':', Wrong::Colon)?;
        self.white_space();
        Ok(Span { from, to, form })
    }

    /// Steps over the rest of a string whose opening quote is behind.
    #[inline(always)]
    fn string(&mut self) -> Result<Form, Wrong> {
        self.at = scan::quote_or_backslash(self.bytes, self.at);
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(Form::Plain)
            }
            Some(_) => self.escaped_string(),
            None => Err(Wrong::StringEnd),
        }
    }

    /// The same from the first backslash on. Every escape is checked, so that undoing them later cannot fail.
    fn escaped_string(&mut self) -> Result<Form, Wrong> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Form::Escaped);
                }
                Some(_) => self.escape()?,
                None => return Err(Wrong::StringEnd),
            }
            self.at = scan::quote_or_backslash(self.bytes, self.at);
        }
    }

    #[inline]
    fn escape(&mut self) -> Result<(), Wrong> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if hex4(self.bytes, self.at + 2).is_some() => 6,
            _ => return Err(Wrong::Escape),
        };
        self.at += length;
        Ok(())
    }

    #[inline(always)]
    fn value(&mut self) -> Result<Span, Wrong> {
        let quoted = usize::from(self.peek() == Some(b'"'));
        self.at += quoted;
        let from = self.at;
        let form = if quoted == 1 { self.string()? } else { self.bare_value()? };
        Ok(Span { from, to: self.at - quoted, form })
    }

    #[inline(never)]
    fn bare_value(&mut self) -> Result<Form, Wrong> {
        match self.peek() {
            Some(b'{' | b'[') => self.container(),
            _ => self.word(),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Form, Wrong> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let letters = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'+' | b'.' | b'E');
        let length = rest.iter().position(|byte| !letters(byte)).unwrap_or(rest.len());
        let word = &rest[..length];
        let number = word.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            && word.iter().any(u8::is_ascii_digit);
        if !number && !matches!(word, b"null" | b"true" | b"false") {
            return Err(Wrong::Value);
        }
        self.at += length;
        Ok(if word == b"null" { Form::Null } else { Form::Plain })
    }

    /// Steps over an object or array however deep, without recursion; its text is the value.
    fn container(&mut self) -> Result<Form, Wrong> {
        let mut depth = 0_usize;
        loop {
            let byte = self.peek();
            self.at += 1;
            match byte {
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(b'"') => {
                    self.string()?;
                }
                Some(_) => {}
                None => return Err(Wrong::ContainerEnd),
            }
            if depth == 0 {
                return Ok(Form::Plain);
            }
        }
    }

    /// A 32-bit number, bare or in quotes; `before` for null.
    fn integer(&mut self, before: i32) -> Result<i32, Wrong> {
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
            return i32::try_from(if negative { -number } else { number }).map_err(|_| Wrong::Number);
        }
        self.at = start;
        let value = self.value()?;
        if value.form == Form::Null { Ok(before) } else { self.text_of(value).parse_i32().ok_or(Wrong::Number) }
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

/// Appends several pieces with one growth of the buffer.
#[inline(always)]
fn put_all<const N: usize>(out: &mut BytesMut, pieces: [&[u8]; N]) {
    out.reserve(pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        out.put_slice(piece);
    }
}

/// Writes everything before the first field.
pub(crate) fn write_start(out: &mut BytesMut, head: &HeadStart) {
    put_all(out, [b"{\"code\":", decimal(head.code.into(), &mut [0; NUMBER_BYTES_MAX])]);
}

const fn before_name(first: bool) -> &'static [u8] {
    if first { b",\"extFields\":{\"" } else { b",\"" }
}

fn needs_no_escape(text: &str) -> bool {
    scan::must_escape(text.as_bytes(), 0) == text.len()
}

/// Writes one field.
pub(crate) fn write_field(out: &mut BytesMut, first: bool, name: &str, value: &str) {
    if needs_no_escape(name) && needs_no_escape(value) {
        return put_all(out, [before_name(first), name.as_bytes(), b"\":\"", value.as_bytes(), b"\""]);
    }
    out.put_slice(before_name(first));
    write_escaped(out, name);
    out.put_slice(b"\":\"");
    write_escaped(out, value);
    out.put_slice(b"\"");
}

/// Writes one field whose value needs no escapes.
pub(crate) fn write_number_field(out: &mut BytesMut, first: bool, name: &str, digits: &[u8]) {
    if needs_no_escape(name) {
        return put_all(out, [before_name(first), name.as_bytes(), b"\":\"", digits, b"\""]);
    }
    out.put_slice(before_name(first));
    write_escaped(out, name);
    put_all(out, [b"\":\"", digits, b"\""]);
}

/// Writes everything behind the last field.
pub(crate) fn write_end(out: &mut BytesMut, has_fields: bool, head: &HeadStart, remark: Option<&str>) {
    let (mut flags, mut opaque, mut version) = ([0; NUMBER_BYTES_MAX], [0; NUMBER_BYTES_MAX], [0; NUMBER_BYTES_MAX]);
    put_all(
        out,
        [
            if has_fields { b"},\"flag\":" } else { b",\"flag\":" },
            decimal(head.flags.0.into(), &mut flags),
            b",\"language\":\"",
            head.language.name().as_bytes(),
            b"\",\"opaque\":",
            decimal(head.opaque.into(), &mut opaque),
        ],
    );
    if let Some(remark) = remark {
        out.put_slice(b",\"remark\":\"");
        write_escaped(out, remark);
        out.put_slice(b"\"");
    }
    // The name is the one of `HeaderKind::Json`.
    let version = decimal(head.version.into(), &mut version);
    put_all(out, [b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":", version, b"}"]);
}
