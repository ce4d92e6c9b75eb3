//! A thread that sleeps while it has nothing to do, and can be woken without a lock or a system call when it is awake.
//! Used by populate, flush and dispatch; woken by the append path. What must hold: who wakes has made its news visible
//! before (`announce`), and who sleeps looks for news after it said that it sleeps, so no wake-up is missed.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::{self, Thread},
    time::Duration,
};

/// Where one thread sleeps.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Sleeper {
    /// Sleeps until woken or until `timeout` has passed, but not if there is `news` already. Always from one and the
    /// same thread. May return early.
    pub(crate) fn sleep(&self, timeout: Option<Duration>, news: impl FnOnce() -> bool) {
        let sleeper = self.thread.get_or_init(thread::current);
        debug_assert_eq!(sleeper.id(), thread::current().id(), "one thread to a sleeper");
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `announce`: either the waker sees `asleep`, or `news` sees what it published.
        fence(Ordering::SeqCst);
        if !news() {
            match timeout {
                Some(timeout) => thread::park_timeout(timeout),
                None => thread::park(),
            }
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it sleeps. News must have been published, and [`announce`] called, before.
    pub(crate) fn wake(&self) {
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// [`announce`], then [`wake`](Self::wake): for callers with one sleeper to wake.
    pub(crate) fn announce_and_wake(&self) {
        announce();
        self.wake();
    }
}

/// Orders what was published before it with the wake-ups that follow. One call serves any number of sleepers.
pub(crate) fn announce() {
    fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU64};

    use super::*;

    #[test]
    fn no_wake_up_is_missed() {
        let sleeper = Arc::new(Sleeper::default());
        let news = Arc::new(AtomicU64::new(0));
        let (theirs, seen) = (Arc::clone(&sleeper), Arc::clone(&news));
        let thread = thread::spawn(move || {
            let mut last = 0;
            while last < 20_000 {
                theirs.sleep(None, || seen.load(Ordering::Relaxed) > last);
                last = seen.load(Ordering::Relaxed);
            }
        });
        for value in 1..=20_000 {
            news.store(value, Ordering::Relaxed);
            sleeper.announce_and_wake();
        }
        thread.join().unwrap();
    }

    #[test]
    fn a_timeout_ends_the_sleep() {
        Sleeper::default().sleep(Some(Duration::from_millis(1)), || false);
    }
}
