//! Rewrites Java's JSON into standard JSON in one pass, copying only from the first place that differs.
//!
//! Called through `java_json::normalise` for every body that is read. A recursive descent whose depth is
//! counted; each input byte is looked at once, and at most twice more inside an object key.

use super::{DEPTH_MAX, JavaJsonError};
use std::borrow::Cow;

pub(super) fn normalise(text: &[u8]) -> Result<Cow<'_, [u8]>, JavaJsonError> {
    let mut rewriter = Rewriter { text, at: 0, copied: 0, out: Vec::new(), changed: false, depth: 0, in_key: false };
    rewriter.value()?;
    rewriter.skip_blanks();
    if rewriter.at < text.len() {
        return Err(rewriter.expected("end of text"));
    }
    if !rewriter.changed {
        return Ok(Cow::Borrowed(text));
    }
    rewriter.flush(text.len());
    Ok(Cow::Owned(rewriter.out))
}

struct Rewriter<'a> {
    text: &'a [u8],
    /// Next byte to look at.
    at: usize,
    /// Everything before this is in `out`, rewritten or dropped; what follows is still to be copied.
    copied: usize,
    out: Vec<u8>,
    changed: bool,
    depth: usize,
    /// Inside an object that is a key. Such an object may not have object keys itself: each level would
    /// double the escapes of the one below.
    in_key: bool,
}

impl Rewriter<'_> {
    fn value(&mut self) -> Result<(), JavaJsonError> {
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(quote @ (b'"' | b'\'')) => self.string(quote),
            _ => self.bare("a value").map(|_| ()),
        }
    }

    fn nested(&mut self, inside: fn(&mut Self) -> Result<(), JavaJsonError>) -> Result<(), JavaJsonError> {
        if self.depth == DEPTH_MAX {
            return Err(JavaJsonError::TooDeep { at: self.at });
        }
        self.depth += 1;
        self.at += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    fn array(&mut self) -> Result<(), JavaJsonError> {
        self.skip_blanks();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.value()?;
            self.skip_blanks();
            if self.eat(b']') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.expected("',' or ']'"));
            }
        }
    }

    fn object(&mut self) -> Result<(), JavaJsonError> {
        self.skip_blanks();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let (start, out_len, copied) = (self.at, self.out.len(), self.copied);
            self.member_name()?;
            self.skip_blanks();
            if !self.eat(b':') {
                return Err(self.expected("':'"));
            }
            let is_null = self.member_value()?;
            self.skip_blanks();
            if is_null {
                self.out.truncate(out_len);
                self.copied = copied;
                self.drop_from(start);
            }
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.expected("',' or '}'"));
            }
            self.skip_blanks();
        }
    }

    /// Whether the value was null.
    fn member_value(&mut self) -> Result<bool, JavaJsonError> {
        self.skip_blanks();
        let start = self.at;
        self.value()?;
        Ok(&self.text[start..self.at] == b"null")
    }

    /// Leaves out everything from `start` to here, and one of the commas around it.
    fn drop_from(&mut self, start: usize) {
        self.flush(start);
        self.copied = self.at;
        if self.peek() == Some(b',') {
            // The member behind takes this one's place; its own blanks go too.
            let comma = self.at;
            self.at += 1;
            self.skip_blanks();
            self.copied = self.at;
            self.at = comma;
        } else {
            let kept = self.out.trim_ascii_end().len();
            if self.out[..kept].last() == Some(&b',') {
                self.out.truncate(kept - 1);
            }
        }
    }

    fn member_name(&mut self) -> Result<(), JavaJsonError> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.string(quote),
            Some(b'{') => self.object_key(),
            _ => {
                let start = self.at;
                let end = self.bare("a key")?;
                self.flush(start);
                self.out.push(b'"');
                self.out.extend_from_slice(&self.text[start..end]);
                self.out.push(b'"');
                self.copied = end;
                Ok(())
            }
        }
    }

    fn object_key(&mut self) -> Result<(), JavaJsonError> {
        if self.in_key {
            return Err(JavaJsonError::NestedKey { at: self.at });
        }
        self.flush(self.at);
        let mark = self.out.len();
        self.in_key = true;
        self.value()?;
        self.in_key = false;
        self.flush(self.at);
        let key = self.out.split_off(mark);
        self.out.push(b'"');
        for &byte in &key {
            if matches!(byte, b'"' | b'\\') {
                self.out.push(b'\\');
            }
            self.push_character(byte);
        }
        self.out.push(b'"');
        Ok(())
    }

    fn string(&mut self, quote: u8) -> Result<(), JavaJsonError> {
        let single = quote == b'\'';
        if single {
            self.replace_byte(b"\"");
        } else {
            self.at += 1;
        }
        loop {
            let Some(byte) = self.peek() else { return Err(self.expected("a closing quote")) };
            match byte {
                _ if byte == quote => break,
                b'"' => self.replace_byte(b"\\\""),
                0..0x20 => {
                    self.flush(self.at);
                    self.push_character(byte);
                    self.at += 1;
                    self.copied = self.at;
                }
                b'\\' => self.escape()?,
                _ => self.at += 1,
            }
        }
        if single {
            self.replace_byte(b"\"");
        } else {
            self.at += 1;
        }
        Ok(())
    }

    /// A backslash and the byte behind it. `\'` is Java's alone and loses its backslash.
    fn escape(&mut self) -> Result<(), JavaJsonError> {
        match self.text.get(self.at + 1) {
            None | Some(0..0x20) => {
                self.at += 1;
                Err(self.expected("an escaped character"))
            }
            Some(b'\'') => {
                self.flush(self.at);
                self.copied = self.at + 1;
                self.at += 2;
                Ok(())
            }
            Some(_) => {
                self.at += 2;
                Ok(())
            }
        }
    }

    /// Passes a number, a literal or an unquoted key, and returns its end.
    fn bare(&mut self, what: &'static str) -> Result<usize, JavaJsonError> {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_' | b'$'))
        {
            self.at += 1;
        }
        if self.at == start { Err(self.expected(what)) } else { Ok(self.at) }
    }

    /// Copies the text up to `end`; only called where the result differs from the text.
    fn flush(&mut self, end: usize) {
        self.changed = true;
        self.out.extend_from_slice(&self.text[self.copied..end]);
        self.copied = end;
    }

    /// Puts `with` in place of the byte here.
    fn replace_byte(&mut self, with: &[u8]) {
        self.flush(self.at);
        self.out.extend_from_slice(with);
        self.at += 1;
        self.copied = self.at;
    }

    /// One byte of a string; control characters in their escaped form.
    fn push_character(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if byte < 0x20 {
            self.out.extend_from_slice(b"\\u00");
            self.out.push(DIGITS[usize::from(byte >> 4)]);
            self.out.push(DIGITS[usize::from(byte & 15)]);
        } else {
            self.out.push(byte);
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expected(&self, expected: &'static str) -> JavaJsonError {
        JavaJsonError::Syntax { at: self.at, expected }
    }
}
