//! Writes bodies as fastjson does: a serde_json formatter that decides about a key once it is complete.
//!
//! Called through `java_json::to_vec`. Must hold: a key from outside cannot be written inline unless it is
//! exactly the text of a queue, so nobody can smuggle structure into another client's body.

use crate::message::MessageQueue;
use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use std::io::{self, Write};

pub(super) fn to_vec(body: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut serializer = Serializer::with_formatter(&mut out, JavaFormatter::default());
    written(body.serialize(&mut serializer));
    out
}

pub(super) fn to_standard(body: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    written(serde_json::to_writer(&mut out, body));
    out
}

/// Writing into memory fails only for a type whose map keys are neither strings nor integers.
fn written(result: serde_json::Result<()>) {
    if let Err(error) = result {
        panic!("a body that cannot be written as JSON is a defect of its type: {error}");
    }
}

#[derive(Default)]
struct JavaFormatter {
    in_key: bool,
    /// The key is an integer; it is written already.
    bare: bool,
    /// The key as it would stand between quotes.
    escaped: Vec<u8>,
    /// The key itself.
    plain: Vec<u8>,
}

impl JavaFormatter {
    fn is_queue(&self) -> bool {
        self.plain.starts_with(br#"{"brokerName":"#)
            && serde_json::from_slice::<MessageQueue>(&self.plain)
                .and_then(|queue| serde_json::to_vec(&queue))
                .is_ok_and(|text| text == self.plain)
    }
}

impl Formatter for JavaFormatter {
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.in_key = true;
        self.bare = false;
        self.escaped.clear();
        self.plain.clear();
        CompactFormatter.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.in_key = false;
        Ok(())
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.in_key { Ok(()) } else { writer.write_all(b"\"") }
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if !self.in_key {
            return writer.write_all(b"\"");
        }
        if self.bare {
            return Ok(());
        }
        if self.is_queue() {
            return writer.write_all(&self.plain);
        }
        writer.write_all(b"\"")?;
        writer.write_all(&self.escaped)?;
        writer.write_all(b"\"")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !self.in_key {
            return writer.write_all(fragment.as_bytes());
        }
        self.escaped.extend_from_slice(fragment.as_bytes());
        self.plain.extend_from_slice(fragment.as_bytes());
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        if !self.in_key {
            return CompactFormatter.write_char_escape(writer, escape);
        }
        self.plain.push(match escape {
            CharEscape::Quote => b'"',
            CharEscape::ReverseSolidus => b'\\',
            CharEscape::Solidus => b'/',
            CharEscape::Backspace => 0x08,
            CharEscape::FormFeed => 0x0C,
            CharEscape::LineFeed => b'\n',
            CharEscape::CarriageReturn => b'\r',
            CharEscape::Tab => b'\t',
            CharEscape::AsciiControl(byte) => byte,
        });
        CompactFormatter.write_char_escape(&mut self.escaped, escape)
    }

    fn write_i32<W: ?Sized + Write>(&mut self, writer: &mut W, value: i32) -> io::Result<()> {
        self.bare = true;
        CompactFormatter.write_i32(writer, value)
    }

    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.bare = true;
        CompactFormatter.write_i64(writer, value)
    }
}
