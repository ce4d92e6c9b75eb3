//! One decoded frame that borrows everything from the frame's bytes: what `remoting` hands to handlers.
//! Nothing is allocated for up to 20 ext fields; values are checked but not converted.

use super::{CommandHeader, ExtFields, Flags, HeaderError, Language, RemotingCommand, Text};
use crate::code::{RequestCode, ResponseCode};
use crate::codec::{json, rocketmq};
use crate::frame::{FrameBounds, HeaderKind};

/// A command, borrowed from its frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Command<'a> {
    /// Request or response code; codes that a binary header cut to 16 bits are restored.
    pub code: i32,
    /// Language of the sender.
    pub language: Language,
    /// Version ordinal of the sender (479: 5.3.3; 0 when the header has none).
    pub version: i32,
    /// Correlates answer and request within one connection and direction.
    pub opaque: i32,
    /// Direction, and whether an answer is wanted.
    pub flags: Flags,
    /// Free text; in an error answer the reason.
    pub remark: Option<Text<'a>>,
    /// The command's own named values.
    pub ext: ExtFields<'a>,
    /// The body; empty when there is none.
    pub body: &'a [u8],
    /// How the header was written. The answer goes back in the same kind.
    pub kind: HeaderKind,
}

/// Why a complete frame's header is not a command. The stream itself is still in step, but the sender is not to be
/// trusted: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bounds do not belong to these bytes.
    #[error("the frame's parts lie outside the bytes given; split the frame again")]
    Bounds,
    /// A text is not UTF-8.
    #[error("the header is not valid UTF-8 at byte {at}")]
    NotUtf8 {
        /// Byte position in the header (JSON) or in the text (binary).
        at: usize,
    },
    /// A JSON header is not the object it has to be.
    #[error("the JSON header is wrong at byte {at}: expected {expected}")]
    Json {
        /// Byte position in the header.
        at: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// A binary header ends too early or contains a length that cannot be right.
    #[error("the binary header is wrong at {field}: {announced} bytes announced, {room} left")]
    Length {
        /// The part that does not fit.
        field: &'static str,
        /// Bytes it claims or needs.
        announced: i64,
        /// Bytes there are.
        room: usize,
    },
    /// More ext fields than any command has.
    #[error("the header has more than {} fields", super::EXT_FIELDS_MAX)]
    TooManyFields,
    /// The bytes are not one frame.
    #[error("not a frame: {0}")]
    Frame(#[from] crate::frame::FrameError),
    /// The bytes are only the beginning of a frame.
    #[error("the frame is incomplete: {have} bytes are here")]
    Incomplete {
        /// Bytes given.
        have: usize,
    },
}

impl Default for Command<'_> {
    /// A request of code 0 with nothing in it: what a header without members says.
    fn default() -> Self {
        Self {
            code: 0,
            language: Language::JAVA,
            version: 0,
            opaque: 0,
            flags: Flags::REQUEST,
            remark: None,
            ext: ExtFields::default(),
            body: &[],
            kind: HeaderKind::Json,
        }
    }
}

impl<'a> Command<'a> {
    /// Decodes the header of one frame whose parts [`crate::frame::split`] found.
    ///
    /// # Errors
    /// A header that is malformed; see [`DecodeError`].
    pub fn decode(frame: &'a [u8], bounds: &FrameBounds) -> Result<Self, DecodeError> {
        let mut command = Self::default();
        command.decode_into(frame, bounds)?;
        Ok(command)
    }

    /// The same in place: a command is a kilobyte, which who decodes many of them does not want to move each time.
    /// Nothing of what was there before is left; after an error the command means nothing.
    ///
    /// # Errors
    /// As [`Command::decode`].
    pub fn decode_into(&mut self, frame: &'a [u8], bounds: &FrameBounds) -> Result<(), DecodeError> {
        let header = frame.get(bounds.header.clone()).ok_or(DecodeError::Bounds)?;
        self.body = frame.get(bounds.body.clone()).ok_or(DecodeError::Bounds)?;
        self.kind = bounds.kind;
        (self.code, self.language, self.version, self.opaque) = (0, Language::JAVA, 0, 0);
        (self.flags, self.remark) = (Flags::REQUEST, None);
        self.ext.clear();
        match bounds.kind {
            HeaderKind::Json => json::decode(header, self),
            HeaderKind::RocketMq => rocketmq::decode(header, self),
        }
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
        H::decode(&self.ext)
    }

    /// A copy that owns its parts, escapes undone.
    pub fn to_owned(&self) -> RemotingCommand {
        RemotingCommand {
            code: self.code,
            language: self.language,
            version: self.version,
            opaque: self.opaque,
            flags: self.flags,
            remark: self.remark.map(|text| text.to_cow().into_owned()),
            ext: self.ext.iter().map(|(key, value)| (key.to_cow().into_owned(), value.to_cow().into_owned())).collect(),
            body: bytes::Bytes::copy_from_slice(self.body),
            kind: self.kind,
        }
    }
}
