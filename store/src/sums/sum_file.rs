//! The sums of the records of one file of the log: a directory of stretches, then one entry for each record, in the
//! order of the log. Written by the dispatcher alone, read by readers beside it. Layout in `FORMAT.md`.
//! Must hold: an entry is complete before its stretch counts it; whatever is damaged in here leads to no entry, and never
//! to one that a good record does not have.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use waspmq_protocol::message::record::FIXED_BYTES;

use crate::error::{AtPath, StoreError};
use crate::mapped_file::WordFile;
use crate::storage::{Blocks, PAGE_BYTES, Storage};

/// `WASPSUM1` in ASCII.
const MAGIC: i64 = 0x5741_5350_5355_4D31;
const MAGIC_AT: usize = 0;
const START_AT: usize = 8;
const HEADER_BYTES: usize = 64;
/// The bits of a place in a stretch of the log: so long is a stretch.
const PLACE_BITS: u32 = 16;
/// Of each stretch its first entry's number, and how many it has.
const STRETCH_ENTRY_BYTES: usize = 8;
/// Of each record its place in the stretch, made safe by a check, and its sum.
const ENTRY_BYTES: usize = 8;
/// Set in every entry: zeros are none.
const PRESENT: u32 = 1 << 31;
/// An odd number without fifteen equal bits in a row: no single bit of an entry can change without its check.
const CHECK_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// Disk blocks are reserved, and pages made present, for so many bytes of entries at a time: few at first, so that a
/// quiet broker stays small.
const STEP_BYTES: std::ops::RangeInclusive<u64> = PAGE_BYTES..=256 << 10;

/// Sums of one file of the log, mapped.
#[derive(Debug)]
pub(super) struct SumFile {
    words: WordFile,
    /// Offset of the first byte of the log's file.
    start: u64,
    stretches: usize,
    /// The number of the next entry, and one past the last stretch that has any.
    next: AtomicU32,
    reached: AtomicU32,
    /// Bytes of the file that have their blocks and pages.
    ready: AtomicU64,
    /// Entries and stretches before these are on the disk.
    synced: (AtomicU32, AtomicU32),
}

/// Size of the file for a file of the log of this size.
pub(super) fn file_bytes(log_file_bytes: u64) -> u64 {
    (HEADER_BYTES + stretches_of(log_file_bytes) * STRETCH_ENTRY_BYTES) as u64
        + log_file_bytes / FIXED_BYTES as u64 * ENTRY_BYTES as u64
}

/// What a file for the file of the log from `start` on begins with.
#[cfg(any(test, fuzzing))]
pub(super) fn header(start: i64) -> Vec<u8> {
    let mut header = vec![0; HEADER_BYTES];
    header[MAGIC_AT..][..8].copy_from_slice(&MAGIC.to_be_bytes());
    header[START_AT..][..8].copy_from_slice(&start.to_be_bytes());
    header
}

fn stretches_of(log_file_bytes: u64) -> usize {
    log_file_bytes.div_ceil(1 << PLACE_BITS) as usize
}

/// The first word of an entry: that there is one, fifteen bits that tell whether the rest of it is whole, and the place.
#[inline]
fn entry_head(seal: u64, place: u32, sum: u32) -> u32 {
    let rest = u64::from(sum) << PLACE_BITS | u64::from(place);
    let check = ((rest ^ seal).wrapping_mul(CHECK_FACTOR) >> 49) as u32;
    PRESENT | check << PLACE_BITS | place
}

impl SumFile {
    /// Makes an empty file for the file of the log that begins at `start`.
    pub(super) fn create(
        storage: &dyn Storage,
        path: PathBuf,
        start: u64,
        log_file_bytes: u64,
    ) -> Result<Self, StoreError> {
        let words = WordFile::create(storage, path, file_bytes(log_file_bytes))?;
        let file = Self::new(words, start, log_file_bytes);
        if let Err(error) = file.make_ready(storage, file.entries_at() as u64) {
            // One without blocks must not be found by who comes next.
            storage.remove(file.path()).at_path("deleting", file.path())?;
            return Err(error);
        }
        file.words.store_i64(START_AT, start as i64);
        file.words.store_i64(MAGIC_AT, MAGIC);
        Ok(file)
    }

    /// Opens a file that has been found, of the right size. `None` if it is not what it should be.
    pub(super) fn open(
        storage: &dyn Storage,
        path: PathBuf,
        start: u64,
        log_file_bytes: u64,
    ) -> Result<Option<Self>, StoreError> {
        let words = WordFile::open(storage, path, file_bytes(log_file_bytes))?;
        // The directory in one go: all of it will be looked at, and page by page that takes the disk long.
        words.read_ahead(0..HEADER_BYTES + stretches_of(log_file_bytes) * STRETCH_ENTRY_BYTES)?;
        if words.load_i64(MAGIC_AT) != MAGIC || words.load_i64(START_AT) != start as i64 {
            return Ok(None);
        }
        let file = Self::new(words, start, log_file_bytes);
        let (next, stretches) = file.used();
        file.next.store(next, Ordering::Relaxed);
        file.reached.store(stretches, Ordering::Relaxed);
        file.synced.0.store(next, Ordering::Relaxed);
        file.synced.1.store(stretches, Ordering::Relaxed);
        Ok(Some(file))
    }

    fn new(words: WordFile, start: u64, log_file_bytes: u64) -> Self {
        let stretches = stretches_of(log_file_bytes);
        let (next, reached) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { words, start, stretches, next, reached, ready: AtomicU64::new(0), synced: Default::default() }
    }

    pub(super) fn path(&self) -> &Path {
        self.words.path()
    }

    fn entries_at(&self) -> usize {
        self.stretch_at(self.stretches)
    }

    fn stretch_at(&self, stretch: usize) -> usize {
        HEADER_BYTES + stretch * STRETCH_ENTRY_BYTES
    }

    fn entry_at(&self, number: u32) -> usize {
        self.entries_at() + number as usize * ENTRY_BYTES
    }

    /// Bytes up to the last entry.
    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> usize {
        self.entry_at(self.next.load(Ordering::Relaxed))
    }

    /// How many entries fit.
    fn room(&self) -> u32 {
        ((self.words.bytes() - self.entries_at()) / ENTRY_BYTES) as u32
    }

    /// The stretch's first entry and how many it has; none if it says what cannot be.
    fn stretch(&self, stretch: usize) -> (u32, u32) {
        let at = self.stretch_at(stretch);
        let count = self.words.load_i32(at + 4) as u32;
        let first = self.words.load_i32(at) as u32;
        if first.checked_add(count).is_some_and(|end| end <= self.room()) { (first, count) } else { (0, 0) }
    }

    /// One past the last entry, and one past the last stretch that has any.
    fn used(&self) -> (u32, u32) {
        let used = (0..self.stretches).rev().find_map(|stretch| match self.stretch(stretch) {
            (_, 0) => None,
            (first, count) => Some((first + count, stretch as u32 + 1)),
        });
        used.unwrap_or((0, 0))
    }

    /// How many records have a sum here.
    pub(super) fn count(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// Offsets and sums of the records from `from` on and before `to`.
    pub(super) fn between(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u32)> {
        let first = (from.saturating_sub(self.start) >> PLACE_BITS) as usize;
        let of = move |stretch| {
            let (first, count) = self.stretch(stretch);
            let start = self.start + ((stretch as u64) << PLACE_BITS);
            let whole = move |number| self.entry(stretch, number);
            (first..first + count).filter_map(whole).map(move |(place, sum)| (start + u64::from(place), sum))
        };
        (first..self.stretches).flat_map(of).filter(move |(offset, _)| (from..to).contains(offset))
    }

    /// Blocks and pages up to the byte `end`.
    fn make_ready(&self, storage: &dyn Storage, end: u64) -> Result<(), StoreError> {
        let ready = self.ready.load(Ordering::Relaxed);
        if end <= ready {
            return Ok(());
        }
        let held = end.saturating_sub(self.entries_at() as u64);
        let step = held.clamp(*STEP_BYTES.start(), *STEP_BYTES.end());
        let upto = (end + step).next_multiple_of(PAGE_BYTES).min(self.words.bytes() as u64);
        self.words.reserve(storage, ready..upto)?;
        // What was filled before this process came stays out of its memory.
        let from = ready.max(end.saturating_sub(ENTRY_BYTES as u64)) & !(PAGE_BYTES - 1);
        if let Err(error) = self.words.populate(from as usize..upto as usize) {
            tracing::debug!(path = %self.path().display(), %error, "pages of the sums not populated ahead");
        }
        self.ready.store(upto, Ordering::Relaxed);
        Ok(())
    }

    fn place(&self, offset: u64) -> (usize, u32) {
        let position = offset - self.start;
        ((position >> PLACE_BITS) as usize, position as u32 & ((1 << PLACE_BITS) - 1))
    }

    /// What the checks of a stretch's entries have in common: an entry stands in its own stretch, or is none.
    fn seal(&self, stretch: usize) -> u64 {
        (self.start + ((stretch as u64) << PLACE_BITS)).wrapping_mul(CHECK_FACTOR).rotate_left(31)
    }

    /// The place and the sum in an entry of a stretch, if it is whole.
    fn entry(&self, stretch: usize, number: u32) -> Option<(u32, u32)> {
        let at = self.entry_at(number);
        let (head, sum) = (self.words.load_i32(at) as u32, self.words.load_i32(at + 4) as u32);
        let place = head & ((1 << PLACE_BITS) - 1);
        (head == entry_head(self.seal(stretch), place, sum)).then_some((place, sum))
    }

    /// The number of the first entry of the stretch at `place` or behind it.
    fn find(&self, stretch: usize, place: u32) -> u32 {
        let (first, count) = self.stretch(stretch);
        let (mut low, mut high) = (first, first + count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.words.load_i32(self.entry_at(middle)) as u32 & ((1 << PLACE_BITS) - 1) < place {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The sum of the record at `offset`, if there is one.
    pub(super) fn sum_at(&self, offset: u64) -> Option<u32> {
        let (stretch, place) = self.place(offset);
        if stretch >= self.stretches {
            return None;
        }
        let number = self.find(stretch, place);
        let (first, count) = self.stretch(stretch);
        let found = if number < first + count { self.entry(stretch, number) } else { None };
        found.filter(|(at, _)| *at == place).map(|(_, sum)| sum)
    }

    /// Where the record of the entry with this number begins, and its sum.
    pub(super) fn nth(&self, number: u32) -> Option<(u64, u32)> {
        // Stretches without a record have no first entry, so this is no binary search; it is rarely asked.
        let stretch = (0..self.stretches).find(|stretch| {
            let (first, count) = self.stretch(*stretch);
            (first..first + count).contains(&number)
        })?;
        let (place, sum) = self.entry(stretch, number)?;
        Some((self.start + ((stretch as u64) << PLACE_BITS) + u64::from(place), sum))
    }

    /// Forgets the sums of the records at `offset` and behind it, for good: an entry that was left in its place would be
    /// taken for another record's when the power fails before that one's is on the disk, and its number is.
    pub(super) fn cut(&self, storage: &dyn Storage, offset: u64) -> Result<(), StoreError> {
        let (stretch, place) = self.place(offset);
        let (first, count) = self.stretch(stretch);
        // Counted, but not on the disk before a power cut: they would lead those who look for their neighbours astray.
        let stays = |number: &u32| self.entry(stretch, *number).is_some_and(|(at, _)| at < place);
        let keep = (first..first + count).rev().find(stays).map_or(0, |last| last + 1 - first);
        let dirty = (stretch + 1..self.stretches).any(|stretch| self.words.load_i64(self.stretch_at(stretch)) != 0);
        if dirty || keep < count {
            self.words.reserve(storage, 0..self.entries_at() as u64)?;
            self.words.store_i32(self.stretch_at(stretch) + 4, keep as i32);
            (stretch + 1..self.stretches).for_each(|stretch| self.words.store_i64(self.stretch_at(stretch), 0));
            self.words.sync(0..self.entries_at())?;
        }
        let (next, stretches) = self.used();
        let behind = self.entry_at(next) as u64..self.words.bytes() as u64;
        storage.wipe(self.path(), behind, Blocks::Sparse).at_path("wiping the end of", self.path())?;
        // Blocks that were wiped are gone.
        self.ready.store(0, Ordering::Relaxed);
        self.next.store(next, Ordering::Relaxed);
        self.reached.store(stretches, Ordering::Relaxed);
        self.synced.0.fetch_min(next, Ordering::Relaxed);
        self.synced.1.fetch_min(stretches, Ordering::Relaxed);
        Ok(())
    }

    /// Brings in from the disk what [`sum_at`](Self::sum_at) looks at for records that begin in this range of the log.
    pub(super) fn bring_in(&self, range: Range<u64>) -> Result<(), StoreError> {
        let stretches = self.stretches_in(range);
        self.words.read_ahead(self.stretch_at(stretches.start)..self.stretch_at(stretches.end))?;
        self.words.read_ahead(self.entries_in(stretches))
    }

    /// Asks the disk for the same, and does not wait; may wait for the directory, which is small.
    pub(super) fn will_need(&self, range: Range<u64>) {
        self.words.will_need(self.entries_in(self.stretches_in(range)));
    }

    pub(super) fn stretches_in(&self, range: Range<u64>) -> Range<usize> {
        let stretch = |offset: u64| (offset.saturating_sub(self.start) >> PLACE_BITS) as usize;
        let end = stretch(range.end.saturating_sub(1)).saturating_add(1).min(self.stretches);
        stretch(range.start).min(end)..end
    }

    /// The bytes of these stretches' entries, which follow each other.
    pub(super) fn entries_in(&self, stretches: Range<usize>) -> Range<usize> {
        let held = stretches.map(|stretch| self.stretch(stretch)).filter(|(_, count)| *count > 0);
        let (first, end) =
            held.fold((u32::MAX, 0), |(low, high), (first, count)| (low.min(first), high.max(first + count)));
        self.entry_at(first.min(end))..self.entry_at(end)
    }

    /// Brings to the disk what was added.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let next = self.next.load(Ordering::Acquire);
        let (synced, stretches) = (self.synced.0.load(Ordering::Relaxed), self.synced.1.load(Ordering::Relaxed));
        if next == synced {
            return Ok(());
        }
        let end = self.reached.load(Ordering::Relaxed);
        // The last stretch has grown since; of a new file the header counts too.
        let from = if synced == 0 { 0 } else { self.stretch_at(stretches.saturating_sub(1) as usize) };
        self.words.sync(from..self.stretch_at(end as usize))?;
        self.words.sync(self.entry_at(synced)..self.entry_at(next))?;
        self.synced.0.store(next, Ordering::Relaxed);
        self.synced.1.store(end, Ordering::Relaxed);
        Ok(())
    }
}

/// The end of a file that is being written. One at a time.
#[derive(Debug)]
pub(super) struct Cursor {
    file: Arc<SumFile>,
    /// The next entry's number, and where it goes.
    number: u32,
    at: usize,
    /// The stretch it belongs to, how many that has, and how many it says to have.
    stretch: usize,
    count: u32,
    published: u32,
    seal: u64,
    /// Up to this byte there are blocks and pages.
    ready: usize,
}

impl Cursor {
    pub(super) fn new(file: Arc<SumFile>) -> Self {
        let (number, _) = file.used();
        let at = file.entry_at(number);
        Self { file, number, at, stretch: usize::MAX, count: 0, published: 0, seal: 0, ready: 0 }
    }

    /// Where in the file of the log `offset` lies; `None` if it is another file.
    #[inline]
    pub(super) fn position(&self, offset: u64, log_file_bytes: u64) -> Option<u64> {
        offset.checked_sub(self.file.start).filter(|position| *position < log_file_bytes)
    }

    /// Adds the sum of the record at `position` in the log's file, which lies behind all that have one.
    #[inline]
    pub(super) fn push(&mut self, storage: &dyn Storage, position: u64, sum: u32) -> Result<(), StoreError> {
        let stretch = (position >> PLACE_BITS) as usize;
        if (stretch != self.stretch || self.at + ENTRY_BYTES > self.ready) && !self.go_on(storage, stretch)? {
            return Ok(());
        }
        let place = position as u32 & ((1 << PLACE_BITS) - 1);
        self.file.words.store_i32(self.at + 4, sum as i32);
        self.file.words.store_i32(self.at, entry_head(self.seal, place, sum) as i32);
        self.at += ENTRY_BYTES;
        self.number += 1;
        self.count += 1;
        Ok(())
    }

    /// Into another stretch, or where there are no blocks yet. False if there is no room, as in a file whose directory is
    /// damaged: else there is room for the smallest of records.
    #[cold]
    fn go_on(&mut self, storage: &dyn Storage, stretch: usize) -> Result<bool, StoreError> {
        let file = Arc::clone(&self.file);
        if self.at + ENTRY_BYTES > file.words.bytes() || stretch >= file.stretches {
            return Ok(false);
        }
        file.make_ready(storage, (self.at + ENTRY_BYTES) as u64)?;
        self.ready = file.ready.load(Ordering::Relaxed) as usize;
        if stretch != self.stretch {
            self.publish();
            let (first, count) = file.stretch(stretch);
            // It has some of an earlier run, which are the last there are.
            let goes_on = count > 0 && first + count == self.number;
            self.count = if goes_on { count } else { 0 };
            (self.stretch, self.published, self.seal) = (stretch, self.count, file.seal(stretch));
            if !goes_on {
                file.words.store_i32(file.stretch_at(stretch) + 4, 0);
                file.words.store_i32(file.stretch_at(stretch), self.number as i32);
            }
        }
        Ok(true)
    }

    /// Lets readers see what was added.
    #[inline]
    pub(super) fn publish(&mut self) {
        if self.published < self.count {
            self.file.words.store_i32(self.file.stretch_at(self.stretch) + 4, self.count as i32);
            self.file.reached.store(self.stretch as u32 + 1, Ordering::Relaxed);
            self.file.next.store(self.number, Ordering::Release);
            self.published = self.count;
        }
    }
}
