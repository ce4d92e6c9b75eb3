//! Writes one frame's head (length word, header word, header) into an output buffer, without an allocation of its own.
//! The hot paths of the broker answer through it; `RemotingCommand::encode_head` uses it too, so there is one encoder.
//! JSON keys come in the order Java writes them.

use super::{Flags, Language, RemotingCommand, SERVER_VERSION};
use crate::code::ResponseCode;
use crate::codec::{json, rocketmq};
use crate::frame::{HEADER_BYTES_MAX, HeaderKind, PREFIX_BYTES};
use bytes::{BufMut, BytesMut};

/// What is fixed about a head before its fields are written.
#[derive(Clone, Copy)]
pub(crate) struct HeadStart {
    pub(crate) code: i32,
    pub(crate) language: Language,
    pub(crate) version: i32,
    pub(crate) opaque: i32,
    pub(crate) flags: Flags,
}

/// A head being written. [`HeadWriter::finish`] makes it whole; dropped before that, it leaves rubbish in the buffer.
#[must_use = "a head without finish() has no lengths"]
pub struct HeadWriter<'b> {
    out: &'b mut BytesMut,
    /// Where the frame starts in `out`.
    start: usize,
    kind: HeaderKind,
    head: HeadStart,
    /// JSON: whether a field was written. Binary: where the fields' length word lies.
    ext_count: usize,
    ext_at: usize,
    /// Written last: in JSON it stands behind the fields, in the binary header before them.
    remark: Option<&'b str>,
    /// A name longer than the binary header can say.
    unwritable: bool,
}

impl<'b> HeadWriter<'b> {
    /// Starts the head of an answer.
    pub fn response(out: &'b mut BytesMut, kind: HeaderKind, code: ResponseCode, opaque: i32) -> Self {
        let head = HeadStart {
            code: code.0,
            language: Language::JAVA,
            version: SERVER_VERSION,
            opaque,
            flags: Flags::RESPONSE,
        };
        Self::start(out, kind, head)
    }

    /// Starts the head of any command.
    pub(crate) fn for_command(out: &'b mut BytesMut, command: &RemotingCommand) -> Self {
        let RemotingCommand { code, language, version, opaque, flags, kind, .. } = *command;
        Self::start(out, kind, HeadStart { code, language, version, opaque, flags })
    }

    fn start(out: &'b mut BytesMut, kind: HeaderKind, head: HeadStart) -> Self {
        out.reserve(512);
        let start = out.len();
        out.put_u64(0);
        match kind {
            HeaderKind::Json => json::write_start(out, &head),
            HeaderKind::RocketMq => rocketmq::write_start(out, &head),
        }
        let ext_at = out.len();
        if kind == HeaderKind::RocketMq {
            out.put_u32(0);
        }
        Self { out, start, kind, head, ext_count: 0, ext_at, remark: None, unwritable: false }
    }

    /// Writes one ext field.
    pub fn ext_str(mut self, name: &str, value: &str) -> Self {
        match self.kind {
            HeaderKind::Json => json::write_field(self.out, self.ext_count == 0, name, value),
            HeaderKind::RocketMq => self.unwritable |= !rocketmq::write_field(self.out, name, value.as_bytes()),
        }
        self.ext_count += 1;
        self
    }

    /// Writes one ext field whose value is a number: a string in JSON too, the C++ client reads nothing else.
    pub fn ext_i64(mut self, name: &str, value: i64) -> Self {
        let mut buffer = [0; json::NUMBER_BYTES_MAX];
        let digits = json::decimal(value, &mut buffer);
        match self.kind {
            HeaderKind::Json => json::write_number_field(self.out, self.ext_count == 0, name, digits),
            HeaderKind::RocketMq => self.unwritable |= !rocketmq::write_field(self.out, name, digits),
        }
        self.ext_count += 1;
        self
    }

    /// Sets the remark.
    pub fn remark(mut self, remark: &'b str) -> Self {
        self.remark = Some(remark);
        self
    }

    /// Completes the head of a frame whose body has `body_len` bytes and will follow.
    ///
    /// A header longer than a frame can say (16 MiB) becomes a SYSTEM_ERROR that says so: the receiver learns of it,
    /// and the stream stays in step.
    ///
    /// # Panics
    /// When the body has 2 GiB or more: such a frame cannot be written, and nothing sensible can follow.
    pub fn finish(mut self, body_len: usize) {
        self.close();
        let header = self.out.len() - self.start - PREFIX_BYTES;
        if header > HEADER_BYTES_MAX || self.unwritable {
            return self.give_up(header, body_len);
        }
        let after_length = i32::try_from(4 + header + body_len).expect("a frame is shorter than 2 GiB");
        let prefix = &mut self.out[self.start..self.start + PREFIX_BYTES];
        prefix[..4].copy_from_slice(&after_length.to_be_bytes());
        prefix[4..].copy_from_slice(&(header as u32 | u32::from(self.kind.wire()) << 24).to_be_bytes());
    }

    /// Writes what stands behind the fields, and the binary header's lengths.
    fn close(&mut self) {
        match self.kind {
            HeaderKind::Json => json::write_end(self.out, self.ext_count > 0, &self.head, self.remark),
            HeaderKind::RocketMq => rocketmq::write_end(self.out, self.ext_at, self.remark),
        }
    }

    fn give_up(self, header: usize, body_len: usize) {
        let Self { out, start, kind, head, .. } = self;
        out.truncate(start);
        let remark = format!("the header of this command would take {header} bytes, more than a frame can hold");
        let head = HeadStart { code: ResponseCode::SYSTEM_ERROR.0, ..head };
        HeadWriter::start(out, kind, head).remark(&remark).finish(body_len);
    }
}
