//! The records that a read has found, as ranges of the mapped log: neighbours are one piece. Used by the walk over a
//! queue's entries. Must hold: what is collected says itself that it belongs where it was found, in this place of this
//! queue, and has its checksums if the disk may have changed it.

use std::ops::Range;

use bytes::Bytes;
use waspmq_protocol::message::record::{
    MAGIC_AT, MAGIC_V1, MAGIC_V2, PHYSICAL_OFFSET_AT, QUEUE_ID_AT, QUEUE_OFFSET_AT, RecordView,
};

use crate::commit_log::{CommitLog, Part};
use crate::consume_queue::ENTRY_BYTES;
use crate::error::StoreError;
use crate::filter::QueueEntry;
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::queue::Queue;
use crate::storage::PAGE_BYTES;
use crate::sums::Compared;

/// Records that lie within this much of the log are read through one slice of it.
const WINDOW_BYTES_MAX: usize = 256 << 10;

/// A stretch of one log file.
struct Window {
    start: PhysicalOffset,
    bytes: Bytes,
    /// When it was opened, as [`CommitLog::reading_now`] tells it.
    opened: u64,
}

impl Window {
    /// Where in the window the entry's record lies, if it is all there and is that record.
    fn range_of(&self, log: &CommitLog, entry: &QueueEntry, part: Part) -> Option<Range<usize>> {
        let from = usize::try_from(entry.physical_offset.0.checked_sub(self.start.0)?).ok()?;
        let range = from..from.checked_add(entry.bytes())?;
        let bytes = self.bytes.get(range.clone())?;
        let offset = entry.physical_offset.0 as u64;
        (is_record(bytes, entry) && log.is_unharmed(offset, bytes, part, self.opened)).then_some(range)
    }

    fn covers(&self, entry: &QueueEntry) -> bool {
        self.start <= entry.physical_offset && entry.physical_end() <= self.start.plus(self.bytes.len())
    }
}

/// The records found so far, as pieces of the log.
pub(super) struct Collected<'a> {
    queue: &'a Queue,
    /// The page of the queue's files whose entries are known to be of its topic.
    page: Option<i64>,
    window: Option<Window>,
    /// The piece at hand, in the window; grows while records are neighbours.
    piece: Range<usize>,
    pieces: Vec<Bytes>,
}

impl<'a> Collected<'a> {
    pub(super) fn of(queue: &'a Queue) -> Self {
        Collected { queue, page: None, window: None, piece: 0..0, pieces: Vec::new() }
    }

    /// Adds the record of the first of `entries`; the others say what will be asked for next. False if it is not there.
    pub(super) fn push(&mut self, log: &CommitLog, entries: &[QueueEntry]) -> Result<bool, StoreError> {
        let Some(range) = self.find(log, entries, Part::Whole)? else { return Ok(false) };
        if self.piece.end == range.start && !self.piece.is_empty() {
            self.piece.end = range.end;
        } else {
            self.finish_piece();
            self.piece = range;
        }
        Ok(true)
    }

    /// The record of the first of `entries`, without adding it. A body's checksum is only worth its price if it is
    /// served: what a filter drops is not.
    pub(super) fn record(&mut self, log: &CommitLog, entries: &[QueueEntry]) -> Result<Option<Bytes>, StoreError> {
        let range = self.find(log, entries, Part::Head)?;
        Ok(range.and_then(|range| self.window.as_ref().map(|window| window.bytes.slice(range))))
    }

    fn find(
        &mut self,
        log: &CommitLog,
        entries: &[QueueEntry],
        part: Part,
    ) -> Result<Option<Range<usize>>, StoreError> {
        let Some(entry) = entries.first().filter(|entry| !entry.is_blank()) else { return Ok(None) };
        if !self.window.as_ref().is_some_and(|window| window.covers(entry)) {
            self.finish_piece();
            self.window = open_window(log, entries)?;
        }
        let Some(window) = &self.window else { return Ok(None) };
        let found = window.range_of(log, entry, part);
        let page = page_of(entry.queue_offset);
        let own = |range: &Range<usize>| {
            let bytes = &window.bytes[range.clone()];
            self.queue.is_multi_dispatch()
                || (is_in_place(bytes, entry, self.queue.id()) || is_displaced(log, bytes, entry, self.queue))
                    && (self.page == Some(page) || is_of_topic(bytes, self.queue.topic()))
        };
        let found = found.filter(own);
        if found.is_some() {
            self.page = Some(page);
        }
        Ok(found)
    }

    fn finish_piece(&mut self) {
        if let Some(window) = &self.window
            && !self.piece.is_empty()
        {
            self.pieces.push(window.bytes.slice(self.piece.clone()));
        }
        self.piece = 0..0;
    }

    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.finish_piece();
        self.pieces
    }
}

/// The stretch of the log that holds the first of `entries` and as many of the others as are close.
fn open_window(log: &CommitLog, entries: &[QueueEntry]) -> Result<Option<Window>, StoreError> {
    let Some(first) = entries.first() else { return Ok(None) };
    let start = first.physical_offset;
    let reach = |entry: &QueueEntry| usize::try_from(entry.physical_end().bytes_since(start)).unwrap_or(usize::MAX);
    let close = |entry: &&QueueEntry| !entry.is_blank() && reach(entry) <= WINDOW_BYTES_MAX;
    let bytes = entries.iter().rev().find(close).map_or(0, reach).max(first.bytes());
    let Some(slice) = log.read_up_to(start, bytes)? else { return Ok(None) };
    // All heads first: their loads do not wait for each other, as they would one by one.
    touch(entries.iter().map(|entry| slice.get(usize::try_from(entry.physical_offset.bytes_since(start)).ok()?)));
    Ok(Some(Window { start, bytes: slice.into_bytes(), opened: log.reading_now() }))
}

/// Loads bytes for the sake of their cache lines.
pub(super) fn touch<'a>(bytes: impl Iterator<Item = Option<&'a u8>>) {
    std::hint::black_box(bytes.fold(0, |sum, byte| sum ^ byte.copied().unwrap_or(0)));
}

/// Whether `bytes` begin with the record the entry speaks of. What is inside the record is the reader's business.
#[inline]
fn is_record(bytes: &[u8], entry: &QueueEntry) -> bool {
    let Some(head) = bytes.first_chunk::<36>() else { return false };
    let word = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let physical = (i64::from(word(PHYSICAL_OFFSET_AT)) << 32) | i64::from(word(PHYSICAL_OFFSET_AT + 4) as u32);
    word(0) == entry.size && matches!(word(MAGIC_AT), MAGIC_V1 | MAGIC_V2) && physical == entry.physical_offset.0
}

/// Whether the record at the beginning of `bytes` is the one at this place of a queue with this number.
#[inline]
fn is_in_place(bytes: &[u8], entry: &QueueEntry, id: i32) -> bool {
    let at = |at: usize| bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let offset = bytes.get(QUEUE_OFFSET_AT..).and_then(|bytes| bytes.first_chunk());
    at(QUEUE_ID_AT).copied().map(i32::from_be_bytes) == Some(id)
        && offset.copied().map(i64::from_be_bytes) == Some(entry.queue_offset.0)
}

/// Whether Java's broker has put the record into its queue, but too low: where it lost entries, the next ones follow the
/// last it has. What we dispatched has a sum, and stands in its place.
#[cold]
fn is_displaced(log: &CommitLog, bytes: &[u8], entry: &QueueEntry, queue: &Queue) -> bool {
    RecordView::parse(bytes, false).is_ok_and(|record| {
        record.queue_id() == queue.id()
            && record.queue_offset() > entry.queue_offset.0
            && log.sums().compare(entry.physical_offset.0 as u64, &record) == Compared::Unknown
    })
}

/// The topic stands at the record's end, in a line of memory that nobody else needs: it is looked at once a page, which
/// is what a disk puts in a wrong place as a whole.
#[cold]
fn is_of_topic(bytes: &[u8], topic: &str) -> bool {
    RecordView::parse(bytes, false).is_ok_and(|record| record.topic() == topic)
}

/// The page of a queue's files that an entry stands in.
#[inline]
fn page_of(offset: QueueOffset) -> i64 {
    offset.0 * ENTRY_BYTES as i64 / PAGE_BYTES as i64
}
