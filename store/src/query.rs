//! Looking things up: offsets by time, messages by key, one record by its physical offset.
//! Called by the store on behalf of admin and query requests. Offsets and times come from clients and may be anything.
//! Must hold: what is returned is whole records that say themselves that they belong where they were found.

use std::sync::Arc;

use bytes::Bytes;
use waspmq_protocol::message::record::RecordView;

use crate::commit_log::{CommitLog, Part};
use crate::consume_queue::ConsumeQueue;
use crate::dispatch::Wanted;
use crate::error::StoreError;
use crate::filter::QueueEntry;
use crate::index::{Index, Lookup, TopicHash};
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::queue::Queue;

/// Which of two neighbours a time between them means, and which of several messages of one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boundary {
    /// The first message stored at that time or later.
    #[default]
    Lower,
    /// The last message stored at that time or earlier.
    Upper,
}

/// What a query by key found.
#[derive(Clone, Debug, Default)]
pub struct QueryResult {
    /// The records, oldest first.
    pub records: Vec<Bytes>,
    /// Store time of the last message indexed, milliseconds; 0 for an empty index.
    pub index_last_update_timestamp: i64,
    /// Where that message lies.
    pub index_last_update_physical_offset: PhysicalOffset,
}

/// Which messages to query for.
#[derive(Clone, Copy, Debug)]
pub struct KeyQuery<'a> {
    /// Their topic.
    pub topic: &'a str,
    /// Their unique key, or a word of their KEYS.
    pub key: &'a str,
    /// The most messages.
    pub count_max: usize,
    /// Stored at this time, milliseconds, or later.
    pub begin_ms: i64,
    /// Stored at this time, milliseconds, or earlier.
    pub end_ms: i64,
}

/// The newest messages with the key, compared byte by byte (RocketMQ returns those of equal hash).
pub(crate) fn by_key(log: &CommitLog, index: &Index, query: &KeyQuery<'_>) -> Result<QueryResult, StoreError> {
    let hash = TopicHash::new(query.topic).of(query.key.as_bytes());
    let lookup = Lookup { hash, begin_ms: query.begin_ms, end_ms: query.end_ms };
    let mut found: Vec<(PhysicalOffset, Bytes)> = Vec::new();
    let mut failure = None;
    index.find(lookup, &mut |offset| {
        // A message that has the key twice is in the index twice, one behind the other.
        if found.last().is_some_and(|(last, _)| *last == offset) {
            return true;
        }
        match record_at(log, offset) {
            Ok(Some(bytes)) if matches(&bytes, query) => found.push((offset, bytes)),
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
        failure.is_none() && found.len() < query.count_max
    });
    if let Some(error) = failure {
        return Err(error);
    }
    found.sort_unstable_by_key(|(offset, _)| *offset);
    let (index_last_update_timestamp, index_last_update_physical_offset) = index.last_update();
    let records = found.into_iter().map(|(_, bytes)| bytes).collect();
    Ok(QueryResult { records, index_last_update_timestamp, index_last_update_physical_offset })
}

fn matches(bytes: &[u8], query: &KeyQuery<'_>) -> bool {
    let Ok(record) = RecordView::parse(bytes, false) else { return false };
    let in_time = (query.begin_ms..=query.end_ms).contains(&record.store_timestamp());
    let has_key = || Wanted::read(record.properties()).each_key().any(|key| key == query.key.as_bytes());
    in_time && record.topic() == query.topic && has_key()
}

/// The record at `offset`; `None` if none begins there, or a damaged one.
pub(crate) fn record_at(log: &CommitLog, offset: PhysicalOffset) -> Result<Option<Bytes>, StoreError> {
    if offset < log.min_offset() || offset >= log.confirmed() {
        return Ok(None);
    }
    let Some(record) = log.record_at(offset)? else { return Ok(None) };
    if !log.is_unharmed(offset.0 as u64, &record, Part::Whole, log.reading_now()) {
        log.count_damaged();
        return Ok(None);
    }
    Ok(Some(record.into_bytes()))
}

/// When the message at `offset` of the queue was stored, milliseconds; `None` if it is not there.
pub(crate) fn store_time_of(log: &CommitLog, queue: &Queue, offset: QueueOffset) -> Result<Option<i64>, StoreError> {
    let held = (queue.min_offset()..queue.max_offset()).contains(&offset);
    let Some(files) = queue.files().filter(|_| held) else { return Ok(None) };
    match files.entry_at(offset)? {
        Some(entry) => store_time(log, &entry),
        None => Ok(None),
    }
}

fn store_time(log: &CommitLog, entry: &QueueEntry) -> Result<Option<i64>, StoreError> {
    if entry.is_blank() {
        return Ok(None);
    }
    let Some(bytes) = log.read(entry.physical_offset, entry.bytes())? else { return Ok(None) };
    let whole = log.is_unharmed(entry.physical_offset.0 as u64, &bytes, Part::Head, log.reading_now());
    Ok(RecordView::parse(&bytes, false).ok().filter(|_| whole).map(|record| record.store_timestamp()))
}

/// The offset of the queue that `time_ms` means; 0 for an empty queue. With times in order (the clock never set back):
///
/// | | `Lower` | `Upper` |
/// |---|---|---|
/// | messages of that time | the first of them | the last of them |
/// | between two messages | the later one | the earlier one |
/// | all are earlier | one past the last | the last |
/// | all are later | the first | the first |
pub(crate) fn offset_by_time(
    log: &CommitLog,
    queue: &Queue,
    time_ms: i64,
    boundary: Boundary,
) -> Result<QueueOffset, StoreError> {
    let (min, max) = (queue.min_offset(), queue.max_offset());
    let Some(files) = queue.files().filter(|_| min < max) else {
        return Ok(if max.0 > 0 { max } else { QueueOffset(0) });
    };
    let earlier = |time: i64| match boundary {
        Boundary::Lower => time < time_ms,
        Boundary::Upper => time <= time_ms,
    };
    let first_later = first_not(log, files, (min, max), earlier)?;
    Ok(match boundary {
        Boundary::Lower => first_later,
        Boundary::Upper => QueueOffset(first_later.0 - 1).max(min),
    })
}

/// The first entry whose store time fails `holds`. Entries whose records are gone count as old.
fn first_not(
    log: &CommitLog,
    files: &Arc<ConsumeQueue>,
    range: (QueueOffset, QueueOffset),
    holds: impl Fn(i64) -> bool,
) -> Result<QueueOffset, StoreError> {
    files.partition_point(range, |entry| Ok(store_time(log, entry)?.is_none_or(&holds)))
}

/// Store time of the oldest record in the log, milliseconds; `None` for an empty log.
pub(crate) fn earliest_store_time(log: &CommitLog) -> Result<Option<i64>, StoreError> {
    let record = log.record_at(log.min_offset())?;
    let record = record.as_deref().and_then(|bytes| RecordView::parse(bytes, false).ok());
    Ok(record.map(|record| record.store_timestamp()))
}

/// Whether the queue's first message (offset 0) is still held and surely in memory: a new consumer group then starts
/// with it. `memory_bytes` is the machine's memory; 40 % of it count as the log's share of the page cache.
pub(crate) fn first_record_in_memory(log: &CommitLog, queue: &Queue, memory_bytes: u64) -> Result<bool, StoreError> {
    let Some(files) = queue.files().filter(|_| queue.min_offset().0 <= 0 && queue.max_offset().0 > 0) else {
        return Ok(false);
    };
    let first = files.entry_at(QueueOffset(0))?.filter(|entry| !entry.is_blank());
    let near = |entry: QueueEntry| log.max_offset().bytes_since(entry.physical_offset) <= memory_bytes / 10 * 4;
    Ok(first.is_some_and(near))
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
