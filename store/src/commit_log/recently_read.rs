//! Remembers which stretches of the log were read from the disk lately, which were asked for ahead of a reader, and which of their records were checked since, so
//! that readers going through the same stretch, as those of all queues do, ask and check once and not for every pull.
//! Called by `read` and by `get`. Must hold: forgetting costs time only; remembering is short, because the page cache may
//! drop a page meanwhile and the disk give another one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::recent::Recent;

/// Size of a stretch.
pub(super) const STRETCH_BYTES: u64 = 1 << 20;
/// How many stretches are remembered; others take their places.
const REMEMBERED: usize = 4096;
/// No two records begin within so many bytes: one bit stands for each.
const GRAIN_BYTES: u64 = 64;
/// Words of 64 bits for a stretch.
const WORDS: usize = (STRETCH_BYTES / GRAIN_BYTES / 64) as usize;
/// How long a stretch counts as read, in these steps: one to two of them.
const STEP: Duration = Duration::from_secs(4);

/// How much of a record a reader relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the body.
    Head,
    /// All of it.
    Whole,
}

/// When stretches were read last.
#[derive(Debug)]
pub(super) struct RecentlyRead {
    started: Instant,
    stretches: Vec<Stretch>,
}

#[derive(Debug, Default)]
struct Stretch {
    /// The stretch that was read last.
    read: Recent,
    /// The stretch that the disk was asked for last, without waiting.
    asked: Recent,
    /// A bit for each record that was checked since, for each [`Part`]. Made when the first one is: 2 KiB.
    checked: [OnceLock<Box<[AtomicU64; WORDS]>>; 2],
}

impl Default for RecentlyRead {
    fn default() -> Self {
        Self { started: Instant::now(), stretches: std::iter::repeat_with(Stretch::default).take(REMEMBERED).collect() }
    }
}

impl RecentlyRead {
    /// The current time step, as [`Recent`] takes it.
    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_secs() / STEP.as_secs() + 2
    }

    /// Whether the stretch around `offset` was read in this step or the one before.
    pub(super) fn contains(&self, offset: u64, now: u64) -> bool {
        self.stretch(offset).read.is(offset / STRETCH_BYTES, now)
    }

    /// Notes that the stretch around `offset` was read. Nothing in it counts as checked any more.
    pub(super) fn note(&self, offset: u64, now: u64) {
        let stretch = self.stretch(offset);
        stretch.forget_checked();
        stretch.read.note(offset / STRETCH_BYTES, now);
    }

    /// Notes that the disk is asked for the stretch around `offset`. False if it was asked, or the stretch read, not long
    /// ago.
    pub(super) fn note_asked(&self, offset: u64, now: u64) -> bool {
        let (asked, place) = (&self.stretch(offset).asked, offset / STRETCH_BYTES);
        let anew = !asked.is(place, now) && !self.contains(offset, now);
        if anew {
            asked.note(place, now);
        }
        anew
    }

    /// Whether the part of the record at `offset` was checked since its stretch was read.
    pub(super) fn is_checked(&self, offset: u64, part: Part, now: u64) -> bool {
        let (word, bit) = place(offset);
        let checked = &self.stretch(offset).checked;
        let holds = |part: Part| {
            checked[part as usize].get().is_some_and(|words| words[word].load(Ordering::Acquire) & bit != 0)
        };
        (holds(Part::Whole) || (part == Part::Head && holds(Part::Head))) && self.contains(offset, now)
    }

    /// Notes that the part of the record at `offset` was checked and found whole.
    pub(super) fn note_checked(&self, offset: u64, part: Part, now: u64) {
        if !self.contains(offset, now) {
            return;
        }
        let stretch = self.stretch(offset);
        let words = stretch.checked[part as usize].get_or_init(|| Box::new([const { AtomicU64::new(0) }; WORDS]));
        let (word, bit) = place(offset);
        words[word].fetch_or(bit, Ordering::AcqRel);
        if !self.contains(offset, now) {
            // Another stretch has taken the place meanwhile: the bit may stand for one of its records.
            stretch.forget_checked();
        }
    }

    fn stretch(&self, offset: u64) -> &Stretch {
        &self.stretches[(offset / STRETCH_BYTES) as usize % REMEMBERED]
    }
}

impl Stretch {
    fn forget_checked(&self) {
        for words in self.checked.iter().filter_map(OnceLock::get) {
            words.iter().for_each(|word| word.store(0, Ordering::Release));
        }
    }
}

/// The word and the bit of the record at `offset`.
fn place(offset: u64) -> (usize, u64) {
    let grain = offset % STRETCH_BYTES / GRAIN_BYTES;
    ((grain / 64) as usize, 1 << (grain % 64))
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

    #[test]
    fn the_disk_is_asked_once_for_a_stretch_that_was_not_read() {
        let read = RecentlyRead::default();
        let now = read.now();
        assert!(read.note_asked(5 << 20, now) && !read.note_asked(5 << 20, now + 1));
        assert!(!read.contains(5 << 20, now), "asked for is not read");
        assert!(read.note_asked(5 << 20, now + 3), "it may be gone again");
        read.note(6 << 20, now);
        assert!(!read.note_asked(6 << 20, now) && read.note_asked((6 + REMEMBERED as u64) << 20, now));
    }

    #[test]
    fn a_record_is_checked_once_while_its_stretch_counts() {
        let read = RecentlyRead::default();
        let now = read.now();
        let (first, next) = (5 << 20, (5 << 20) + 91);
        read.note_checked(first, Part::Whole, now);
        assert!(!read.is_checked(first, Part::Whole, now), "its stretch was not read");
        read.note(first, now);
        read.note_checked(next, Part::Whole, now);
        assert!(read.is_checked(next, Part::Whole, now + 1) && !read.is_checked(first, Part::Whole, now));
        read.note_checked(first, Part::Head, now);
        assert!(read.is_checked(first, Part::Head, now) && !read.is_checked(first, Part::Whole, now));
        assert!(!read.is_checked(next, Part::Whole, now + 2));
        read.note(first, now);
        assert!(!read.is_checked(next, Part::Whole, now), "read again");
        read.note_checked(next, Part::Whole, now);
        let other = next + ((REMEMBERED as u64) << 20);
        read.note(other, now);
        assert!(!read.is_checked(other, Part::Whole, now) && !read.is_checked(next, Part::Whole, now));
    }
}
