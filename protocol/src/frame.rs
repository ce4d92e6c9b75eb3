//! Where one frame ends and its parts lie: the four length bytes, the header word, the header, the body.
//! Called by every reader of a connection before anything is decoded; nothing is copied and nothing is allocated.
//! A length that cannot be right is an error as soon as its bytes are there, never a reason to wait for more.

use std::ops::Range;

/// RocketMQ's own limit for one frame, the four length bytes included.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The largest header a header word can announce: its length has 24 bits.
pub const HEADER_BYTES_MAX: usize = (1 << 24) - 1;

/// Bytes before the header: total length and header word.
pub const PREFIX_BYTES: usize = 8;

/// How the header of a frame is written. The frame says so itself, so one connection may carry both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum HeaderKind {
    /// JSON text, the default of every client.
    #[default]
    Json,
    /// RocketMQ's binary header (`rocketmq.serialize.type=ROCKETMQ`).
    RocketMq,
}

impl HeaderKind {
    /// The value of the header word's first byte.
    pub const fn wire(self) -> u8 {
        match self {
            Self::Json => 0,
            Self::RocketMq => 1,
        }
    }

    /// The name in `serializeTypeCurrentRPC` and in the clients' configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::RocketMq => "ROCKETMQ",
        }
    }

    /// The kind for the first byte of a header word; `None` for a number no RocketMQ release uses.
    pub const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Json),
            1 => Some(Self::RocketMq),
            _ => None,
        }
    }
}

/// The parts of one complete frame, as ranges of the buffer given to [`split`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameBounds {
    /// Length of the whole frame, its four length bytes included: where the next frame starts.
    pub total: usize,
    /// How the header is written.
    pub kind: HeaderKind,
    /// The header's bytes.
    pub header: Range<usize>,
    /// The body's bytes; empty when there is none (the protocol cannot tell the two apart).
    pub body: Range<usize>,
}

/// Why bytes can never become a frame. The connection that sent them has to be closed: there is no way to find
/// the start of the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length word is negative or leaves no room for the header word.
    #[error(
        "the frame announces {announced} bytes after its length word, which cannot hold a header; this is not RocketMQ's protocol"
    )]
    LengthWord {
        /// The length word, read as Java reads it.
        announced: i32,
    },
    /// The frame is longer than this side accepts.
    #[error(
        "the frame has {total} bytes, more than the limit of {bytes_max}; send smaller messages or raise the limit on both sides"
    )]
    TooLong {
        /// Length of the frame with its length word.
        total: usize,
        /// The limit in force.
        bytes_max: usize,
    },
    /// The header would reach beyond the frame's end.
    #[error(
        "the header announces {header} bytes but the frame has room for {room}; the sender and the protocol disagree"
    )]
    HeaderLength {
        /// Announced header length.
        header: usize,
        /// Bytes between the header word and the frame's end.
        room: usize,
    },
    /// The header word names an encoding nobody knows.
    #[error("the header is written in encoding {byte}; only 0 (JSON) and 1 (ROCKETMQ) exist")]
    UnknownKind {
        /// First byte of the header word.
        byte: u8,
    },
}

/// Finds the first frame in `buffer`. `None`: right so far, more bytes are needed.
///
/// `bytes_max` bounds the whole frame with its length word (normally [`FRAME_BYTES_MAX`]).
///
/// # Errors
/// As soon as the words that are wrong have arrived, however little of the frame is there.
pub fn split(buffer: &[u8], bytes_max: usize) -> Result<Option<FrameBounds>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let announced = i32::from_be_bytes(*length);
    let after_length = usize::try_from(announced).unwrap_or(0);
    if after_length < 4 {
        return Err(FrameError::LengthWord { announced });
    }
    let total = after_length + 4;
    if total > bytes_max {
        return Err(FrameError::TooLong { total, bytes_max });
    }
    let Some(([byte, header @ ..], _)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let Some(kind) = HeaderKind::from_wire(*byte) else {
        return Err(FrameError::UnknownKind { byte: *byte });
    };
    let [high, middle, low] = *header;
    let header = u32::from_be_bytes([0, high, middle, low]) as usize;
    let room = after_length - 4;
    if header > room {
        return Err(FrameError::HeaderLength { header, room });
    }
    if buffer.len() < total {
        return Ok(None);
    }
    let header_end = PREFIX_BYTES + header;
    Ok(Some(FrameBounds { total, kind, header: PREFIX_BYTES..header_end, body: header_end..total }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: i32, kind: u8, header: u32, rest: usize) -> Vec<u8> {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&(u32::from(kind) << 24 | header).to_be_bytes());
        bytes.resize(bytes.len() + rest, b'x');
        bytes
    }

    #[test]
    fn parts_of_a_frame() {
        let mut bytes = frame(4 + 5 + 3, 1, 5, 8);
        bytes.extend_from_slice(b"next");
        let bounds = split(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(bounds, FrameBounds { total: 16, kind: HeaderKind::RocketMq, header: 8..13, body: 13..16 });
    }

    #[test]
    fn every_shorter_prefix_asks_for_more() {
        let bytes = frame(4 + 5 + 3, 0, 5, 8);
        for end in 0..bytes.len() {
            assert_eq!(split(&bytes[..end], FRAME_BYTES_MAX), Ok(None), "{end} bytes");
        }
        assert!(split(&bytes, FRAME_BYTES_MAX).unwrap().is_some());
    }

    #[test]
    fn errors_come_with_the_word_that_is_wrong() {
        for announced in [-1, i32::MIN, 0, 3] {
            assert_eq!(split(&announced.to_be_bytes(), FRAME_BYTES_MAX), Err(FrameError::LengthWord { announced }));
        }
        let limit = FrameError::TooLong { total: FRAME_BYTES_MAX + 1, bytes_max: FRAME_BYTES_MAX };
        assert_eq!(split(&(FRAME_BYTES_MAX as i32 - 3).to_be_bytes(), FRAME_BYTES_MAX), Err(limit));
        assert_eq!(split(&(FRAME_BYTES_MAX as i32 - 4).to_be_bytes(), FRAME_BYTES_MAX), Ok(None));
        assert_eq!(split(&frame(10, 0, 7, 0), FRAME_BYTES_MAX), Err(FrameError::HeaderLength { header: 7, room: 6 }));
        assert_eq!(split(&frame(10, 9, 0, 0), FRAME_BYTES_MAX), Err(FrameError::UnknownKind { byte: 9 }));
        // The first bytes of an HTTP request and of a TLS hello.
        assert!(split(b"GET / HTTP/1.1", FRAME_BYTES_MAX).is_err());
        assert!(split(&[0x16, 3, 1, 2, 0, 1], FRAME_BYTES_MAX).is_err());
    }
}
