//! Bytes shared by all connections: permits are taken before a buffer grows, and given back when it shrinks.
//! Called by `driver`. Whoever finds nothing left stops reading and is woken when bytes come back. One read that was
//! already under way may overdraw by what it brought, so the bound is exceeded by at most one read per thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

/// Bytes left for all connections together.
#[derive(Debug)]
pub(crate) struct Budget {
    free: AtomicI64,
    waiting: AtomicBool,
    /// By connection, so that one that asks often stands here once.
    wakers: Mutex<HashMap<u64, Waker>>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let free = i64::try_from(bytes).unwrap_or(i64::MAX);
        Self { free: AtomicI64::new(free), waiting: AtomicBool::new(false), wakers: Mutex::default() }
    }

    /// Takes bytes that are already in memory, overdrawing if it must.
    pub(crate) fn charge(&self, bytes: usize) {
        self.free.fetch_sub(bytes as i64, Ordering::SeqCst);
    }

    /// Gives bytes back and wakes those that wait for them.
    pub(crate) fn release(&self, bytes: usize) {
        self.free.fetch_add(bytes as i64, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) {
            let wakers = {
                let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.store(false, Ordering::SeqCst);
                std::mem::take(&mut *wakers)
            };
            wakers.into_values().for_each(Waker::wake);
        }
    }

    /// Takes `bytes` if there are as many, or has the task woken when some come back.
    pub(crate) fn try_charge(&self, connection: u64, context: &Context<'_>, bytes: usize) -> bool {
        self.take(bytes) || {
            self.register(connection, context);
            self.take(bytes)
        }
    }

    /// Whether anything is left; if not, the task is woken when some comes back.
    pub(crate) fn has_any(&self, connection: u64, context: &Context<'_>) -> bool {
        self.free.load(Ordering::SeqCst) > 0 || {
            self.register(connection, context);
            self.free.load(Ordering::SeqCst) > 0
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

    #[cfg(test)]
    fn free(&self) -> i64 {
        self.free.load(Ordering::SeqCst)
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

    #[test]
    fn takes_no_more_than_there_is_and_wakes_when_some_comes_back() {
        let counting = Arc::new(Counting::default());
        let waker = Waker::from(counting.clone());
        let context = Context::from_waker(&waker);
        let budget = Budget::new(100);
        assert!(budget.try_charge(1, &context, 60));
        assert!(!budget.try_charge(1, &context, 60));
        assert_eq!(budget.free(), 40);
        assert_eq!(counting.0.load(Ordering::SeqCst), 0);
        budget.release(60);
        assert_eq!(counting.0.load(Ordering::SeqCst), 1);
        assert!(budget.try_charge(1, &context, 60));
    }

    #[test]
    fn a_read_under_way_may_overdraw_and_then_nobody_reads() {
        let counting = Arc::new(Counting::default());
        let waker = Waker::from(counting.clone());
        let context = Context::from_waker(&waker);
        let budget = Budget::new(100);
        budget.charge(130);
        assert!(!budget.has_any(1, &context));
        budget.release(31);
        assert_eq!(counting.0.load(Ordering::SeqCst), 1);
        assert!(budget.has_any(1, &context));
    }
}
