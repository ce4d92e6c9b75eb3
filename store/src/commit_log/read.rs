//! Reading the log: borrowed bytes of the mapped files. Called by dispatch, pulls and look-ups.
//! What must hold: only whole records below `max_offset` are handed out, and a page the disk cannot give is an error
//! here instead of a signal that ends the process.

use std::ops::Range;
use std::sync::atomic::Ordering;

use waspmq_protocol::message::record::{self, RecordError, RecordView};

use super::{
    CommitLog,
    recently_read::{Part, STRETCH_BYTES},
};
use crate::{error::StoreError, mapped_file::MappedSlice, offsets::PhysicalOffset, sums::Compared};

/// What was appended this far behind the end may have left memory; reading it asks for the pages first.
const SURELY_IN_MEMORY_BYTES: u64 = 64 << 20;

/// So much ahead of a reader that goes through the log the disk is asked for: a disk that reads 2 GB a second needs 2 ms for it,
/// about as long as it takes to answer.
const AHEAD_BYTES: u64 = 4 << 20;

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("its header, topic or properties are not what was stored")]
    Differs,
}

impl CommitLog {
    /// Exactly `bytes` bytes from `offset` on; `None` if they are not all in one file of the log (any more).
    pub(crate) fn read(&self, offset: PhysicalOffset, bytes: usize) -> Result<Option<MappedSlice>, StoreError> {
        let Ok(offset) = u64::try_from(offset.0) else { return Ok(None) };
        let Some(slice) = self.files.slice(offset, bytes)? else { return Ok(None) };
        self.bring_in_alone(slice).map(Some)
    }

    /// Up to `bytes_max` bytes from `offset` on, to the end of its file at most: for readers that go through the log. Its
    /// whole surroundings are brought in, once in a while: readers of other queues, which lie between, will come soon.
    /// `None` if nothing is there.
    pub(crate) fn read_up_to(
        &self,
        offset: PhysicalOffset,
        bytes_max: usize,
    ) -> Result<Option<MappedSlice>, StoreError> {
        let Ok(offset) = u64::try_from(offset.0) else { return Ok(None) };
        let Some(slice) = self.files.slice_up_to(offset, bytes_max)? else { return Ok(None) };
        self.bring_in(slice).map(Some)
    }

    /// The record that begins at `offset`, whole or not; `None` if none does.
    pub(crate) fn record_at(&self, offset: PhysicalOffset) -> Result<Option<MappedSlice>, StoreError> {
        let Ok(at) = u64::try_from(offset.0) else { return Ok(None) };
        let Some(head) = self.files.slice_up_to(at, record::BODY_CRC_AT)? else { return Ok(None) };
        let head = self.bring_in_alone(head)?;
        let Some((size, _magic)) = head.split_first_chunk::<4>() else { return Ok(None) };
        let Ok(bytes) = usize::try_from(i32::from_be_bytes(*size)) else { return Ok(None) };
        let Some(slice) = self.read(offset, bytes)? else { return Ok(None) };
        let whole = RecordView::parse(&slice, false).is_ok_and(|record| record.physical_offset() == offset.0);
        Ok(whole.then_some(slice))
    }

    /// Whether the record at `offset` was written recently enough to be in memory without asking the disk.
    pub(crate) fn surely_in_memory(&self, offset: u64) -> bool {
        offset >= self.opened_at.load(Ordering::Relaxed) && offset + SURELY_IN_MEMORY_BYTES >= self.files.wrote()
    }

    /// Whether reading around `offset` may have to wait for the disk.
    pub(crate) fn may_wait(&self, offset: PhysicalOffset) -> bool {
        let Ok(offset) = u64::try_from(offset.0) else { return false };
        !self.surely_in_memory(offset) && !self.recently_read.contains(offset, self.recently_read.now())
    }

    /// A time for the next two: readers ask for it once for many records.
    pub(crate) fn reading_now(&self) -> u64 {
        self.recently_read.now()
    }

    /// Whether this part of the record at `offset`, which `bytes` are, is as it was stored. What was written by this
    /// process and never out of memory since is, and so is what was checked not long ago; the rest is checked.
    #[inline]
    pub(crate) fn is_unharmed(&self, offset: u64, bytes: &[u8], part: Part, now: u64) -> bool {
        self.recently_read.is_checked(offset, part, now)
            || self.surely_in_memory(offset)
            || self.check(offset, bytes, part, now)
    }

    fn check(&self, offset: u64, bytes: &[u8], part: Part, now: u64) -> bool {
        let fault = match RecordView::parse(bytes, part == Part::Whole) {
            Ok(record) if self.sums.compare(offset, &record) != Compared::Differs => {
                self.recently_read.note_checked(offset, part, now);
                return true;
            }
            Ok(_) => Fault::Differs,
            Err(error) => error.into(),
        };
        tracing::error!(offset, reason = %fault, "a message is damaged");
        false
    }

    /// A damaged message was not served.
    pub(crate) fn count_damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks the disk for the slice's pages.
    fn bring_in_alone(&self, slice: MappedSlice) -> Result<MappedSlice, StoreError> {
        let (from, to) = (slice.offset(), slice.offset() + slice.len() as u64);
        let mut stretches = (from - from % STRETCH_BYTES..to).step_by(STRETCH_BYTES as usize);
        if stretches.any(|at| self.may_wait(PhysicalOffset(at.max(from) as i64))) {
            slice.read_ahead()?;
        }
        Ok(slice)
    }

    /// Asks the disk for the slice's pages and those around them.
    fn bring_in(&self, slice: MappedSlice) -> Result<MappedSlice, StoreError> {
        let (from, to) = (slice.offset(), slice.offset() + slice.len() as u64);
        if self.surely_in_memory(from) {
            return Ok(slice);
        }
        self.page_cache.note_reader(from, self.files.wrote());
        let now = self.recently_read.now();
        let mut at = from - from % STRETCH_BYTES;
        while at < to {
            if !self.recently_read.contains(at, now) {
                // Who read the stretch before will read on.
                if at >= STRETCH_BYTES && self.recently_read.contains(at - STRETCH_BYTES, now) {
                    self.ask_ahead(at + STRETCH_BYTES..at + AHEAD_BYTES, now)?;
                }
                let begin = at.max(from - from % self.files.file_bytes());
                if let Some(stretch) = self.files.slice_up_to(begin, (at + STRETCH_BYTES - begin) as usize)? {
                    stretch.read_ahead()?;
                    self.sums.bring_in(begin..at + STRETCH_BYTES);
                }
                self.recently_read.note(at, now);
            }
            at += STRETCH_BYTES;
        }
        Ok(slice)
    }

    fn ask_ahead(&self, range: Range<u64>, now: u64) -> Result<(), StoreError> {
        for at in range.step_by(STRETCH_BYTES as usize) {
            if self.recently_read.note_asked(at, now)
                && let Some(stretch) = self.files.slice_up_to(at, STRETCH_BYTES as usize)?
            {
                stretch.will_need();
                self.sums.will_need(at..at + STRETCH_BYTES);
            }
        }
        Ok(())
    }
}
