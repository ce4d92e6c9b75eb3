//! One fixed-size file seen as memory: written in place by one writer, read as borrowed bytes by anyone.
//! Used by the rows of files (`mapped_file_queue`) and by the index. What must hold: readers see only bytes below
//! `published`, the writer touches only bytes at or above it, and there is one writer at a time. All three are
//! asserted here, so that nothing outside this file can break them.
#![expect(unsafe_code, reason = "the only place where file mappings become byte slices")]

use std::{
    fmt, io,
    ops::{Deref, Range},
    path::{Path, PathBuf},
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    error::{AtPath, StoreError},
    storage::{Access, Blocks, Region, Storage},
};

/// The smallest reservation of a sparse file, and the largest; in between it doubles.
const RESERVE_BYTES: Range<u64> = 4096..1 << 20;

/// A log-like file: bytes are written once, in order, and never change after they were published.
pub(crate) struct MappedFile {
    path: PathBuf,
    start: u64,
    region: Region,
    /// Readers may see the bytes below; the writer may write the bytes from here on.
    published: AtomicUsize,
    writing: AtomicBool,
    /// Bytes that have disk blocks for certain.
    reserved: AtomicU64,
}

impl MappedFile {
    /// Makes a new file of zeros. `start` is the offset of its first byte in its row of files.
    pub(crate) fn create(
        storage: &dyn Storage,
        path: PathBuf,
        start: u64,
        bytes: u64,
        blocks: Blocks,
    ) -> Result<Arc<Self>, StoreError> {
        storage.create(&path, bytes, blocks).at_path("creating", &path)?;
        let reserved = if blocks == Blocks::Reserved { bytes } else { 0 };
        Self::map(storage, path.clone(), start, bytes, (0, reserved)).inspect_err(|_| unmake(storage, &path))
    }

    /// Opens a file; the first `published` bytes can be read, the others written.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: PathBuf,
        start: u64,
        bytes: u64,
        published: u64,
    ) -> Result<Arc<Self>, StoreError> {
        assert!(published <= bytes, "{published} published bytes in a file of {bytes}");
        Self::map(storage, path, start, bytes, (published, published & !(RESERVE_BYTES.start - 1)))
    }

    fn map(
        storage: &dyn Storage,
        path: PathBuf,
        start: u64,
        bytes: u64,
        (published, reserved): (u64, u64),
    ) -> Result<Arc<Self>, StoreError> {
        let region = storage.map(&path, bytes).at_path("mapping", &path)?;
        assert_eq!(region.memory.bytes() as u64, bytes, "storage mapped another length than asked for");
        Ok(Arc::new(MappedFile {
            path,
            start,
            region,
            published: AtomicUsize::new(published as usize),
            writing: AtomicBool::new(false),
            reserved: AtomicU64::new(reserved),
        }))
    }

    /// Where the file lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Offset of the first byte in the row of files.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.region.memory.bytes()
    }

    /// How much can be read.
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// Makes sure that the bytes below `end` have disk blocks, so that writing them cannot fail. Reserves ahead in
    /// growing steps. Free of charge when the file was created with all its blocks.
    pub(crate) fn reserve(&self, storage: &dyn Storage, end: u64) -> Result<(), StoreError> {
        let reserved = self.reserved.load(Ordering::Relaxed);
        if end <= reserved {
            return Ok(());
        }
        let step = (reserved & !(RESERVE_BYTES.start - 1)).clamp(RESERVE_BYTES.start, RESERVE_BYTES.end);
        let upto = (reserved + step).max(end).next_multiple_of(RESERVE_BYTES.start).min(self.bytes() as u64);
        storage.reserve(&self.path, reserved..upto).at_path("reserving disk space for", &self.path)?;
        self.reserved.store(upto, Ordering::Relaxed);
        Ok(())
    }

    /// The right to write. One at a time: a second one is a bug and panics.
    pub(crate) fn writer(&self) -> MappedWriter<'_> {
        assert!(!self.writing.swap(true, Ordering::Acquire), "{} has two writers", self.path.display());
        MappedWriter { file: self }
    }

    /// Published bytes, borrowed; `None` if the range goes beyond what is published.
    pub(crate) fn slice(self: &Arc<Self>, range: Range<usize>) -> Option<MappedSlice> {
        let fits = range.start <= range.end && range.end <= self.published();
        fits.then(|| MappedSlice { file: Arc::clone(self), range })
    }

    /// Writes the range to the disk and waits for it.
    pub(crate) fn sync(&self, range: Range<usize>) -> Result<(), StoreError> {
        self.region.sync(range).at_path("syncing", &self.path)
    }

    /// Makes the pages present and writable, so that writing into them does not enter the kernel.
    pub(crate) fn populate(&self, range: Range<usize>) -> Result<(), StoreError> {
        self.region.populate(range).at_path("populating", &self.path)
    }

    /// Brings the range in from the disk; a bad page is an error here instead of a signal later.
    pub(crate) fn read_ahead(&self, range: Range<usize>) -> Result<(), StoreError> {
        self.region.read_ahead(range).at_path("reading", &self.path)
    }

    /// Asks the disk for the range and does not wait for it.
    pub(crate) fn will_need(&self, range: Range<usize>) {
        if let Err(error) = self.region.will_need(range) {
            tracing::debug!(path = %self.path.display(), %error, "the disk is not asked ahead");
        }
    }

    /// Says how pages of this file will be touched.
    pub(crate) fn expect_access(&self, access: Access) {
        if let Err(error) = self.region.expect_access(access) {
            tracing::debug!(path = %self.path.display(), %error, "the kernel reads ahead as before");
        }
    }

    /// No longer counts the range as resident memory of this process. Bytes stay in the page cache.
    pub(crate) fn release(&self, range: Range<usize>) {
        if let Err(error) = self.region.release(range) {
            tracing::debug!(path = %self.path.display(), %error, "pages not given back");
        }
    }
}

/// Takes a file away that was made and cannot be used: nobody knows of it, and it would be in the way of the next try.
pub(crate) fn unmake(storage: &dyn Storage, path: &Path) {
    if let Err(error) = storage.remove(path) {
        tracing::warn!(path = %path.display(), %error, "a file that was made and is not used stays");
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile").field("path", &self.path).field("published", &self.published()).finish()
    }
}

/// The right to write into the part of a file that no reader sees yet.
#[derive(Debug)]
pub(crate) struct MappedWriter<'a> {
    file: &'a MappedFile,
}

impl MappedWriter<'_> {
    /// Hands out `range` to be written. It must lie at or above what is published.
    pub(crate) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let published = self.file.published.load(Ordering::Relaxed);
        assert!(
            published <= range.start && range.start <= range.end && range.end <= self.file.bytes(),
            "write of {range:?} in {} with {published} bytes published",
            self.file.path.display()
        );
        // SAFETY: the range lies in the region (asserted above), which lives as long as the file, which `self`
        // borrows. No one else has it: readers get only bytes below `published`, and `published` moves only
        // through this writer, which the returned borrow locks; there is no second writer (asserted in `writer`).
        // Mapped bytes are always initialised, and any bit pattern is a valid u8.
        unsafe { slice::from_raw_parts_mut(self.file.region.memory.base().add(range.start), range.len()) }
    }

    /// Lets readers see the bytes below `end`.
    pub(crate) fn publish(&mut self, end: usize) {
        assert!(self.file.published.load(Ordering::Relaxed) <= end && end <= self.file.bytes());
        self.file.published.store(end, Ordering::Release);
    }
}

impl Drop for MappedWriter<'_> {
    fn drop(&mut self) {
        self.file.writing.store(false, Ordering::Release);
    }
}

/// Published bytes of a file. Keeps the mapping alive, also when the file was deleted meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct MappedSlice {
    file: Arc<MappedFile>,
    range: Range<usize>,
}

impl MappedSlice {
    /// The same bytes as a [`Bytes`], without a copy.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Offset of the first byte in the row of files.
    pub(crate) fn offset(&self) -> u64 {
        self.file.start + self.range.start as u64
    }

    /// Brings the bytes in from the disk; a bad page is an error here instead of a signal later.
    pub(crate) fn read_ahead(&self) -> Result<(), StoreError> {
        self.file.read_ahead(self.range.clone())
    }

    /// Asks the disk for the bytes and does not wait for them.
    pub(crate) fn will_need(&self) {
        self.file.will_need(self.range.clone());
    }

    /// A part of this slice; panics beyond its end, as slices do.
    pub(crate) fn part(&self, range: Range<usize>) -> MappedSlice {
        assert!(range.start <= range.end && range.end <= self.range.len());
        let start = self.range.start + range.start;
        MappedSlice { file: Arc::clone(&self.file), range: start..start + range.len() }
    }
}

impl Deref for MappedSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range was below `published` when the slice was made (`MappedFile::slice`), `published` never
        // goes down, and the writer touches only bytes at or above it: nobody changes these bytes. The region
        // lives as long as `self.file`.
        unsafe { slice::from_raw_parts(self.file.region.memory.base().add(self.range.start), self.range.len()) }
    }
}

impl AsRef<[u8]> for MappedSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A table-like file: words are changed in place while others read them. Every access is atomic on 4 bytes; values
/// are big endian on disk.
#[derive(Debug)]
pub(crate) struct WordFile {
    path: PathBuf,
    region: Region,
}

impl WordFile {
    /// Makes a new sparse file of zeros; the caller reserves what it writes.
    pub(crate) fn create(storage: &dyn Storage, path: PathBuf, bytes: u64) -> Result<Self, StoreError> {
        storage.create(&path, bytes, Blocks::Sparse).at_path("creating", &path)?;
        Self::open(storage, path.clone(), bytes).inspect_err(|_| unmake(storage, &path))
    }

    /// Opens a file of exactly `bytes` bytes.
    pub(crate) fn open(storage: &dyn Storage, path: PathBuf, bytes: u64) -> Result<Self, StoreError> {
        let region = storage.map(&path, bytes).at_path("mapping", &path)?;
        region.expect_access(Access::Random).at_path("mapping", &path)?;
        assert!(region.memory.base().cast::<AtomicU32>().is_aligned(), "storage mapped {} unaligned", path.display());
        Ok(WordFile { path, region })
    }

    /// Where the file lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.region.memory.bytes()
    }

    /// Gives a range its disk blocks, so that storing into it cannot fail.
    pub(crate) fn reserve(&self, storage: &dyn Storage, range: Range<u64>) -> Result<(), StoreError> {
        storage.reserve(&self.path, range).at_path("reserving disk space for", &self.path)
    }

    /// Writes the range to the disk and waits for it.
    pub(crate) fn sync(&self, range: Range<usize>) -> Result<(), StoreError> {
        self.region.sync(range).at_path("syncing", &self.path)
    }

    /// Makes the pages present and writable, so that storing into them does not enter the kernel.
    pub(crate) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        self.region.populate(range)
    }

    /// Brings the range in from the disk; a bad page is an error here instead of a signal later.
    pub(crate) fn read_ahead(&self, range: Range<usize>) -> Result<(), StoreError> {
        self.region.read_ahead(range).at_path("reading", &self.path)
    }

    /// Asks the disk for the range and does not wait for it.
    pub(crate) fn will_need(&self, range: Range<usize>) {
        if let Err(error) = self.region.will_need(range) {
            tracing::debug!(path = %self.path.display(), %error, "the disk is not asked ahead");
        }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.bytes(), "word at {at} of {}", self.path.display());
        // SAFETY: in bounds (asserted) and aligned (the base is, asserted in `open`; `at` is a multiple of 4). This
        // type gives no other access than through atomics, so there is no plain access to race with. The region
        // lives as long as `self`.
        unsafe { AtomicU32::from_ptr(self.region.memory.base().add(at).cast()) }
    }

    /// The i32 at byte `at`, a multiple of 4.
    pub(crate) fn load_i32(&self, at: usize) -> i32 {
        i32::from_be_bytes(self.word(at).load(Ordering::Acquire).to_ne_bytes())
    }

    /// Sets the i32 at byte `at`, a multiple of 4; what was stored before it is seen by whoever loads it.
    pub(crate) fn store_i32(&self, at: usize, value: i32) {
        self.word(at).store(u32::from_ne_bytes(value.to_be_bytes()), Ordering::Release);
    }

    /// The i64 at byte `at`, a multiple of 4. Two loads: a reader beside a writer may see half of each value.
    pub(crate) fn load_i64(&self, at: usize) -> i64 {
        (i64::from(self.load_i32(at)) << 32) | i64::from(self.load_i32(at + 4) as u32)
    }

    /// Sets the i64 at byte `at`, a multiple of 4. Two stores.
    pub(crate) fn store_i64(&self, at: usize, value: i64) {
        self.store_i32(at, (value >> 32) as i32);
        self.store_i32(at + 4, value as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn storage() -> MemoryStorage {
        let storage = MemoryStorage::new();
        storage.create_dir(Path::new("/log")).unwrap();
        storage
    }

    fn new_file(bytes: u64) -> Arc<MappedFile> {
        MappedFile::create(&storage(), "/log/file".into(), 0, bytes, Blocks::Reserved).unwrap()
    }

    #[test]
    fn readers_see_what_was_published_and_nothing_else() {
        let file = new_file(64);
        file.writer().bytes_mut(0..3).copy_from_slice(b"abc");
        assert!(file.slice(0..1).is_none());
        file.writer().publish(3);
        let seen = file.slice(0..3).unwrap();
        let mut writer = file.writer();
        writer.bytes_mut(3..5).copy_from_slice(b"de");
        writer.publish(5);
        assert_eq!(&*seen, b"abc");
        assert_eq!(&file.slice(1..5).unwrap().part(1..4).into_bytes()[..], b"cde");
        assert!(file.slice(4..6).is_none());
    }

    #[test]
    #[should_panic(expected = "published")]
    fn published_bytes_cannot_be_written() {
        let file = new_file(64);
        file.writer().publish(10);
        file.writer().bytes_mut(9..12);
    }

    #[test]
    #[should_panic(expected = "two writers")]
    fn there_is_one_writer() {
        let file = new_file(64);
        let _first = file.writer();
        file.writer();
    }

    #[test]
    fn a_slice_outlives_the_file_and_is_read_beside_the_writer() {
        let file = new_file(4096);
        let reader = Arc::clone(&file);
        let thread = std::thread::spawn(move || {
            let mut seen = 0;
            while seen < 40 {
                let end = reader.published();
                let slice = reader.slice(0..end).unwrap();
                assert!(slice.iter().enumerate().all(|(at, byte)| *byte == at as u8));
                seen = end;
                std::thread::yield_now();
            }
            reader.slice(0..40).unwrap()
        });
        for at in 0..40 {
            let mut writer = file.writer();
            writer.bytes_mut(at..at + 1)[0] = at as u8;
            writer.publish(at + 1);
        }
        drop(file);
        assert_eq!(thread.join().unwrap().len(), 40);
    }

    #[test]
    fn words_are_big_endian_and_survive_reopening() {
        let storage = storage();
        let path = PathBuf::from("/log/words");
        let file = WordFile::create(&storage, path.clone(), 64).unwrap();
        file.store_i32(4, 0x0102_0304);
        file.store_i64(12, -2);
        assert_eq!(storage.read(&path).unwrap()[4..8], [1, 2, 3, 4]);
        let again = WordFile::open(&storage, path, 64).unwrap();
        assert_eq!((again.load_i32(4), again.load_i64(12)), (0x0102_0304, -2));
    }

    #[test]
    fn a_sparse_file_reserves_in_growing_steps() {
        let storage = storage();
        let file = MappedFile::create(&storage, "/log/sparse".into(), 0, 1 << 16, Blocks::Sparse).unwrap();
        storage.set_room(Some(16384));
        file.reserve(&storage, 20).unwrap();
        file.reserve(&storage, 4097).unwrap();
        file.reserve(&storage, 8000).unwrap();
        file.reserve(&storage, 8193).unwrap();
        assert!(file.reserve(&storage, 20_000).is_err());
    }
}
