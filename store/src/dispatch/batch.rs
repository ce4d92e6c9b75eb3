//! One batch of records on their way from the log into queues, index and listeners.
//! Run by the dispatcher's thread, and by recovery before that thread exists. Must hold: the order is queues, index,
//! listeners; what a listener is told of can be read; a batch that fails leaves the position where it was, and doing it again does no harm.

use std::sync::Arc;

use waspmq_protocol::message::flags;
use waspmq_protocol::message::record::{self, LogEntry, RecordView};

use super::lanes::{Lanes, NewEntry};
use super::request::{DelayLevels, Wanted};
use crate::checkpoint::Dispatched;
use crate::commit_log::{CommitLog, find_record};
use crate::consume_queue::ConsumeQueues;
use crate::error::StoreError;
use crate::filter::{Arrival, ArrivalListener};
use crate::index::{Index, KeyEntry};
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::sums::{Compared, SumWriter};
use crate::watch::Watch;

/// Records taken together: enough to share the cost of a batch, few enough to stay in the CPU's cache.
const BATCH_RECORDS_MAX: usize = 256;
/// How much of the log is looked at in one batch; a longer record is taken alone.
const BATCH_BYTES: usize = 256 << 10;
/// Batches between two words to who watches.
const TOLD_EVERY: u32 = 64;
/// Bytes of a cache line.
const LINE: usize = 64;
/// How many records ahead are touched together: about as many loads as a processor keeps in flight.
const TOUCHED_RECORDS: usize = 8;

/// What dispatch reads and writes.
#[derive(Clone)]
pub(crate) struct DispatchParts {
    pub(crate) log: Arc<CommitLog>,
    pub(crate) queues: Arc<ConsumeQueues>,
    /// `None` when messages are not to be found by key.
    pub(crate) index: Option<Arc<Index>>,
    pub(crate) listener: Arc<dyn ArrivalListener>,
    pub(crate) delay_levels: DelayLevels,
}

/// Follows the log from a position on.
pub(crate) struct Dispatch {
    parts: DispatchParts,
    position: PhysicalOffset,
    /// Length of the last record: the next ones are probably as long.
    usual_bytes: usize,
    lanes: Lanes,
    sums: SumWriter,
    keys: Vec<KeyEntry>,
}

/// A record of the batch that is in a queue now.
struct Placed<'a> {
    lane: usize,
    tags_code: i64,
    record: RecordView<'a>,
}

/// Why reading a batch ended.
enum End {
    /// The bytes at hand are used up, or the batch is full.
    Batch,
    /// The file has no more records.
    File,
    /// Something that is no record stands here.
    Damage(record::RecordError),
}

impl Dispatch {
    /// Will dispatch the records from `position` on; those a queue or the index has already are recognised.
    pub(crate) fn new(parts: DispatchParts, position: PhysicalOffset) -> Self {
        let sums = SumWriter::new(Arc::clone(parts.log.sums()));
        Self { parts, position, usual_bytes: 0, lanes: Lanes::new(), sums, keys: Vec::new() }
    }

    /// The log.
    pub(crate) fn log(&self) -> &Arc<CommitLog> {
        &self.parts.log
    }

    /// Everything before this is in queues and index.
    pub(crate) fn position(&self) -> PhysicalOffset {
        self.position
    }

    /// The same, with the index's end, as it is noted for a restart.
    pub(crate) fn dispatched(&self) -> Dispatched {
        Dispatched { end: self.position, index: self.parts.index.as_ref().and_then(|index| index.mark()) }
    }

    /// Dispatches everything that can be read now, telling who watches how far it is.
    pub(crate) fn catch_up(&mut self, watch: Option<&Watch>) -> Result<(), StoreError> {
        let from = self.position;
        let mut batches = 0_u32;
        while self.step()? > 0 {
            batches = batches.wrapping_add(1);
            if let Some(watch) = watch.filter(|_| batches.is_multiple_of(TOLD_EVERY)) {
                watch.tell(self.position.bytes_since(from), self.parts.log.confirmed().bytes_since(from));
            }
        }
        Ok(())
    }

    /// Dispatches one batch and returns how many bytes of the log that were; 0 at the log's end.
    ///
    /// # Errors
    /// A file could not be read, made or written. The batch was not dispatched, or only in part: do it again.
    pub(crate) fn step(&mut self) -> Result<u64, StoreError> {
        let min = self.parts.log.min_offset();
        if self.position < min {
            tracing::warn!(from = self.position.0, to = min.0, "the log was deleted before it was dispatched");
            self.position = min;
        }
        let from = self.position;
        let done = self.batch(from);
        match done {
            Ok(to) => {
                self.position = to;
                Ok(to.bytes_since(from))
            }
            Err(error) => {
                self.lanes.clear();
                Err(error)
            }
        }
    }

    fn batch(&mut self, from: PhysicalOffset) -> Result<PhysicalOffset, StoreError> {
        let log = Arc::clone(&self.parts.log);
        let readable = usize::try_from(log.confirmed().bytes_since(from)).unwrap_or(usize::MAX);
        if readable == 0 {
            return Ok(from);
        }
        let Some(mut bytes) = log.read_up_to(from, readable.min(BATCH_BYTES))? else { return Ok(from) };
        // What may be read ends with a whole record: one that goes on behind it lies about its length.
        if let Some(size) = cut_record(&bytes) {
            match log.read_up_to(from, size.min(readable))? {
                Some(whole) => bytes = whole,
                None => return Ok(from),
            }
        }
        let mut placed = Vec::with_capacity(BATCH_RECORDS_MAX);
        let (used, end) = self.read(&bytes, &mut placed)?;
        self.lanes.append()?;
        self.sums.publish();
        self.put_keys()?;
        self.tell(&placed);
        let at = from.plus(used);
        Ok(match end {
            End::Batch => at,
            End::File => self.next_file(at),
            End::Damage(reason) if used == 0 => self.skip_damage(at, &reason)?,
            // What was read before it first.
            End::Damage(_) => at,
        })
    }

    /// Collects the entries and keys of the records in `bytes`. Returns how many bytes those were.
    fn read<'a>(&mut self, bytes: &'a [u8], placed: &mut Vec<Placed<'a>>) -> Result<(usize, End), StoreError> {
        self.keys.clear();
        let (mut at, mut touched) = (0, 0);
        while at < bytes.len() && placed.len() < BATCH_RECORDS_MAX {
            if at >= touched {
                touched = touch_ahead(bytes, at, self.usual_bytes);
            }
            let record = match record::next_entry(&bytes[at..]) {
                Ok(LogEntry::Record(record)) if record.physical_offset() == self.position.plus(at).0 => record,
                Ok(LogEntry::Record(record)) => {
                    let (magic, size) = (record.magic(), record.len() as i32);
                    return Ok((at, End::Damage(record::RecordError::UnknownMagic { magic, size })));
                }
                Ok(LogEntry::Blank { .. }) => return Ok((at, End::File)),
                Err(record::RecordError::Truncated { .. } | record::RecordError::TooShort { .. }) if at > 0 => break,
                Err(reason) => return Ok((at, End::Damage(reason))),
            };
            let offset = record.physical_offset();
            if self.sums.pass(offset as u64, &record) == Compared::Differs {
                self.parts.log.count_damaged();
                tracing::error!(offset, "header, topic or properties of a message are damaged; it is passed over");
            } else if !self.take(record, placed)? {
                break;
            }
            at += record.len();
            self.usual_bytes = record.len();
        }
        Ok((at, End::Batch))
    }

    /// Takes one record into the batch. False if its queue finds no lane: the batch must end before it.
    #[inline]
    fn take<'a>(&mut self, record: RecordView<'a>, placed: &mut Vec<Placed<'a>>) -> Result<bool, StoreError> {
        let queued = flags::is_queued(record.sys_flag());
        if flags::transaction_type(record.sys_flag()) == flags::TRANSACTION_ROLLBACK {
            return Ok(true);
        }
        let Some(at) = self.lanes.find(&self.parts.queues, record.topic(), record.queue_id())? else {
            return Ok(false);
        };
        let Some(lane) = self.lanes.at(at) else { return Ok(false) };
        let wanted = Wanted::read(record.properties());
        let (physical_offset, store_timestamp) = (PhysicalOffset(record.physical_offset()), record.store_timestamp());
        if self.parts.index.is_some() {
            let hash = lane.topic_hash;
            let entry = |key| KeyEntry { hash: hash.of(key), physical_offset, store_timestamp };
            self.keys.extend(wanted.each_key().map(entry));
        }
        if queued {
            let levels = lane.is_schedule.then_some(&self.parts.delay_levels);
            let tags_code = wanted.tags_code(levels, store_timestamp);
            let queue_offset = QueueOffset(record.queue_offset());
            let size = record.len() as i32;
            if self.lanes.push(at, NewEntry { queue_offset, physical_offset, size, tags_code })? {
                placed.push(Placed { lane: at, tags_code, record });
            }
        }
        Ok(true)
    }

    fn put_keys(&self) -> Result<(), StoreError> {
        self.parts.index.as_ref().map_or(Ok(()), |index| index.put(&self.keys))
    }

    fn tell<'a>(&'a self, placed: &[Placed<'a>]) {
        let arrival = |placed: &Placed<'a>| {
            let queue = &self.lanes.at(placed.lane)?.queue;
            let queue_offset = QueueOffset(placed.record.queue_offset());
            (queue_offset < queue.max_offset()).then_some(Arrival {
                queue,
                queue_offset,
                tags_code: placed.tags_code,
                store_timestamp: placed.record.store_timestamp(),
                record: placed.record,
            })
        };
        let arrivals: Vec<_> = placed.iter().filter_map(arrival).collect();
        if !arrivals.is_empty() {
            self.parts.listener.arrived(&arrivals);
        }
    }

    fn next_file(&self, at: PhysicalOffset) -> PhysicalOffset {
        let file_bytes = self.parts.log.files().file_bytes() as i64;
        PhysicalOffset(at.0 - at.0 % file_bytes + file_bytes)
    }

    /// Finds the next record behind damage, so that one bad record does not hide those behind it.
    #[cold]
    fn skip_damage(&self, at: PhysicalOffset, reason: &record::RecordError) -> Result<PhysicalOffset, StoreError> {
        let log = &self.parts.log;
        let readable = usize::try_from(log.confirmed().bytes_since(at)).unwrap_or(usize::MAX);
        let rest = log.read_up_to(at, readable)?;
        let found = rest.and_then(|rest| find_record(&rest, at.0 as u64, 1));
        let to = found.map_or_else(|| self.next_file(at).min(log.confirmed()), |distance| at.plus(distance));
        tracing::error!(from = at.0, to = to.0, %reason, "the log is damaged; messages in between cannot be delivered");
        Ok(to)
    }
}

/// Reads a byte of each cache line that dispatch will want of the next few records, if they are `usual_bytes` long, and
/// returns where that ends. The loads do not wait for each other, as they would from record to record.
fn touch_ahead(bytes: &[u8], at: usize, usual_bytes: usize) -> usize {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let lines = |start: usize| {
        byte(start) ^ byte(start + LINE) ^ byte(start + usual_bytes - LINE) ^ byte(start + usual_bytes - 2 * LINE)
    };
    if usual_bytes < 4 * LINE {
        // Short records follow each other closely enough for the hardware to see it.
        return bytes.len();
    }
    let starts = (0..TOUCHED_RECORDS).map(|ahead| at + ahead * usual_bytes);
    std::hint::black_box(starts.fold(0, |sum, start| sum ^ lines(start)));
    at + TOUCHED_RECORDS * usual_bytes
}

/// The size of the first record, if it goes on behind the bytes.
fn cut_record(bytes: &[u8]) -> Option<usize> {
    let size = u32::from_be_bytes(*bytes.first_chunk::<4>()?) as usize;
    (size > bytes.len()).then_some(size)
}
