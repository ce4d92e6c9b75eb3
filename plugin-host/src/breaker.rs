//! When to stop asking a plugin that fails: three faults in a minute open the breaker, a trial batch after a pause closes
//! it. Beside it, the messages known to kill their instance: they are set aside one by one, so that a single one of them
//! does not stop the plugin for everybody. One of each per generation, asked by sessions.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::limits::HostLimits;
use crate::lock::locked;

/// Faults within the window that open the breaker.
const FAULTS_MAX: usize = 3;
/// Messages set aside per generation; the oldest give way.
const SET_ASIDE_MAX: usize = 64;

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const TRIAL: u8 = 2;

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Serve,
    /// This session alone tries whether the plugin works again.
    Trial,
    Refuse,
}

pub(crate) struct Breaker {
    state: AtomicU8,
    inner: Mutex<Inner>,
    window: Duration,
    pause_first: Duration,
    pause_max: Duration,
}

struct Inner {
    faults: VecDeque<Instant>,
    opened: Instant,
    pause: Duration,
}

impl Breaker {
    pub(crate) fn new(limits: &HostLimits) -> Self {
        let inner = Inner { faults: VecDeque::new(), opened: Instant::now(), pause: limits.pause };
        Self {
            state: AtomicU8::new(CLOSED),
            inner: Mutex::new(inner),
            window: limits.fault_window,
            pause_first: limits.pause,
            pause_max: limits.pause_max,
        }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Relaxed) == CLOSED
    }

    #[inline]
    pub(crate) fn admit(&self) -> Admission {
        if self.is_closed() { Admission::Serve } else { self.admit_late(Instant::now()) }
    }

    #[cold]
    fn admit_late(&self, now: Instant) -> Admission {
        let inner = locked(&self.inner);
        match self.state.load(Relaxed) {
            CLOSED => Admission::Serve,
            OPEN if now >= inner.opened + inner.pause => {
                self.state.store(TRIAL, Relaxed);
                Admission::Trial
            }
            _ => Admission::Refuse,
        }
    }

    /// A call failed. True: this opened the breaker, or closed the door on a trial again.
    pub(crate) fn fault(&self, now: Instant) -> bool {
        let mut inner = locked(&self.inner);
        match self.state.load(Relaxed) {
            OPEN => false,
            TRIAL => {
                inner.pause = (inner.pause * 2).min(self.pause_max);
                inner.opened = now;
                self.state.store(OPEN, Relaxed);
                true
            }
            _ => {
                inner.faults.push_back(now);
                while inner.faults.front().is_some_and(|fault| now.duration_since(*fault) > self.window) {
                    inner.faults.pop_front();
                }
                let opens = inner.faults.len() >= FAULTS_MAX;
                if opens {
                    inner.faults.clear();
                    inner.opened = now;
                    inner.pause = self.pause_first;
                    self.state.store(OPEN, Relaxed);
                }
                opens
            }
        }
    }

    /// The trial is over without a fault: `asked` says whether the plugin decided anything. True: it serves again.
    pub(crate) fn trial_ended(&self, asked: bool) -> bool {
        let inner = locked(&self.inner);
        if self.state.load(Relaxed) != TRIAL {
            return false;
        }
        drop(inner);
        self.state.store(if asked { CLOSED } else { OPEN }, Relaxed);
        asked
    }
}

/// Messages no instance survived, per subscription.
pub(crate) struct SetAside {
    count: AtomicUsize,
    known: Mutex<VecDeque<Known>>,
    pause_first: Duration,
    pause_max: Duration,
}

struct Known {
    subscription: u32,
    physical_offset: i64,
    retry_at: Instant,
    pause: Duration,
}

impl SetAside {
    pub(crate) fn new(limits: &HostLimits) -> Self {
        Self {
            count: AtomicUsize::new(0),
            known: Mutex::new(VecDeque::new()),
            pause_first: limits.pause,
            pause_max: limits.pause_max,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// The first of these messages that is not to be asked about for now; `None` if all may be.
    pub(crate) fn first_of(
        &self,
        subscription: u32,
        mut physical_offsets: impl Iterator<Item = i64>,
        now: Instant,
    ) -> Option<usize> {
        let mut known = locked(&self.known);
        // What nobody has asked about for so long is past.
        known.retain(|known| now < known.retry_at + self.pause_max);
        self.count.store(known.len(), Relaxed);
        physical_offsets
            .position(|offset| known.iter().any(|known| known.is(subscription, offset) && now < known.retry_at))
    }

    /// It killed an instance, alone. Seen again after its pause, it waits twice as long.
    pub(crate) fn add(&self, subscription: u32, physical_offset: i64, now: Instant) {
        let mut known = locked(&self.known);
        match known.iter_mut().find(|known| known.is(subscription, physical_offset)) {
            Some(known) => {
                known.pause = (known.pause * 2).min(self.pause_max);
                known.retry_at = now + known.pause;
            }
            None => {
                if known.len() == SET_ASIDE_MAX {
                    known.pop_front();
                }
                let pause = self.pause_first;
                known.push_back(Known { subscription, physical_offset, retry_at: now + pause, pause });
            }
        }
        self.count.store(known.len(), Relaxed);
    }
}

impl Known {
    fn is(&self, subscription: u32, physical_offset: i64) -> bool {
        self.subscription == subscription && self.physical_offset == physical_offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn opens_on_three_faults_in_a_minute_and_tries_again() {
        let breaker = Breaker::new(&HostLimits::default());
        let start = Instant::now();
        assert!(!breaker.fault(start));
        assert!(!breaker.fault(start + 30 * SECOND));
        assert!(!breaker.fault(start + 70 * SECOND), "the first is too old by now");
        assert_eq!(breaker.admit_late(start + 70 * SECOND), Admission::Serve);
        let opened = start + 80 * SECOND;
        assert!(breaker.fault(opened));
        assert!(!breaker.is_closed());
        assert_eq!(breaker.admit_late(opened + 29 * SECOND), Admission::Refuse);
        assert_eq!(breaker.admit_late(opened + 30 * SECOND), Admission::Trial);
        assert_eq!(breaker.admit_late(opened + 30 * SECOND), Admission::Refuse, "one trial at a time");
        assert!(breaker.fault(opened + 31 * SECOND));
        assert_eq!(breaker.admit_late(opened + 90 * SECOND), Admission::Refuse, "the pause has doubled");
        assert_eq!(breaker.admit_late(opened + 91 * SECOND), Admission::Trial);
        assert!(!breaker.trial_ended(false), "a session that asked nothing proves nothing");
        assert_eq!(breaker.admit_late(opened + 91 * SECOND), Admission::Trial);
        assert!(breaker.trial_ended(true));
        assert!(breaker.is_closed());
    }

    #[test]
    fn the_pause_has_an_end() {
        let breaker = Breaker::new(&HostLimits::default());
        let mut now = Instant::now();
        for _ in 0..3 {
            breaker.fault(now);
        }
        for _ in 0..20 {
            now += 600 * SECOND;
            assert_eq!(breaker.admit_late(now), Admission::Trial);
            breaker.fault(now);
        }
    }

    #[test]
    fn messages_set_aside_come_back_later_each_time() {
        let aside = SetAside::new(&HostLimits::default());
        let start = Instant::now();
        let holds = |subscription, offset, now| aside.first_of(subscription, [7, offset].into_iter(), now) == Some(1);
        assert!(aside.is_empty());
        aside.add(1, 100, start);
        assert!(!aside.is_empty());
        assert!(holds(1, 100, start + 29 * SECOND));
        assert!(!holds(2, 100, start), "another subscription may do better");
        assert!(!holds(1, 100, start + 30 * SECOND));
        aside.add(1, 100, start + 30 * SECOND);
        assert!(holds(1, 100, start + 89 * SECOND));
        (0..SET_ASIDE_MAX as i64).for_each(|n| aside.add(7, n, start));
        assert!(!holds(1, 100, start), "the oldest gives way");
        assert_eq!(aside.first_of(7, [99, 5, 6].into_iter(), start), Some(1));
        assert_eq!(aside.first_of(7, [5].into_iter(), start + 700 * SECOND), None);
        assert!(aside.is_empty(), "forgotten after long enough");
    }
}
