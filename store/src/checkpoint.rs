//! How far everything had come when it was last known to be on the disk. Two files of one page each: `checkpoint`,
//! RocketMQ's, holds times; `progress`, ours, holds offsets, so that a restart scans only what may be missing.
//! Written by the flushing threads after the data they speak of was synced; read by recovery. What must hold: neither
//! ever claims more than is on the disk; a value that is missing or damaged means "nothing known", which is safe.
//! One note is written by the dispatcher before anything is synced: it counts only while the memory lives that it speaks of.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use crate::{
    error::{AtPath, StoreError},
    index::IndexMark,
    mapped_file::WordFile,
    offsets::PhysicalOffset,
    storage::{Blocks, Life, Storage},
};

/// Size of either file.
const FILE_BYTES: u64 = 4096;
/// Where RocketMQ keeps its times, ms: commit log, consume queue, index.
const TIMES_AT: [usize; 3] = [0, 8, 16];
/// `WASPPROG` in ASCII, at the start of our file.
const PROGRESS_MAGIC: i64 = 0x5741_5350_5052_4F47;
/// Where our file keeps the times that RocketMQ's file has, or will have in a moment, and those it had before: if it has
/// others, another broker wrote them.
const TIMES_NOW_AT: [usize; 3] = [64, 80, 96];
const TIMES_BEFORE_AT: [usize; 3] = [160, 176, 192];
/// Where the sum of the queues' bounds at a clean stop lies.
const BOUNDS_AT: usize = 144;
/// Where the words of the life are in which the notes of the dispatcher count.
const LIFE_AT: [usize; 4] = [256, 272, 288, 304];
/// Where the dispatcher notes in turn how far it is; the older note counts when the newer one is only half written.
const NOTES_AT: [usize; 2] = [320, 384];
/// RocketMQ allows for clocks and threads that are this far apart, ms.
const SLACK_MS: i64 = 3000;

/// Times and offsets up to which the store is on the disk.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    times_file: WordFile,
    progress_file: WordFile,
    log_ms: AtomicI64,
    queues_ms: AtomicI64,
    index_ms: AtomicI64,
    durable: AtomicI64,
    derived: AtomicI64,
    clean_end: AtomicI64,
    bounds: AtomicI64,
    index_mark: Mutex<Option<IndexMark>>,
    flushing: Mutex<()>,
    /// `None` where it cannot be told, or once it cannot be relied on.
    life: Mutex<Option<Life>>,
}

/// Everything before `end` was in queues and index, whether or not it was on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dispatched {
    /// In the log.
    pub(crate) end: PhysicalOffset,
    /// Where the index ended then; `None` if there was none.
    pub(crate) index: Option<IndexMark>,
}

/// What the last run is known to have brought to the disk; `None` where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The log below was synced.
    pub(crate) durable: Option<PhysicalOffset>,
    /// Consume queues and index of the log below were synced.
    pub(crate) derived: Option<PhysicalOffset>,
    /// How much of the index that was.
    pub(crate) index: Option<IndexMark>,
    /// The log's end after a clean stop.
    pub(crate) clean_end: Option<PhysicalOffset>,
    /// The sum over the bounds of all queues then.
    pub(crate) bounds: Option<i64>,
    /// How far the dispatcher had come, if the memory it wrote to still lives: the process was killed, no more.
    pub(crate) dispatched: Option<Dispatched>,
}

impl Checkpoint {
    /// Size of either file.
    pub(crate) const FILE_BYTES: u64 = FILE_BYTES;

    /// Opens both files in the data folder, making those that are not there. A file of the wrong size counts as
    /// damaged and is made anew.
    pub(crate) fn open(storage: &dyn Storage, root: &Path) -> Result<Self, StoreError> {
        let times_file = open_page(storage, &root.join("checkpoint"))?;
        let progress_file = open_page(storage, &root.join("progress"))?;
        let [log_ms, queues_ms, index_ms] = TIMES_AT.map(|at| AtomicI64::new(times_file.load_i64(at)));
        let checkpoint = Checkpoint {
            times_file,
            progress_file,
            log_ms,
            queues_ms,
            index_ms,
            durable: AtomicI64::new(-1),
            derived: AtomicI64::new(-1),
            clean_end: AtomicI64::new(-1),
            bounds: AtomicI64::new(-1),
            index_mark: Mutex::default(),
            flushing: Mutex::new(()),
            life: Mutex::new(storage.life(&root.join("progress")).unwrap_or_else(|error| {
                tracing::debug!(%error, "after a kill, more of the log than need be will be looked at");
                None
            })),
        };
        // A killed process may have left it in memory only, and our file will speak of it.
        checkpoint.times_file.sync(0..FILE_BYTES as usize)?;
        // What was known stays known until more is.
        let known = checkpoint.progress();
        checkpoint.durable.store(known.durable.map_or(-1, |offset| offset.0), Ordering::Relaxed);
        checkpoint.derived.store(known.derived.map_or(-1, |offset| offset.0), Ordering::Relaxed);
        *checkpoint.index_mark.lock().unwrap_or_else(PoisonError::into_inner) = known.index;
        Ok(checkpoint)
    }

    /// What our own file says, unless another program has used the folder since: then it says nothing.
    pub(crate) fn progress(&self) -> Progress {
        let file = &self.progress_file;
        let found = TIMES_AT.map(|at| Some(self.times_file.load_i64(at)));
        let ours = [TIMES_NOW_AT, TIMES_BEFORE_AT].into_iter().any(|known| known.map(|at| checked(file, at)) == found);
        if file.load_i64(0) != PROGRESS_MAGIC || !ours {
            return Progress::default();
        }
        let offset = |at| checked(file, at).filter(|value| *value >= 0).map(PhysicalOffset);
        let index = match (checked(file, 112), checked(file, 128)) {
            (Some(name), Some(entries)) if name > 0 => {
                u32::try_from(entries).ok().map(|entries| IndexMark { name: name as u64, entries })
            }
            _ => None,
        };
        Progress {
            durable: offset(16),
            derived: offset(32),
            index,
            clean_end: offset(48),
            bounds: checked(file, BOUNDS_AT).filter(|bounds| *bounds >= 0),
            dispatched: self.dispatched(),
        }
    }

    fn dispatched(&self) -> Option<Dispatched> {
        let life = self.life()?;
        let noted = LIFE_AT.map(|at| checked(&self.progress_file, at));
        if noted != life.map(Some) {
            return None;
        }
        NOTES_AT.into_iter().filter_map(|at| read_note(&self.progress_file, at)).max_by_key(|note| note.end)
    }

    fn life(&self) -> Option<Life> {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The dispatcher starts at `from`: what it notes from now on counts for as long as this life lasts.
    pub(crate) fn begin_notes(&self, from: Dispatched) {
        NOTES_AT.into_iter().for_each(|at| write_note(&self.progress_file, at, from));
        let life = self.life();
        for (n, at) in LIFE_AT.into_iter().enumerate() {
            match life {
                Some(words) => store_checked(&self.progress_file, at, words[n]),
                None => self.progress_file.store_i64(at + 8, self.progress_file.load_i64(at)),
            }
        }
    }

    /// Notes how far the dispatcher is; `turn` counts its notes. Costs a few stores to memory.
    pub(crate) fn note_dispatched(&self, turn: usize, note: Dispatched) {
        write_note(&self.progress_file, NOTES_AT[turn % NOTES_AT.len()], note);
    }

    /// The memory can no longer be relied on, as when the disk refused what it held: the notes count no more.
    pub(crate) fn end_notes(&self) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for at in LIFE_AT {
            self.progress_file.store_i64(at + 8, self.progress_file.load_i64(at));
        }
    }

    /// The time, ms, before which log and consume queues are complete for certain.
    pub(crate) fn min_ms(&self) -> i64 {
        let earlier = self.log_ms.load(Ordering::Acquire).min(self.queues_ms.load(Ordering::Acquire));
        (earlier - SLACK_MS).max(0)
    }

    /// The store time, ms, up to which the log is on the disk.
    pub(crate) fn log_ms(&self) -> i64 {
        self.log_ms.load(Ordering::Acquire)
    }

    /// The latest store time, ms, that anything is said to be on the disk up to.
    pub(crate) fn newest_ms(&self) -> i64 {
        let times = [&self.log_ms, &self.queues_ms, &self.index_ms].map(|time| time.load(Ordering::Acquire));
        times.into_iter().fold(0, i64::max)
    }

    /// The store time, ms, up to which the index is on the disk.
    pub(crate) fn index_ms(&self) -> i64 {
        self.index_ms.load(Ordering::Acquire)
    }

    /// The log below `end`, whose newest record was stored at `ms`, has been synced.
    pub(crate) fn log_synced(&self, end: PhysicalOffset, ms: i64) {
        self.durable.store(end.0, Ordering::Release);
        if ms > 0 {
            self.log_ms.store(ms, Ordering::Release);
        }
    }

    /// Queues and index of the log below `end`, whose newest record was stored at `ms`, have been synced; the index up
    /// to `index`.
    pub(crate) fn derived_synced(&self, end: PhysicalOffset, ms: i64, index: Option<IndexMark>) {
        *self.index_mark.lock().unwrap_or_else(PoisonError::into_inner) = index;
        self.derived.store(end.0, Ordering::Release);
        // What lies behind the end of the synced log would not be believed.
        self.durable.fetch_max(end.0, Ordering::AcqRel);
        if ms > 0 {
            self.queues_ms.store(ms, Ordering::Release);
            self.index_ms.store(ms, Ordering::Release);
        }
    }

    /// Queues and index turned out to lack what the log has from `from` on, stored at `ms` (`None`: nothing), and the
    /// index ends at `index`: nothing later is claimed any more.
    pub(crate) fn lower_derived(
        &self,
        from: PhysicalOffset,
        ms: Option<i64>,
        index: Option<IndexMark>,
    ) -> Result<(), StoreError> {
        // The dispatcher's note is of the last run: until it starts again, there is none.
        NOTES_AT.into_iter().for_each(|at| forget_note(&self.progress_file, at));
        let mut mark = self.index_mark.lock().unwrap_or_else(PoisonError::into_inner);
        let end = |mark: Option<IndexMark>| mark.map(|mark| (mark.name, mark.entries));
        let shorter = end(index) < end(*mark);
        if shorter {
            // What comes in its place may have the same name, and is not on the disk yet.
            *mark = index;
        }
        drop(mark);
        // Another broker knows only these.
        let times =
            ms.map(|ms| [&self.queues_ms, &self.index_ms].map(|time| time.fetch_min(ms, Ordering::AcqRel) > ms));
        let earlier = times.is_some_and(|times| times.contains(&true));
        if self.derived.fetch_min(from.0, Ordering::AcqRel) > from.0 || shorter || earlier {
            self.flush(None)?;
        }
        Ok(())
    }

    /// Writes both files for the last time before a clean stop: the log ends at `end`, and the bounds of all queues
    /// make `bounds`.
    pub(crate) fn flush_closed(&self, end: PhysicalOffset, bounds: i64) -> Result<(), StoreError> {
        self.bounds.store(bounds, Ordering::Release);
        self.flush(Some(end))
    }

    /// Writes both files. `clean_end` is the log's end if this is the last act of a clean stop.
    pub(crate) fn flush(&self, clean_end: Option<PhysicalOffset>) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.clean_end.store(clean_end.map_or(-1, |end| end.0), Ordering::Release);
        let times = [&self.log_ms, &self.queues_ms, &self.index_ms].map(|time| time.load(Ordering::Acquire));
        let file = &self.progress_file;
        file.store_i64(0, PROGRESS_MAGIC);
        let offsets = [(16, &self.durable), (32, &self.derived), (48, &self.clean_end), (BOUNDS_AT, &self.bounds)];
        for (at, offset) in offsets {
            store_checked(file, at, offset.load(Ordering::Acquire));
        }
        let mark = *self.index_mark.lock().unwrap_or_else(PoisonError::into_inner);
        store_checked(file, 112, mark.map_or(-1, |mark| mark.name as i64));
        store_checked(file, 128, mark.map_or(-1, |mark| i64::from(mark.entries)));
        // First what the other file has and will have: whenever the power fails, it has one of the two.
        let before = TIMES_AT.map(|at| self.times_file.load_i64(at));
        for (places, times) in [(TIMES_BEFORE_AT, before), (TIMES_NOW_AT, times)] {
            places.into_iter().zip(times).for_each(|(at, time)| store_checked(file, at, time));
        }
        file.sync(0..FILE_BYTES as usize)?;
        TIMES_AT.into_iter().zip(times).for_each(|(at, time)| self.times_file.store_i64(at, time));
        self.times_file.sync(0..FILE_BYTES as usize)
    }
}

/// A value with its complement behind it: a half-written pair is recognised.
fn store_checked(file: &WordFile, at: usize, value: i64) {
    file.store_i64(at, value);
    file.store_i64(at + 8, !value);
}

fn checked(file: &WordFile, at: usize) -> Option<i64> {
    let value = file.load_i64(at);
    (file.load_i64(at + 8) == !value).then_some(value)
}

/// Offset, then the index's file and entries, then a seal over the three that is broken while they are written.
fn write_note(file: &WordFile, at: usize, note: Dispatched) {
    let index = note.index.map_or((0, 0), |mark| (mark.name as i64, i64::from(mark.entries)));
    let words = [note.end.0, index.0, index.1];
    forget_note(file, at);
    words.into_iter().enumerate().for_each(|(n, word)| file.store_i64(at + n * 8, word));
    file.store_i64(at + 24, seal(words));
}

fn forget_note(file: &WordFile, at: usize) {
    let words = [0, 1, 2].map(|n| file.load_i64(at + n * 8));
    // Fits neither these words nor, but by chance, those that follow.
    file.store_i64(at + 24, !seal(words));
}

fn read_note(file: &WordFile, at: usize) -> Option<Dispatched> {
    let words = [0, 1, 2].map(|n| file.load_i64(at + n * 8));
    if file.load_i64(at + 24) != seal(words) || words[0] < 0 {
        return None;
    }
    let entries = u32::try_from(words[2]).ok()?;
    let index = (words[1] > 0).then_some(IndexMark { name: words[1] as u64, entries });
    Some(Dispatched { end: PhysicalOffset(words[0]), index })
}

fn seal(words: [i64; 3]) -> i64 {
    !(words[0] ^ words[1].rotate_left(21) ^ words[2].rotate_left(42))
}

fn open_page(storage: &dyn Storage, path: &Path) -> Result<WordFile, StoreError> {
    let found = storage.file_bytes(path).at_path("looking at", path)?;
    if found == Some(FILE_BYTES) {
        // Blocks that a sparse copy of the folder may lack, so that a full disk cannot kill the process later.
        storage.reserve(path, 0..FILE_BYTES).at_path("reserving disk space for", path)?;
    } else {
        if found.is_some() {
            tracing::warn!(path = %path.display(), bytes = found, "a damaged checkpoint is made anew");
            storage.remove(path).at_path("deleting the damaged", path)?;
        }
        storage.create(path, FILE_BYTES, Blocks::Reserved).at_path("creating", path)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        storage.sync_dir(dir).at_path("syncing the folder", dir)?;
    }
    WordFile::open(storage, path.to_owned(), FILE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn storage() -> MemoryStorage {
        let storage = MemoryStorage::new();
        storage.create_dir(Path::new("/store")).unwrap();
        storage
    }

    fn open(storage: &MemoryStorage) -> Checkpoint {
        Checkpoint::open(storage, Path::new("/store")).unwrap()
    }

    #[test]
    fn times_lie_where_rocketmq_keeps_them() {
        let storage = storage();
        let checkpoint = open(&storage);
        checkpoint.log_synced(PhysicalOffset(1000), 9001);
        checkpoint.derived_synced(PhysicalOffset(900), 8001, None);
        checkpoint.flush(None).unwrap();
        let bytes = storage.read(Path::new("/store/checkpoint")).unwrap();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(hex::encode(&bytes[..24]), "00000000000023290000000000001f410000000000001f41");
        let again = open(&storage);
        assert_eq!((again.min_ms(), again.index_ms()), (5001, 8001));
    }

    #[test]
    fn progress_survives_a_power_cut_as_of_the_last_flush() {
        let storage = storage();
        let checkpoint = open(&storage);
        assert_eq!(checkpoint.progress(), Progress::default());
        checkpoint.log_synced(PhysicalOffset(1000), 9001);
        let mark = Some(IndexMark { name: 20_231_114_221_320_000, entries: 17 });
        checkpoint.derived_synced(PhysicalOffset(900), 8001, mark);
        checkpoint.flush(Some(PhysicalOffset(1000))).unwrap();
        checkpoint.log_synced(PhysicalOffset(2000), 9500);
        let progress = open(&storage.power_cut(5)).progress();
        let (end, derived) = (Some(PhysicalOffset(1000)), Some(PhysicalOffset(900)));
        assert_eq!(
            progress,
            Progress { durable: end, derived, index: mark, clean_end: end, bounds: None, dispatched: None }
        );
    }

    #[test]
    fn queues_that_are_on_the_disk_are_believed_though_nobody_told_of_the_log() {
        let storage = storage();
        let checkpoint = open(&storage);
        checkpoint.log_synced(PhysicalOffset(700), 9001);
        checkpoint.derived_synced(PhysicalOffset(900), 8001, None);
        checkpoint.flush(None).unwrap();
        let progress = open(&storage).progress();
        assert_eq!((progress.durable, progress.derived), (Some(PhysicalOffset(900)), Some(PhysicalOffset(900))));
    }

    #[test]
    fn the_dispatchers_notes_count_after_a_kill_and_not_after_a_reboot() {
        let storage = storage();
        let checkpoint = open(&storage);
        let note = |end, entries| Dispatched {
            end: PhysicalOffset(end),
            index: Some(IndexMark { name: 20_231_114_221_320_000, entries }),
        };
        checkpoint.flush(None).unwrap();
        assert_eq!(open(&storage).progress().dispatched, None);
        checkpoint.begin_notes(note(100, 1));
        for (turn, end) in [200, 300, 400].into_iter().enumerate() {
            checkpoint.note_dispatched(turn, note(end, 7));
        }
        assert_eq!(open(&storage).progress().dispatched, Some(note(400, 7)));
        // The newest note is only half there.
        forget_note(&checkpoint.progress_file, NOTES_AT[0]);
        assert_eq!(open(&storage).progress().dispatched, Some(note(300, 7)));
        assert_eq!(open(&storage.power_cut(1)).progress().dispatched, None);
        checkpoint.end_notes();
        assert_eq!(open(&storage).progress().dispatched, None);
        checkpoint.begin_notes(note(100, 1));
        let again = open(&storage);
        again.begin_notes(note(500, 9));
        again.flush(None).unwrap();
        assert_eq!(open(&storage).progress().dispatched, Some(note(500, 9)));
        storage.reboot();
        assert_eq!(open(&storage).progress().dispatched, None);
    }

    #[test]
    fn a_power_cut_between_the_two_files_voids_nothing() {
        let storage = std::sync::Arc::new(storage());
        let checkpoint = open(&storage);
        checkpoint.log_synced(PhysicalOffset(1000), 9001);
        checkpoint.flush(None).unwrap();
        checkpoint.log_synced(PhysicalOffset(2000), 9002);
        storage.watch(|storage, _| {
            for seed in 0..20 {
                let durable = open(&storage.power_cut(seed)).progress().durable;
                assert!([Some(PhysicalOffset(1000)), Some(PhysicalOffset(2000))].contains(&durable), "{durable:?}");
            }
        });
        checkpoint.flush(None).unwrap();
    }

    #[test]
    fn a_checkpoint_that_another_broker_wrote_voids_our_progress() {
        let storage = storage();
        let checkpoint = open(&storage);
        checkpoint.log_synced(PhysicalOffset(1000), 9001);
        checkpoint.flush(None).unwrap();
        checkpoint.times_file.store_i64(8, 12_345);
        assert_eq!(open(&storage).progress(), Progress::default());
    }

    #[test]
    fn a_file_of_the_wrong_size_means_nothing_is_known() {
        let storage = storage();
        storage.write(Path::new("/store/checkpoint"), &[0x7F; 100]).unwrap();
        let checkpoint = open(&storage);
        assert_eq!((checkpoint.min_ms(), checkpoint.progress()), (0, Progress::default()));
    }
}
