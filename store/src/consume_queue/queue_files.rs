//! The entries of one queue in their row of files: append, read, binary search, cut, delete.
//! Written by the dispatcher and by recovery only, read by anyone. Must hold: `end_physical` is where the last entry's
//! record ends, so that a record dispatched twice is recognised.

mod cuts;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use smallvec::SmallVec;

use super::entry::{BLANK, ENTRY_BYTES, decode};
use super::far_reads::FarReads;
use super::open_queues::{OpenQueues, UseMark};
use crate::error::{AtPath, StoreError};
use crate::filter::QueueEntry;
use crate::mapped_file_queue::{MappedFileQueue, SyncMark, file_path};
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::storage::{PAGE_BYTES, Storage};

/// Pages are made present ahead of the writer in steps as large as what the file holds already, up to this.
const POPULATE_BYTES_MAX: u64 = 256 * 1024;
const ENTRY: u64 = ENTRY_BYTES as u64;
/// Whole entries in a page.
const PAGE_ENTRIES: usize = PAGE_BYTES as usize / ENTRY_BYTES;

/// Where all consume queues lie and how they are made.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) root: PathBuf,
    /// Size of every file, a multiple of the entry's.
    pub(crate) file_bytes: u64,
    pub(crate) open_queues: OpenQueues,
}

/// One queue's entries on disk.
#[derive(Debug)]
pub(crate) struct ConsumeQueue {
    placement: Arc<Placement>,
    files: MappedFileQueue,
    /// End of the last entry's record in the commit log; 0 without entries.
    end_physical: AtomicI64,
    /// Where the record of the first entry held starts; negative if unknown or filler.
    first_physical: AtomicI64,
    /// Pages below are present already.
    populated: AtomicU64,
    far_reads: FarReads,
    mark: UseMark,
}

impl ConsumeQueue {
    /// Opens the queue's folder, which need not exist, and finds its end.
    pub(crate) fn open(placement: &Arc<Placement>, topic: &str, id: i32) -> Result<Arc<Self>, StoreError> {
        let dir = placement.root.join(topic).join(id.to_string());
        let files = MappedFileQueue::open(Arc::clone(&placement.storage), dir, placement.file_bytes)?;
        let queue = Self {
            placement: Arc::clone(placement),
            files,
            end_physical: AtomicI64::new(0),
            first_physical: AtomicI64::new(-1),
            populated: AtomicU64::new(0),
            far_reads: FarReads::default(),
            mark: UseMark::default(),
        };
        queue.find_end()?;
        queue.far_reads.set_opened_at(queue.files.wrote());
        Ok(Arc::new(queue))
    }

    /// The first offset the files hold, filler included.
    pub(crate) fn first(&self) -> QueueOffset {
        QueueOffset((self.files.min_offset() / ENTRY) as i64)
    }

    /// One past the last entry.
    pub(crate) fn end(&self) -> QueueOffset {
        QueueOffset((self.files.wrote() / ENTRY) as i64)
    }

    /// Whether the queue has no file: its first entry may stand anywhere.
    pub(crate) fn is_new(&self) -> bool {
        self.files.is_empty()
    }

    /// Where the record of the last entry ends in the commit log; 0 without entries.
    pub(crate) fn end_physical(&self) -> PhysicalOffset {
        PhysicalOffset(self.end_physical.load(Ordering::Acquire))
    }

    pub(crate) fn mark(&self) -> &UseMark {
        &self.mark
    }

    /// Gives all mappings back; they are made again when needed.
    pub(crate) fn unmap(&self) {
        self.files.unmap_before(u64::MAX);
    }

    fn touch(self: &Arc<Self>) {
        self.placement.open_queues.touch(&self.mark, || Arc::downgrade(self));
    }

    /// Lets a queue without files begin at `first`: what lies before it in its file is filled with blanks.
    pub(crate) fn begin_at(self: &Arc<Self>, first: QueueOffset) -> Result<(), StoreError> {
        assert!(self.is_new() && first.0 > 0, "the queue {self:?} cannot begin at {first}");
        self.touch();
        let at = byte_of(first);
        self.files.create_at(at)?;
        self.fill_with_blanks(at)
    }

    /// Deletes all files; the queue begins at 0 again.
    pub(crate) fn start_over(self: &Arc<Self>) -> Result<(), StoreError> {
        self.touch();
        self.clear()?;
        self.files.create_at(0)
    }

    /// Deletes all files; the next entry may stand anywhere. For recovery.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        self.files.destroy()?;
        self.files.truncate(0)?;
        self.populated.store(0, Ordering::Relaxed);
        self.far_reads.set_opened_at(0);
        self.first_physical.store(-1, Ordering::Release);
        self.end_physical.store(0, Ordering::Release);
        Ok(())
    }

    /// Fills the places up to the byte `end` with blanks.
    fn fill_with_blanks(&self, end: u64) -> Result<(), StoreError> {
        let chunk = BLANK.repeat(1024);
        while self.files.wrote() < end {
            let left = usize::try_from(end - self.files.wrote()).unwrap_or(usize::MAX);
            self.files.append(&chunk[..left.min(chunk.len())])?;
        }
        Ok(())
    }

    /// Fills the places from the end up to `next` with blanks, so that `next` gets its own place: entries in between
    /// were lost.
    pub(crate) fn skip_to(self: &Arc<Self>, next: QueueOffset) -> Result<(), StoreError> {
        self.touch();
        self.fill_with_blanks(byte_of(next))
    }

    /// Appends encoded entries; `end_physical` is where the record of the last one ends.
    pub(crate) fn append(self: &Arc<Self>, entries: &[u8], end_physical: PhysicalOffset) -> Result<(), StoreError> {
        debug_assert!(entries.len().is_multiple_of(ENTRY_BYTES) && !entries.is_empty());
        self.touch();
        self.populate_ahead(entries.len() as u64)?;
        let at = self.files.append(entries)?;
        if at == self.files.min_offset() {
            let first = entries.first_chunk().map_or(-1, |first| decode(first, QueueOffset(0)).physical_offset.0);
            self.first_physical.store(first, Ordering::Release);
        }
        self.end_physical.store(end_physical.0, Ordering::Release);
        Ok(())
    }

    /// Makes the pages that the next appends need present in one go, instead of by one fault each.
    fn populate_ahead(&self, adding: u64) -> Result<(), StoreError> {
        let at = self.files.wrote();
        let populated = self.populated.load(Ordering::Relaxed);
        if at + adding <= populated {
            return Ok(());
        }
        let Some(file) = self.files.file_for(at)? else { return Ok(()) };
        let from = at - file.start();
        // A queue with few messages gets no more than it needs.
        let step = (from & !(PAGE_BYTES - 1)).min(POPULATE_BYTES_MAX);
        if step == 0 {
            return Ok(());
        }
        let end = (from + adding.max(step)).next_multiple_of(PAGE_BYTES).min(file.bytes() as u64);
        file.reserve(&*self.placement.storage, end)?;
        let begin = from & !(PAGE_BYTES - 1);
        if let Err(error) = file.populate(begin as usize..end as usize) {
            // Only speed is lost: the blocks are there.
            tracing::debug!(path = %file.path().display(), %error, "pages of a consume queue not populated ahead");
        }
        self.populated.store(file.start() + end, Ordering::Relaxed);
        Ok(())
    }

    /// The entry at `offset`, if the files hold it.
    pub(crate) fn entry_at(self: &Arc<Self>, offset: QueueOffset) -> Result<Option<QueueEntry>, StoreError> {
        self.touch();
        self.read_entry(offset)
    }

    fn read_entry(&self, offset: QueueOffset) -> Result<Option<QueueEntry>, StoreError> {
        if offset < self.first() {
            return Ok(None);
        }
        let slice = self.files.slice(byte_of(offset), ENTRY_BYTES)?;
        Ok(slice.as_deref().and_then(|bytes| bytes.first_chunk()).map(|bytes| decode(bytes, offset)))
    }

    /// Whether reading entries from `offset` on may have to wait for the disk. `now` is [`CommitLog::reading_now`].
    ///
    /// [`CommitLog::reading_now`]: crate::commit_log::CommitLog::reading_now
    pub(crate) fn may_wait(&self, offset: QueueOffset, now: u64) -> bool {
        self.far_reads.may_wait(&self.files, byte_of(offset), now)
    }

    /// Brings in from the disk the entry at `offset` and those around it, and asks for those behind them.
    pub(crate) fn bring_in(self: &Arc<Self>, offset: QueueOffset, now: u64) -> Result<(), StoreError> {
        if !self.may_wait(offset, now) {
            return Ok(());
        }
        self.touch();
        self.far_reads.bring_in(&self.files, byte_of(offset), now)
    }

    /// Reads entries from `from` on into `out`, as many as fit, ending at the end of the file or at `end`. Returns how
    /// many; 0 if there is none at `from`.
    pub(crate) fn read(
        self: &Arc<Self>,
        from: QueueOffset,
        end: QueueOffset,
        out: &mut [QueueEntry],
    ) -> Result<usize, StoreError> {
        self.touch();
        let wanted = usize::try_from(end.0 - from.0).unwrap_or(0).min(out.len());
        if from.0 < 0 || wanted == 0 {
            return Ok(0);
        }
        let Some(slice) = self.files.slice_up_to(byte_of(from), wanted * ENTRY_BYTES)? else { return Ok(0) };
        let (entries, _) = slice.as_chunks::<ENTRY_BYTES>();
        let mut offset = from;
        for (place, bytes) in out.iter_mut().zip(entries) {
            *place = decode(bytes, offset);
            offset.0 += 1;
        }
        Ok(entries.len().min(out.len()))
    }

    /// One past the last entry of the file that holds `offset`.
    pub(crate) fn file_end_after(&self, offset: QueueOffset) -> QueueOffset {
        let file_bytes = self.files.file_bytes();
        let at = byte_of(offset);
        QueueOffset(((at - at % file_bytes + file_bytes) / ENTRY) as i64)
    }

    /// The first offset in `from..end` whose entry fails `holds`, which must hold for a prefix and fail for the rest;
    /// `end` if it never fails.
    pub(crate) fn partition_point(
        self: &Arc<Self>,
        (from, end): (QueueOffset, QueueOffset),
        holds: impl FnMut(&QueueEntry) -> Result<bool, StoreError>,
    ) -> Result<QueueOffset, StoreError> {
        self.touch();
        self.search((from, end), holds)
    }

    fn search(
        &self,
        (from, end): (QueueOffset, QueueOffset),
        mut holds: impl FnMut(&QueueEntry) -> Result<bool, StoreError>,
    ) -> Result<QueueOffset, StoreError> {
        let (mut low, mut high) = (from.0, end.0);
        while low < high {
            let middle = low + (high - low) / 2;
            let held = match self.read_entry(QueueOffset(middle))? {
                Some(entry) => holds(&entry)?,
                None => false,
            };
            if held {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(QueueOffset(low))
    }

    /// Finds where the entries end in files found on disk: the last file that has any, and in it the last written one.
    /// Entries fill a file from its start, so the written ones are a prefix.
    fn find_end(&self) -> Result<(), StoreError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let first = self.first();
        let file_entries = (self.files.file_bytes() / ENTRY) as i64;
        if !self.find_end_in_first_page(QueueOffset(self.end().0 - file_entries))? {
            let mut file_end = self.end();
            let end = loop {
                let file_start = QueueOffset(file_end.0 - file_entries);
                let end = self.written_end((file_start, file_end))?;
                if end > file_start || file_start <= first {
                    break end;
                }
                file_end = file_start;
            };
            self.finish_at(end)?;
        }
        self.note_first(self.peek(first, 1)?.first());
        self.unmap();
        Ok(())
    }

    /// Most queues are short: a look at the first page of the last file tells where they end, and no mapping is made.
    /// Answers whether it did.
    fn find_end_in_first_page(&self, last_file: QueueOffset) -> Result<bool, StoreError> {
        let page = self.peek(last_file, PAGE_ENTRIES)?;
        let Some(written) = page.iter().position(|entry| !entry.is_written()) else { return Ok(false) };
        let last = written.checked_sub(1).and_then(|at| page.get(at));
        if last.is_none() && last_file > self.first() {
            return Ok(false);
        }
        self.finish(last_file.plus(written), last)?;
        Ok(true)
    }

    /// Up to `count` places from `from` on, read without a mapping.
    fn peek(&self, from: QueueOffset, count: usize) -> Result<SmallVec<[QueueEntry; 1]>, StoreError> {
        let at = byte_of(from);
        let path = file_path(self.files.dir(), at - at % self.files.file_bytes());
        let mut bytes = [0; PAGE_ENTRIES * ENTRY_BYTES];
        let wanted = &mut bytes[..count.min(PAGE_ENTRIES) * ENTRY_BYTES];
        let read =
            self.placement.storage.read_at(&path, at % self.files.file_bytes(), wanted).at_path("reading", &path)?;
        let (entries, _) = wanted[..read].as_chunks::<ENTRY_BYTES>();
        Ok(entries.iter().enumerate().map(|(at, bytes)| decode(bytes, from.plus(at))).collect())
    }

    fn note_first(&self, first: Option<&QueueEntry>) {
        let physical = first.filter(|entry| entry.is_written() && !entry.is_blank());
        self.first_physical.store(physical.map_or(-1, |entry| entry.physical_offset.0), Ordering::Release);
    }

    /// Where the written entries of a file end. Most queues are short, so it is looked for from the start in growing
    /// steps: every page touched is a page read. Read without a mapping: in memory that is a file system, looking at a hole
    /// through one needs room.
    fn written_end(&self, (start, end): (QueueOffset, QueueOffset)) -> Result<QueueOffset, StoreError> {
        let is_written = |at: i64| Ok(self.peek(QueueOffset(at), 1)?.first().is_some_and(QueueEntry::is_written));
        let (mut low, mut high) = (start.0, end.0);
        let mut step = PAGE_ENTRIES as i64;
        while low + step < high {
            if !is_written(low + step - 1)? {
                high = low + step - 1;
                break;
            }
            low += step;
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if is_written(middle)? { low = middle + 1 } else { high = middle }
        }
        Ok(QueueOffset(low))
    }

    /// Makes `end` the end of the queue and forgets what lies behind it.
    fn finish_at(&self, end: QueueOffset) -> Result<(), StoreError> {
        let last = if end > self.first() { self.read_entry(QueueOffset(end.0 - 1))? } else { None };
        self.finish(end, last.as_ref())
    }

    fn finish(&self, end: QueueOffset, last: Option<&QueueEntry>) -> Result<(), StoreError> {
        self.files.truncate(byte_of(end))?;
        self.populated.store(0, Ordering::Relaxed);
        if last.is_none() {
            // The first entry is gone too; the next one may be another's place.
            self.first_physical.store(-1, Ordering::Release);
        }
        self.end_physical.store(last.map_or(0, |entry| entry.physical_end().0), Ordering::Release);
        Ok(())
    }

    /// The first offset whose record the log still holds when it begins at `log_min`; the end if none is left.
    pub(crate) fn min_for(self: &Arc<Self>, log_min: PhysicalOffset) -> Result<QueueOffset, StoreError> {
        let (first, end) = (self.first(), self.end());
        if self.first_physical.load(Ordering::Acquire) >= log_min.0.max(0) {
            return Ok(first);
        }
        if end <= first || self.end_physical() <= log_min {
            return Ok(end);
        }
        self.partition_point((first, end), |entry| Ok(entry.is_blank() || entry.physical_offset < log_min))
    }

    /// Deletes the files all of whose records lie before `log_min`, never the last one.
    pub(crate) fn delete_before(self: &Arc<Self>, log_min: PhysicalOffset) -> Result<usize, StoreError> {
        let min = self.min_for(log_min)?;
        let at = byte_of(min);
        let deleted = self.files.delete_before(at - at % self.files.file_bytes())?;
        if deleted > 0 {
            self.note_first(self.entry_at(self.first())?.as_ref());
        }
        Ok(deleted)
    }

    /// Whether at least `pages_min` pages were appended since the last flush.
    pub(crate) fn needs_flush(&self, pages_min: u64) -> bool {
        let pending = self.files.wrote().saturating_sub(self.files.flushed());
        pending > 0 && pending >= pages_min * PAGE_BYTES
    }

    /// Writes to disk what was appended since the last flush.
    pub(crate) fn flush(self: &Arc<Self>) -> Result<(), StoreError> {
        self.touch();
        self.files.flush(self.files.wrote()).map(drop)
    }

    /// See [`MappedFileQueue::begin_sync`].
    pub(crate) fn begin_sync(&self) -> SyncMark {
        self.files.begin_sync()
    }

    /// See [`MappedFileQueue::end_sync`].
    pub(crate) fn end_sync(&self, mark: SyncMark, synced: bool) {
        self.files.end_sync(mark, synced);
    }

    /// Deletes the queue's files and folder.
    pub(crate) fn destroy(&self) -> Result<(), StoreError> {
        self.files.destroy()
    }
}

/// The byte of the row of files at which the entry of `offset` stands.
fn byte_of(offset: QueueOffset) -> u64 {
    u64::try_from(offset.0).unwrap_or(0) * ENTRY
}
