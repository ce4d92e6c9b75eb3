//! One life of a disk: a store on it is used, closed, killed and opened again, as chance will have it, while crashes are
//! taken of the disk between its operations. Afterwards each crash is looked at.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use waspmq_store::{
    Append, Durability, FlushMode, IndexShape, Item, Items, MessageStore, NoListener, RetentionRules, StoreConfig,
    Work,
    clock::{Clock, SettableClock},
    persist::PersistedTable,
    storage::MemoryStorage,
};

use crate::{
    Seen,
    check::{Crash, Fate, check},
    model::{Deletion, Model, QUEUES, QueueKey, Sent, TOPICS, body, properties_of},
    number,
    random::Random,
};

pub(crate) const ROOT: &str = "/store";
pub(crate) const TABLE: &str = "/store/config/offsets.json";
const START_MS: i64 = 1_700_000_000_000;

/// What the driver and the disk's watcher share.
struct Shared {
    model: Mutex<Model>,
    store: Mutex<Option<Arc<MessageStore>>>,
    clock: Arc<SettableClock>,
    crashes: Mutex<Crashes>,
    /// Something else may happen while the disk works: no lock of the store is held.
    meanwhile: AtomicBool,
}

struct Crashes {
    random: Random,
    /// One in so many operations.
    chance: u64,
    taken: Vec<Crash>,
}

/// One life.
pub(crate) struct Life {
    pub(crate) storage: Arc<MemoryStorage>,
    config: StoreConfig,
    shared: Arc<Shared>,
    table: Arc<PersistedTable>,
    chance: u64,
    /// One number is played alone: say what happens.
    aloud: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn draw_config(random: &mut Random, storage: &Arc<MemoryStorage>) -> StoreConfig {
    StoreConfig {
        storage: Arc::clone(storage) as _,
        store_host: SocketAddr::from(([10, 0, 0, 2], 10911)),
        commit_log_file_bytes: random.pick(&[2048, 4096, 4096, 10_000, 16_384]),
        consume_queue_file_bytes: random.pick(&[60, 200, 1000]),
        index_shape: IndexShape { slots: 7, entries: random.pick(&[5, 20, 60]) },
        flush: random.pick(&[FlushMode::Sync, FlushMode::Async]),
        retention: RetentionRules {
            log_bytes_kept: Some(random.pick(&[4096, 16_384, 65_536])),
            pause: Duration::ZERO,
            ..RetentionRules::default()
        },
        ..StoreConfig::new(ROOT)
    }
}

impl Life {
    /// On an empty disk.
    pub(crate) fn first(random: &mut Random, chance: u64) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        let config = draw_config(random, &storage);
        Self::on(storage, config, Model::default(), (START_MS, chance))
    }

    fn on(storage: Arc<MemoryStorage>, config: StoreConfig, model: Model, (now_ms, chance): (i64, u64)) -> Self {
        let crashes = Crashes { random: Random::new(0), chance, taken: Vec::new() };
        let shared = Arc::new(Shared {
            model: Mutex::new(model),
            store: Mutex::default(),
            clock: Arc::new(SettableClock::new(now_ms)),
            crashes: Mutex::new(crashes),
            meanwhile: AtomicBool::new(false),
        });
        let table = Arc::new(PersistedTable::on(Arc::clone(&storage) as _, TABLE));
        let aloud = number("WASPMQ_SEED").is_some();
        Life { storage, config, shared, table, chance, aloud }
    }

    /// Lets chance do what it likes with a store on this disk.
    pub(crate) fn live(&mut self, random: &mut Random) {
        lock(&self.shared.crashes).random = Random::new(random.next());
        let shared = Arc::clone(&self.shared);
        self.storage.watch(move |storage, _| shared.look(storage));
        self.open();
        for _ in 0..20 + random.below(100) {
            self.step(random);
        }
        if random.one_in(2) {
            self.close();
        }
        *lock(&self.shared.store) = None;
        self.storage.watch(|_, _| {});
    }

    fn store(&self) -> Arc<MessageStore> {
        Arc::clone(lock(&self.shared.store).as_ref().unwrap())
    }

    fn open(&self) {
        let clock = Arc::clone(&self.shared.clock) as _;
        let store = MessageStore::open_by_hand(self.config.clone(), Arc::new(NoListener), clock).unwrap();
        // After a kill, the last messages of a deleted topic may come back.
        let mut model = lock(&self.shared.model);
        for key in Model::queues() {
            let next = store.find_queue(TOPICS[key.0], key.1).map_or(0, |queue| queue.next_append_offset().0);
            if next > 0 && model.is_deleted(key) {
                model.comes_back(key, next, self.storage.operations());
            }
        }
        drop(model);
        *lock(&self.shared.store) = Some(store);
    }

    fn close(&self) {
        assert!(self.store().shutdown().clean, "nothing was wrong with the disk");
        *lock(&self.shared.store) = None;
    }

    fn step(&mut self, random: &mut Random) {
        let drawn = random.below(100);
        if self.aloud {
            eprintln!("operation {}: {drawn}, {:?}", self.storage.operations(), self.store().stats());
        }
        match drawn {
            0..45 => self.shared.append(&self.storage, random),
            45..62 => self.sync(random),
            62..76 => drop(self.store().work(Work::Dispatch)),
            76..83 => self.derive(),
            83..87 => self.retain(),
            87..90 => self.restart(random),
            90..91 => self.delete_topic(random),
            91..94 => self.save_table(),
            _ => self.shared.clock.advance(Duration::from_millis(random.next() % 1500)),
        }
    }

    /// Lets the flushing thread have a turn; now and then somebody waits for it.
    fn sync(&self, random: &mut Random) {
        let (store, told) = (self.store(), Arc::new(Mutex::new(None)));
        let end = store.stats().max_offset;
        if random.one_in(2) {
            let told = Arc::clone(&told);
            store.when_durable(end, Duration::MAX, Box::new(move |durability| *lock(&told) = Some(durability)));
        }
        self.while_others_work(|| store.work(Work::SyncLog));
        assert!(store.durable() >= end);
        assert!(matches!(*lock(&told), None | Some(Durability::Durable)));
        lock(&self.shared.model).durable.push((self.storage.operations(), end.0));
    }

    fn derive(&self) {
        let store = self.store();
        self.while_others_work(|| store.work(Work::SyncDerived));
    }

    fn while_others_work(&self, work: impl FnOnce() -> bool) {
        self.shared.meanwhile.store(true, Ordering::Relaxed);
        work();
        self.shared.meanwhile.store(false, Ordering::Relaxed);
    }

    fn retain(&self) {
        let (store, begun) = (self.store(), self.storage.operations());
        store.work(Work::Retention);
        lock(&self.shared.model).log_min.push((begun, store.stats().min_offset.0));
    }

    fn restart(&self, random: &mut Random) {
        if random.one_in(2) {
            self.close();
            let mut model = lock(&self.shared.model);
            let end = model.stored_at(u64::MAX);
            model.durable.push((self.storage.operations(), end));
        }
        *lock(&self.shared.store) = None;
        self.open();
    }

    /// As a broker does it when nobody sends to the topic any more.
    fn delete_topic(&self, random: &mut Random) {
        let (store, topic) = (self.store(), random.below(TOPICS.len()));
        store.work(Work::SyncLog);
        let end = store.stats().max_offset.0;
        lock(&self.shared.model).durable.push((self.storage.operations(), end));
        let begun = self.storage.operations();
        {
            let mut model = lock(&self.shared.model);
            // One that nothing was stored in since it was deleted is no life of its own: what comes back is the one before.
            let used: Vec<_> = Model::queues().filter(|key| key.0 == topic && !model.is_deleted(*key)).collect();
            for key in used {
                let generation = *model.generations.entry(key).and_modify(|next| *next += 1).or_insert(1) - 1;
                model.deletions.push(Deletion { key, generation, begun, undone: u64::MAX });
                model.next.remove(&key);
            }
        }
        store.delete_topic(TOPICS[topic]).unwrap();
    }

    fn save_table(&self) {
        let begun = self.storage.operations();
        let version = lock(&self.shared.model).table.len() + 1;
        lock(&self.shared.model).table.push((begun, u64::MAX));
        self.table.save(table_text(version)).unwrap();
        lock(&self.shared.model).table[version - 1].1 = self.storage.operations();
    }

    /// Looks at every crash that was taken. The last one leads to the next life, if there was one.
    pub(crate) fn look_at_crashes(&mut self, random: &mut Random, seen: &mut Seen) -> Result<Option<Life>, String> {
        let crashes = std::mem::take(&mut lock(&self.shared.crashes).taken);
        let model = lock(&self.shared.model).clone();
        let now_ms = self.shared.clock.now_ms();
        let last = crashes.len().saturating_sub(1);
        let mut next = None;
        for (at, crash) in crashes.into_iter().enumerate() {
            let (moment, fate) = (crash.moment, crash.fate);
            let after = check(crash, &self.config, &model, random.next(), seen)
                .map_err(|error| format!("{fate:?} before operation {moment}: {error}\n{}", model.told()))?;
            if at == last && !after.tampered {
                let config = StoreConfig { storage: Arc::clone(&after.storage) as _, ..self.config.clone() };
                next = Some(Life::on(after.storage, config, after.model, (now_ms, self.chance)));
            }
        }
        seen.topics_deleted += model.deletions.len() as u64;
        Ok(next)
    }
}

/// What version `version` of the table looks like.
pub(crate) fn table_text(version: usize) -> Vec<u8> {
    format!("{{\"version\":{version},\"filler\":\"{}\"}}", "x".repeat(version * 97 % 1500)).into_bytes()
}

/// The version of a table.
pub(crate) fn table_version(text: &[u8]) -> Result<usize, String> {
    let digits = text.strip_prefix(b"{\"version\":").unwrap_or_default();
    let digits: String = digits.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
    let version = digits.parse().map_err(|_| "no table".to_owned())?;
    if text == table_text(version) { Ok(version) } else { Err(format!("version {version} is torn")) }
}

impl Shared {
    /// The disk is about to do something: others may be at work meanwhile, and it may be the last it does.
    fn look(&self, storage: &MemoryStorage) {
        let mut random = Random::new(lock(&self.crashes).random.next());
        if random.one_in(3) && self.meanwhile.swap(false, Ordering::Relaxed) {
            match random.below(2) {
                0 => self.append(storage, &mut random),
                _ => drop(lock(&self.store).clone().map(|store| store.work(Work::Dispatch))),
            }
            self.meanwhile.store(true, Ordering::Relaxed);
        }
        let mut crashes = lock(&self.crashes);
        if random.one_in(crashes.chance) {
            let (moment, seed) = (storage.operations(), random.next());
            let (fate, disk) = match random.below(5) {
                0 => (Fate::Killed, storage.kill()),
                _ => (Fate::PowerCut, storage.power_cut(seed)),
            };
            crashes.taken.push(Crash { moment, fate, disk });
        }
    }

    /// Stores one message, or a batch.
    fn append(&self, storage: &MemoryStorage, random: &mut Random) {
        let store = lock(&self.store).clone().unwrap();
        let key: QueueKey = (random.below(TOPICS.len()), random.below(QUEUES as usize) as i32);
        let count = if random.one_in(5) { 2 + random.below(4) } else { 1 };
        let long = random.one_in(12) && count == 1;
        let first = {
            let mut model = lock(&self.model);
            model.numbers += count as u64;
            model.numbers - count as u64
        };
        let messages: Vec<_> = (first..first + count as u64)
            .map(|number| {
                let bytes = 8 + if long { random.below(1700) } else { random.below(180) };
                let properties = properties_of(number, random.below(5) < 3);
                // The smallest file takes it.
                let bytes = bytes.min(1850 - properties.len());
                (number, properties.starts_with("KEYS"), body(number, bytes), properties)
            })
            .collect();
        let items: Vec<_> = messages
            .iter()
            .map(|(_, _, body, properties)| Item { flag: 0, body, properties: properties.as_bytes() })
            .collect();
        let queue = store.queue(TOPICS[key.0], key.1);
        let begun = storage.operations();
        let message = Append {
            queue: &queue,
            born_host: SocketAddr::from(([10, 0, 0, 1], 1234)),
            items: if let [item] = items[..] { Items::One(item) } else { Items::Batch(&items) },
            sys_flag: 0,
            born_timestamp: START_MS,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            wait_durable: false,
        };
        let mut out = Vec::new();
        store.append(&[message], &mut out);
        let stored = out.pop().unwrap().unwrap();
        let done = storage.operations();
        let mut model = lock(&self.model);
        let generation = model.generations.get(&key).copied().unwrap_or(0);
        let next = model.next.entry(key).or_insert(0);
        assert_eq!(stored.first_queue_offset.0, *next, "the offset of the next message of {key:?}");
        *next += count as i64;
        let ends = stored.physical_offsets.iter().skip(1).copied().chain([stored.end]);
        for (at, ((begin, end), (number, keyed, body, _))) in
            stored.physical_offsets.iter().zip(ends).zip(messages).enumerate()
        {
            model.sent.push(Sent {
                key,
                generation,
                offset: stored.first_queue_offset.0 + at as i64,
                at: begin.0,
                end: end.0,
                number,
                body_bytes: body.len(),
                keyed,
                stored_ms: stored.store_timestamp,
                begun,
                done,
                maybe: false,
            });
        }
    }
}

/// Opens the store that a crash has left.
pub(crate) fn open(
    config: &StoreConfig,
    storage: &Arc<MemoryStorage>,
    now_ms: i64,
) -> Result<Arc<MessageStore>, String> {
    let config = StoreConfig { storage: Arc::clone(storage) as _, ..config.clone() };
    let clock = Arc::new(SettableClock::new(now_ms));
    MessageStore::open_by_hand(config, Arc::new(NoListener), clock).map_err(|error| format!("does not open: {error}"))
}

/// The table that a crash has left; 0 for none.
pub(crate) fn load_table(storage: &Arc<MemoryStorage>) -> Result<usize, String> {
    let table = PersistedTable::on(Arc::clone(storage) as _, Path::new(TABLE));
    let loaded = table.load(table_version).map_err(|error| error.to_string())?;
    Ok(loaded.map_or(0, |(version, _)| version))
}
