//! The topics of this broker (`topics.json`): who may write and read, with how many queues. Sends create topics by
//! a template, administrators by request. Every change is persisted before it is answered, and told to the name
//! servers by whoever made it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use waspmq_protocol::body::data_version::DataVersion;
use waspmq_protocol::body::topic_config::{PERM_INHERIT, PERM_READ, PERM_WRITE, TopicConfig, TopicConfigTable};
use waspmq_protocol::name;
use waspmq_store::persist::PersistError;
use waspmq_store::{MessageStore, Queue};

use crate::table::TableFile;

/// Topic flag: the topic belongs to a unit.
const UNIT: i32 = 1;

/// One topic with its queues at hand.
pub struct Topic {
    /// As stored and told to the name servers.
    pub config: TopicConfig,
    queues: Box<[OnceLock<Arc<Queue>>]>,
}

impl Topic {
    fn new(config: TopicConfig) -> Arc<Self> {
        let count = usize::try_from(config.read_queue_nums.max(config.write_queue_nums)).unwrap_or(0);
        Arc::new(Self { config, queues: (0..count).map(|_| OnceLock::new()).collect() })
    }

    /// The store's queue of this id; `None` outside the topic's queues.
    pub fn queue(&self, store: &MessageStore, queue_id: i32) -> Option<&Arc<Queue>> {
        let slot = self.queues.get(usize::try_from(queue_id).ok()?)?;
        Some(slot.get_or_init(|| store.queue(&self.config.topic_name, queue_id)))
    }

    /// Whether consumers may read.
    pub fn is_readable(&self) -> bool {
        self.config.perm & PERM_READ != 0
    }
}

/// What a send asks for when its topic does not exist.
pub struct TopicWish<'a> {
    /// The topic to create.
    pub topic: &'a str,
    /// The topic whose settings are taken, `TBW102` with ordinary clients.
    pub template: &'a str,
    /// How many queues the client wants.
    pub queues: i32,
    /// The client works in a unit.
    pub unit_mode: bool,
}

/// All topics.
pub struct TopicTable {
    file: TableFile,
    auto_create: bool,
    topics: RwLock<HashMap<String, Arc<Topic>>>,
    version: Mutex<DataVersion>,
}

impl TopicTable {
    /// Reads the topics of an earlier run. `auto_create`: whether sends to unknown topics create them.
    ///
    /// # Errors
    /// When neither the file nor its previous version can be read.
    pub fn load(path: PathBuf, auto_create: bool) -> Result<Self, PersistError> {
        let file = TableFile::new(path);
        let stored: TopicConfigTable = file.load()?;
        let topics = stored.topic_config_table.into_iter().map(|(name, config)| (name, Topic::new(config))).collect();
        Ok(Self { file, auto_create, topics: RwLock::new(topics), version: Mutex::new(stored.data_version) })
    }

    /// The topic of this name.
    pub fn get(&self, topic: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// Adds the topics that the broker itself needs, as far as they are missing.
    pub fn add_own(&self, configs: impl IntoIterator<Item = TopicConfig>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for config in configs {
            topics.entry(config.topic_name.clone()).or_insert_with(|| Topic::new(config));
        }
    }

    /// Creates a topic or changes its settings. Returns whether anything changed.
    pub fn put(&self, config: TopicConfig, now_ms: i64) -> bool {
        {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            if topics.get(&config.topic_name).is_some_and(|known| known.config == config) {
                return false;
            }
            topics.insert(config.topic_name.clone(), Topic::new(config));
        }
        self.note_change(now_ms);
        true
    }

    /// Brings back topics that have messages but are missing here: a crash came between their creation and the
    /// writing of this table.
    pub fn bring_back(&self, store: &MessageStore) {
        let mut queues: HashMap<Arc<str>, i32> = HashMap::new();
        for queue in store.all_queues() {
            let count = queues.entry(queue.topic().clone()).or_default();
            *count = (*count).max(queue.id() + 1);
        }
        for (topic, count) in queues {
            if self.get(&topic).is_none() {
                tracing::warn!(%topic, queues = count, "a topic has messages but no settings; it is brought back");
                self.add_own([TopicConfig::new(&*topic, count, PERM_READ | PERM_WRITE)]);
                self.file.note_change();
            }
        }
    }

    /// Creates the topic of a send by its template. `None`: the template does not exist or may not be inherited.
    pub fn create_for_send(&self, wish: &TopicWish<'_>, now_ms: i64) -> Option<Arc<Topic>> {
        if let Some(topic) = self.get(wish.topic) {
            return Some(topic);
        }
        let template = self.get(wish.template)?;
        let closed = wish.template == name::AUTO_CREATE_TOPIC && !self.auto_create;
        if closed || template.config.perm & PERM_INHERIT == 0 {
            return None;
        }
        let queues = wish.queues.min(template.config.write_queue_nums).max(0);
        let config = TopicConfig {
            topic_filter_type: template.config.topic_filter_type,
            topic_sys_flag: if wish.unit_mode { UNIT } else { 0 },
            ..TopicConfig::new(wish.topic, queues, template.config.perm & !PERM_INHERIT)
        };
        self.put(config, now_ms);
        self.get(wish.topic)
    }

    /// Creates a retry or dead-letter topic of a group unless it exists; an existing one stays as it is.
    pub fn create_for_group(&self, topic: &str, queues: i32, now_ms: i64) -> Arc<Topic> {
        if let Some(known) = self.get(topic) {
            return known;
        }
        let config = TopicConfig::new(topic, queues, PERM_READ | PERM_WRITE);
        self.put(config.clone(), now_ms);
        self.get(topic).unwrap_or_else(|| Topic::new(config))
    }

    /// Removes a topic. Returns whether it existed.
    pub fn remove(&self, topic: &str, now_ms: i64) -> bool {
        let removed = self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(topic).is_some();
        if removed {
            self.note_change(now_ms);
        }
        removed
    }

    /// The whole table, as the file and the name servers have it.
    pub fn snapshot(&self) -> TopicConfigTable {
        let data_version = *self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        TopicConfigTable::new(data_version, topics.values().map(|topic| topic.config.clone()))
    }

    /// Writes the table if it changed since the last time.
    ///
    /// # Errors
    /// When the file cannot be written; the change is tried again next time.
    pub fn persist(&self) -> Result<(), PersistError> {
        self.file.save(|| self.snapshot())
    }

    fn note_change(&self, now_ms: i64) {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).advance(now_ms);
        self.file.note_change();
    }
}
