//! Cutting a queue back to what may be believed after a crash; recovery calls it for each queue, before it dispatches.
//! Must hold: what is cut is wiped, so that no later start takes it for entries; entries are whole up to the end.

use std::sync::Arc;

use super::{ConsumeQueue, byte_of};
use crate::error::StoreError;
use crate::filter::QueueEntry;
use crate::offsets::{PhysicalOffset, QueueOffset};

impl ConsumeQueue {
    /// Cuts the entries whose record ends behind `log_end`. Returns whether there were any. What is cut is
    /// wiped, so that no later start takes it for entries; with `tail_suspect` so is what lies behind an end that
    /// needs no cut.
    pub(crate) fn truncate_to(
        self: &Arc<Self>,
        log_end: PhysicalOffset,
        tail_suspect: bool,
    ) -> Result<bool, StoreError> {
        let (first, end) = (self.first(), self.end());
        let new_end = if end > first && self.end_physical() > log_end {
            let kept = |entry: &QueueEntry| Ok(entry.is_written() && entry.physical_end() <= log_end);
            self.search((first, end), kept)?
        } else {
            end
        };
        if new_end < end || tail_suspect {
            self.cut_at(new_end)?;
        }
        if tail_suspect {
            self.mend_filler()?;
        }
        Ok(new_end < end)
    }

    /// A power cut may have left holes in filler that no message had followed on the disk. Queries by time and for the
    /// first message take everything before that for filler, so it is made whole again.
    fn mend_filler(&self) -> Result<(), StoreError> {
        let (first, end) = (self.first(), self.end());
        // A queue that ends with a message knows where that ends; nothing is read of it, as there are many.
        if end <= first || self.end_physical() > PhysicalOffset(0) {
            return Ok(());
        }
        let mut hole = first;
        while hole < end && self.read_entry(hole)?.is_some_and(|entry| entry.is_blank()) {
            hole.0 += 1;
        }
        let is_hole = hole < end && !self.read_entry(hole)?.is_some_and(|entry| entry.is_written());
        if is_hole {
            self.cut_at(hole)?;
            match self.fill_with_blanks(byte_of(end)) {
                // The dispatcher fills it when it has a message for the queue, and room.
                Err(error) if error.is_disk_full() => {}
                filled => filled?,
            }
        }
        self.unmap();
        Ok(())
    }

    /// Cuts the newest entries for which `keep` is false, up to the newest for which it is not. Returns whether there
    /// were any. What is cut is wiped.
    pub(crate) fn cut_back_to(
        self: &Arc<Self>,
        keep: impl Fn(&QueueEntry) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        self.touch();
        let (first, end) = (self.first(), self.end());
        let mut new_end = end;
        while new_end > first {
            let last = self.read_entry(QueueOffset(new_end.0 - 1))?;
            if last.as_ref().map_or(Ok(true), &keep)? {
                break;
            }
            new_end.0 -= 1;
        }
        if new_end < end {
            self.cut_at(new_end)?;
        }
        Ok(new_end < end)
    }

    /// Ends the queue at `end` and wipes what lies behind it.
    fn cut_at(&self, end: QueueOffset) -> Result<(), StoreError> {
        self.finish_at(end)?;
        self.unmap();
        self.files.wipe_tail(u64::MAX)
    }
}
