//! Bytes shared by all connections: permits are taken before a buffer grows, and given back when it shrinks.
//! Called by `driver`. Whoever finds nothing left stops reading and is woken when bytes come back. One read that was
//! already under way may overdraw by what it brought, and one connection at a time may overdraw to finish the frame it has
//! begun, so that frames which together fill the budget do not wait for one another. The bound is exceeded by no more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

/// Bytes left for all connections together.
#[derive(Debug)]
pub(crate) struct Budget {
    free: AtomicI64,
    /// The connection that may overdraw; 0: none.
    overdrawn_by: AtomicU64,
    waiting: AtomicBool,
    /// By connection, so that one that asks often stands here once.
    wakers: Mutex<HashMap<u64, Waker>>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let free = i64::try_from(bytes).unwrap_or(i64::MAX);
        Self {
            free: AtomicI64::new(free),
            overdrawn_by: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            wakers: Mutex::default(),
        }
    }

    /// Takes bytes that are already in memory, overdrawing if it must.
    pub(crate) fn charge(&self, bytes: usize) {
        self.free.fetch_sub(bytes as i64, Ordering::SeqCst);
    }

    /// Gives bytes back and wakes those that wait for them.
    pub(crate) fn release(&self, bytes: usize) {
        self.free.fetch_add(bytes as i64, Ordering::SeqCst);
        self.wake();
    }

    /// The frame that `connection` may have overdrawn for is complete, or never will be.
    pub(crate) fn end_overdraft(&self, connection: u64) {
        if self.overdrawn_by.load(Ordering::SeqCst) == connection {
            self.overdrawn_by.store(0, Ordering::SeqCst);
            self.wake();
        }
    }

    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) {
            let wakers = {
                let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.store(false, Ordering::SeqCst);
                std::mem::take(&mut *wakers)
            };
            wakers.into_values().for_each(Waker::wake);
        }
    }

    /// Takes `bytes` for a frame that has begun. If there are not as many, and another connection is overdrawing
    /// already, the task is woken when something comes back.
    pub(crate) fn try_charge(&self, connection: u64, context: &Context<'_>, bytes: usize) -> bool {
        if self.take(bytes) {
            return true;
        }
        self.register(connection, context);
        if self.take(bytes) {
            return true;
        }
        let overdraws = self.overdraw(connection);
        if overdraws {
            self.charge(bytes);
        }
        overdraws
    }

    /// Whether `connection` may read on: something is left, or it has begun a frame and may overdraw to finish it.
    /// If not, the task is woken when something comes back.
    pub(crate) fn may_read(&self, connection: u64, context: &Context<'_>, begun: bool) -> bool {
        self.has_any() || {
            self.register(connection, context);
            self.has_any() || (begun && self.overdraw(connection))
        }
    }

    fn has_any(&self) -> bool {
        self.free.load(Ordering::SeqCst) > 0
    }

    fn overdraw(&self, connection: u64) -> bool {
        match self.overdrawn_by.compare_exchange(0, connection, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(owner) => owner == connection,
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let bytes = bytes as i64;
        self.free
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| (free >= bytes).then_some(free - bytes))
            .is_ok()
    }

    fn register(&self, connection: u64, context: &Context<'_>) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.insert(connection, context.waker().clone());
        self.waiting.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counting() -> (Arc<Counting>, Waker) {
        let counting = Arc::new(Counting::default());
        (counting.clone(), Waker::from(counting))
    }

    #[test]
    fn one_may_overdraw_to_finish_its_frame_and_the_others_wait() {
        let (counting, waker) = counting();
        let context = Context::from_waker(&waker);
        let budget = Budget::new(100);
        assert!(budget.try_charge(1, &context, 60));
        assert!(budget.try_charge(2, &context, 40));
        assert!(budget.try_charge(2, &context, 40));
        assert!(!budget.try_charge(1, &context, 10));
        assert!(!budget.may_read(1, &context, true) && budget.may_read(2, &context, true));
        assert_eq!(counting.0.load(Ordering::SeqCst), 0);
        budget.end_overdraft(1);
        assert!(!budget.may_read(1, &context, true));
        budget.end_overdraft(2);
        assert!(counting.0.load(Ordering::SeqCst) > 0);
        assert!(budget.try_charge(1, &context, 10));
    }

    #[test]
    fn a_read_under_way_may_overdraw_and_then_nobody_begins_another() {
        let (counting, waker) = counting();
        let context = Context::from_waker(&waker);
        let budget = Budget::new(100);
        budget.charge(130);
        assert!(!budget.may_read(1, &context, false));
        budget.release(31);
        assert_eq!(counting.0.load(Ordering::SeqCst), 1);
        assert!(budget.may_read(1, &context, false));
        assert_eq!(budget.free.load(Ordering::SeqCst), 1);
    }
}
