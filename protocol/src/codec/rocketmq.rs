//! The binary header (`ROCKETMQ`): fixed fields, then remark and ext fields with their lengths, all big-endian.
//! A text of length zero and none are the same thing here. Bytes behind the fields are ignored, as in Java.

use crate::code::RequestCode;
use crate::command::{Command, DecodeError, Flags, HeadStart, Language, Text};
use bytes::{BufMut, BytesMut};

/// What is left of a header.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let room = self.rest.len();
        let (array, rest) =
            self.rest.split_first_chunk().ok_or(DecodeError::Length { field, announced: N as i64, room })?;
        self.rest = rest;
        Ok(*array)
    }

    fn bytes(&mut self, field: &'static str, announced: i32) -> Result<&'a [u8], DecodeError> {
        let room = self.rest.len();
        let split = usize::try_from(announced).ok().and_then(|length| self.rest.split_at_checked(length));
        let (bytes, rest) = split.ok_or(DecodeError::Length { field, announced: announced.into(), room })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self, field: &'static str, announced: i32) -> Result<Text<'a>, DecodeError> {
        let bytes = self.bytes(field, announced)?;
        let text = std::str::from_utf8(bytes).map_err(|error| DecodeError::NotUtf8 { at: error.valid_up_to() })?;
        Ok(Text::plain(text))
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }
}

/// Fills `command` from a binary header.
pub(crate) fn decode<'a>(header: &'a [u8], command: &mut Command<'a>) -> Result<(), DecodeError> {
    let mut reader = Reader { rest: header };
    let code = reader.i16("code")?;
    let [language] = reader.array("language")?;
    command.language = Language(language);
    command.version = reader.i16("version")?.into();
    command.opaque = reader.i32("opaque")?;
    command.flags = Flags(reader.i32("flag")?);
    command.code = if command.flags.is_response() { code.into() } else { RequestCode::from_binary(code).0 };
    let remark = reader.i32("remark")?;
    if remark != 0 {
        command.remark = Some(reader.text("remark", remark)?);
    }
    let length = reader.i32("extFields")?;
    let fields = reader.bytes("extFields", length)?;
    // Lengths below 128 are UTF-8 too, so most often one check serves all texts at once.
    match std::str::from_utf8(fields) {
        Ok(text) => decode_fields(fields, command, |from, to| text.get(from..to).ok_or(from)),
        Err(_) => decode_fields(fields, command, |from, to| {
            std::str::from_utf8(&fields[from..to]).map_err(|error| from + error.valid_up_to())
        }),
    }
}

/// Reads the entries in `fields`; `text` gives the text of a range, or where it stops being one.
#[inline(always)]
fn decode_fields<'a>(
    fields: &'a [u8],
    command: &mut Command<'a>,
    text: impl Fn(usize, usize) -> Result<&'a str, usize>,
) -> Result<(), DecodeError> {
    let mut at = 0;
    while at < fields.len() {
        let Some(length) = fields.get(at..).and_then(|rest| rest.first_chunk()) else {
            return Err(too_short("the length of a field's name", 2, fields.len() - at));
        };
        let from = at + 2;
        let to = end_of(from, i16::from_be_bytes(*length).into(), fields.len(), "a field's name")?;
        let Some(length) = fields.get(to..).and_then(|rest| rest.first_chunk()) else {
            return Err(too_short("the length of a field's value", 4, fields.len() - to));
        };
        let value_from = to + 4;
        at = end_of(value_from, i32::from_be_bytes(*length), fields.len(), "a field's value")?;
        let (name, value) = match (text(from, to), text(value_from, at)) {
            (Ok(name), Ok(value)) => (name, value),
            (Err(at), _) | (_, Err(at)) => return Err(DecodeError::NotUtf8 { at }),
        };
        if !command.ext.push(Text::plain(name), Text::plain(value)) {
            return Err(DecodeError::TooManyFields);
        }
    }
    Ok(())
}

#[cold]
fn too_short(field: &'static str, announced: i64, room: usize) -> DecodeError {
    DecodeError::Length { field, announced, room }
}

/// Where a text of `length` bytes ends that starts at `from`.
#[inline(always)]
fn end_of(from: usize, length: i32, total: usize, field: &'static str) -> Result<usize, DecodeError> {
    match usize::try_from(length) {
        Ok(length) if length <= total - from => Ok(from + length),
        _ => Err(too_short(field, length.into(), total - from)),
    }
}

/// Writes everything up to the fields' length word, without a remark.
pub(crate) fn write_start(out: &mut BytesMut, head: &HeadStart) {
    out.put_i16(head.code as i16);
    out.put_u8(head.language.0);
    out.put_i16(head.version as i16);
    out.put_i32(head.opaque);
    out.put_i32(head.flags.0);
    out.put_i32(0);
}

/// Writes one field; false when its name is too long for the 16 bits of its length.
pub(crate) fn write_field(out: &mut BytesMut, name: &str, value: &[u8]) -> bool {
    let (Ok(name_length), Ok(value_length)) = (i16::try_from(name.len()), i32::try_from(value.len())) else {
        return false;
    };
    let start = out.len();
    out.resize(start + 6 + name.len() + value.len(), 0);
    let (name_at, value_at) = out[start..].split_at_mut(2 + name.len());
    name_at[..2].copy_from_slice(&name_length.to_be_bytes());
    name_at[2..].copy_from_slice(name.as_bytes());
    value_at[..4].copy_from_slice(&value_length.to_be_bytes());
    value_at[4..].copy_from_slice(value);
    true
}

/// Patches the fields' length word at `ext_at` and slips the remark in before it.
pub(crate) fn write_end(out: &mut BytesMut, ext_at: usize, remark: Option<&str>) {
    let fields = (out.len() - ext_at - 4) as u32;
    out[ext_at..ext_at + 4].copy_from_slice(&fields.to_be_bytes());
    if let Some(remark) = remark {
        out[ext_at - 4..ext_at].copy_from_slice(&(remark.len() as u32).to_be_bytes());
        out.put_slice(remark.as_bytes());
        out[ext_at..].rotate_right(remark.len());
    }
}
