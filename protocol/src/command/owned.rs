//! A command that owns its parts: for building requests and answers off the hot path, for clients, for tests.
//! The body is [`Bytes`], so that what the store lent is sent without a copy.

use super::{Command, CommandHeader, DecodeError, ExtFields, Flags, HeadWriter, HeaderError, Language, SERVER_VERSION};
use crate::code::{RequestCode, ResponseCode};
use crate::frame::{self, HeaderKind};
use bytes::{Bytes, BytesMut};

/// A command, owned.
#[derive(Clone, Debug, PartialEq)]
pub struct RemotingCommand {
    /// Request or response code.
    pub code: i32,
    /// Language of the sender; `JAVA` in what this side builds, the one name every client knows.
    pub language: Language,
    /// Version ordinal of the sender.
    pub version: i32,
    /// Correlates answer and request; whoever sends the command sets it.
    pub opaque: i32,
    /// Direction, and whether an answer is wanted.
    pub flags: Flags,
    /// Free text; in an error answer the reason.
    pub remark: Option<String>,
    /// The command's own named values, in the order they are written.
    pub ext: Vec<(String, String)>,
    /// The body; empty when there is none.
    pub body: Bytes,
    /// How the header is written.
    pub kind: HeaderKind,
}

impl RemotingCommand {
    fn new(code: i32, flags: Flags) -> Self {
        Self {
            code,
            language: Language::JAVA,
            version: SERVER_VERSION,
            opaque: 0,
            flags,
            remark: None,
            ext: Vec::new(),
            body: Bytes::new(),
            kind: HeaderKind::Json,
        }
    }

    /// A request with the fields of `header` (use [`crate::header::NoHeader`] where a code has none).
    pub fn request(code: RequestCode, header: &impl CommandHeader) -> Self {
        Self::new(code.0, Flags::REQUEST).with_header(header)
    }

    /// An answer. Opaque and header kind are those of the request it answers; the sender sets them.
    pub fn response(code: ResponseCode) -> Self {
        Self::new(code.0, Flags::RESPONSE)
    }

    /// Sets the remark.
    #[must_use]
    pub fn with_remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }

    /// Appends one ext field.
    #[must_use]
    pub fn with_ext(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.ext.push((name.into(), value.into()));
        self
    }

    /// Appends the fields of a header.
    #[must_use]
    pub fn with_header(mut self, header: &impl CommandHeader) -> Self {
        header.encode(&mut |name, value| self.ext.push((name.to_owned(), value.into_owned())));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The value of one ext field; the last one where a name comes twice.
    pub fn ext_value(&self, name: &str) -> Option<&str> {
        self.ext.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The code, where the command is a request.
    pub const fn request_code(&self) -> RequestCode {
        RequestCode(self.code)
    }

    /// The code, where the command is an answer.
    pub const fn response_code(&self) -> ResponseCode {
        ResponseCode(self.code)
    }

    /// The ext fields as a typed header.
    ///
    /// # Errors
    /// A field that is absent or unreadable; see [`HeaderError`].
    pub fn header<H: CommandHeader>(&self) -> Result<H, HeaderError> {
        let ext: ExtFields<'_> = self.ext.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        H::decode(&ext)
    }

    /// Appends length word, header word and header to `out`; the body is to be sent right behind, as it is.
    pub fn encode_head(&self, out: &mut BytesMut) {
        let mut writer = HeadWriter::for_command(out, self);
        for (name, value) in &self.ext {
            writer = writer.ext_str(name, value);
        }
        if let Some(remark) = &self.remark {
            writer = writer.remark(remark);
        }
        writer.finish(self.body.len());
    }

    /// The whole frame.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(512 + self.body.len());
        self.encode_head(&mut out);
        out.extend_from_slice(&self.body);
        out.freeze()
    }

    /// Decodes the frame at the start of `frame`; bytes behind it are ignored.
    ///
    /// # Errors
    /// When it is not a frame, not a whole one, or its header is malformed.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let bounds = frame::split(frame, frame::FRAME_BYTES_MAX)?;
        let bounds = bounds.ok_or(DecodeError::Incomplete { have: frame.len() })?;
        Ok(Command::decode(frame, &bounds)?.to_owned())
    }
}
