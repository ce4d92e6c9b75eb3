//! One index file: a header, a table of slots, and entries chained per slot, newest first.
//! Written by the dispatcher alone, read by queries beside it. Every word is read and written atomically; an entry is
//! complete before its slot points at it, so a query never follows a half-written one. Layout in `FORMAT.md`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::StoreError;
use crate::mapped_file::{WordFile, unmake};
use crate::offsets::PhysicalOffset;
use crate::storage::{PAGE_BYTES, Storage};

const BEGIN_TIMESTAMP_AT: usize = 0;
const END_TIMESTAMP_AT: usize = 8;
const BEGIN_PHYSICAL_AT: usize = 16;
const END_PHYSICAL_AT: usize = 24;
const SLOT_COUNT_AT: usize = 32;
const ENTRY_COUNT_AT: usize = 36;
const HEADER_BYTES: usize = 40;
const SLOT_BYTES: usize = 4;
const ENTRY_BYTES: usize = 20;

/// Disk blocks are reserved, and pages made present, this many bytes of entries at a time.
const ENTRIES_STEP_BYTES: u64 = 1 << 20;
/// A file that holds fewer entries than this reserves only page by page: a quiet broker stays small.
const ENTRIES_FIRST_STEP_BYTES: u64 = 64 * 1024;

/// Entries keep whole seconds: this much may have been cut off.
const SECONDS_CUT_MS: i64 = 999;

/// How many slots and entries each index file has; RocketMQ's defaults make files of 420,000,040 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexShape {
    /// Hash slots (`maxHashSlotNum`).
    pub slots: u32,
    /// Entries, of which the first is never used (`maxIndexNum`).
    pub entries: u32,
}

impl Default for IndexShape {
    fn default() -> Self {
        Self { slots: 5_000_000, entries: 20_000_000 }
    }
}

impl IndexShape {
    /// Size of a file of this shape.
    pub fn file_bytes(self) -> u64 {
        HEADER_BYTES as u64 + SLOT_BYTES as u64 * u64::from(self.slots) + ENTRY_BYTES as u64 * u64::from(self.entries)
    }
}

/// One key of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyEntry {
    pub(crate) hash: i32,
    pub(crate) physical_offset: PhysicalOffset,
    pub(crate) store_timestamp: i64,
}

/// What a query looks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    pub(crate) hash: i32,
    /// Store times, both ends included, in milliseconds.
    pub(crate) begin_ms: i64,
    pub(crate) end_ms: i64,
}

/// An index file, mapped.
#[derive(Debug)]
pub(crate) struct IndexFile {
    words: WordFile,
    shape: IndexShape,
    /// Bytes of the file that have their blocks and pages.
    ready: AtomicU64,
}

impl IndexFile {
    /// Makes an empty file that continues after a message with this physical offset and store time (0 and 0 for the
    /// first file).
    pub(crate) fn create(
        storage: &dyn Storage,
        path: PathBuf,
        shape: IndexShape,
        (end_physical, end_timestamp): (PhysicalOffset, i64),
    ) -> Result<Self, StoreError> {
        let words = WordFile::create(storage, path, shape.file_bytes())?;
        let file = Self { words, shape, ready: AtomicU64::new(0) };
        file.words.reserve(storage, 0..HEADER_BYTES as u64).inspect_err(|_| unmake(storage, file.path()))?;
        file.words.store_i64(BEGIN_PHYSICAL_AT, end_physical.0);
        file.words.store_i64(END_PHYSICAL_AT, end_physical.0);
        file.words.store_i64(BEGIN_TIMESTAMP_AT, end_timestamp);
        file.words.store_i64(END_TIMESTAMP_AT, end_timestamp);
        file.words.store_i32(ENTRY_COUNT_AT, 1);
        Ok(file)
    }

    /// Opens a file that has been found.
    pub(crate) fn open(storage: &dyn Storage, path: PathBuf, shape: IndexShape) -> Result<Self, StoreError> {
        let words = WordFile::open(storage, path, shape.file_bytes())?;
        Ok(Self { words, shape, ready: AtomicU64::new(0) })
    }

    /// Gives header and slots, which are written in no order, their blocks. Their pages come one by one as they are
    /// used: there are few of them.
    pub(super) fn reserve_slots(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        self.words.reserve(storage, 0..self.entries_at() as u64)?;
        let held = self.entry_at(self.entry_count()) as u64;
        self.ready.store(held, Ordering::Relaxed);
        Ok(())
    }

    /// Blocks and pages for entries up to the byte `end`.
    fn make_ready(&self, storage: &dyn Storage, end: u64) -> Result<(), StoreError> {
        if self.ready.load(Ordering::Relaxed) == 0 {
            self.reserve_slots(storage)?;
        }
        let ready = self.ready.load(Ordering::Relaxed);
        if end <= ready {
            return Ok(());
        }
        let held = ready.saturating_sub(self.entries_at() as u64);
        let step = held.clamp(ENTRIES_FIRST_STEP_BYTES, ENTRIES_STEP_BYTES);
        let upto = (ready + step).max(end).next_multiple_of(PAGE_BYTES).min(self.words.bytes() as u64);
        self.words.reserve(storage, ready..upto)?;
        let from = ready & !(PAGE_BYTES - 1);
        if let Err(error) = self.words.populate(from as usize..upto as usize) {
            tracing::debug!(path = %self.words.path().display(), %error, "pages of the index not populated ahead");
        }
        self.ready.store(upto, Ordering::Relaxed);
        Ok(())
    }

    /// Where the file lies.
    pub(crate) fn path(&self) -> &Path {
        self.words.path()
    }

    /// Its name, as a number.
    pub(crate) fn name(&self) -> Option<u64> {
        self.path().file_name()?.to_str()?.parse().ok()
    }

    /// Store time of the first key.
    pub(crate) fn begin_timestamp(&self) -> i64 {
        self.words.load_i64(BEGIN_TIMESTAMP_AT)
    }

    /// Store time of the last key.
    pub(crate) fn end_timestamp(&self) -> i64 {
        self.words.load_i64(END_TIMESTAMP_AT)
    }

    /// The last message that has a key here.
    pub(crate) fn end_physical(&self) -> PhysicalOffset {
        PhysicalOffset(self.words.load_i64(END_PHYSICAL_AT))
    }

    /// The next entry's number: one more than the keys held, at least 1.
    pub(crate) fn entry_count(&self) -> u32 {
        u32::try_from(self.words.load_i32(ENTRY_COUNT_AT)).unwrap_or(0).clamp(1, self.shape.entries.max(1))
    }

    /// How many keys still fit.
    pub(crate) fn room(&self) -> usize {
        self.shape.entries.saturating_sub(self.entry_count()) as usize
    }

    /// Adds keys, at most [`IndexFile::room`] of them. The slots they fall into are touched first, all together, so
    /// that their cache misses overlap.
    pub(crate) fn put(&self, storage: &dyn Storage, keys: &[KeyEntry]) -> Result<(), StoreError> {
        let Some(last) = keys.last() else { return Ok(()) };
        let mut number = self.entry_count();
        self.make_ready(storage, self.entry_at(number + keys.len() as u32) as u64)?;
        std::hint::black_box(keys.iter().fold(0, |sum, key| sum ^ self.words.load_i32(self.slot_at(key.hash))));
        if number == 1 {
            // Entries of a new file count their seconds from the first key. (Java counts the very first from the
            // previous file's end, which makes that one entry's time wrong.)
            self.words.store_i64(BEGIN_PHYSICAL_AT, keys[0].physical_offset.0);
            self.words.store_i64(BEGIN_TIMESTAMP_AT, keys[0].store_timestamp);
        }
        let begin = self.begin_timestamp();
        let mut new_slots = 0;
        for key in keys {
            let slot = self.slot_at(key.hash);
            let previous = self.words.load_i32(slot);
            let previous = if previous > 0 && (previous as u32) < number { previous } else { 0 };
            new_slots += i32::from(previous == 0);
            let at = self.entry_at(number);
            self.words.store_i32(at, key.hash);
            self.words.store_i64(at + 4, key.physical_offset.0);
            self.words.store_i32(at + 12, seconds_since(begin, key.store_timestamp));
            self.words.store_i32(at + 16, previous);
            self.words.store_i32(slot, number as i32);
            number += 1;
        }
        self.words.store_i32(SLOT_COUNT_AT, self.words.load_i32(SLOT_COUNT_AT).wrapping_add(new_slots));
        self.words.store_i64(END_PHYSICAL_AT, last.physical_offset.0);
        self.words.store_i64(END_TIMESTAMP_AT, last.store_timestamp);
        self.words.store_i32(ENTRY_COUNT_AT, number as i32);
        Ok(())
    }

    /// Shows `visit` every message with the hash and possibly within the times, newest first, until it answers false.
    /// Neither key nor milliseconds are stored: the caller compares both with the record. Returns whether `visit`
    /// wants to see more.
    pub(crate) fn find(&self, lookup: Lookup, visit: &mut dyn FnMut(PhysicalOffset) -> bool) -> bool {
        let begin = self.begin_timestamp();
        let mut number = self.words.load_i32(self.slot_at(lookup.hash));
        while number > 0 && (number as u32) < self.shape.entries {
            let at = self.entry_at(number as u32);
            let earliest = begin.saturating_add(i64::from(self.words.load_i32(at + 12)) * 1000);
            let latest = earliest.saturating_add(SECONDS_CUT_MS);
            if latest < lookup.begin_ms {
                break;
            }
            let found = self.words.load_i32(at) == lookup.hash && earliest <= lookup.end_ms;
            if found && !visit(PhysicalOffset(self.words.load_i64(at + 4))) {
                return false;
            }
            let previous = self.words.load_i32(at + 16);
            // Chains only lead to older entries; anything else is damage.
            if previous >= number {
                break;
            }
            number = previous;
        }
        true
    }

    /// Whether any key of this file may have been stored within the times.
    pub(crate) fn overlaps(&self, begin_ms: i64, end_ms: i64) -> bool {
        self.entry_count() > 1 && begin_ms <= self.end_timestamp() && end_ms >= self.begin_timestamp()
    }

    /// Writes the file to disk and waits for it.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.words.sync(self.entries_at()..self.entry_at(self.entry_count()))?;
        self.words.sync(0..self.entries_at())
    }

    /// The number in a slot: its newest entry, 0 for none.
    pub(crate) fn slot(&self, at: usize) -> i32 {
        self.words.load_i32(at)
    }

    pub(super) fn set_slot(&self, at: usize, number: i32) {
        self.words.store_i32(at, number);
    }

    /// Where the slots lie.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> {
        (HEADER_BYTES..self.entries_at()).step_by(SLOT_BYTES)
    }

    /// Where the message of an entry lies.
    pub(crate) fn physical_of(&self, number: u32) -> PhysicalOffset {
        PhysicalOffset(self.words.load_i64(self.entry_at(number) + 4))
    }

    pub(super) fn hash_of(&self, number: u32) -> i32 {
        self.words.load_i32(self.entry_at(number))
    }

    pub(crate) fn previous_of(&self, number: u32) -> i32 {
        self.words.load_i32(self.entry_at(number) + 16)
    }

    /// Makes entry `keep` the next one to be written, and the header say so.
    pub(super) fn end_with(&self, keep: u32) {
        let used = self.slots().filter(|slot| self.slot(*slot) != 0).count();
        self.words.store_i32(SLOT_COUNT_AT, used as i32);
        let (end_physical, end_timestamp) = match keep {
            ..=1 => (self.words.load_i64(BEGIN_PHYSICAL_AT), self.begin_timestamp()),
            _ => {
                let last = self.entry_at(keep - 1);
                let seconds = i64::from(self.words.load_i32(last + 12));
                let newest = self.begin_timestamp().saturating_add(seconds * 1000 + SECONDS_CUT_MS);
                (self.words.load_i64(last + 4), newest)
            }
        };
        self.words.store_i64(END_PHYSICAL_AT, end_physical);
        self.words.store_i64(END_TIMESTAMP_AT, end_timestamp);
        self.words.store_i32(ENTRY_COUNT_AT, keep as i32);
        self.ready.store(0, Ordering::Relaxed);
    }

    pub(super) fn slot_at(&self, hash: i32) -> usize {
        HEADER_BYTES + SLOT_BYTES * (hash.unsigned_abs() % self.shape.slots.max(1)) as usize
    }

    fn entries_at(&self) -> usize {
        HEADER_BYTES + SLOT_BYTES * self.shape.slots as usize
    }

    fn entry_at(&self, number: u32) -> usize {
        self.entries_at() + ENTRY_BYTES * number as usize
    }
}

/// The stored time of an entry: whole seconds from the file's first key on.
fn seconds_since(begin_ms: i64, time_ms: i64) -> i32 {
    if begin_ms <= 0 {
        return 0;
    }
    i32::try_from((time_ms.saturating_sub(begin_ms) / 1000).max(0)).unwrap_or(i32::MAX)
}
