//! What part of the log is worth its place in the page cache. While the log grows so fast that memory could not hold a
//! minute of it, pages behind its last gigabyte are given back once they are on the disk, but for those a reader is about to
//! come to. The log's end then takes memory that was in use a moment ago, instead of memory the kernel first has to
//! search for, or the host of a virtual machine has to provide.
//! Called by the flushing thread after a sync and by readers. Must hold: giving back costs time at most, never bytes.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// This much of the log's end is kept in any case.
const KEPT_BYTES: u64 = 1 << 30;
/// This part of memory, in percent, may be kept for readers that lag behind (RocketMQ's `accessMessageInMemoryMaxRatio`).
const KEPT_FOR_READERS_PERCENT: u64 = 40;
/// A log that fills that part of memory within this time outruns it, and is taken to do so for as long again.
const HELD_FOR: Duration = Duration::from_secs(60);
/// The log's growth is judged, and readers are forgotten, at this interval.
const LOOK: Duration = Duration::from_millis(400);
/// A reader counts for this many looks after it last asked for something.
const LOOKS_KEPT: usize = 8;

/// The judge. One per log.
#[derive(Debug)]
pub(super) struct PageCache {
    /// 0: nothing is ever given back.
    kept_bytes_max: u64,
    pace: Mutex<Pace>,
    /// The lowest offset that readers who lag came by since the last look; `u64::MAX` for none.
    lowest_read: AtomicU64,
}

#[derive(Debug)]
struct Pace {
    /// When the last look was, and how far the log was on the disk then.
    last: Option<(Duration, u64)>,
    /// When the log last outran memory.
    outran: Option<Duration>,
    /// `lowest_read` of the last looks.
    lowest_reads: [u64; LOOKS_KEPT],
    /// Everything below was given back, or was there before this process.
    given_back: u64,
}

impl PageCache {
    /// `memory_bytes`: what this machine has; 0 if that is not known.
    pub(super) fn new(memory_bytes: u64) -> Self {
        PageCache {
            kept_bytes_max: memory_bytes / 100 * KEPT_FOR_READERS_PERCENT,
            pace: Mutex::new(Pace { last: None, outran: None, lowest_reads: [u64::MAX; LOOKS_KEPT], given_back: 0 }),
            lowest_read: AtomicU64::new(u64::MAX),
        }
    }

    /// A reader that goes through the log is at `offset`, while the log ends at `end`.
    pub(super) fn note_reader(&self, offset: u64, end: u64) {
        // Who is in the part that is kept anyway will have gone on with the log's end by the next look.
        let lags = end.saturating_sub(offset) > KEPT_BYTES;
        if lags && self.lowest_read.load(Ordering::Relaxed) > offset {
            self.lowest_read.fetch_min(offset, Ordering::Relaxed);
        }
    }

    /// What to give back now that the log is on the disk below `flushed`, in whole multiples of `step`.
    pub(super) fn no_longer_worth(&self, flushed: u64, now: Duration, step: u64) -> Option<Range<u64>> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((last, was)) = pace.last else {
            (pace.last, pace.given_back) = (Some((now, flushed)), flushed / step * step);
            return None;
        };
        let elapsed = now.saturating_sub(last);
        if elapsed >= LOOK {
            let grown = u128::from(flushed.saturating_sub(was)) * HELD_FOR.as_millis() / elapsed.as_millis();
            if grown > u128::from(self.kept_bytes_max) && self.kept_bytes_max > 0 {
                pace.outran = Some(now);
            }
            pace.last = Some((now, flushed));
            pace.lowest_reads.rotate_right(1);
            pace.lowest_reads[0] = self.lowest_read.swap(u64::MAX, Ordering::Relaxed);
        }
        if pace.outran.is_none_or(|at| now.saturating_sub(at) > HELD_FOR) {
            return None;
        }
        let reader =
            pace.lowest_reads.into_iter().min().unwrap_or(u64::MAX).min(self.lowest_read.load(Ordering::Relaxed));
        let for_readers = reader.max(flushed.saturating_sub(self.kept_bytes_max));
        let upto = flushed.saturating_sub(KEPT_BYTES).min(for_readers) / step * step;
        let from = pace.given_back;
        pace.given_back = from.max(upto);
        (from < upto).then_some(from..upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const STEP: u64 = 2 << 20;

    /// A log on a machine of 20 GiB that has grown by `gib` in each second since, and what is given back each time.
    fn grow(cache: &PageCache, seconds: Range<u64>, gib: u64) -> Vec<Option<Range<u64>>> {
        let given = |second| cache.no_longer_worth(second * gib * GIB, Duration::from_secs(second), STEP);
        seconds.map(given).collect()
    }

    #[test]
    fn a_log_that_outruns_memory_keeps_its_last_part() {
        let cache = PageCache::new(20 * GIB);
        assert_eq!(grow(&cache, 1..4, 1), [None, None, Some(GIB..2 * GIB)]);
    }

    #[test]
    fn a_log_that_memory_holds_for_a_minute_is_left_to_the_kernel() {
        let cache = PageCache::new(1000 * GIB);
        assert!(grow(&cache, 1..20, 6).iter().all(Option::is_none), "400 GiB last for 66 s");
        assert!(grow(&cache, 20..22, 7).iter().any(Option::is_some), "and for 57 s");
        assert!(grow(&PageCache::new(0), 1..20, 7).iter().all(Option::is_none));
        let later = |second, offset| cache.no_longer_worth(offset, Duration::from_secs(second), STEP).is_some();
        assert!(later(80, 150 * GIB), "soon after, it may outrun memory again");
        assert!(!later(83, 151 * GIB), "a minute after, it does not");
    }

    #[test]
    fn what_a_reader_is_about_to_come_to_is_kept_as_far_as_memory_goes() {
        let cache = PageCache::new(20 * GIB);
        grow(&cache, 1..3, 1);
        cache.note_reader(5 * GIB / 2, 4 * GIB);
        cache.note_reader(3 * GIB, 5 * GIB);
        cache.note_reader(2 * GIB, 3 * GIB);
        let given = grow(&cache, 3..20, 1);
        assert_eq!(given[..2], [Some(GIB..2 * GIB), Some(2 * GIB..5 * GIB / 2)]);
        // Until the reader has been silent for some looks.
        assert!(given[2..LOOKS_KEPT].iter().all(Option::is_none));
        assert_eq!(given.iter().flatten().last().map(|range| range.end), Some(18 * GIB));
        // It never keeps more than its part of memory.
        for second in 20..40 {
            cache.note_reader(18 * GIB, second * GIB);
            grow(&cache, second..second + 1, 1);
        }
        let given = cache.no_longer_worth(40 * GIB, Duration::from_secs(40), STEP).unwrap();
        assert_eq!(given.end, 32 * GIB);
    }
}
