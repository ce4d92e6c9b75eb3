//! Reading stored records: one record, what stands at a place of a log file, records in a row.
//!
//! Called by recovery and dispatch (every record once), pulls, and clients on a pull reply's body.
//! Must hold: no bytes make this panic; a view that exists is consistent, so that its accessors need no check.

use super::{
    BLANK_BYTES_MIN, BODY_CRC_AT, BORN_HOST_AT, BORN_TIMESTAMP_AT, FIXED_BYTES, FLAG_AT, MAGIC_AT, MAGIC_BLANK,
    MAGIC_V1, MAGIC_V2, PHYSICAL_OFFSET_AT, QUEUE_ID_AT, QUEUE_OFFSET_AT, RecordFields, SYS_FLAG_AT, body_crc, i32_at,
    i64_at, reconsume_times_at, store_host_at, store_timestamp_at,
};
use crate::message::{flags, properties};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reconsume times (4 bytes), offset of the half message (8) and the body's length (4) come before the body.
const BODY_AT_BEHIND_RECONSUME_TIMES: usize = 16;

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not even a size and a magic.
    #[error("{have} bytes are no record: a size and a magic need 8")]
    TooShort {
        /// Bytes given.
        have: usize,
    },
    /// Neither a record nor filler starts here. All zero: nothing was written here yet.
    #[error("no record starts here: magic {magic:#010x} is unknown (size field {size})")]
    UnknownMagic {
        /// What stands in place of a magic.
        magic: i32,
        /// What stands in place of the size.
        size: i32,
    },
    /// A filler where a record was asked for.
    #[error("the end-of-file filler of {size} bytes stands where a record is expected")]
    Blank {
        /// Its length.
        size: i32,
    },
    /// The size is smaller than any record.
    #[error("the record states a size of {size} bytes, less than any record has")]
    SizeTooSmall {
        /// The stated size.
        size: i32,
    },
    /// The record goes on behind the end of the bytes.
    #[error("the record states {size} bytes, only {have} are here")]
    Truncated {
        /// The stated size.
        size: i32,
        /// Bytes given.
        have: usize,
    },
    /// A length below zero.
    #[error("the record states a {part} length of {length}; it is damaged")]
    NegativeLength {
        /// `body`, `topic` or `properties`.
        part: &'static str,
        /// The stated length.
        length: i32,
    },
    /// The parts do not add up to the stated size.
    #[error("the record states {size} bytes, its parts make {computed}; it is damaged")]
    SizeMismatch {
        /// The stated size.
        size: i32,
        /// Sum of the parts; for parts that reach behind the record, the sum as far as it was read.
        computed: usize,
    },
    /// The topic is not text.
    #[error("the record's topic is not UTF-8; it is damaged")]
    TopicNotUtf8,
    /// The body is not what was stored.
    #[error("the body's checksum is {computed:#010x}, the record states {stored:#010x}; the body is damaged")]
    BodyCrc {
        /// The stated checksum.
        stored: u32,
        /// The checksum of the bytes here.
        computed: u32,
    },
}

/// One record, borrowed and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
    body: &'a [u8],
    topic: &'a str,
    properties: &'a [u8],
    sys_flag: i32,
}

impl<'a> RecordView<'a> {
    /// Reads the record at the start of `bytes`, which may go on behind it.
    ///
    /// # Errors
    /// What is wrong with the bytes; see [`RecordError`]. With `check_crc`, a wrong body checksum too (as
    /// in Java, an empty body is not checked).
    pub fn parse(bytes: &'a [u8], check_crc: bool) -> Result<Self, RecordError> {
        let (size, magic) = head(bytes)?;
        let v2 = match magic {
            MAGIC_V1 => false,
            MAGIC_V2 => true,
            MAGIC_BLANK => return Err(RecordError::Blank { size }),
            _ => return Err(RecordError::UnknownMagic { magic, size }),
        };
        if size < FIXED_BYTES as i32 {
            return Err(RecordError::SizeTooSmall { size });
        }
        let have = bytes.len();
        let bytes = bytes.get(..size as usize).ok_or(RecordError::Truncated { size, have })?;
        let sys_flag = i32_at(bytes, SYS_FLAG_AT);
        let mut parts = Parts { bytes, at: reconsume_times_at(sys_flag) + 12 };
        let body_len = parts.i32()?;
        let body = parts.take(body_len, "body")?;
        let topic_len = if v2 { parts.i16()? } else { parts.i8()? };
        let topic = parts.take(topic_len, "topic")?;
        let properties_len = parts.i16()?;
        let properties = parts.take(properties_len, "properties")?;
        if parts.at != bytes.len() {
            return Err(RecordError::SizeMismatch { size, computed: parts.at });
        }
        let topic = std::str::from_utf8(topic).map_err(|_| RecordError::TopicNotUtf8)?;
        let view = Self { bytes, body, topic, properties, sys_flag };
        if check_crc { view.check_body_crc() } else { Ok(view) }
    }

    fn check_body_crc(self) -> Result<Self, RecordError> {
        let (stored, computed) = (self.body_crc(), body_crc(self.body));
        if self.body.is_empty() || stored == computed {
            return Ok(self);
        }
        Err(RecordError::BodyCrc { stored, computed })
    }

    /// Size of the record, bytes.
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The record as it lies in the log.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What lies before the body and behind it: everything that the body's checksum says nothing of, and it itself.
    #[inline]
    pub fn around_body(&self) -> (&'a [u8], &'a [u8]) {
        let body_at = reconsume_times_at(self.sys_flag) + BODY_AT_BEHIND_RECONSUME_TIMES;
        (&self.bytes[..body_at], &self.bytes[body_at + self.body.len()..])
    }

    /// [`MAGIC_V1`] or [`MAGIC_V2`].
    pub fn magic(&self) -> i32 {
        i32_at(self.bytes, MAGIC_AT)
    }

    /// The body's checksum as stored.
    pub fn body_crc(&self) -> u32 {
        i32_at(self.bytes, BODY_CRC_AT) as u32
    }

    /// Queue within the topic.
    pub fn queue_id(&self) -> i32 {
        i32_at(self.bytes, QUEUE_ID_AT)
    }

    /// The user's flag.
    pub fn flag(&self) -> i32 {
        i32_at(self.bytes, FLAG_AT)
    }

    /// Offset in the queue.
    pub fn queue_offset(&self) -> i64 {
        i64_at(self.bytes, QUEUE_OFFSET_AT)
    }

    /// Offset in the commit log, as the record states it.
    pub fn physical_offset(&self) -> i64 {
        i64_at(self.bytes, PHYSICAL_OFFSET_AT)
    }

    /// Bits of [`flags`].
    pub fn sys_flag(&self) -> i32 {
        self.sys_flag
    }

    /// Producer's clock, ms.
    pub fn born_timestamp(&self) -> i64 {
        i64_at(self.bytes, BORN_TIMESTAMP_AT)
    }

    /// Producer's address. Of the stored 32-bit port the low half counts.
    pub fn born_host(&self) -> SocketAddr {
        host_at(self.bytes, BORN_HOST_AT, self.sys_flag & flags::BORN_HOST_V6 != 0)
    }

    /// Broker's clock at the append, ms.
    pub fn store_timestamp(&self) -> i64 {
        i64_at(self.bytes, store_timestamp_at(self.sys_flag))
    }

    /// Broker's address. Of the stored 32-bit port the low half counts.
    pub fn store_host(&self) -> SocketAddr {
        host_at(self.bytes, store_host_at(self.sys_flag), self.sys_flag & flags::STORE_HOST_V6 != 0)
    }

    /// Times this message was consumed without success.
    pub fn reconsume_times(&self) -> i32 {
        i32_at(self.bytes, reconsume_times_at(self.sys_flag))
    }

    /// Physical offset of the half record a committed message came from; else 0.
    pub fn prepared_transaction_offset(&self) -> i64 {
        i64_at(self.bytes, reconsume_times_at(self.sys_flag) + 4)
    }

    /// Body, possibly compressed.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Topic.
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// Property block, for the functions of [`properties`].
    pub fn properties(&self) -> &'a [u8] {
        self.properties
    }

    /// The value of one property.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        properties::find(self.properties, name)
    }

    /// All fields, to encode a changed copy.
    pub fn fields(&self) -> RecordFields<'a> {
        RecordFields {
            queue_id: self.queue_id(),
            flag: self.flag(),
            queue_offset: self.queue_offset(),
            physical_offset: self.physical_offset(),
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp(),
            born_host: self.born_host(),
            store_timestamp: self.store_timestamp(),
            store_host: self.store_host(),
            reconsume_times: self.reconsume_times(),
            prepared_transaction_offset: self.prepared_transaction_offset(),
            body: self.body,
            topic: self.topic,
            properties: self.properties,
        }
    }
}

/// What stands at one place of a commit log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEntry<'a> {
    /// A record.
    Record(RecordView<'a>),
    /// The filler: the file has no more records.
    Blank {
        /// Its length, bytes, head included.
        len: u32,
    },
}

/// Reads what stands at the start of `bytes` (the rest of a log file). Body checksums are not checked: for
/// that, take [`RecordView::parse`].
///
/// # Errors
/// See [`RecordError`]; a filler longer than `bytes` is `Truncated`.
pub fn next_entry(bytes: &[u8]) -> Result<LogEntry<'_>, RecordError> {
    match RecordView::parse(bytes, false) {
        Ok(record) => Ok(LogEntry::Record(record)),
        Err(RecordError::Blank { size }) if size < BLANK_BYTES_MIN as i32 => Err(RecordError::SizeTooSmall { size }),
        Err(RecordError::Blank { size }) if size as usize > bytes.len() => {
            Err(RecordError::Truncated { size, have: bytes.len() })
        }
        Err(RecordError::Blank { size }) => Ok(LogEntry::Blank { len: size as u32 }),
        Err(error) => Err(error),
    }
}

/// Iterates over records that stand one behind the other, as in the body of a pull reply. After an error it ends.
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { rest: bytes }
}

/// Iterator of [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let result = RecordView::parse(self.rest, false);
        self.rest = result.as_ref().map_or(&[], |record| &self.rest[record.len()..]);
        Some(result)
    }
}

fn head(bytes: &[u8]) -> Result<(i32, i32), RecordError> {
    if bytes.len() < BLANK_BYTES_MIN {
        return Err(RecordError::TooShort { have: bytes.len() });
    }
    Ok((i32_at(bytes, 0), i32_at(bytes, MAGIC_AT)))
}

/// The variable part of a record, read with every length checked against the record's end.
struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    fn take(&mut self, length: i32, part: &'static str) -> Result<&'a [u8], RecordError> {
        let length = usize::try_from(length).map_err(|_| RecordError::NegativeLength { part, length })?;
        let end = self.at.saturating_add(length);
        let bytes = self.bytes.get(self.at..end).ok_or_else(|| self.past_end(end))?;
        self.at = end;
        Ok(bytes)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let end = self.at + N;
        let word = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let word = *word.ok_or_else(|| self.past_end(end))?;
        self.at = end;
        Ok(word)
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        self.word().map(i32::from_be_bytes)
    }

    fn i16(&mut self) -> Result<i32, RecordError> {
        self.word().map(|word| i32::from(i16::from_be_bytes(word)))
    }

    fn i8(&mut self) -> Result<i32, RecordError> {
        self.word().map(|word| i32::from(i8::from_be_bytes(word)))
    }

    fn past_end(&self, computed: usize) -> RecordError {
        RecordError::SizeMismatch { size: self.bytes.len() as i32, computed }
    }
}
fn host_at(bytes: &[u8], at: usize, v6: bool) -> SocketAddr {
    if v6 {
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[at..at + 16]);
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)), i32_at(bytes, at + 16) as u16)
    } else {
        let mut octets = [0; 4];
        octets.copy_from_slice(&bytes[at..at + 4]);
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), i32_at(bytes, at + 4) as u16)
    }
}
