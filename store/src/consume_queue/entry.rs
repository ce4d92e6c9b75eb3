//! The 20 bytes of one consume queue entry: physical offset (i64), record size (i32), tags code (i64), big-endian.
//! Written by the dispatcher, read by `get` and by recovery. Entry n of a queue lies at byte `n * 20` of its row of files.

use crate::filter::QueueEntry;
use crate::offsets::{PhysicalOffset, QueueOffset};

/// Bytes of one entry.
pub(crate) const ENTRY_BYTES: usize = 20;

/// The size field of an entry that only fills the place before a queue's first message.
const BLANK_SIZE: i32 = i32::MAX;

/// Up to here a tags code is none: it says where Java's broker, with `enableConsumeQueueExt`, keeps it in a file of its
/// own (`ConsumeQueueExt.MAX_ADDR`). A hash has 32 bits, and a time is positive.
const EXT_ADDRESS_MAX: i64 = i32::MIN as i64 - 1;

/// What stands before the first message of a queue that does not start at 0: offset 0, the largest size, no tags.
pub(crate) const BLANK: [u8; ENTRY_BYTES] = encode(PhysicalOffset(0), BLANK_SIZE, 0);

/// The stored form of an entry.
pub(crate) const fn encode(physical: PhysicalOffset, size: i32, tags_code: i64) -> [u8; ENTRY_BYTES] {
    let p = physical.0.to_be_bytes();
    let s = size.to_be_bytes();
    let t = tags_code.to_be_bytes();
    [
        p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], s[0], s[1], s[2], s[3], t[0], t[1], t[2], t[3], t[4], t[5],
        t[6], t[7],
    ]
}

/// The entry stored in `bytes`, which stands at `queue_offset`.
#[inline]
pub(crate) fn decode(bytes: &[u8; ENTRY_BYTES], queue_offset: QueueOffset) -> QueueEntry {
    let [p0, p1, p2, p3, p4, p5, p6, p7, s0, s1, s2, s3, t0, t1, t2, t3, t4, t5, t6, t7] = *bytes;
    QueueEntry {
        queue_offset,
        physical_offset: PhysicalOffset(i64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7])),
        size: i32::from_be_bytes([s0, s1, s2, s3]),
        tags_code: i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
    }
}

impl QueueEntry {
    /// Whether an entry was ever written here. Untouched places are all zero, and no record has a size of 0.
    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        self.physical_offset.0 >= 0 && self.size > 0
    }

    /// Whether this is filler instead of a message.
    #[inline]
    pub(crate) fn is_blank(&self) -> bool {
        self.size == BLANK_SIZE
    }

    /// Whether the tags code is kept elsewhere.
    #[inline]
    pub(crate) fn lacks_tags_code(&self) -> bool {
        self.tags_code <= EXT_ADDRESS_MAX
    }

    /// One past the last byte of the record; for filler, nothing: the beginning of the log.
    #[inline]
    pub(crate) fn physical_end(&self) -> PhysicalOffset {
        if self.is_blank() {
            return PhysicalOffset(0);
        }
        PhysicalOffset(self.physical_offset.0.saturating_add(i64::from(self.size)))
    }

    /// The record's length, 0 if the field is negative.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.size).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a Java broker wrote it: the second message of a queue, tagged `TagA`, behind a record of 334 bytes.
    #[test]
    fn golden_entry() {
        let bytes = encode(PhysicalOffset(0x14e), 0xa7, waspmq_protocol::message::flags::tags_code("TagA"));
        assert_eq!(hex::encode(bytes), "000000000000014e000000a7000000000027a807");
        let entry = decode(&bytes, QueueOffset(1));
        assert_eq!((entry.physical_offset, entry.size, entry.tags_code), (PhysicalOffset(334), 167, 0x27a807));
        assert_eq!(entry.physical_end(), PhysicalOffset(501));
        assert!(entry.is_written() && !entry.is_blank());
    }

    #[test]
    fn golden_blank() {
        assert_eq!(hex::encode(BLANK), "00000000000000007fffffff0000000000000000");
        let blank = decode(&BLANK, QueueOffset(0));
        assert!(blank.is_written() && blank.is_blank());
        assert_eq!(blank.physical_end(), PhysicalOffset(0));
        assert!(!decode(&[0; ENTRY_BYTES], QueueOffset(0)).is_written());
    }
}
