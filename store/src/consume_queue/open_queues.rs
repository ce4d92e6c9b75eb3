//! Bounds how many consume queues are mapped at once: beyond the limit, one that was not used lately is unmapped.
//! Called by every access to a queue's files; costs one atomic load while the queue is known to be in use.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError, Weak};

use super::queue_files::ConsumeQueue;

/// The queue has no mapping that counts.
const CLOSED: u8 = 0;
/// It may be mapped, and was not used since the last sweep passed it.
const IDLE: u8 = 1;
/// It may be mapped, and was used.
const USED: u8 = 2;

/// A queue's own mark, one of the three above.
#[derive(Debug, Default)]
pub(crate) struct UseMark(AtomicU8);

/// The queues that may be mapped, in the order in which they will be looked at (second chance for used ones).
#[derive(Debug)]
pub(crate) struct OpenQueues {
    limit: usize,
    ring: Mutex<VecDeque<Weak<ConsumeQueue>>>,
}

impl OpenQueues {
    /// At most `limit` queues mapped (a few more for an instant).
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), ring: Mutex::default() }
    }

    /// Notes that `queue` is about to be read or written.
    #[inline]
    pub(crate) fn touch(&self, mark: &UseMark, queue: impl FnOnce() -> Weak<ConsumeQueue>) {
        if mark.0.load(Ordering::Relaxed) == USED {
            return;
        }
        if mark.0.swap(USED, Ordering::AcqRel) == CLOSED {
            self.add(queue());
        }
    }

    #[cold]
    fn add(&self, queue: Weak<ConsumeQueue>) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.push_back(queue);
        let mut looked_at = 0;
        // Two rounds at most: the first takes the marks away, the second finds one without.
        while ring.len() > self.limit && looked_at < 2 * self.limit {
            looked_at += 1;
            let Some(weak) = ring.pop_front() else { return };
            let Some(oldest) = weak.upgrade() else { continue };
            let mark = &oldest.mark().0;
            if mark.compare_exchange(USED, IDLE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                ring.push_back(weak);
            } else {
                // Closed before it is unmapped: who uses it from now on puts it back into the ring.
                mark.store(CLOSED, Ordering::Release);
                oldest.unmap();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.ring.lock().unwrap().len()
    }
}
