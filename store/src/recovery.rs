//! The order in which a store is put right when it is opened: the log's end first, then queues and index cut back to
//! it, then what the log has and they lack dispatched again. Called by `MessageStore::open`, before anything is served.
//! What must hold: after it, log, queues and index agree; a second crash in the middle of it does no harm; and it reads
//! no more of the log than may be missing.

use std::sync::Arc;

use waspmq_protocol::message::{flags, record::RecordView};

use crate::{
    checkpoint::{Checkpoint, Dispatched, Progress},
    clock::Clock,
    commit_log::{CommitLog, Fence, Start, Tail, physical},
    config::{FlushMode, StoreConfig},
    consume_queue::ConsumeQueues,
    dispatch::{Dispatch, DispatchParts},
    error::{OpenError, StoreError},
    filter::{NoListener, QueueEntry},
    index::{Index, IndexMark, Trust},
    offsets::{PhysicalOffset, QueueOffset},
    queue::Queue,
    sums::{Compared, sum_of},
};

/// Queues that may be mapped at once. The system allows about 65,000 mappings a process by default.
const OPEN_QUEUES_MAX: usize = 16_384;

/// What opening a store found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// Messages that can be read.
    pub messages: u64,
    /// Whether the store had been closed properly.
    pub clean: bool,
    /// From where the log was read.
    pub recovered_from: PhysicalOffset,
    /// How many records were read from there.
    pub recovered_records: u64,
    /// Bytes of a half-written end that were cut off.
    pub truncated_bytes: u64,
    /// Where the log ends.
    pub end: PhysicalOffset,
    /// Damage that was found and passed over.
    pub fences: Vec<Fence>,
}

/// The parts of a store, agreeing with one another.
pub(crate) struct Recovered {
    pub(crate) parts: DispatchParts,
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) report: OpenReport,
    /// Where the dispatcher is to go on.
    pub(crate) dispatched: PhysicalOffset,
    /// Everything was in order: nothing was read, cut or dispatched, so nothing needs to be synced.
    pub(crate) untouched: bool,
    /// Queues and index were found as a killed process left them: some of it may be in memory only.
    pub(crate) unsynced: bool,
}

/// Opens all parts and puts them right. `clean` says that the last user of the folder closed it properly.
pub(crate) fn recover(config: &StoreConfig, clock: &Arc<dyn Clock>, clean: bool) -> Result<Recovered, OpenError> {
    let storage = &config.storage;
    let log = CommitLog::open(config)?;
    let checkpoint = Checkpoint::open(&**storage, &config.root)?;
    let queues = ConsumeQueues::open(
        Arc::clone(storage),
        config.root.join("consumequeue"),
        config.consume_queue_file_bytes,
        OPEN_QUEUES_MAX,
    )?;
    let some_damaged = queues.remove_damaged()?;
    let mut plan = Plan::make(&log, &checkpoint, &queues, clean)?;
    if some_damaged {
        plan.entries = Entries::Lacking;
    }
    let scanned = log.scan(plan.start, |_| {})?;
    let end = scanned.end;
    log.cut(end, plan.tail)?;
    log.recovered(scanned.newest_ms, plan.start.durable.unwrap_or(plan.start.offset));
    if log.files().is_empty() {
        queues.remove_all()?;
    }
    // Entries that were not synced may be there in part: they are dispatched again.
    let certain = if clean { physical(end) } else { physical(end).min(plan.derived) };
    settle_sums(&log, certain, plan.start.durable.is_none())?;
    // A killed dispatcher wrote nothing behind a queue's end but entries of the batch that is dispatched again.
    queues.truncate_to(certain, plan.tail == Tail::Anything)?;
    if plan.start.durable.is_none() {
        queues.cut_foreign(|queue, entry| is_own(&log, queue, entry))?;
    }
    let progress = checkpoint.progress();
    let trust = if clean { Trust::All } else { index_trust(progress, &checkpoint) };
    let (index, indexed) = open_index(config, clock, &log, trust)?;
    let parts = DispatchParts {
        log: Arc::new(log),
        queues: Arc::new(queues),
        index,
        listener: Arc::new(NoListener),
        delay_levels: config.delay_levels.clone(),
    };
    if config.flush == FlushMode::Sync {
        // Readers see only what is on the disk, and dispatch is a reader.
        parts.log.files().flush(end)?;
        checkpoint.log_synced(physical(end), scanned.newest_ms);
    }
    // Times that no record has: whatever else the file says is worth nothing either.
    let lies = scanned.records > 0 && checkpoint.newest_ms() > scanned.newest_ms;
    let from = plan.dispatch_from(&parts, indexed, lies);
    checkpoint.lower_derived(
        from,
        parts.log.store_time_at(from)?,
        parts.index.as_ref().and_then(|index| index.mark()),
    )?;
    let dispatched = dispatch(&parts, from, config)?;
    parts.queues.correct_min(parts.log.min_offset())?;
    // What was read for recovery need not stay in this process's memory.
    parts.log.files().release(plan.start.offset..end);
    let report = OpenReport {
        messages: messages(&parts.queues),
        clean,
        recovered_from: physical(plan.start.offset),
        recovered_records: scanned.records,
        truncated_bytes: scanned.torn_bytes,
        end: physical(end),
        fences: scanned.fences,
    };
    let untouched = clean && scanned.records == 0 && from >= physical(end);
    let unsynced = !clean && progress.dispatched.is_some();
    Ok(Recovered { parts, checkpoint: Arc::new(checkpoint), report, dispatched, untouched, unsynced })
}

/// How far the index of a store that was not closed is believed.
fn index_trust(progress: Progress, checkpoint: &Checkpoint) -> Trust {
    // Without a mark there was no index yet.
    let mark = |index: Option<IndexMark>| Trust::Mark(index.unwrap_or(IndexMark { name: 0, entries: 1 }));
    match progress {
        Progress { dispatched: Some(Dispatched { index, .. }), .. } => mark(index),
        Progress { durable: Some(_), index, .. } => mark(index),
        _ => Trust::Until(checkpoint.index_ms()),
    }
}

/// Dispatches the log from `from` on, and returns how far that came: not to its end if the disk is full. Then the
/// dispatcher goes on when there is room, and meanwhile everybody reads what can be read.
fn dispatch(parts: &DispatchParts, from: PhysicalOffset, config: &StoreConfig) -> Result<PhysicalOffset, OpenError> {
    let mut dispatch = Dispatch::new(parts.clone(), from);
    match dispatch.catch_up(config.watch.as_ref()) {
        Ok(()) => Ok(dispatch.position()),
        Err(error) if error.is_disk_full() => {
            tracing::error!(%error, "the disk is full: the newest messages can be read when there is room");
            // Their offsets are taken all the same.
            let start = Start { offset: dispatch.position().0.max(0) as u64, durable: Some(0), durable_ms: 0 };
            parts.log.scan(start, |record| {
                if !flags::is_queued(record.sys_flag()) {
                    return;
                }
                let queue = parts.queues.queue(record.topic(), record.queue_id());
                queue.raise_next_append(QueueOffset(record.queue_offset() + 1));
            })?;
            Ok(dispatch.position())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an entry is of its queue. RocketMQ's broker leaves entries that it cut in the file behind the queue's end, and
/// they may name what it stored at the same place of the log since. Where it lost entries, the next ones stand too low.
fn is_own(log: &CommitLog, queue: &Queue, entry: &QueueEntry) -> Result<bool, StoreError> {
    if entry.is_blank() || entry.physical_offset < log.min_offset() || queue.is_multi_dispatch() {
        return Ok(true);
    }
    let bytes = log.record_at(entry.physical_offset)?;
    let record = bytes.as_deref().and_then(|bytes| RecordView::parse(bytes, false).ok());
    Ok(record.is_some_and(|record| {
        // What a damaged record says of its place proves nothing.
        let damaged = || log.sums().compare(entry.physical_offset.0 as u64, &record) == Compared::Differs;
        let place = (record.topic(), record.queue_id());
        (place == (queue.topic(), queue.id()) && record.queue_offset() >= entry.queue_offset.0) || damaged()
    }))
}

/// Sums of records from `certain` on are noted again. Where another broker has stored other records there are none.
fn settle_sums(log: &CommitLog, certain: PhysicalOffset, strangers: bool) -> Result<(), StoreError> {
    let (sums, certain) = (log.sums(), certain.0.max(0) as u64);
    sums.delete_before(log.files().min_offset())?;
    // A power cut may have left sums of records that are gone.
    sums.truncate_to(log.files().wrote())?;
    let end = sums.own_end(strangers, |offset, sum| has_sum(log, offset, sum))?;
    sums.start_at(end, certain)
}

fn has_sum(log: &CommitLog, offset: u64, sum: u32) -> bool {
    let bytes = log.record_at(physical(offset)).ok().flatten();
    let record = bytes.as_deref().and_then(|bytes| RecordView::parse(bytes, false).ok());
    record.is_some_and(|record| sum_of(&record) == sum)
}

/// How many messages can be read.
pub(crate) fn messages(queues: &ConsumeQueues) -> u64 {
    let held = |queue: Arc<crate::queue::Queue>| queue.max_offset().0.saturating_sub(queue.min_offset().0);
    queues.all().into_iter().map(held).map(|held| u64::try_from(held).unwrap_or(0)).sum()
}

/// What is known of the queues' entries below `derived`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entries {
    /// The queues are as long as they were noted to be, however far the newest entry reaches: a topic may be deleted.
    AllThere,
    /// They are not.
    Lacking,
    Unknown,
}

/// What is known before the log is read.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    start: Start,
    /// Queues and index are complete below, as far as the notes of the last run go.
    derived: PhysicalOffset,
    /// What the bytes behind the end may be.
    tail: Tail,
    entries: Entries,
    /// Nothing but RocketMQ's checkpoint is known of a run that was not ended.
    only_times: bool,
}

impl Plan {
    fn make(log: &CommitLog, checkpoint: &Checkpoint, queues: &ConsumeQueues, clean: bool) -> Result<Self, StoreError> {
        let min = log.files().min_offset();
        let at_least_min = |offset: PhysicalOffset| (offset.0 as u64).max(min);
        match checkpoint.progress() {
            Progress { clean_end: Some(end), bounds, .. } if clean => {
                let start = Start { offset: at_least_min(end), durable: Some(end.0 as u64), durable_ms: 0 };
                let found = queues.bounds();
                let entries = match bounds {
                    Some(noted) if noted == found => Entries::AllThere,
                    Some(_) => {
                        tracing::warn!("somebody has deleted files of queues; they are made anew from the log");
                        queues.clear_cut_off(physical(min))?;
                        Entries::Lacking
                    }
                    None => Entries::Unknown,
                };
                Ok(Plan { start, derived: end, tail: Tail::Zeros, entries, only_times: false })
            }
            // The process was killed, no more: all it wrote is there, but for what it was writing.
            Progress { durable: Some(durable), dispatched: Some(dispatched), .. } => {
                let end = dispatched.end;
                let start = Start { offset: at_least_min(end), durable: Some(durable.0 as u64), durable_ms: 0 };
                Ok(Plan { start, derived: end, tail: Tail::HalfARecord, entries: Entries::Unknown, only_times: false })
            }
            Progress { durable: Some(durable), derived, .. } => {
                let derived = derived.unwrap_or_default().min(durable);
                let start = Start { offset: at_least_min(derived), durable: Some(durable.0 as u64), durable_ms: 0 };
                Ok(Plan { start, derived, tail: Tail::Anything, entries: Entries::Unknown, only_times: false })
            }
            _ => Plan::without_progress(log, checkpoint, queues.dispatched_end(), clean),
        }
    }

    /// Another broker has used the folder, or nobody yet: what RocketMQ's own files say.
    fn without_progress(
        log: &CommitLog,
        checkpoint: &Checkpoint,
        dispatched_end: Option<PhysicalOffset>,
        clean: bool,
    ) -> Result<Self, StoreError> {
        if !clean {
            let offset = log.start_by_time(checkpoint.min_ms())?;
            let start = Start { offset, durable: None, durable_ms: checkpoint.log_ms() };
            return Ok(Plan {
                start,
                derived: physical(offset),
                tail: Tail::Anything,
                entries: Entries::Unknown,
                only_times: true,
            });
        }
        let derived = dispatched_end.unwrap_or_default();
        // Behind the last dispatched record the log either ends, which nothing proves, or goes on with another.
        let offset = match dispatched_end.map(|end| end.0 as u64) {
            Some(end) if log.is_entry(end)? => end,
            _ => log.start_by_time(i64::MAX)?,
        };
        Ok(Plan {
            start: Start { offset, durable: None, durable_ms: i64::MAX },
            derived,
            tail: Tail::Anything,
            entries: Entries::Unknown,
            only_times: false,
        })
    }

    /// From where on the log must be dispatched again: what queues and index have is recognised and passed over.
    fn dispatch_from(&self, parts: &DispatchParts, indexed: Option<PhysicalOffset>, lies: bool) -> PhysicalOffset {
        if self.only_times && lies {
            tracing::warn!("the checkpoint names times that no message has; the whole log is gone through");
            return parts.log.min_offset();
        }
        let queued = match self.entries {
            Entries::AllThere => self.derived,
            Entries::Lacking => return parts.log.min_offset(),
            // None at all: they are rebuilt from the first record.
            Entries::Unknown => parts.queues.dispatched_end().unwrap_or_default(),
        };
        // A batch may have come into some of its queues only, but none is of two files.
        let batch = queued.0 % parts.log.files().file_bytes() as i64;
        let queued = if self.only_times { PhysicalOffset(queued.0 - batch) } else { queued };
        let from = self.derived.min(queued);
        indexed.map_or(from, |indexed| from.min(indexed)).max(parts.log.min_offset())
    }
}

/// Opens the index. Returns from where it must be filled again, if it may lack more than the queues do.
fn open_index(
    config: &StoreConfig,
    clock: &Arc<dyn Clock>,
    log: &CommitLog,
    trust: Trust,
) -> Result<(Option<Arc<Index>>, Option<PhysicalOffset>), StoreError> {
    if !config.index_enable {
        return Ok((None, None));
    }
    let dir = config.root.join("index");
    let index = Index::open(Arc::clone(&config.storage), Arc::clone(clock), dir, config.index_shape, trust)?;
    // What was cut from the log since must not keep what came in its place from being indexed.
    let cut = index.drop_from(log.max_offset())?;
    let refill = match trust {
        _ if cut => Some(index.last_update().1),
        // Untrusted files are gone, and what is left ends anywhere.
        Trust::Until(_) => Some(index.last_update().1),
        Trust::Mark(mark) if mark.name > 0 && index.is_empty() => Some(log.min_offset()),
        // Another broker has used the folder since: Java's deletes the newest file after a crash, and begins another.
        Trust::Mark(mark) if mark.name > 0 && index.mark() != Some(mark) => Some(index.last_update().1),
        _ => None,
    };
    Ok((Some(Arc::new(index)), refill))
}
