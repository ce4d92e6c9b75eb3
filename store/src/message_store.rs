//! The store as its users see it: open, append, wait for the disk, read, look up, close. The only entry.
//! Owns the parts and the threads that follow the log, and ends them in the right order. What must hold: `abort` lies in
//! the data folder from the first append that could be lost until everything is on the disk.

mod by_hand;

use std::{
    any::Any,
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;

pub use self::by_hand::Work;
use crate::{
    checkpoint::Checkpoint,
    clock::Clock,
    commit_log::{Append, Appended, CommitLog},
    config::StoreConfig,
    consume_queue::ConsumeQueues,
    derived::Derived,
    dispatch::{Dispatch, Dispatcher},
    error::{AppendError, AtPath, OpenError, StoreError},
    filter::{ArrivalListener, MessageFilter},
    flush::{Durability, Flush},
    get::{self, GetRequest, GetResult},
    index::Index,
    offsets::{PhysicalOffset, QueueOffset},
    populate::Populate,
    query::{self, Boundary, KeyQuery, QueryResult},
    queue::Queue,
    recovery::{self, OpenReport},
    retention::{DiskStatus, Retention, RetentionParts},
    storage::{Blocks, Storage},
};

/// How long a clean stop waits for the dispatcher to reach the end of the log.
const DISPATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages on disk, found by queue and offset, by key and by time. Shared by everything that serves requests.
pub struct MessageStore {
    config: StoreConfig,
    clock: Arc<dyn Clock>,
    log: Arc<CommitLog>,
    queues: Arc<ConsumeQueues>,
    index: Option<Arc<Index>>,
    checkpoint: Arc<Checkpoint>,
    dispatcher: Arc<Dispatcher>,
    flush: Arc<Flush>,
    derived: Arc<Derived>,
    populate: Arc<Populate>,
    retention: Arc<Retention>,
    running: Mutex<Running>,
    report: OpenReport,
}

/// What ends with the store.
#[derive(Default)]
struct Running {
    threads: Vec<JoinHandle<()>>,
    lock: Option<Box<dyn Any + Send + Sync>>,
    ended: Option<ShutdownReport>,
}

/// What a clean stop leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Messages that can be read.
    pub messages: u64,
    /// Whether everything is on the disk and dispatched: if not, the next start recovers.
    pub clean: bool,
}

/// Figures of a running store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Messages that can be read.
    pub messages: u64,
    /// Oldest byte of the log.
    pub min_offset: PhysicalOffset,
    /// One past the newest record.
    pub max_offset: PhysicalOffset,
    /// One past the newest byte on the disk.
    pub durable: PhysicalOffset,
    /// Bytes of the log that are not in queues and index yet.
    pub dispatch_behind_bytes: u64,
    /// How many appends were slowed down because that was too much.
    pub backlog_waits: u64,
    /// Store time of the newest record, ms; 0 if none was stored since the store was opened.
    pub newest_ms: i64,
    /// How often a damaged message was asked for, and not served.
    pub damaged: u64,
}

impl MessageStore {
    /// Opens the store in the data folder, putting it right if it was not closed properly, and starts its threads.
    ///
    /// # Errors
    /// If the settings are wrong, another broker works on the folder, a file cannot be used, or the log is damaged
    /// before its end.
    pub fn open(
        config: StoreConfig,
        listener: Arc<dyn ArrivalListener>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<MessageStore>, OpenError> {
        let store = Self::assemble(config, listener, clock, Dispatcher::start)?;
        store.start_threads()?;
        Ok(Arc::new(store))
    }

    fn assemble(
        config: StoreConfig,
        listener: Arc<dyn ArrivalListener>,
        clock: Arc<dyn Clock>,
        start_dispatcher: impl FnOnce(Dispatch, Arc<Checkpoint>) -> Result<Dispatcher, OpenError>,
    ) -> Result<MessageStore, OpenError> {
        config.check().map_err(|reason| OpenError::Config { reason })?;
        let (storage, root) = (&*config.storage, &*config.root);
        storage.create_dir(root).at_path("creating the data folder", root)?;
        let lock = take_lock(storage, root)?;
        let abort = root.join("abort");
        let clean = storage.file_bytes(&abort).at_path("looking at", &abort)?.is_none();
        let recovery::Recovered { mut parts, checkpoint, report, dispatched, untouched, unsynced } =
            recovery::recover(&config, &clock, clean)?;
        mark_unclean(storage, &abort)?;
        storage.sync_dir(root).at_path("syncing the folder", root)?;
        parts.log.start_appending()?;
        parts.listener = listener;
        let (log, queues, index) = (Arc::clone(&parts.log), Arc::clone(&parts.queues), parts.index.clone());
        let dispatcher = Arc::new(start_dispatcher(Dispatch::new(parts, dispatched), Arc::clone(&checkpoint))?);
        let flush = Flush::new(Arc::clone(&log), Arc::clone(&checkpoint), Arc::clone(&clock), &config);
        let derived = Arc::new(Derived::new(
            Arc::clone(&log),
            Arc::clone(&queues),
            index.clone(),
            Arc::clone(&dispatcher),
            Arc::clone(&checkpoint),
        ));
        if unsynced {
            derived.sync_all_first(Arc::clone(&config.storage), root.to_owned());
        }
        if untouched {
            derived.all_synced(report.end);
        }
        let retention = Retention::new(
            RetentionParts {
                log: Arc::clone(&log),
                queues: Arc::clone(&queues),
                index: index.clone(),
                dispatcher: Arc::clone(&dispatcher),
                derived: Arc::clone(&derived),
                clock: Arc::clone(&clock),
            },
            &config,
        );
        Ok(MessageStore {
            retention: Arc::new(retention),
            populate: Arc::new(Populate::new(Arc::clone(&log), &config)),
            running: Mutex::new(Running { lock: Some(lock), ..Running::default() }),
            flush: Arc::new(flush),
            derived,
            config,
            clock,
            log,
            queues,
            index,
            checkpoint,
            dispatcher,
            report,
        })
    }

    fn start_threads(&self) -> Result<(), OpenError> {
        let mut running = self.running();
        let mut start = |name: &'static str, work: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.into()).spawn(work);
            thread.map(|thread| running.threads.push(thread)).map_err(|source| OpenError::Thread { name, source })
        };
        let (populate, clock) = (Arc::clone(&self.populate), Arc::clone(&self.clock));
        start("populate", Box::new(move || populate.run(&*clock)))?;
        let flush = Arc::clone(&self.flush);
        start("flush", Box::new(move || flush.run()))?;
        let flush = Arc::clone(&self.flush);
        start("flush-deadlines", Box::new(move || flush.run_deadlines()))?;
        let (derived, clock) = (Arc::clone(&self.derived), Arc::clone(&self.clock));
        start("flush-derived", Box::new(move || derived.run(&*clock)))?;
        let retention = Arc::clone(&self.retention);
        start("retention", Box::new(move || retention.run()))
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What opening this store found and did.
    pub fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Limits bodies from now on (`maxMessageSize` may be changed while the broker runs).
    pub fn set_body_bytes_max(&self, bytes: usize) {
        self.log.set_body_bytes_max(bytes);
    }

    /// The queue, made if there is none. Keep it: this is a look-up by name.
    pub fn queue(&self, topic: &str, queue_id: i32) -> Arc<Queue> {
        self.queues.queue(topic, queue_id)
    }

    /// The queue, if anything was ever asked of it or stored in it.
    pub fn find_queue(&self, topic: &str, queue_id: i32) -> Option<Arc<Queue>> {
        self.queues.find(topic, queue_id)
    }

    /// Every queue.
    pub fn all_queues(&self) -> Vec<Arc<Queue>> {
        self.queues.all()
    }

    /// Stores all messages under one short lock; `out` gets one result for each, in order. Does not wait for the disk.
    pub fn append(&self, messages: &[Append<'_>], out: &mut Vec<Result<Appended, AppendError>>) {
        self.log.append(messages, &*self.clock, out);
    }

    /// Why messages are refused at the moment, if they are.
    pub fn refusal(&self) -> Option<AppendError> {
        self.log.refusal()
    }

    /// How full the disk was when it was last looked at, and what that means.
    pub fn disk(&self) -> DiskStatus {
        self.retention.disk()
    }

    /// One past the newest byte that is on the disk.
    pub fn durable(&self) -> PhysicalOffset {
        self.log.durable()
    }

    /// Calls `done` once: when `offset` is on the disk, or at `deadline` on the store's clock (`Clock::monotonic`), or
    /// when it is certain that it never will be. Starts a sync; all who wait share it. `done` runs on the flushing
    /// thread, or at once on the caller's, and must be quick.
    pub fn when_durable(&self, offset: PhysicalOffset, deadline: Duration, done: Box<dyn FnOnce(Durability) + Send>) {
        self.flush.when_durable(offset, deadline, done);
    }

    /// Reads a queue, see [`GetRequest`]. `filter` decides which messages are wanted; without one, all are.
    pub fn get(&self, queue: &Queue, request: &GetRequest, filter: Option<&mut dyn MessageFilter>) -> GetResult {
        get::get(&self.log, queue, request, filter)
    }

    /// Whether [`get`](Self::get) may have to wait for the disk: not on a thread that has others to serve.
    pub fn may_wait(&self, queue: &Queue, request: &GetRequest) -> bool {
        get::may_wait(&self.log, queue, request)
    }

    /// The record that begins at `offset`, if one does.
    pub fn record_at(&self, offset: PhysicalOffset) -> Result<Option<Bytes>, StoreError> {
        query::record_at(&self.log, offset)
    }

    /// The newest messages with a key. Nothing is found while the index is switched off.
    pub fn query(&self, query: &KeyQuery<'_>) -> Result<QueryResult, StoreError> {
        match &self.index {
            Some(index) => query::by_key(&self.log, index, query),
            None => Ok(QueryResult::default()),
        }
    }

    /// When the message at `offset` of the queue was stored, ms; `None` if it is not there.
    pub fn store_time_of(&self, queue: &Queue, offset: QueueOffset) -> Result<Option<i64>, StoreError> {
        query::store_time_of(&self.log, queue, offset)
    }

    /// The offset of the queue that a time means.
    pub fn offset_by_time(&self, queue: &Queue, time_ms: i64, boundary: Boundary) -> Result<QueueOffset, StoreError> {
        query::offset_by_time(&self.log, queue, time_ms, boundary)
    }

    /// Store time of the oldest record, ms; `None` for an empty store.
    pub fn earliest_store_time(&self) -> Result<Option<i64>, StoreError> {
        query::earliest_store_time(&self.log)
    }

    /// Whether the queue's very first message is still held, near enough to the log's end to be in memory on a machine
    /// with `memory_bytes`.
    pub fn first_record_in_memory(&self, queue: &Queue, memory_bytes: u64) -> Result<bool, StoreError> {
        query::first_record_in_memory(&self.log, queue, memory_bytes)
    }

    /// Figures of this moment.
    pub fn stats(&self) -> StoreStats {
        let max_offset = self.log.max_offset();
        StoreStats {
            messages: recovery::messages(&self.queues),
            min_offset: self.log.min_offset(),
            max_offset,
            durable: self.log.durable(),
            dispatch_behind_bytes: max_offset.bytes_since(self.dispatcher.position()),
            backlog_waits: self.log.backlog_waits(),
            newest_ms: self.log.newest_ms(),
            damaged: self.log.damaged_reads(),
        }
    }

    /// Forgets a topic: its queues at once, their files as soon as the dispatcher is past its last message. Its
    /// records stay in the log until their file is deleted.
    pub fn delete_topic(&self, topic: &str) -> Result<(), StoreError> {
        // Inside the append lock: whoever appends next sees that the queues are gone.
        let end = self.log.while_still(|| {
            self.queues.mark_deleted(topic);
            self.log.max_offset()
        });
        if !self.dispatcher.wait_for(end, DISPATCH_TIMEOUT) {
            tracing::warn!(
                topic,
                "the dispatcher is far behind; the topic's last messages may come back after a crash"
            );
        }
        self.queues.remove_topic(topic)
    }

    /// Deletes the files of the log that end at or before `offset`, never the last one, and what queues and index hold
    /// of them. Returns how many files of the log went.
    pub fn delete_before(&self, offset: PhysicalOffset) -> Result<usize, StoreError> {
        self.retention.delete_before(offset)
    }

    /// Closes the store: takes no more messages, brings everything to the disk and into queues and index, and ends the
    /// threads. Again: the same report.
    pub fn shutdown(&self) -> ShutdownReport {
        let mut running = self.running();
        if let Some(report) = running.ended {
            return report;
        }
        self.log.refuse(Some(AppendError::ShuttingDown));
        // Whoever is in the append lock now is let out.
        let end = self.log.while_still(|| self.log.max_offset());
        self.end_threads(&mut running);
        let poisoned = matches!(self.log.refusal(), Some(AppendError::Poisoned { .. }));
        let flushed = !poisoned && self.flush.flush_once().is_ok();
        let dispatched = flushed && self.dispatcher.wait_for(end, DISPATCH_TIMEOUT);
        self.dispatcher.stop();
        let derived = self.derived.sync().is_ok() && self.derived.is_whole();
        let clean = dispatched && derived && self.mark_clean(end);
        if !clean {
            tracing::warn!(flushed, dispatched, derived, "not everything is on the disk; the next start will recover");
        }
        self.flush.close("the broker was shut down".into());
        let report = ShutdownReport { messages: recovery::messages(&self.queues), clean };
        running.ended = Some(report);
        running.lock = None;
        report
    }

    /// Notes where the log ends and takes `abort` away.
    fn mark_clean(&self, end: PhysicalOffset) -> bool {
        let (storage, root) = (&self.config.storage, &*self.config.root);
        let abort = root.join("abort");
        let marked = self.checkpoint.flush_closed(end, self.queues.bounds()).and_then(|()| {
            storage.remove(&abort).at_path("deleting", &abort)?;
            storage.sync_dir(root).at_path("syncing the folder", root)
        });
        if let Err(error) = &marked {
            tracing::error!(%error, "the store could not be marked as closed");
        }
        marked.is_ok()
    }

    fn end_threads(&self, running: &mut Running) {
        self.populate.stop();
        self.retention.stop();
        self.flush.stop();
        self.derived.stop();
        for thread in running.threads.drain(..) {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
    }
}

/// A store that is dropped without being closed ends like a killed process: nothing more is written.
impl Drop for MessageStore {
    fn drop(&mut self) {
        let mut running = std::mem::take(&mut *self.running());
        self.end_threads(&mut running);
        self.dispatcher.stop();
        self.flush.close("the store was dropped".into());
    }
}

impl fmt::Debug for MessageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStore").field("root", &self.config.root).finish_non_exhaustive()
    }
}

/// Leaves the mark of a store in use, with this process's number in it if there is room: that it is there is enough.
fn mark_unclean(storage: &dyn Storage, abort: &Path) -> Result<(), StoreError> {
    match storage.write(abort, std::process::id().to_string().as_bytes()).at_path("writing", abort) {
        // A broker on a full disk serves what it has.
        Err(error) if error.is_disk_full() => match storage.file_bytes(abort).at_path("looking at", abort)? {
            Some(_) => Ok(()),
            None => storage.create(abort, 0, Blocks::Sparse).at_path("creating", abort),
        },
        done => done,
    }
}

pub(crate) fn take_lock(storage: &dyn Storage, root: &Path) -> Result<Box<dyn Any + Send + Sync>, OpenError> {
    let path = root.join("lock");
    match storage.lock(&path) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let pid = storage
                .read(&root.join("abort"))
                .ok()
                .and_then(|pid| String::from_utf8(pid).ok())
                .filter(|pid| !pid.trim().is_empty());
            let holder = pid.map_or("another process".into(), |pid| format!("process {}", pid.trim()));
            Err(OpenError::Locked { root: root.to_owned(), holder })
        }
        Err(source) => Err(StoreError::Io { action: "locking", path, source }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NoListener, clock::SystemClock, storage::MemoryStorage};

    #[test]
    fn what_could_not_be_synced_is_not_relied_on_after_a_kill() {
        let storage = Arc::new(MemoryStorage::new());
        let config = StoreConfig { storage: Arc::clone(&storage) as _, ..StoreConfig::new("/store") };
        let config = StoreConfig { commit_log_file_bytes: 4096, ..config };
        let open = || MessageStore::open(config.clone(), Arc::new(NoListener), Arc::new(SystemClock::new())).unwrap();
        open().shutdown();
        let store = open();
        assert!(store.checkpoint.progress().dispatched.is_some());
        storage.fail_syncs(true);
        store.derived.sync().unwrap_err();
        assert_eq!(store.checkpoint.progress().dispatched, None);
    }
}
