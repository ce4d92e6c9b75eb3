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
    let fields = reader.i32("extFields")?;
    let mut fields = Reader { rest: reader.bytes("extFields", fields)? };
    while !fields.rest.is_empty() {
        let length = fields.i16("the length of a field's name")?;
        let name = fields.text("a field's name", length.into())?;
        let length = fields.i32("the length of a field's value")?;
        let value = fields.text("a field's value", length)?;
        if !command.ext.push(name, value) {
            return Err(DecodeError::TooManyFields);
        }
    }
    Ok(())
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
    out.put_i16(name_length);
    out.put_slice(name.as_bytes());
    out.put_i32(value_length);
    out.put_slice(value);
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
