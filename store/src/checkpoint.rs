//! How far everything had come when it was last known to be on the disk. Two files of one page each: `checkpoint`,
//! RocketMQ's, holds times; `progress`, ours, holds offsets, so that a restart scans only what may be missing.
//! Written by the flushing threads after the data they speak of was synced; read by recovery. What must hold: neither
//! ever claims more than is on the disk. A value that is missing or damaged means "nothing known", which is safe.

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
    storage::{Blocks, Storage},
};

/// Size of either file.
const FILE_BYTES: u64 = 4096;
/// Where RocketMQ keeps its times, ms: commit log, consume queue, index.
const TIMES_AT: [usize; 3] = [0, 8, 16];
/// `WASPPROG` in ASCII, at the start of our file.
const PROGRESS_MAGIC: i64 = 0x5741_5350_5052_4F47;
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
    index_mark: Mutex<Option<IndexMark>>,
    flushing: Mutex<()>,
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
}

impl Checkpoint {
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
            index_mark: Mutex::default(),
            flushing: Mutex::new(()),
        };
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
        let same_times = (0..3).all(|n| checked(file, 64 + n * 16) == Some(self.times_file.load_i64(TIMES_AT[n])));
        if file.load_i64(0) != PROGRESS_MAGIC || !same_times {
            return Progress::default();
        }
        let offset = |at| checked(file, at).filter(|value| *value >= 0).map(PhysicalOffset);
        let index = match (checked(file, 112), checked(file, 128)) {
            (Some(name), Some(entries)) if name > 0 => {
                u32::try_from(entries).ok().map(|entries| IndexMark { name: name as u64, entries })
            }
            _ => None,
        };
        Progress { durable: offset(16), derived: offset(32), index, clean_end: offset(48) }
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
        if ms > 0 {
            self.queues_ms.store(ms, Ordering::Release);
            self.index_ms.store(ms, Ordering::Release);
        }
    }

    /// Queues and index turned out to lack what the log has from `from` on: nothing later is claimed any more.
    pub(crate) fn lower_derived(&self, from: PhysicalOffset) -> Result<(), StoreError> {
        if self.derived.fetch_min(from.0, Ordering::AcqRel) > from.0 {
            self.flush(None)?;
        }
        Ok(())
    }

    /// Writes both files. `clean_end` is the log's end if this is the last act of a clean stop.
    pub(crate) fn flush(&self, clean_end: Option<PhysicalOffset>) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.clean_end.store(clean_end.map_or(-1, |end| end.0), Ordering::Release);
        let times = [&self.log_ms, &self.queues_ms, &self.index_ms].map(|time| time.load(Ordering::Acquire));
        for (at, time) in TIMES_AT.into_iter().zip(times) {
            self.times_file.store_i64(at, time);
        }
        let file = &self.progress_file;
        file.store_i64(0, PROGRESS_MAGIC);
        for (at, offset) in [(16, &self.durable), (32, &self.derived), (48, &self.clean_end)] {
            store_checked(file, at, offset.load(Ordering::Acquire));
        }
        let mark = *self.index_mark.lock().unwrap_or_else(PoisonError::into_inner);
        store_checked(file, 112, mark.map_or(-1, |mark| mark.name as i64));
        store_checked(file, 128, mark.map_or(-1, |mark| i64::from(mark.entries)));
        for (n, time) in times.into_iter().enumerate() {
            store_checked(file, 64 + n * 16, time);
        }
        self.times_file.sync(0..FILE_BYTES as usize)?;
        file.sync(0..FILE_BYTES as usize)
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
        assert_eq!(progress, Progress { durable: end, derived, index: mark, clean_end: end });
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
