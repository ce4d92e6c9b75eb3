//! What is in the log and not yet in queues and index. While it is long, whoever appends waits a moment first, so that the
//! dispatcher, which needs about as much processor time a message, is not left behind for good: messages would become
//! readable later and later, leave memory before they are dispatched, and all be dispatched again at the next start.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::offsets::PhysicalOffset;

/// How long one append waits at most: a dispatcher that stands still, as on a disk that does not answer, slows appends down
/// and does not stop them. Each append brings many messages when there are many.
const WAIT_MAX: Duration = Duration::from_millis(1);
/// How often the waiter looks meanwhile.
const LOOKS: u32 = 4;

/// The backlog of one log.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes_max: u64,
    /// Everything before this is in queues and index.
    dispatched: AtomicI64,
    /// How many appends have waited.
    waits: AtomicU64,
}

impl Backlog {
    pub(super) fn new(bytes_max: u64) -> Self {
        Backlog { bytes_max, dispatched: AtomicI64::new(0), waits: AtomicU64::new(0) }
    }

    pub(super) fn dispatched(&self) -> PhysicalOffset {
        PhysicalOffset(self.dispatched.load(Ordering::Acquire))
    }

    pub(super) fn note_dispatched(&self, position: PhysicalOffset) {
        self.dispatched.store(position.0, Ordering::Release);
    }

    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Returns when the backlog of the log, which may be dispatched up to `confirmed`, is short enough, or after a moment.
    #[inline]
    pub(super) fn wait_for_room(&self, confirmed: PhysicalOffset) {
        if self.is_long(confirmed) {
            self.wait(confirmed);
        }
    }

    #[cold]
    fn wait(&self, confirmed: PhysicalOffset) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        for _ in 0..LOOKS {
            std::thread::sleep(WAIT_MAX / LOOKS);
            if !self.is_long(confirmed) {
                return;
            }
        }
    }

    fn is_long(&self, confirmed: PhysicalOffset) -> bool {
        confirmed.bytes_since(self.dispatched()) > self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_wait_while_too_much_is_not_dispatched_and_not_for_good() {
        let backlog = Backlog::new(100);
        let waits = |confirmed| {
            backlog.wait_for_room(PhysicalOffset(confirmed));
            backlog.waits()
        };
        assert_eq!([waits(0), waits(100), waits(101), waits(500)], [0, 0, 1, 2]);
        backlog.note_dispatched(PhysicalOffset(400));
        assert_eq!([waits(500), waits(501), waits(300)], [2, 3, 3]);
    }
}
