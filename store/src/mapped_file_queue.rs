//! Files of one size in a row, named by the offset of their first byte: the commit log and every consume queue.
//! One thread writes (each owner sees to that), any number read. Files are mapped when they are first touched, so
//! that a row nobody uses costs neither mappings nor file descriptors.
//! What must hold: files are contiguous; readers see `min_offset()..wrote()` and never across a file's end.

use std::{
    collections::VecDeque,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use crate::{
    error::{AtPath, StoreError},
    mapped_file::{MappedFile, MappedSlice},
    names::{Names, sync_dirs},
    storage::{Access, Blocks, Entry, Storage},
};

/// A row of fixed-size files.
#[derive(Debug)]
pub(crate) struct MappedFileQueue {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    file_bytes: u64,
    blocks: Blocks,
    files: RwLock<VecDeque<Slot>>,
    wrote: AtomicU64,
    flushed: AtomicU64,
    /// A file was made since the folder was last synced by this process.
    names: Names,
}

/// What of a row a sync will cover.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncMark {
    wrote: u64,
    names: bool,
}

/// One file of the row; mapped when first used.
#[derive(Debug)]
struct Slot {
    start: u64,
    file: Option<Arc<MappedFile>>,
}

impl MappedFileQueue {
    /// Opens what is in `dir`, which need not exist. Everything found counts as written and flushed until
    /// [`set_wrote`](Self::set_wrote) or [`truncate`](Self::truncate) says otherwise. An empty last file, left by a
    /// crash while it was made, is deleted.
    ///
    /// # Errors
    /// If a file has another size than `file_bytes`, a name that is no offset, or is missing between two others.
    pub(crate) fn open(storage: Arc<dyn Storage>, dir: PathBuf, file_bytes: u64) -> Result<Self, StoreError> {
        assert!(file_bytes > 0, "files of zero bytes");
        let mut entries = storage.list(&dir).at_path("listing", &dir)?;
        entries.retain(|entry| !entry.is_dir);
        if let Some(last) = entries.pop_if(|last| last.bytes == 0) {
            let path = dir.join(&last.name);
            storage.remove(&path).at_path("deleting the empty file", &path)?;
        }
        let mut files = VecDeque::with_capacity(entries.len());
        for entry in entries {
            let start = check_file(&dir, &entry, file_bytes)?;
            let expected = files.back().map_or(start, |slot: &Slot| slot.start + file_bytes);
            if start != expected {
                return Err(StoreError::MissingFile { path: file_path(&dir, expected) });
            }
            files.push_back(Slot { start, file: None });
        }
        let wrote = files.back().map_or(0, |slot| slot.start + file_bytes);
        Ok(MappedFileQueue {
            storage,
            dir,
            file_bytes,
            blocks: Blocks::Sparse,
            files: RwLock::new(files),
            wrote: AtomicU64::new(wrote),
            flushed: AtomicU64::new(wrote),
            // Files found may have been made by a process that ended before it synced their names.
            names: Names::inherited(),
        })
    }

    /// New files get all their disk blocks when they are made.
    pub(crate) fn with_blocks(mut self, blocks: Blocks) -> Self {
        self.blocks = blocks;
        self
    }

    fn files(&self) -> RwLockReadGuard<'_, VecDeque<Slot>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn files_mut(&self) -> RwLockWriteGuard<'_, VecDeque<Slot>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Size of every file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Whether there is no file at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    /// First byte held; `wrote()` if there is no file.
    pub(crate) fn min_offset(&self) -> u64 {
        self.files().front().map_or_else(|| self.wrote(), |slot| slot.start)
    }

    /// One past the last byte of the last file, written or not; `wrote()` if there is no file.
    pub(crate) fn end_offset(&self) -> u64 {
        self.files().back().map_or_else(|| self.wrote(), |slot| slot.start + self.file_bytes)
    }

    /// One past the last byte written: where the next append goes.
    pub(crate) fn wrote(&self) -> u64 {
        self.wrote.load(Ordering::Acquire)
    }

    /// One past the last byte known to be on the disk.
    pub(crate) fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    /// Moves the end of what is written, for recovery: later files stay, but their bytes are no longer read.
    /// Slices handed out before stay readable; what they show is overwritten by the next appends.
    pub(crate) fn set_wrote(&self, to: u64) {
        let mut files = self.files_mut();
        let (min, end) = bounds(&files, self.file_bytes, self.wrote());
        assert!(min <= to && to <= end, "end set to {to} in {}, which holds {min} to {end}", self.dir.display());
        // A mapping never un-publishes bytes, so those that show more than is now written are made anew.
        let lowered = files.iter_mut().filter(|slot| slot.start + self.file_bytes > to);
        for slot in lowered {
            slot.file = None;
        }
        self.wrote.store(to, Ordering::Release);
        self.flushed.fetch_min(to, Ordering::AcqRel);
    }

    /// Says how much is known to be on the disk, for recovery.
    pub(crate) fn set_flushed(&self, to: u64) {
        self.flushed.store(to.min(self.wrote()), Ordering::Release);
    }

    /// Called by an owner that writes through [`MappedFile::writer`] itself, after it published the bytes.
    pub(crate) fn advance_wrote(&self, to: u64) {
        debug_assert!(self.wrote.load(Ordering::Relaxed) <= to);
        self.wrote.store(to, Ordering::Release);
    }

    /// The file that holds the byte at `offset`, mapped if it was not; `None` if there is no such file.
    pub(crate) fn file_for(&self, offset: u64) -> Result<Option<Arc<MappedFile>>, StoreError> {
        let files = self.files();
        let Some(at) = position(&files, offset, self.file_bytes) else {
            return Ok(None);
        };
        if let Some(file) = &files[at].file {
            return Ok(Some(Arc::clone(file)));
        }
        drop(files);
        let mut files = self.files_mut();
        // The row may have changed between the two locks.
        let Some(at) = position(&files, offset, self.file_bytes) else {
            return Ok(None);
        };
        let slot = &mut files[at];
        if let Some(file) = &slot.file {
            return Ok(Some(Arc::clone(file)));
        }
        let published = self.wrote().saturating_sub(slot.start).min(self.file_bytes);
        let path = file_path(&self.dir, slot.start);
        let file = MappedFile::open(&*self.storage, path, slot.start, self.file_bytes, published)?;
        self.set_up(&file);
        slot.file = Some(Arc::clone(&file));
        Ok(Some(file))
    }

    /// `length` written bytes from `offset` on; `None` if they are not all there, or cross a file's end.
    pub(crate) fn slice(&self, offset: u64, length: usize) -> Result<Option<MappedSlice>, StoreError> {
        let Some(file) = self.file_for(offset)? else {
            return Ok(None);
        };
        let from = (offset - file.start()) as usize;
        Ok(from.checked_add(length).and_then(|to| file.slice(from..to)))
    }

    /// Up to `length_max` written bytes from `offset` on, ending at the file's end at the latest; `None` if there
    /// is not one.
    pub(crate) fn slice_up_to(&self, offset: u64, length_max: usize) -> Result<Option<MappedSlice>, StoreError> {
        let Some(file) = self.file_for(offset)? else {
            return Ok(None);
        };
        let from = (offset - file.start()) as usize;
        let to = file.published().min(from.saturating_add(length_max));
        Ok(if from < to { file.slice(from..to) } else { None })
    }

    /// Writes `bytes` behind what is written and returns where they begin. They may cross into a new file, so an
    /// owner whose entries must not be cut has a file size that is a multiple of the entry's.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<u64, StoreError> {
        let begin = self.wrote();
        let mut left = bytes;
        while !left.is_empty() {
            let at = self.wrote();
            let file = self.file_to_write(at)?;
            let from = (at - file.start()) as usize;
            let (now, later) = left.split_at(left.len().min(file.bytes() - from));
            file.reserve(&*self.storage, (from + now.len()) as u64)?;
            let mut writer = file.writer();
            writer.bytes_mut(from..from + now.len()).copy_from_slice(now);
            writer.publish(from + now.len());
            drop(writer);
            self.wrote.store(at + now.len() as u64, Ordering::Release);
            left = later;
        }
        Ok(begin)
    }

    /// The file in which the byte at `wrote()` lies; made if there is none.
    pub(crate) fn file_to_write(&self, at: u64) -> Result<Arc<MappedFile>, StoreError> {
        match self.file_for(at)? {
            Some(file) => Ok(file),
            None => self.add_file(),
        }
    }

    /// Adds an empty file at the end of the row, also ahead of need.
    pub(crate) fn add_file(&self) -> Result<Arc<MappedFile>, StoreError> {
        let start = self.end_offset();
        assert!(start.is_multiple_of(self.file_bytes), "a row of files that starts at {start}: create_at comes first");
        self.new_file(start)
    }

    /// Makes the first file of an empty row so that `offset` lies in it; it begins at the multiple of the file size
    /// below. Appends then go to its first byte.
    pub(crate) fn create_at(&self, offset: u64) -> Result<(), StoreError> {
        assert!(self.is_empty(), "{} has files already", self.dir.display());
        let start = offset - offset % self.file_bytes;
        self.new_file(start)?;
        self.flushed.store(start, Ordering::Release);
        self.wrote.store(start, Ordering::Release);
        Ok(())
    }

    fn new_file(&self, start: u64) -> Result<Arc<MappedFile>, StoreError> {
        if self.is_empty() {
            self.storage.create_dir(&self.dir).at_path("creating the folder", &self.dir)?;
        }
        let path = file_path(&self.dir, start);
        let file = MappedFile::create(&*self.storage, path, start, self.file_bytes, self.blocks)?;
        self.set_up(&file);
        self.files_mut().push_back(Slot { start, file: Some(Arc::clone(&file)) });
        self.names.add();
        Ok(file)
    }

    /// A sparse row's files are mostly holes, and many: reading ahead in them would fill memory with zeros.
    fn set_up(&self, file: &MappedFile) {
        if self.blocks == Blocks::Sparse {
            file.expect_access(Access::Random);
        }
    }

    /// Syncs what is written below `to` (at most `wrote()`) and returns how far the row is on the disk now. Syncs the
    /// names of the files too, if any may not be there after a power cut.
    pub(crate) fn flush(&self, to: u64) -> Result<u64, StoreError> {
        let to = to.min(self.wrote());
        let mut at = self.flushed().max(self.min_offset());
        if at < to {
            self.names.sync(&*self.storage, self.dirs())?;
        }
        while at < to {
            let Some(file) = self.file_for(at)? else {
                break;
            };
            let end = to.min(file.start() + self.file_bytes);
            file.sync((at - file.start()) as usize..(end - file.start()) as usize)?;
            at = end;
            self.flushed.fetch_max(at, Ordering::AcqRel);
        }
        Ok(self.flushed())
    }

    /// Notes what the owner is about to bring to the disk by other means than [`flush`](Self::flush).
    pub(crate) fn begin_sync(&self) -> SyncMark {
        let names = self.names.take();
        SyncMark { wrote: self.wrote(), names }
    }

    /// Notes that it is there now, or that it failed.
    pub(crate) fn end_sync(&self, mark: SyncMark, synced: bool) {
        if synced {
            self.flushed.fetch_max(mark.wrote.min(self.wrote()), Ordering::AcqRel);
        } else if mark.names {
            self.names.add();
        }
    }

    /// The folder, and its parent, in which its own name lies.
    fn dirs(&self) -> impl Iterator<Item = &Path> {
        [Some(&*self.dir), self.dir.parent()].into_iter().flatten()
    }

    /// Ends the row at `to`: deletes the files that begin behind it, for good, and forgets the bytes behind it.
    pub(crate) fn truncate(&self, to: u64) -> Result<(), StoreError> {
        let mut deleted = false;
        loop {
            let mut files = self.files_mut();
            match files.back() {
                Some(last) if last.start > to => {
                    let path = file_path(&self.dir, last.start);
                    self.storage.remove(&path).at_path("deleting", &path)?;
                    files.pop_back();
                    deleted = true;
                }
                Some(_) => break,
                None => {
                    self.wrote.store(to, Ordering::Release);
                    self.flushed.store(to, Ordering::Release);
                    return Ok(());
                }
            }
        }
        self.set_wrote(to.min(self.end_offset()));
        // A deleted file must not come back with a power cut, when others have gone on.
        if deleted { sync_dirs(&*self.storage, self.dirs()) } else { Ok(()) }
    }

    /// Makes zeros of what lies in the last file behind `wrote()`, up to `bytes_max` of it, for good. For recovery: no
    /// slices may be out.
    pub(crate) fn wipe_tail(&self, bytes_max: u64) -> Result<(), StoreError> {
        let (wrote, end) = (self.wrote(), self.end_offset());
        if self.is_empty() || wrote >= end {
            return Ok(());
        }
        let start = end - self.file_bytes;
        let path = file_path(&self.dir, start);
        let from = wrote.max(start) - start;
        let range = from..from.saturating_add(bytes_max).min(self.file_bytes);
        self.storage.wipe(&path, range, self.blocks).at_path("wiping the end of", &path)
    }

    /// Deletes the files that end at or before `offset`, but never the last; returns how many. Nobody waits for the
    /// disk meanwhile: freeing the blocks of a large file takes long.
    pub(crate) fn delete_before(&self, offset: u64) -> Result<usize, StoreError> {
        let mut deleted = 0;
        while let Some(slot) = self.take_first(offset) {
            let path = file_path(&self.dir, slot.start);
            if let Err(error) = self.storage.remove(&path).at_path("deleting", &path) {
                let mut files = self.files_mut();
                // Unless the row was made anew meanwhile.
                if files.front().is_some_and(|first| first.start == slot.start + self.file_bytes) {
                    files.push_front(slot);
                }
                return Err(error);
            }
            deleted += 1;
        }
        Ok(deleted)
    }

    fn take_first(&self, offset: u64) -> Option<Slot> {
        let mut files = self.files_mut();
        let goes = files.len() >= 2 && files[0].start + self.file_bytes <= offset;
        if goes { files.pop_front() } else { None }
    }

    /// When the first file was last written.
    pub(crate) fn first_modified(&self) -> Result<SystemTime, StoreError> {
        let path = file_path(&self.dir, self.min_offset());
        self.storage.modified(&path).at_path("looking at", &path)
    }

    /// Deletes the files and the folder. Slices handed out stay readable.
    pub(crate) fn destroy(&self) -> Result<(), StoreError> {
        let mut files = self.files_mut();
        files.clear();
        self.storage.remove_dir(&self.dir).at_path("deleting the folder", &self.dir)
    }

    /// No longer counts a range as resident memory of this process, where it is mapped. Its bytes stay readable.
    pub(crate) fn release(&self, range: Range<u64>) {
        for slot in self.files().iter() {
            let (from, to) = (range.start.max(slot.start), range.end.min(slot.start + self.file_bytes));
            if let Some(file) = slot.file.as_ref().filter(|_| from < to) {
                file.release((from - slot.start) as usize..(to - slot.start) as usize);
            }
        }
    }

    /// Takes a range that was synced out of the page cache. Its bytes stay readable, from the disk.
    pub(crate) fn give_back(&self, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let start = at - at % self.file_bytes;
            let end = range.end.min(start + self.file_bytes);
            let path = file_path(&self.dir, start);
            if let Err(error) = self.storage.give_back(&path, at - start..end - start) {
                // Deleted meanwhile, mostly.
                tracing::debug!(path = %path.display(), %error, "pages not given back");
            }
            at = end;
        }
    }

    /// Drops the mappings of the files that end at or before `offset`; they are made again when needed.
    pub(crate) fn unmap_before(&self, offset: u64) {
        for slot in self.files_mut().iter_mut().take_while(|slot| slot.start + self.file_bytes <= offset) {
            slot.file = None;
        }
    }
}

/// First byte and one past the last byte of the row's files.
fn bounds(files: &VecDeque<Slot>, file_bytes: u64, wrote: u64) -> (u64, u64) {
    match (files.front(), files.back()) {
        (Some(first), Some(last)) => (first.start, last.start + file_bytes),
        _ => (wrote, wrote),
    }
}

fn position(files: &VecDeque<Slot>, offset: u64, file_bytes: u64) -> Option<usize> {
    let first = files.front()?.start;
    let at = usize::try_from(offset.checked_sub(first)? / file_bytes).ok()?;
    (at < files.len()).then_some(at)
}

/// The path of the file whose first byte is at `start`.
pub(crate) fn file_path(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start:020}"))
}

fn check_file(dir: &Path, entry: &Entry, file_bytes: u64) -> Result<u64, StoreError> {
    let path = dir.join(&entry.name);
    if entry.bytes != file_bytes {
        return Err(StoreError::WrongFileSize { path, found: entry.bytes, expected: file_bytes });
    }
    match entry.name.parse::<u64>() {
        Ok(start) if start.is_multiple_of(file_bytes) && entry.name == format!("{start:020}") => Ok(start),
        _ => Err(StoreError::NotAnOffset { path, file_bytes }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::MemoryStorage;

    fn open(storage: &Arc<MemoryStorage>) -> MappedFileQueue {
        let storage: Arc<dyn Storage> = Arc::clone(storage) as _;
        MappedFileQueue::open(storage, "/row".into(), 100).unwrap()
    }

    #[test]
    fn appends_cross_into_new_files_and_are_found_again() {
        let storage = Arc::new(MemoryStorage::new());
        let row = open(&storage);
        assert_eq!(row.append(&[1; 60]).unwrap(), 0);
        assert_eq!(row.append(&[2; 60]).unwrap(), 60);
        assert_eq!((row.min_offset(), row.wrote(), row.end_offset()), (0, 120, 200));
        assert_eq!(&*row.slice(60, 40).unwrap().unwrap(), &[2; 40]);
        assert!(row.slice(60, 41).unwrap().is_none(), "never across a file's end");
        assert_eq!(row.slice_up_to(60, 1000).unwrap().unwrap().len(), 40);
        assert!(row.slice(100, 21).unwrap().is_none(), "never beyond what is written");
        assert!(row.slice_up_to(120, 1).unwrap().is_none());
        let again = open(&storage);
        assert_eq!(again.wrote(), 200, "all counts as written until recovery says otherwise");
        again.set_wrote(120);
        assert_eq!(&*again.slice(100, 20).unwrap().unwrap(), &[2; 20]);
        assert!(again.slice(100, 21).unwrap().is_none());
    }

    #[test]
    fn a_row_may_begin_in_the_middle() {
        let row = open(&Arc::new(MemoryStorage::new()));
        row.create_at(730).unwrap();
        assert_eq!((row.min_offset(), row.wrote()), (700, 700));
        assert_eq!(row.append(&[3; 50]).unwrap(), 700);
        assert!(row.slice(699, 1).unwrap().is_none());
    }

    #[test]
    fn deleting_keeps_the_last_file_and_truncating_the_file_it_ends_in() {
        let storage = Arc::new(MemoryStorage::new());
        let row = open(&storage);
        row.append(&[4; 350]).unwrap();
        let kept = row.slice(0, 10).unwrap().unwrap();
        assert_eq!(row.delete_before(199).unwrap(), 1);
        assert_eq!((row.min_offset(), &*kept), (100, &[4; 10][..]));
        row.truncate(200).unwrap();
        assert_eq!((row.wrote(), row.end_offset()), (200, 300));
        assert_eq!(row.delete_before(1000).unwrap(), 1);
        assert_eq!((row.min_offset(), row.wrote()), (200, 200));
        assert_eq!(row.append(&[5; 10]).unwrap(), 200);
    }

    #[test]
    fn wrong_files_are_named_and_an_empty_last_one_is_deleted() {
        let storage = Arc::new(MemoryStorage::new());
        open(&storage).append(&[6; 250]).unwrap();
        let dyn_storage: Arc<dyn Storage> = Arc::clone(&storage) as _;
        let error = |file_bytes| {
            let opened = MappedFileQueue::open(Arc::clone(&dyn_storage), "/row".into(), file_bytes);
            opened.unwrap_err().to_string()
        };
        assert!(error(50).contains("/row/00000000000000000000 has 100 bytes, but every file here must have 50"));
        storage.create(Path::new("/row/00000000000000000300"), 0, Blocks::Sparse).unwrap();
        assert_eq!(open(&storage).end_offset(), 300);
        storage.remove(Path::new("/row/00000000000000000100")).unwrap();
        assert!(error(100).contains("/row/00000000000000000100 is missing"));
        storage.create(Path::new("/row/00000000000000000100"), 100, Blocks::Sparse).unwrap();
        storage.create(Path::new("/row/notes"), 100, Blocks::Sparse).unwrap();
        assert!(error(100).contains("/row/notes is not named by an offset"));
    }

    #[test]
    fn flushed_bytes_survive_a_power_cut() {
        let storage = Arc::new(MemoryStorage::new());
        let row = open(&storage);
        row.append(&[7; 150]).unwrap();
        assert_eq!(row.flush(120).unwrap(), 120);
        storage.fail_syncs(true);
        assert!(row.flush(150).is_err());
        assert_eq!(row.flushed(), 120);
        let after = Arc::new(storage.power_cut(3));
        assert_eq!(&*open(&after).slice(100, 20).unwrap().unwrap(), &[7; 20]);
    }

    #[test]
    fn unmapped_files_are_mapped_again_when_read() {
        let row = open(&Arc::new(MemoryStorage::new()));
        row.append(&[8; 250]).unwrap();
        row.unmap_before(200);
        assert!(row.files()[0].file.is_none() && row.files()[2].file.is_some());
        assert_eq!(&*row.slice(90, 10).unwrap().unwrap(), &[8; 10]);
    }

    proptest! {
        #[test]
        fn bytes_come_back_as_they_were_appended(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..250), 1..20),
            cut in 0.0..1.0,
        ) {
            let storage = Arc::new(MemoryStorage::new());
            let row = open(&storage);
            let mut model = Vec::new();
            for piece in &pieces {
                prop_assert_eq!(row.append(piece).unwrap(), model.len() as u64);
                model.extend_from_slice(piece);
            }
            model.truncate((model.len() as f64 * cut) as usize);
            row.truncate(model.len() as u64).unwrap();
            row.append(b"behind the cut").unwrap();
            model.extend_from_slice(b"behind the cut");
            let again = open(&storage);
            again.set_wrote(model.len() as u64);
            let mut read = Vec::new();
            while let Some(slice) = again.slice_up_to(read.len() as u64, 64).unwrap() {
                read.extend_from_slice(&slice);
            }
            prop_assert_eq!(read, model);
        }
    }
}
