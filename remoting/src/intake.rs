//! Received bytes that are kept between two reads: part of a frame, or frames the connection may not handle yet.
//! An empty one owns almost nothing. A frame too large for the thread's read buffer is collected here, in memory that
//! grows as its bytes arrive and never to what its length word merely claims.

/// Bytes of capacity an empty intake keeps.
const KEPT_BYTES_MAX: usize = 2048;

/// How much larger a full buffer becomes.
const GROWTH: usize = 4;

/// Bytes between two reads.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// Kept bytes, then zeroes to read into.
    buffer: Vec<u8>,
    filled: usize,
}

impl Intake {
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// What is kept.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Bytes of memory to account for.
    pub(crate) fn owned(&self) -> usize {
        if self.buffer.capacity() <= KEPT_BYTES_MAX { 0 } else { self.buffer.capacity() }
    }

    /// The whole length of the frame that has begun, if it is longer than `bytes`.
    pub(crate) fn frame_longer_than(&self, bytes: usize) -> Option<usize> {
        let announced = self.kept().first_chunk::<4>()?;
        let total = usize::try_from(i32::from_be_bytes(*announced)).ok()?.saturating_add(4);
        (total > bytes).then_some(total)
    }

    /// The size the buffer needs next to take more of a frame of `total` bytes; `None` while it has room.
    pub(crate) fn next_size(&self, total: usize, first: usize) -> Option<usize> {
        (self.filled == self.buffer.len()).then(|| total.min(first.max(self.buffer.len() * GROWTH)))
    }

    /// Makes the buffer `size` bytes long, keeping what is in it.
    pub(crate) fn grow(&mut self, size: usize) {
        // A fresh zeroed buffer comes from the system as it is; growing in place would write the zeroes.
        let mut larger = vec![0; size];
        larger[..self.filled].copy_from_slice(self.kept());
        self.buffer = larger;
    }

    /// Where the next bytes of a frame of `total` bytes go.
    pub(crate) fn room(&mut self, total: usize) -> &mut [u8] {
        let end = self.buffer.len().min(total);
        &mut self.buffer[self.filled..end]
    }

    /// `bytes` have been read into [`Self::room`].
    pub(crate) fn fill(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Keeps these bytes and no others.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.buffer.clear();
        if bytes.is_empty() && self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
        self.filled = bytes.len();
    }

    /// Drops the first `bytes` of what is kept.
    pub(crate) fn consume(&mut self, bytes: usize) {
        if bytes == self.filled {
            self.keep(&[]);
        } else if bytes > 0 {
            self.buffer.copy_within(bytes..self.filled, 0);
            self.filled -= bytes;
            self.buffer.truncate(self.filled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_what_arrives_and_not_by_what_is_announced() {
        let total = 16 * 1024 * 1024;
        let mut intake = Intake::default();
        intake.keep(&(total as i32 - 4).to_be_bytes());
        assert_eq!(intake.frame_longer_than(128 * 1024), Some(total));
        let mut sizes = Vec::new();
        while intake.kept().len() < total {
            if let Some(size) = intake.next_size(total, 128 * 1024) {
                assert!(size <= 128 * 1024 + intake.kept().len() * GROWTH);
                intake.grow(size);
                sizes.push(size);
            }
            let room = intake.room(total).len();
            intake.fill(room);
        }
        assert_eq!(sizes, [128 << 10, 512 << 10, 2 << 20, 8 << 20, 16 << 20]);
        assert_eq!(&intake.kept()[..4], (total as i32 - 4).to_be_bytes());
        intake.consume(total);
        assert!(intake.is_empty() && intake.owned() == 0 && intake.buffer.capacity() <= KEPT_BYTES_MAX);
    }
}
