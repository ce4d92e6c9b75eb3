//! Remembers which stretches of the log were asked from the disk lately, so that readers going through the same
//! stretch, as those of all queues do, ask once and not for every pull. Called by `read`.
//! Must hold: forgetting costs time only; remembering is short, because the page cache may drop a page meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Size of a stretch.
pub(super) const STRETCH_BYTES: u64 = 1 << 20;
/// How many stretches are remembered; others take their places.
const REMEMBERED: usize = 4096;
/// How long a stretch counts as read, in these steps: one to two of them.
const STEP: Duration = Duration::from_secs(4);

/// When stretches were read last.
#[derive(Debug)]
pub(super) struct RecentlyRead {
    started: Instant,
    /// The stretch's number and the time step, together; 0 for none.
    marks: Vec<AtomicU64>,
}

impl Default for RecentlyRead {
    fn default() -> Self {
        Self { started: Instant::now(), marks: std::iter::repeat_with(AtomicU64::default).take(REMEMBERED).collect() }
    }
}

impl RecentlyRead {
    /// The current time step; from 2 on, so that a mark is never 0.
    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_secs() / STEP.as_secs() + 2
    }

    /// Whether the stretch around `offset` was read in this step or the one before.
    pub(super) fn contains(&self, offset: u64, now: u64) -> bool {
        let seen = self.mark(offset).load(Ordering::Relaxed);
        seen == value(offset, now) || seen == value(offset, now - 1)
    }

    /// Notes that the stretch around `offset` was read.
    pub(super) fn note(&self, offset: u64, now: u64) {
        self.mark(offset).store(value(offset, now), Ordering::Relaxed);
    }

    fn mark(&self, offset: u64) -> &AtomicU64 {
        &self.marks[(offset / STRETCH_BYTES) as usize % REMEMBERED]
    }
}

/// A stretch number has at most 43 bits; 20 bits of steps last for weeks, and then repeat.
fn value(offset: u64, now: u64) -> u64 {
    ((offset / STRETCH_BYTES) << 20) | (now & 0xF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_counts_for_this_step_and_the_next() {
        let read = RecentlyRead::default();
        let now = read.now();
        assert!(!read.contains(0, now) && !read.contains(5 << 20, now));
        read.note(5 << 20, now);
        assert!(read.contains((6 << 20) - 1, now) && read.contains(5 << 20, now + 1));
        assert!(!read.contains(5 << 20, now + 2) && !read.contains(6 << 20, now));
        // Another stretch takes the place.
        read.note((5 + REMEMBERED as u64) << 20, now);
        assert!(!read.contains(5 << 20, now));
    }
}
