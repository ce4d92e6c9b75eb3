//! The index: finds messages by key. Files of one size, named by the time they were made, the newest being written.
//! Derived from the commit log: the dispatcher puts keys, queries read beside it, retention deletes old files.
//! Must hold: keys go in in the order of the log; a message dispatched twice is indexed once.

mod cut_back;
mod index_file;
mod key;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub(crate) use cut_back::{IndexMark, Trust};
pub use index_file::IndexShape;
pub(crate) use index_file::{IndexFile, KeyEntry, Lookup};
pub(crate) use key::TopicHash;

use crate::clock::Clock;
use crate::error::{AtPath, StoreError};
use crate::names::Names;
use crate::offsets::PhysicalOffset;
use crate::storage::Storage;

/// All index files.
pub(crate) struct Index {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    shape: IndexShape,
    /// Oldest first.
    files: RwLock<Vec<Arc<IndexFile>>>,
    /// Full files that are not on disk for certain yet.
    unsynced: Mutex<Vec<Arc<IndexFile>>>,
    /// A file was made since the folder was last synced.
    names: Names,
}

impl Index {
    /// Opens what lies in `dir`. What `trust` does not cover is dropped, for the dispatcher to fill in again as far as
    /// the log still has it. A file of another name or size is left alone and reported.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        dir: PathBuf,
        shape: IndexShape,
        trust: Trust,
    ) -> Result<Self, StoreError> {
        let (mut files, mut gone) = (Vec::new(), false);
        for entry in storage.list(&dir).at_path("listing", &dir)? {
            let path = dir.join(&entry.name);
            if !entry.is_dir && entry.bytes == 0 && entry.name.parse::<u64>().is_ok() {
                // The power failed while it was made.
                storage.remove(&path).at_path("deleting the empty file", &path)?;
                continue;
            }
            if entry.is_dir || entry.name.parse::<u64>().is_err() || entry.bytes != shape.file_bytes() {
                tracing::error!(path = %path.display(), bytes = entry.bytes, expected = shape.file_bytes(),
                    "this is no index file of the configured size; it is ignored");
                continue;
            }
            let file = IndexFile::open(&*storage, path, shape)?;
            // None behind one that goes: keys are never filled in before those that are there.
            if !gone && trust.keep(&file, &*storage)? {
                files.push(Arc::new(file));
            } else {
                gone = true;
                storage.remove(file.path()).at_path("deleting the half-written index", file.path())?;
            }
        }
        Ok(Self {
            storage,
            clock,
            dir,
            shape,
            files: RwLock::new(files),
            unsynced: Mutex::default(),
            names: Names::synced(),
        })
    }

    /// Where the index ends now: what a later sync brings to the disk at least. `None` for an empty one.
    pub(crate) fn mark(&self) -> Option<IndexMark> {
        self.newest().and_then(|file| Some(IndexMark { name: file.name()?, entries: file.entry_count() }))
    }

    /// Whether there is no file at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.newest().is_none()
    }

    fn files(&self) -> Vec<Arc<IndexFile>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn newest(&self) -> Option<Arc<IndexFile>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Adds keys in the order of the log. Those of messages that are indexed already are passed over.
    pub(crate) fn put(&self, mut keys: &[KeyEntry]) -> Result<(), StoreError> {
        while let Some(first) = keys.first() {
            let file = self.file_with_room()?;
            let indexed = file.end_physical();
            if first.physical_offset < indexed {
                keys = &keys[keys.partition_point(|key| key.physical_offset < indexed)..];
                continue;
            }
            let (now, later) = keys.split_at(keys.len().min(file.room()));
            file.put(&*self.storage, now)?;
            keys = later;
        }
        Ok(())
    }

    /// The newest file; a new one if that is full or there is none.
    fn file_with_room(&self) -> Result<Arc<IndexFile>, StoreError> {
        let newest = self.newest();
        let continues = match &newest {
            Some(file) if file.room() > 0 => return Ok(Arc::clone(file)),
            Some(full) => (full.end_physical(), full.end_timestamp()),
            None => (PhysicalOffset(0), 0),
        };
        self.storage.create_dir(&self.dir).at_path("creating the folder", &self.dir)?;
        let name = next_name(self.clock.now_ms(), newest.as_deref());
        let file = Arc::new(IndexFile::create(&*self.storage, self.dir.join(name), self.shape, continues)?);
        // The folder is synced with the next flush: messages would wait here while the disk is busy with the log.
        self.names.add();
        self.files.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&file));
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).extend(newest);
        Ok(file)
    }

    /// Shows `visit` the messages of a key, newest first, until it answers false. Messages of other keys with the same
    /// hash are shown too.
    pub(crate) fn find(&self, lookup: Lookup, visit: &mut dyn FnMut(PhysicalOffset) -> bool) {
        for file in self.files().iter().rev() {
            if file.overlaps(lookup.begin_ms, lookup.end_ms) && !file.find(lookup, visit) {
                return;
            }
        }
    }

    /// The store time and physical offset of the message indexed last; zeros for an empty index.
    pub(crate) fn last_update(&self) -> (i64, PhysicalOffset) {
        self.newest().map_or((0, PhysicalOffset(0)), |file| (file.end_timestamp(), file.end_physical()))
    }

    /// Writes full files to disk and, with `everything` (at shutdown), the newest too. Returns the store time up to
    /// which keys are on disk, for the checkpoint, if that moved.
    pub(crate) fn flush(&self, everything: bool) -> Result<Option<i64>, StoreError> {
        let mut files = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        if everything {
            files.extend(self.newest());
        }
        let mut synced_until = None;
        for (at, file) in files.iter().enumerate() {
            if let Err(error) = file.sync() {
                let rest = files[at..].iter().cloned();
                self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).extend(rest);
                return Err(error);
            }
            synced_until = Some(file.end_timestamp());
        }
        // The folder's own name lies in its parent.
        if let Err(error) = self.names.sync(&*self.storage, [Some(&*self.dir), self.dir.parent()].into_iter().flatten())
        {
            self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
            return Err(error);
        }
        Ok(synced_until)
    }

    /// Recovery: deletes the newest files that hold keys of records at `log_end` or behind. Returns whether there were any.
    pub(crate) fn drop_from(&self, log_end: PhysicalOffset) -> Result<bool, StoreError> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let mut dropped = false;
        while let Some(file) = files.last().filter(|file| file.entry_count() > 1 && file.end_physical() >= log_end) {
            self.storage.remove(file.path()).at_path("deleting the index of records that are gone,", file.path())?;
            files.pop();
            dropped = true;
        }
        Ok(dropped)
    }

    /// Retention: deletes the files all of whose messages lie before `log_min`, never the newest. Returns how many.
    pub(crate) fn delete_before(&self, log_min: PhysicalOffset) -> Result<usize, StoreError> {
        let mut deleted = 0;
        // The dispatcher does not wait for the disk: freeing the blocks of a large file takes long.
        while let Some(oldest) = self.oldest_before(log_min) {
            self.storage.remove(oldest.path()).at_path("deleting", oldest.path())?;
            self.files.write().unwrap_or_else(PoisonError::into_inner).retain(|file| !Arc::ptr_eq(file, &oldest));
            deleted += 1;
        }
        Ok(deleted)
    }

    fn oldest_before(&self, log_min: PhysicalOffset) -> Option<Arc<IndexFile>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.first().filter(|oldest| files.len() > 1 && oldest.end_physical() < log_min).cloned()
    }
}

/// The name of a new file: its time as `yyyyMMddHHmmssSSS`, and in any case above the newest name, because files are
/// read in the order of their names.
fn next_name(now_ms: i64, newest: Option<&IndexFile>) -> String {
    let newest = newest.and_then(IndexFile::name);
    let now = time_name(now_ms);
    newest.map_or(now, |newest| now.max(newest + 1)).to_string()
}

/// The UTC time as the decimal number `yyyyMMddHHmmssSSS`.
fn time_name(now_ms: i64) -> u64 {
    let (days, ms) = (now_ms.div_euclid(86_400_000), now_ms.rem_euclid(86_400_000));
    // Days since 0000-03-01, so that a leap day is the last of its year; see Hinnant, "chrono-compatible date algorithms".
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let date = (year * 100 + month) * 100 + day;
    let time = ((hour * 100 + minute) * 100 + second) * 1_000 + milli;
    u64::try_from(date * 1_000_000_000 + time).unwrap_or(0)
}

#[cfg(test)]
mod tests;
