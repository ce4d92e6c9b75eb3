//! Reading entries that may no longer be in memory. Most files of queues are mostly holes, and the kernel's reading ahead would
//! fill memory with zeros, so that it is told to read single pages: here a reader's stretch is brought in at once.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::StoreError;
use crate::mapped_file_queue::MappedFileQueue;
use crate::recent::Recent;

/// So many bytes are brought in at once, and as many behind them asked for: the entries of three thousand messages. They are
/// counted in each file anew, which keeps them on whole pages.
const STRETCH_BYTES: u64 = 64 * 1024;

/// Of one queue. Two readers who are far apart forget each other's stretch, which costs them a call each.
#[derive(Debug, Default)]
pub(super) struct FarReads {
    /// Bytes from here on were written by this process.
    opened_at: AtomicU64,
    /// The stretch that was brought in last, by its first byte.
    recent: Recent,
}

impl FarReads {
    /// Says what was there before this process.
    pub(super) fn set_opened_at(&self, wrote: u64) {
        self.opened_at.store(wrote, Ordering::Relaxed);
    }

    /// Whether reading at byte `at` may have to wait for the disk.
    pub(super) fn may_wait(&self, files: &MappedFileQueue, at: u64, now: u64) -> bool {
        let young = at >= self.opened_at.load(Ordering::Relaxed) && at + STRETCH_BYTES >= files.wrote();
        !young && at < files.wrote() && !self.recent.is(stretch_around(files, at), now)
    }

    /// Brings in the stretch around byte `at`, and asks for the next one.
    pub(super) fn bring_in(&self, files: &MappedFileQueue, at: u64, now: u64) -> Result<(), StoreError> {
        let stretch = stretch_around(files, at);
        if let Some(slice) = files.slice_up_to(stretch, STRETCH_BYTES as usize)? {
            slice.read_ahead()?;
        }
        if let Some(slice) = files.slice_up_to(stretch + STRETCH_BYTES, STRETCH_BYTES as usize)? {
            slice.will_need();
        }
        self.recent.note(stretch, now);
        Ok(())
    }
}

/// The first byte of the stretch that byte `at` is in.
fn stretch_around(files: &MappedFileQueue, at: u64) -> u64 {
    at - at % files.file_bytes() % STRETCH_BYTES
}
