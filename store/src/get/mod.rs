//! Reading a queue: walks its entries, asks the filter (entries first, then records), and collects the records as
//! ranges of the mapped log. Called for every pull; copies nothing and allocates nothing per message.
//! Must hold: no message is passed over that the filter could not judge; what is returned is whole records that say
//! themselves that they belong where they were found, in this place of this queue, and have their checksums if the disk
//! may have changed them.

mod collected;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use waspmq_protocol::message::record::RecordView;

use self::collected::{Collected, touch};
use crate::commit_log::CommitLog;
use crate::consume_queue::{ConsumeQueue, ENTRY_BYTES};
use crate::dispatch::Wanted;
use crate::error::StoreError;
use crate::filter::{FILTER_BATCH_MAX, FilterRecord, MessageFilter, QueueEntry, Verdict};
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::queue::Queue;

/// How many bytes of entries one call looks at when most are dropped (RocketMQ's `maxFilterMessageSize`).
const SCAN_BYTES_MIN: usize = 16_000;
/// The most one call returns, whatever the caller allows.
const BYTES_MAX: usize = 128 << 20;
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
    /// How far behind the end of the log the last message begins that was looked at, also if the filter drops it.
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
    let walked = files.bring_in(offset, log.reading_now()).and_then(|()| match filter {
        None => walk.all(),
        Some(filter) => walk.filtered(filter),
    });
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

/// Whether [`get`] with this request may have to wait for the disk, judged by its first and last message.
pub(crate) fn may_wait(log: &CommitLog, queue: &Queue, request: &GetRequest) -> bool {
    let Some(files) = queue.files() else { return false };
    let offset = request.offset;
    if offset < queue.min_offset() || offset >= queue.max_offset() {
        return false;
    }
    // Entries first: not even they may be in memory.
    if files.may_wait(offset, log.reading_now()) {
        return true;
    }
    let end = offset.plus(request.count_max).min(queue.max_offset()).min(files.file_end_after(offset));
    let lies_far = |at: QueueOffset| {
        let entry = files.entry_at(at).ok().flatten().filter(|entry| entry.is_written() && !entry.is_blank());
        entry.is_some_and(|entry| log.may_wait(entry.physical_offset))
    };
    offset < end && (lies_far(offset) || lies_far(QueueOffset(end.0 - 1)))
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
    /// Where the record of the last entry dealt with begins.
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
                    Verdict::Drop => self.pass_over(&entries[at]),
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

    /// Leaves out a message that the filter drops.
    fn pass_over(&mut self, entry: &QueueEntry) {
        self.last = Some(entry.physical_offset);
        self.next.0 += 1;
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

#[cfg(test)]
mod tests;
