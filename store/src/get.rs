//! Reading a queue: walks its entries, asks the filter (entries first, then records), and collects the records as
//! ranges of the mapped log. Called for every pull; copies nothing and allocates nothing per message.
//! Must hold: no message is passed over that the filter could not judge; what is returned is whole records that say
//! themselves that they belong where they were found, in this place of this queue, and have their checksums if the disk
//! may have changed them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use waspmq_protocol::message::record::{
    MAGIC_AT, MAGIC_V1, MAGIC_V2, PHYSICAL_OFFSET_AT, QUEUE_ID_AT, QUEUE_OFFSET_AT, RecordView,
};

use crate::commit_log::{CommitLog, Part};
use crate::consume_queue::{ConsumeQueue, ENTRY_BYTES};
use crate::dispatch::Wanted;
use crate::error::StoreError;
use crate::filter::{FILTER_BATCH_MAX, FilterRecord, MessageFilter, QueueEntry, Verdict};
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::queue::Queue;
use crate::sums::Compared;

/// How many bytes of entries one call looks at when most are dropped (RocketMQ's `maxFilterMessageSize`).
const SCAN_BYTES_MIN: usize = 16_000;
/// The most one call returns, whatever the caller allows.
const BYTES_MAX: usize = 128 << 20;
/// Records that lie within this much of the log are read through one slice of it.
const WINDOW_BYTES_MAX: usize = 256 << 10;

/// What a disk writes, or misplaces, as one.
const PAGE_BYTES: i64 = 4096;
/// Bytes of a cache line.
const LINE: usize = 64;
/// In so many lines at the end of a record lie topic and properties, nearly always.
const TAIL_LINES: usize = 3;
/// Where a record says how long its body is, if its hosts are IPv4; a few bytes further on, and mostly in the same line,
/// if they are not.
const BODY_LENGTH_V4_AT: usize = 84;

/// What a reader asks of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetRequest {
    /// From where on.
    pub offset: QueueOffset,
    /// The most messages.
    pub count_max: usize,
    /// The most bytes; the first message is returned however long it is.
    pub bytes_max: usize,
}

/// How a read ended; RocketMQ's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetStatus {
    /// There are messages.
    Found,
    /// Entries were looked at, the filter keeps none of them.
    NoMatchedMessage,
    /// The entries' records are no longer in the log.
    MessageWasRemoving,
    /// There is no such queue.
    NoMatchedLogicQueue,
    /// Nothing was ever stored in the queue.
    NoMessageInQueue,
    /// The offset lies before the first message still held.
    OffsetTooSmall,
    /// The offset is that of the next message to come.
    OffsetOverflowOne,
    /// The offset lies behind that.
    OffsetOverflowBadly,
    /// The entry cannot be read.
    OffsetFoundNull,
    /// The filter could not judge the message at `next_begin_offset`; those before it, if any, it drops.
    Undecided,
}

/// What a reader gets.
#[derive(Clone, Debug)]
pub struct GetResult {
    /// How the read ended.
    pub status: GetStatus,
    /// Where to go on.
    pub next_begin_offset: QueueOffset,
    /// The first message still held.
    pub min_offset: QueueOffset,
    /// One past the last readable message.
    pub max_offset: QueueOffset,
    /// Whole records, in order; neighbours in the log are one piece. Borrowed from the mapped files.
    pub records: Vec<Bytes>,
    /// How many messages those are.
    pub count: usize,
    /// How many bytes those are.
    pub bytes: usize,
    /// How far behind the end of the log the last of them begins.
    pub behind_bytes: i64,
}

/// Reads `queue` from `request.offset` on.
pub(crate) fn get(
    log: &CommitLog,
    queue: &Queue,
    request: &GetRequest,
    filter: Option<&mut dyn MessageFilter>,
) -> GetResult {
    let (min, max) = (queue.min_offset(), queue.max_offset());
    let offset = request.offset;
    let nothing = |status, next| GetResult {
        status,
        next_begin_offset: next,
        min_offset: min,
        max_offset: max,
        records: Vec::new(),
        count: 0,
        bytes: 0,
        behind_bytes: 0,
    };
    let Some(files) = queue.files().filter(|_| max.0 > 0) else {
        return nothing(GetStatus::NoMessageInQueue, QueueOffset(0));
    };
    if offset < min {
        return nothing(GetStatus::OffsetTooSmall, min);
    }
    if offset == max {
        return nothing(GetStatus::OffsetOverflowOne, offset);
    }
    if offset > max {
        return nothing(GetStatus::OffsetOverflowBadly, max);
    }
    let mut walk = Walk::new(log, (queue, files), request, max);
    let walked = match filter {
        None => walk.all(),
        Some(filter) => walk.filtered(filter),
    };
    if let Err(error) = walked {
        tracing::error!(topic = &**queue.topic(), queue = queue.id(), offset = walk.next.0, %error, "reading a queue failed");
        walk.broken = true;
    }
    let (status, next) = walk.outcome();
    let behind_bytes = walk.last.map_or(0, |last| log.max_offset().bytes_since(last) as i64);
    let collected = walk.collected.finish();
    let (count, bytes) = (walk.count, walk.bytes);
    GetResult { records: collected, count, bytes, behind_bytes, ..nothing(status, next) }
}

/// One walk over the entries of a queue.
struct Walk<'a> {
    log: &'a CommitLog,
    files: &'a Arc<ConsumeQueue>,
    request: GetRequest,
    /// No entry at or behind this is looked at.
    end: QueueOffset,
    /// The first entry not dealt with.
    next: QueueOffset,
    collected: Collected<'a>,
    count: usize,
    bytes: usize,
    /// Where the last record found begins.
    last: Option<PhysicalOffset>,
    /// Some entries' records were gone.
    removed: bool,
    undecided: bool,
    broken: bool,
}

impl<'a> Walk<'a> {
    fn new(
        log: &'a CommitLog,
        (queue, files): (&'a Queue, &'a Arc<ConsumeQueue>),
        request: &GetRequest,
        max: QueueOffset,
    ) -> Self {
        let scan = SCAN_BYTES_MIN.max(request.count_max.saturating_mul(ENTRY_BYTES)) / ENTRY_BYTES;
        Self {
            log,
            files,
            request: GetRequest {
                count_max: request.count_max.max(1),
                bytes_max: request.bytes_max.min(BYTES_MAX),
                ..*request
            },
            end: request.offset.plus(scan).min(max),
            next: request.offset,
            collected: Collected::of(queue),
            count: 0,
            bytes: 0,
            last: None,
            removed: false,
            undecided: false,
            broken: false,
        }
    }

    /// The next entries, up to `max` of them and none of another file. Empty at the end.
    fn entries<'e>(
        &self,
        buffer: &'e mut [QueueEntry; FILTER_BATCH_MAX],
        max: usize,
    ) -> Result<&'e [QueueEntry], StoreError> {
        if self.next > self.request.offset && self.next == self.files.file_end_after(self.request.offset) {
            return Ok(&[]);
        }
        let wanted = max.min(FILTER_BATCH_MAX);
        let read = self.files.read(self.next, self.end, &mut buffer[..wanted])?;
        Ok(&buffer[..read])
    }

    /// Without a filter: everything, until a limit is reached.
    fn all(&mut self) -> Result<(), StoreError> {
        let mut buffer = [QueueEntry::default(); FILTER_BATCH_MAX];
        while self.count < self.request.count_max {
            let entries = self.entries(&mut buffer, self.request.count_max - self.count)?;
            if entries.is_empty() {
                break;
            }
            for at in 0..entries.len() {
                if !self.collect(&entries[at..])? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn filtered(&mut self, filter: &mut dyn MessageFilter) -> Result<(), StoreError> {
        let mut buffer = [QueueEntry::default(); FILTER_BATCH_MAX];
        while self.count < self.request.count_max {
            let read = self.entries(&mut buffer, FILTER_BATCH_MAX)?.len();
            let entries = &mut buffer[..read];
            if entries.is_empty() {
                break;
            }
            if entries.iter().any(QueueEntry::lacks_tags_code) {
                self.find_tags_codes(entries)?;
            }
            let mut verdicts = [Verdict::CannotSay; FILTER_BATCH_MAX];
            let verdicts = &mut verdicts[..entries.len()];
            self.judge(filter, entries, verdicts)?;
            for at in 0..entries.len() {
                match verdicts[at] {
                    Verdict::Keep if self.count >= self.request.count_max => return Ok(()),
                    Verdict::Keep => {
                        if !self.collect(&entries[at..])? {
                            return Ok(());
                        }
                    }
                    Verdict::Drop => self.next.0 += 1,
                    Verdict::NeedRecord | Verdict::CannotSay => {
                        self.undecided = true;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts into entries what Java's broker keeps of them in files of its own: it follows from the record.
    #[cold]
    fn find_tags_codes(&mut self, entries: &mut [QueueEntry]) -> Result<(), StoreError> {
        for at in 0..entries.len() {
            if !entries[at].lacks_tags_code() {
                continue;
            }
            // One whose record is gone is found out when that is asked for.
            let bytes = self.collected.record(self.log, &entries[at..])?;
            let record = bytes.as_deref().and_then(|bytes| RecordView::parse(bytes, false).ok());
            let tags_code =
                |record: RecordView<'_>| Wanted::read(record.properties()).tags_code(None, record.store_timestamp());
            entries[at].tags_code = record.map_or(0, tags_code);
        }
        Ok(())
    }

    /// Asks the filter for its verdicts: by entry, and for those it cannot decide so, by record.
    fn judge(
        &mut self,
        filter: &mut dyn MessageFilter,
        entries: &[QueueEntry],
        verdicts: &mut [Verdict],
    ) -> Result<(), StoreError> {
        filter.by_entry(entries, verdicts);
        // What lies behind a message that cannot be judged is not asked for.
        let reach = verdicts.iter().position(|verdict| *verdict == Verdict::CannotSay).unwrap_or(verdicts.len());
        let mut held = SmallVec::<[(usize, Bytes); FILTER_BATCH_MAX]>::new();
        for at in 0..reach {
            if verdicts[at] != Verdict::NeedRecord {
                continue;
            }
            match self.collected.record(self.log, &entries[at..reach])? {
                Some(bytes) => held.push((at, bytes)),
                None => verdicts[at] = self.gone(&entries[at]),
            }
        }
        // What parsing and the filter read lies in lines that nobody has loaded yet: the length of the body, and topic and
        // properties at the end. All at once, as waiting for memory one by one is most of what a filtered read costs.
        touch(held.iter().map(|(_, bytes)| bytes.get(BODY_LENGTH_V4_AT)));
        for lines in 1..=TAIL_LINES {
            touch(held.iter().map(|(_, bytes)| bytes.get(bytes.len().checked_sub(lines * LINE)?)));
        }
        let mut records = SmallVec::<[FilterRecord<'_>; FILTER_BATCH_MAX]>::new();
        let mut places = SmallVec::<[usize; FILTER_BATCH_MAX]>::new();
        for (at, bytes) in &held {
            match RecordView::parse(bytes, false) {
                Ok(record) => {
                    records.push(FilterRecord { entry: entries[*at], record });
                    places.push(*at);
                }
                Err(_) => verdicts[*at] = self.gone(&entries[*at]),
            }
        }
        if !records.is_empty() {
            let mut answers = [Verdict::CannotSay; FILTER_BATCH_MAX];
            filter.by_record(&records, &mut answers[..places.len()]);
            places.iter().zip(answers).for_each(|(at, answer)| verdicts[*at] = answer);
        }
        Ok(())
    }

    /// Takes the first of `entries` into the result. False if a limit forbids it: the walk ends before it.
    fn collect(&mut self, entries: &[QueueEntry]) -> Result<bool, StoreError> {
        let Some(entry) = entries.first() else { return Ok(false) };
        if self.count > 0 && self.bytes.saturating_add(entry.bytes()) > self.request.bytes_max && !entry.is_blank() {
            return Ok(false);
        }
        if self.collected.push(self.log, entries)? {
            self.count += 1;
            self.bytes += entry.bytes();
            self.last = Some(entry.physical_offset);
        } else {
            self.gone(entry);
        }
        self.next.0 += 1;
        Ok(true)
    }

    /// Notes that an entry's record is not there: deleted with the oldest part of the log, or damaged.
    fn gone(&mut self, entry: &QueueEntry) -> Verdict {
        if !entry.is_blank() && entry.physical_offset >= self.log.min_offset() {
            self.log.count_damaged();
            tracing::error!(
                offset = entry.physical_offset.0,
                size = entry.size,
                queue_offset = entry.queue_offset.0,
                "a queue entry leads to no record; the message is passed over"
            );
        }
        self.removed = true;
        Verdict::Drop
    }

    fn outcome(&self) -> (GetStatus, QueueOffset) {
        let status = if self.count > 0 {
            GetStatus::Found
        } else if self.undecided {
            GetStatus::Undecided
        } else if self.broken {
            GetStatus::OffsetFoundNull
        } else if self.next == self.request.offset {
            return (GetStatus::OffsetFoundNull, self.files.file_end_after(self.next));
        } else if self.removed {
            GetStatus::MessageWasRemoving
        } else {
            GetStatus::NoMatchedMessage
        };
        (status, self.next)
    }
}

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
struct Collected<'a> {
    queue: &'a Queue,
    /// The page of the queue's files whose entries are known to be of its topic.
    page: Option<i64>,
    window: Option<Window>,
    /// The piece at hand, in the window; grows while records are neighbours.
    piece: Range<usize>,
    pieces: Vec<Bytes>,
}

impl<'a> Collected<'a> {
    fn of(queue: &'a Queue) -> Self {
        Collected { queue, page: None, window: None, piece: 0..0, pieces: Vec::new() }
    }

    /// Adds the record of the first of `entries`; the others say what will be asked for next. False if it is not there.
    fn push(&mut self, log: &CommitLog, entries: &[QueueEntry]) -> Result<bool, StoreError> {
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
    fn record(&mut self, log: &CommitLog, entries: &[QueueEntry]) -> Result<Option<Bytes>, StoreError> {
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

    fn finish(mut self) -> Vec<Bytes> {
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
fn touch<'a>(bytes: impl Iterator<Item = Option<&'a u8>>) {
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
    offset.0 * ENTRY_BYTES as i64 / PAGE_BYTES
}

#[cfg(test)]
#[path = "get_tests.rs"]
mod tests;
