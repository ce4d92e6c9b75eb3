//! A store in memory with small files, and the few verbs the tests need.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use waspmq_protocol::message::record;
use waspmq_store::{
    Append, AppendError, Appended, Durability, GetRequest, GetStatus, IndexShape, Item, Items, MessageStore,
    NoListener, OpenError, QueueOffset, RetentionRules, StoreConfig,
    clock::{Clock, SystemClock},
    storage::{MemoryStorage, Storage},
};

/// Every commit log file of a rig.
pub(crate) const FILE_BYTES: u64 = 4096;
/// Where a rig's store lies.
pub(crate) const ROOT: &str = "/store";

/// A fake disk that stores are opened on, one after another.
pub(crate) struct Rig {
    pub(crate) storage: Arc<MemoryStorage>,
    pub(crate) config: StoreConfig,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Rig::on(MemoryStorage::new())
    }

    pub(crate) fn on(storage: MemoryStorage) -> Self {
        let storage = Arc::new(storage);
        let config = StoreConfig {
            storage: Arc::clone(&storage) as _,
            store_host: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), 10911)),
            commit_log_file_bytes: FILE_BYTES,
            consume_queue_file_bytes: 200,
            index_shape: IndexShape { slots: 7, entries: 50 },
            flush_interval: Duration::from_millis(20),
            // Some tests store messages of years ago, and may run in the hour in which such are deleted.
            retention: RetentionRules { reserved: Duration::from_secs(u32::MAX.into()), ..RetentionRules::default() },
            ..StoreConfig::new(ROOT)
        };
        Rig { storage, config }
    }

    pub(crate) fn open(&self) -> Arc<MessageStore> {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Arc<MessageStore>, OpenError> {
        MessageStore::open(self.config.clone(), Arc::new(NoListener), Arc::new(SystemClock::new()))
    }

    /// The disk after a power cut; the store that was open on this one knows nothing of it.
    pub(crate) fn power_cut(&self, seed: u64) -> Rig {
        Rig { config: self.config.clone(), ..Rig::on(self.storage.power_cut(seed)) }.with_its_storage()
    }

    fn with_its_storage(mut self) -> Rig {
        self.config.storage = Arc::clone(&self.storage) as _;
        self
    }

    /// The names in a folder of the store.
    pub(crate) fn files(&self, dir: &str) -> Vec<String> {
        let entries = self.storage.list(&Path::new(ROOT).join(dir)).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        self.storage.space(Path::new(ROOT)).unwrap().used
    }

    pub(crate) fn bytes_of(&self, name: &str) -> Vec<u8> {
        self.storage.read(&Path::new(ROOT).join(name)).unwrap()
    }
}

pub(crate) fn one<'a>(queue: &'a Arc<waspmq_store::Queue>, items: Items<'a>) -> Append<'a> {
    Append {
        queue,
        born_host: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 1234)),
        items,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        wait_durable: false,
    }
}

/// Stores one message and returns where.
pub(crate) fn append(store: &MessageStore, topic: &str, queue_id: i32, body: &[u8]) -> Result<Appended, AppendError> {
    append_all(store, topic, queue_id, &[body])
}

/// Stores one message that can be found by a key.
pub(crate) fn append_keyed(
    store: &MessageStore,
    topic: &str,
    queue_id: i32,
    body: &[u8],
    key: &str,
) -> Result<Appended, AppendError> {
    let (queue, properties) = (store.queue(topic, queue_id), format!("KEYS\x01{key}\x02"));
    let items = Items::One(Item { flag: 0, body, properties: properties.as_bytes() });
    let mut out = Vec::new();
    store.append(&[one(&queue, items)], &mut out);
    out.pop().unwrap()
}

/// Stores a batch of messages, or one.
pub(crate) fn append_all(
    store: &MessageStore,
    topic: &str,
    queue_id: i32,
    bodies: &[&[u8]],
) -> Result<Appended, AppendError> {
    let queue = store.queue(topic, queue_id);
    let items: Vec<_> = bodies.iter().map(|body| Item { flag: 0, body, properties: b"TAGS\x01TagA\x02" }).collect();
    let items = if let [item] = items[..] { Items::One(item) } else { Items::Batch(&items) };
    let mut out = Vec::new();
    store.append(&[one(&queue, items)], &mut out);
    out.pop().unwrap()
}

/// Waits until dispatch has made everything stored so far readable.
pub(crate) fn settle(store: &MessageStore) {
    while store.stats().dispatch_behind_bytes > 0 {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// All bodies of a queue, from its first message on.
pub(crate) fn bodies(store: &MessageStore, topic: &str, queue_id: i32) -> Vec<Vec<u8>> {
    let Some(queue) = store.find_queue(topic, queue_id) else { return Vec::new() };
    let mut bodies = Vec::new();
    let mut offset = QueueOffset(queue.min_offset().0);
    loop {
        let got = store.get(&queue, &GetRequest { offset, count_max: 32, bytes_max: 1 << 20 }, None);
        if got.status != GetStatus::Found {
            assert!(
                matches!(got.status, GetStatus::OffsetOverflowOne | GetStatus::NoMessageInQueue),
                "{:?} at {offset:?}",
                got.status
            );
            return bodies;
        }
        for piece in &got.records {
            for view in record::records(piece) {
                let view = view.unwrap();
                assert_eq!((view.topic(), view.queue_id()), (topic, queue_id));
                assert_eq!(view.queue_offset(), offset.0 + bodies.len() as i64 - (offset.0 - queue.min_offset().0));
                bodies.push(view.body().to_vec());
            }
        }
        offset = got.next_begin_offset;
    }
}

/// The same where some messages cannot be read: they are passed over.
pub(crate) fn bodies_around_damage(store: &MessageStore, topic: &str, queue_id: i32) -> Vec<Vec<u8>> {
    let Some(queue) = store.find_queue(topic, queue_id) else { return Vec::new() };
    let mut bodies = Vec::new();
    let mut offset = queue.min_offset();
    while offset < queue.max_offset() {
        let got = store.get(&queue, &GetRequest { offset, count_max: 32, bytes_max: 1 << 20 }, None);
        assert!(got.next_begin_offset > offset, "{:?} at {offset:?}", got.status);
        let views = got.records.iter().flat_map(|piece| record::records(piece));
        bodies.extend(views.map(|view| view.unwrap().body().to_vec()));
        offset = got.next_begin_offset;
    }
    bodies
}

/// What becomes of a wait for everything stored so far.
pub(crate) fn wait_durable(store: &MessageStore, timeout: Duration) -> Durability {
    let (told, tell) = mpsc::channel();
    let deadline = SystemClock::new().monotonic() + timeout;
    let done = Box::new(move |durability| told.send(durability).unwrap());
    store.when_durable(store.stats().max_offset, deadline, done);
    tell.recv_timeout(Duration::from_secs(20)).unwrap()
}
