//! Time behind a seam: the wall clock that stamps records and the monotonic clock that measures waits.
//! The store, the broker and the nameserver ask a `Clock` instead of the system, so that tests and the simulator
//! can jump, freeze or turn back time. Only this file reads the system's clocks.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Wall clock: milliseconds since 1970-01-01 UTC. May jump either way when the machine's clock is set.
    fn now_ms(&self) -> i64;

    /// Time since some fixed moment; never goes back. For timeouts and intervals.
    fn monotonic(&self) -> Duration;

    /// The hour that clocks on the wall show, 0 to 23, for settings that name hours of the day.
    fn local_hour(&self) -> u8;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            // A machine whose clock stands before 1970 still gets a defined, ordered time.
            Err(before) => -millis(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn local_hour(&self) -> u8 {
        // Asked for each time: the zone of a machine may be changed. One that cannot be found out counts as UTC.
        let hour = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::system()).hour();
        u8::try_from(hour).unwrap_or(0)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct SettableClock {
    now_ms: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl SettableClock {
    /// A clock whose wall time is `now_ms` and whose monotonic time is zero.
    pub fn new(now_ms: i64) -> Self {
        Self { now_ms: AtomicI64::new(now_ms), monotonic_ns: AtomicU64::new(0) }
    }

    /// Sets the wall clock, forward or back; monotonic time stays.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Lets `duration` pass on both clocks.
    pub fn advance(&self, duration: Duration) {
        self.now_ms.fetch_add(millis(duration), Ordering::SeqCst);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
    }
}

impl Clock for SettableClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }

    /// That of UTC.
    fn local_hour(&self) -> u8 {
        (self.now_ms().rem_euclid(DAY_MS) / HOUR_MS) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_is_in_this_century_and_monotonic_time_moves() {
        let clock = SystemClock::new();
        assert!(clock.now_ms() > 1_600_000_000_000);
        let before = clock.monotonic();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.monotonic() >= before + Duration::from_millis(2));
        assert!(clock.local_hour() < 24);
    }

    #[test]
    fn settable_clock_moves_only_when_told_and_wall_jumps_leave_monotonic_time_alone() {
        let clock = SettableClock::new(1_000);
        assert_eq!((clock.now_ms(), clock.monotonic()), (1_000, Duration::ZERO));
        clock.advance(Duration::from_millis(250));
        assert_eq!((clock.now_ms(), clock.monotonic()), (1_250, Duration::from_millis(250)));
        clock.set_now_ms(7);
        assert_eq!((clock.now_ms(), clock.monotonic()), (7, Duration::from_millis(250)));
        clock.set_now_ms(DAY_MS * 19_675 + 4 * HOUR_MS - 1);
        assert_eq!(clock.local_hour(), 3);
        clock.advance(Duration::from_millis(1));
        assert_eq!(clock.local_hour(), 4);
    }
}
