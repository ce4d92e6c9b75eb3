//! For tests of what is derived from the log: a real commit log on a disk made of memory, with queues, index and a
//! dispatcher that runs when told. Not part of the store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::clock::{Clock, SettableClock};
use crate::commit_log::{Append, Appended, CommitLog, Item, Items};
use crate::config::StoreConfig;
use crate::consume_queue::{ConsumeQueues, ENTRY_BYTES};
use crate::dispatch::{DelayLevels, Dispatch, DispatchParts};
use crate::error::AppendError;
use crate::filter::{Arrival, ArrivalListener};
use crate::index::{Index, IndexShape, Trust};
use crate::offsets::PhysicalOffset;
use crate::queue::Queue;
use crate::storage::{MemoryStorage, Storage};

pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// Everything that was told to the listener: topic, queue, queue offset, tags code, body.
pub(crate) type Heard = (String, i32, i64, i64, Vec<u8>);

#[derive(Default)]
pub(crate) struct Ear(pub(crate) Mutex<Vec<Heard>>);

impl ArrivalListener for Ear {
    fn arrived(&self, arrivals: &[Arrival<'_>]) {
        let mut heard = self.0.lock().unwrap();
        for arrival in arrivals {
            assert!(arrival.queue_offset < arrival.queue.max_offset(), "told before it can be read");
            heard.push((
                arrival.queue.topic().to_string(),
                arrival.queue.id(),
                arrival.queue_offset.0,
                arrival.tags_code,
                arrival.record.body().to_vec(),
            ));
        }
    }
}

pub(crate) struct Rig {
    pub(crate) storage: Arc<MemoryStorage>,
    pub(crate) clock: Arc<SettableClock>,
    pub(crate) log: Arc<CommitLog>,
    pub(crate) queues: Arc<ConsumeQueues>,
    pub(crate) index: Arc<Index>,
    pub(crate) ear: Arc<Ear>,
    pub(crate) dispatch: Dispatch,
}

pub(crate) const QUEUES_DIR: &str = "/store/consumequeue";
pub(crate) const LOG_FILE_BYTES: u64 = 4096;
/// Ten entries a file.
pub(crate) const QUEUE_FILE_BYTES: u64 = 10 * ENTRY_BYTES as u64;

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_log_end(Arc::new(MemoryStorage::new()), 0)
    }

    /// Opens what is on the disk; the log ends at `end`.
    pub(crate) fn with_log_end(storage: Arc<MemoryStorage>, end: u64) -> Self {
        let config = StoreConfig {
            storage: Arc::clone(&storage) as _,
            commit_log_file_bytes: LOG_FILE_BYTES,
            consume_queue_file_bytes: QUEUE_FILE_BYTES,
            ..StoreConfig::new("/store")
        };
        let log = CommitLog::open(&config).unwrap();
        log.files().set_wrote(end);
        log.sums().start_at(end, end).unwrap();
        log.start_appending().unwrap();
        Self::assemble(storage, Arc::new(log))
    }

    fn assemble(storage: Arc<MemoryStorage>, log: Arc<CommitLog>) -> Self {
        let clock = Arc::new(SettableClock::new(START_MS));
        let disk: Arc<dyn Storage> = Arc::clone(&storage) as _;
        let queues = ConsumeQueues::open(Arc::clone(&disk), QUEUES_DIR.into(), QUEUE_FILE_BYTES, 4).unwrap();
        let shape = IndexShape { slots: 11, entries: 40 };
        let index = Index::open(disk, Arc::clone(&clock) as _, "/store/index".into(), shape, Trust::All).unwrap();
        let (queues, index, ear) = (Arc::new(queues), Arc::new(index), Arc::new(Ear::default()));
        let parts = DispatchParts {
            log: Arc::clone(&log),
            queues: Arc::clone(&queues),
            index: Some(Arc::clone(&index)),
            listener: Arc::clone(&ear) as _,
            delay_levels: DelayLevels::default(),
        };
        let from = queues.dispatched_end().unwrap_or(PhysicalOffset(0));
        Self { storage, clock, log, queues, index, ear, dispatch: Dispatch::new(parts, from) }
    }

    /// Opens the same disk again, as after a clean stop.
    pub(crate) fn reopen(&self) -> Self {
        Self::with_log_end(Arc::clone(&self.storage), self.log.files().wrote())
    }

    /// A dispatch of its own, from `from` on.
    pub(crate) fn dispatch_from(&self, from: PhysicalOffset) -> Dispatch {
        Dispatch::new(self.parts(), from)
    }

    pub(crate) fn parts(&self) -> DispatchParts {
        DispatchParts {
            log: Arc::clone(&self.log),
            queues: Arc::clone(&self.queues),
            index: Some(Arc::clone(&self.index)),
            listener: Arc::clone(&self.ear) as _,
            delay_levels: DelayLevels::default(),
        }
    }

    pub(crate) fn append(&self, queue: &Arc<Queue>, body: &[u8], properties: &[u8]) -> Appended {
        self.append_flagged(queue, body, properties, 0).unwrap()
    }

    pub(crate) fn append_flagged(
        &self,
        queue: &Arc<Queue>,
        body: &[u8],
        properties: &[u8],
        sys_flag: i32,
    ) -> Result<Appended, AppendError> {
        let message = Append {
            queue,
            born_host: SocketAddr::from(([10, 0, 0, 1], 1234)),
            items: Items::One(Item { flag: 0, body, properties }),
            sys_flag,
            born_timestamp: self.clock.now_ms(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            wait_durable: false,
        };
        let mut out = Vec::new();
        self.log.append(&[message], &*self.clock, &mut out);
        out.pop().unwrap()
    }

    /// Appends `count` messages with bodies `0`, `1`, …, and dispatches them.
    pub(crate) fn fill(&mut self, topic: &str, id: i32, count: usize) -> Arc<Queue> {
        let queue = self.queues.queue(topic, id);
        for n in 0..count {
            self.append(&queue, n.to_string().as_bytes(), b"");
        }
        self.dispatch.catch_up(None).unwrap();
        queue
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.ear.0.lock().unwrap())
    }

    pub(crate) fn queue_file(&self, topic: &str, id: i32, start: u64) -> Vec<u8> {
        self.storage.read(&Path::new(QUEUES_DIR).join(format!("{topic}/{id}/{start:020}"))).unwrap()
    }
}
