//! What RocketMQ's format cannot check of a record, its header, topic and properties, is checked here: a sum for each
//! record, in files of our own beside those that Java's broker opens, one for each file of the log.
//! Written by the dispatcher, compared by every reader of what the disk may have changed. Must hold: a sum that is
//! missing, damaged or of another life of the log costs the check and nothing else: only a whole sum, of this very record, can speak against it.

mod digest;
mod refill;
mod sum_file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use waspmq_protocol::message::record::RecordView;

pub(crate) use self::digest::sum_of;
pub(crate) use self::refill::Refill;
use self::sum_file::{Cursor, SumFile};
use crate::error::{AtPath, StoreError};
use crate::mapped_file_queue::file_path;
use crate::names::{Names, sync_dirs};
use crate::storage::Storage;

/// Where the files lie, below the data folder.
const FOLDER: &str = "waspmq/sums";
/// So many of the newest records in a row that are not what their sums say: the log is another one.
const STRANGERS: u32 = 16;
/// So many sums are kept in mind for records that are noted again: about a second's.
const WITNESSES_MAX: usize = 1 << 20;

/// What a record's sum says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// The record is as it was when it was dispatched.
    Same,
    /// It is not.
    Differs,
    /// There is no sum.
    Unknown,
}

/// The sums of the log's records.
#[derive(Debug)]
pub(crate) struct Sums {
    storage: Arc<dyn Storage>,
    root: PathBuf,
    log_file_bytes: u64,
    /// By the offset at which their file of the log begins; mapped when first used.
    files: RwLock<BTreeMap<u64, Option<Arc<SumFile>>>>,
    opening: Mutex<()>,
    /// Records from here on have no sum yet.
    end: AtomicU64,
    /// Sums of records from here on count for nothing.
    limit: u64,
    /// What was noted of records that will be noted again: offsets and sums, in the order of the log.
    witnesses: Mutex<VecDeque<(u64, u32)>>,
    /// What is found damaged is deleted; when only looking, it is listed here.
    damaged: Option<Mutex<Vec<String>>>,
    /// A file was made since the folder was last synced.
    names: Names,
    /// It was said that something is wrong here.
    told: AtomicBool,
}

impl Sums {
    /// Opens what is there. Files that are not what they should be are deleted: they say nothing.
    pub(crate) fn open(storage: Arc<dyn Storage>, root: &Path, log_file_bytes: u64) -> Result<Self, StoreError> {
        Self::found(storage, root, log_file_bytes, None)
    }

    /// Opens what is there for looking at it: nothing is changed.
    pub(crate) fn look(storage: Arc<dyn Storage>, root: &Path, log_file_bytes: u64) -> Result<Self, StoreError> {
        Self::found(storage, root, log_file_bytes, Some(Mutex::default()))
    }

    fn found(
        storage: Arc<dyn Storage>,
        root: &Path,
        log_file_bytes: u64,
        damaged: Option<Mutex<Vec<String>>>,
    ) -> Result<Self, StoreError> {
        let sums = Self {
            storage,
            root: root.to_owned(),
            log_file_bytes,
            files: RwLock::default(),
            opening: Mutex::default(),
            end: AtomicU64::new(0),
            limit: u64::MAX,
            witnesses: Mutex::default(),
            damaged,
            names: Names::inherited(),
            told: AtomicBool::new(false),
        };
        let dir = sums.dir();
        for entry in sums.storage.list(&dir).at_path("listing", &dir)? {
            let start = entry.name.parse().ok().filter(|start| sums.path(*start) == dir.join(&entry.name));
            match start {
                Some(start) if entry.bytes == sum_file::file_bytes(log_file_bytes) => {
                    sums.files_mut().insert(start, None);
                }
                Some(start) if !entry.is_dir => sums.unusable(start)?,
                _ => {}
            }
        }
        Ok(sums)
    }

    /// Says what is wrong with a file, and deletes it.
    fn unusable(&self, start: u64) -> Result<(), StoreError> {
        let path = self.path(start);
        if let Some(damaged) = &self.damaged {
            let problem = format!("{} is damaged or has the wrong size", path.display());
            damaged.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
            return Ok(());
        }
        tracing::warn!(
            path = %path.display(),
            "a file with sums of records was damaged and is deleted: headers and properties of the messages in that file \
             of the log are not checked; `broker store repair` makes it anew"
        );
        self.storage.remove(&path).at_path("deleting", &path)
    }

    /// What was found damaged by looking.
    pub(crate) fn problems(&self) -> Vec<String> {
        let damaged = self.damaged.as_ref().map(|damaged| damaged.lock().unwrap_or_else(PoisonError::into_inner));
        damaged.map_or_else(Vec::new, |damaged| damaged.clone())
    }

    /// The same, where sums of records from `limit` on count for nothing.
    pub(crate) fn limited_to(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    fn files(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Option<Arc<SumFile>>>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn files_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Option<Arc<SumFile>>>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    fn path(&self, start: u64) -> PathBuf {
        file_path(&self.dir(), start)
    }

    fn start_of(&self, offset: u64) -> u64 {
        offset - offset % self.log_file_bytes
    }

    /// Where the first file lies, its header, and how many bytes follow.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn first_file(root: &Path, log_file_bytes: u64) -> (PathBuf, Vec<u8>, usize) {
        let header = sum_file::header(0);
        let rest = sum_file::file_bytes(log_file_bytes) as usize - header.len();
        (file_path(&root.join(FOLDER), 0), header, rest)
    }

    /// The file with the sums of what lies around `offset`.
    fn file_for(&self, offset: u64) -> Result<Option<Arc<SumFile>>, StoreError> {
        let start = self.start_of(offset);
        let found = self.files().get(&start).cloned();
        match found {
            None => Ok(None),
            Some(Some(file)) => Ok(Some(file)),
            Some(None) => self.open_file(start),
        }
    }

    /// Maps a file when it is first used. Waits for the disk, and those who use other files meanwhile do not.
    #[cold]
    fn open_file(&self, start: u64) -> Result<Option<Arc<SumFile>>, StoreError> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.files().get(&start).cloned();
        if let None | Some(Some(_)) = found {
            return Ok(found.flatten());
        }
        let opened = SumFile::open(&*self.storage, self.path(start), start, self.log_file_bytes)?.map(Arc::new);
        let mut files = self.files_mut();
        let Some(file) = opened else {
            files.remove(&start);
            drop(files);
            return self.unusable(start).map(|()| None);
        };
        // Unless it was deleted meanwhile.
        if let Some(place) = files.get_mut(&start) {
            *place = Some(Arc::clone(&file));
        }
        Ok(Some(file))
    }

    fn make(&self, start: u64) -> Result<Arc<SumFile>, StoreError> {
        let (dir, path) = (self.dir(), self.path(start));
        self.storage.create_dir(&dir).at_path("creating the folder", &dir)?;
        let file = Arc::new(SumFile::create(&*self.storage, path, start, self.log_file_bytes)?);
        self.files_mut().insert(start, Some(Arc::clone(&file)));
        self.names.add();
        Ok(file)
    }

    /// Brings in from the disk the sums of the records that begin in this range of the log.
    pub(crate) fn bring_in(&self, range: Range<u64>) {
        let start = self.start_of(range.start);
        if let Err(error) = self.file_for(start).and_then(|file| file.map_or(Ok(()), |file| file.bring_in(range))) {
            self.tell(&error);
            // Whoever touched what the disk cannot read would be ended by a signal.
            self.files_mut().remove(&start);
        }
    }

    /// Asks the disk for the sums of the records that begin in this range of the log, and does not wait for them.
    pub(crate) fn will_need(&self, range: Range<u64>) {
        // Whoever cannot open it is told when it is used.
        if let Ok(Some(file)) = self.file_for(range.start) {
            file.will_need(range);
        }
    }

    /// What the sum of the record at `offset` says of it.
    pub(crate) fn compare(&self, offset: u64, record: &RecordView<'_>) -> Compared {
        if offset >= self.limit {
            return Compared::Unknown;
        }
        let file = self.file_for(offset).unwrap_or_else(|error| {
            self.tell(&error);
            None
        });
        match file.and_then(|file| file.sum_at(offset)) {
            None => Compared::Unknown,
            Some(sum) if sum == sum_of(record) => Compared::Same,
            Some(_) => Compared::Differs,
        }
    }

    /// Ends the sums at `offset`: what was noted of records from there on is forgotten, for good.
    pub(crate) fn truncate_to(&self, offset: u64) -> Result<(), StoreError> {
        let later: Vec<u64> = self.files().range(offset..).map(|(start, _)| *start).collect();
        for start in &later {
            let path = self.path(*start);
            self.storage.remove(&path).at_path("deleting", &path)?;
            self.files_mut().remove(start);
        }
        if !later.is_empty() {
            self.sync_names()?;
        }
        if let Some(file) = self.file_for(offset)? {
            file.cut(&*self.storage, offset)?;
        }
        self.end.store(offset, Ordering::Release);
        Ok(())
    }

    /// Where the sums end that are of this log; `u64::MAX` if all are. Another broker may have cut the log's end and stored
    /// other records in its place, and with `strangers` that is looked for from the newest sum on; else only where so many
    /// differ that it cannot be damage. `same` says whether the record at an offset has a sum.
    pub(crate) fn own_end(&self, strangers: bool, same: impl Fn(u64, u32) -> bool) -> Result<u64, StoreError> {
        const ALL: u64 = u64::MAX;
        let Some(newest) = self.row(true)?.nth_back(0) else { return Ok(ALL) };
        if newest.is_some_and(|(offset, sum)| same(offset, sum)) {
            return Ok(ALL);
        }
        let row = self.row(false)?;
        let is_same = |back| row.nth_back(back).flatten().is_some_and(|(offset, sum)| same(offset, sum));
        if !strangers && (row.len < STRANGERS || (1..STRANGERS).any(is_same)) {
            return Ok(ALL);
        }
        // Where it was cut, all that was noted behind is wrong, and all that was noted before is right.
        let (mut differs, mut step) = (0, 1);
        let mut agrees = loop {
            if differs + 1 == row.len {
                break None;
            }
            let back = (differs + step).min(row.len - 1);
            if is_same(back) {
                break Some(back);
            }
            (differs, step) = (back, step * 2);
        };
        while let Some(back) = agrees.filter(|back| back - differs > 1) {
            let middle = differs + (back - differs) / 2;
            if is_same(middle) { agrees = Some(middle) } else { differs = middle }
        }
        let newest_own = agrees.and_then(|back| row.nth_back(back).flatten());
        Ok(newest_own.map_or(0, |(offset, _)| offset + 1))
    }

    /// All sums, or those of the newest file that has any.
    fn row(&self, newest_alone: bool) -> Result<Row, StoreError> {
        let starts: Vec<u64> = self.files().keys().copied().collect();
        let mut row = Row { files: Vec::new(), len: 0 };
        for start in starts.into_iter().rev() {
            let Some(file) = self.file_for(start)? else { continue };
            let count = file.count();
            if count > 0 {
                row.len += count;
                row.files.push((file, count));
                if newest_alone {
                    break;
                }
            }
        }
        Ok(row)
    }

    /// Those of the records from `certain` on are to be noted again, and those behind `end` are of another log. What the
    /// former say is kept in mind until then: a power cut may have left records whose ends are not on the disk, and sums
    /// that are.
    pub(crate) fn start_at(&self, end: u64, certain: u64) -> Result<(), StoreError> {
        if end < certain {
            tracing::info!(end, "from here on the log is not the one that was summed up; its records are not checked");
        }
        let starts: Vec<u64> = self.files().range(self.start_of(certain)..).map(|(start, _)| *start).collect();
        let mut witnesses = VecDeque::new();
        for start in starts {
            if let Some(file) = self.file_for(start)? {
                witnesses.extend(file.between(certain, end).take(WITNESSES_MAX - witnesses.len()));
            }
        }
        *self.witnesses.lock().unwrap_or_else(PoisonError::into_inner) = witnesses;
        self.truncate_to(end.min(certain))?;
        self.end.store(certain, Ordering::Release);
        Ok(())
    }

    /// Records from here on have no sum yet.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Brings to the disk what was added.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let mapped: Vec<_> = self.files().values().flatten().map(Arc::clone).collect();
        mapped.iter().try_for_each(|file| file.sync())?;
        self.names.sync(&*self.storage, self.dirs(&self.dir()))
    }

    fn sync_names(&self) -> Result<(), StoreError> {
        sync_dirs(&*self.storage, self.dirs(&self.dir()))
    }

    /// The folder and those above it that may have been made with it.
    fn dirs<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a Path> {
        dir.ancestors().take_while(|dir| dir.starts_with(&self.root))
    }

    /// Deletes the files of the log's files that end at or before `offset`.
    pub(crate) fn delete_before(&self, offset: u64) -> Result<(), StoreError> {
        let before = offset.saturating_sub(self.log_file_bytes);
        let old: Vec<u64> = self.files().range(..=before).map(|(start, _)| *start).collect();
        for start in old.into_iter().filter(|start| start + self.log_file_bytes <= offset) {
            let path = self.path(start);
            self.storage.remove(&path).at_path("deleting", &path)?;
            self.files_mut().remove(&start);
        }
        Ok(())
    }

    /// Says once what went wrong: it costs the check, and nothing else.
    fn tell(&self, error: &StoreError) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "headers and properties of some messages cannot be checked");
        }
    }
}

/// Sums of several files of the log, as one row; the newest file first.
struct Row {
    files: Vec<(Arc<SumFile>, u32)>,
    len: u32,
}

impl Row {
    /// The offset and the sum that stand so far from the newest; `Some(None)` if they cannot be read.
    fn nth_back(&self, back: u32) -> Option<Option<(u64, u32)>> {
        let mut back = back;
        for (file, count) in &self.files {
            if back < *count {
                return Some(file.nth(count - 1 - back));
            }
            back -= count;
        }
        None
    }
}

/// Adds sums, one record after the other. One at a time.
#[derive(Debug)]
pub(crate) struct SumWriter {
    sums: Arc<Sums>,
    cursor: Option<Cursor>,
    /// Records from here on have no sum yet.
    end: u64,
    /// What an earlier run noted of the records to come.
    witnesses: VecDeque<(u64, u32)>,
}

impl SumWriter {
    pub(crate) fn new(sums: Arc<Sums>) -> Self {
        let witnesses = std::mem::take(&mut *sums.witnesses.lock().unwrap_or_else(PoisonError::into_inner));
        Self { end: sums.end(), sums, cursor: None, witnesses }
    }

    /// Notes the sum of the record at `offset`; one that was noted before is compared with it instead.
    #[inline]
    pub(crate) fn pass(&mut self, offset: u64, record: &RecordView<'_>) -> Compared {
        if offset < self.end {
            return self.sums.compare(offset, record);
        }
        let sum = sum_of(record);
        let noted = if self.witnesses.is_empty() { sum } else { self.witness(offset).unwrap_or(sum) };
        if let Err(error) = self.push(offset, noted) {
            // Without a sum the record is served all the same.
            self.sums.tell(&error);
        }
        self.end = offset + record.len() as u64;
        if noted == sum { Compared::Same } else { Compared::Differs }
    }

    /// What an earlier run noted of the record at `offset`.
    #[cold]
    fn witness(&mut self, offset: u64) -> Option<u32> {
        while self.witnesses.pop_front_if(|(earlier, _)| *earlier < offset).is_some() {}
        self.witnesses.front().filter(|(at, _)| *at == offset).map(|(_, sum)| *sum)
    }

    #[inline]
    fn push(&mut self, offset: u64, sum: u32) -> Result<(), StoreError> {
        if let Some(cursor) = &mut self.cursor
            && let Some(position) = cursor.position(offset, self.sums.log_file_bytes)
        {
            return cursor.push(&*self.sums.storage, position, sum);
        }
        self.push_to_next(offset, sum)
    }

    #[cold]
    fn push_to_next(&mut self, offset: u64, sum: u32) -> Result<(), StoreError> {
        self.publish();
        let start = self.sums.start_of(offset);
        let file = self.sums.file_for(offset)?.map_or_else(|| self.sums.make(start), Ok)?;
        let cursor = self.cursor.insert(Cursor::new(file));
        cursor.push(&*self.sums.storage, offset - start, sum)
    }

    /// Lets readers see what was noted.
    pub(crate) fn publish(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            cursor.publish();
        }
        self.sums.end.store(self.end, Ordering::Release);
    }
}
