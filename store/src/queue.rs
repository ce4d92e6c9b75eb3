//! The queues of the store: one `Queue` per topic and queue id, and the table that finds them.
//! Callers keep the `Arc<Queue>` they were given; the append lock takes offsets from it, the dispatcher publishes what
//! is readable, readers ask for the bounds. Must hold: `min <= max <= next_append`, except while a record of an older
//! log is dispatched for the first time after a restart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::consume_queue::ConsumeQueue;
use crate::offsets::QueueOffset;

/// Queues of such topics hold entries of other topics' records (`enableMultiDispatch` of RocketMQ).
const MULTI_DISPATCH: &str = "%LMQ%";

/// One queue of one topic.
pub struct Queue {
    topic: Arc<str>,
    id: i32,
    /// The offset the next appended message gets. Written inside the append lock (and by recovery) only.
    next_append: AtomicI64,
    /// One past the last readable message. Written by the dispatcher (and by recovery) only.
    max: AtomicI64,
    /// The first readable message. Written by recovery and retention only.
    min: AtomicI64,
    deleted: AtomicBool,
    /// Its entries on disk; there from the first dispatched message on.
    files: OnceLock<Arc<ConsumeQueue>>,
}

impl Queue {
    pub(crate) fn new(topic: Arc<str>, id: i32) -> Self {
        Self {
            topic,
            id,
            next_append: AtomicI64::new(0),
            max: AtomicI64::new(0),
            min: AtomicI64::new(0),
            deleted: AtomicBool::new(false),
            files: OnceLock::new(),
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The queue's number within its topic.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Whether its entries lead to records of other queues.
    pub(crate) fn is_multi_dispatch(&self) -> bool {
        self.topic.starts_with(MULTI_DISPATCH)
    }

    /// The oldest offset that can still be read.
    pub fn min_offset(&self) -> QueueOffset {
        QueueOffset(self.min.load(Ordering::Acquire))
    }

    /// One past the newest offset that can be read. Messages appended but not dispatched yet are not counted.
    pub fn max_offset(&self) -> QueueOffset {
        QueueOffset(self.max.load(Ordering::Acquire))
    }

    /// The offset the next appended message will get: counts messages that are not dispatched yet.
    pub fn next_append_offset(&self) -> QueueOffset {
        QueueOffset(self.next_append.load(Ordering::Acquire))
    }

    /// Whether the topic has been deleted. A caller that cached this queue must look it up again.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Gives out `count` consecutive offsets and returns the first. Only inside the append lock.
    pub(crate) fn take_offsets(&self, count: usize) -> QueueOffset {
        let first = QueueOffset(self.next_append.load(Ordering::Relaxed));
        self.next_append.store(first.plus(count).0, Ordering::Release);
        first
    }

    /// Raises the next offset to at least `next`: recovery has seen a record just before it.
    pub(crate) fn raise_next_append(&self, next: QueueOffset) {
        self.next_append.fetch_max(next.0, Ordering::AcqRel);
    }

    /// Makes everything before `max` readable. Dispatcher and recovery only.
    pub(crate) fn publish_max(&self, max: QueueOffset) {
        self.max.store(max.0, Ordering::Release);
    }

    /// Everything before `min` is gone. Dispatcher, recovery and retention only.
    pub(crate) fn publish_min(&self, min: QueueOffset) {
        self.min.store(min.0, Ordering::Release);
    }

    /// The queue's entries on disk; `None` before its first message was dispatched.
    pub(crate) fn files(&self) -> Option<&Arc<ConsumeQueue>> {
        self.files.get()
    }

    /// Gives the queue its files, found or newly made, and takes its bounds from them. Scan and dispatcher only.
    pub(crate) fn attach(&self, files: Arc<ConsumeQueue>) -> Arc<ConsumeQueue> {
        let files = self.files.get_or_init(|| files);
        self.publish_min(files.first());
        self.publish_max(files.end());
        self.raise_next_append(files.end());
        Arc::clone(files)
    }

    /// Recovery has cut the queue at `end`: the next message goes there.
    pub(crate) fn restart_at(&self, end: QueueOffset) {
        self.min.fetch_min(end.0, Ordering::AcqRel);
        self.publish_max(end);
        self.next_append.store(end.0, Ordering::Release);
    }

    /// After this every holder of the queue sees that its topic is gone.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("topic", &self.topic)
            .field("id", &self.id)
            .field("min", &self.min_offset())
            .field("max", &self.max_offset())
            .field("next_append", &self.next_append_offset())
            .finish_non_exhaustive()
    }
}

/// All queues, by topic and id. Looked up once per caller and kept, so a plain lock is enough.
#[derive(Debug, Default)]
pub(crate) struct QueueMap {
    /// Per topic its queues, sorted by id. In order, so that whoever goes through all of them does it always the same way.
    topics: RwLock<BTreeMap<Arc<str>, Vec<Arc<Queue>>>>,
}

impl QueueMap {
    /// The queue, if it exists.
    pub(crate) fn find(&self, topic: &str, id: i32) -> Option<Arc<Queue>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let queues = topics.get(topic)?;
        let at = queues.binary_search_by_key(&id, |queue| queue.id).ok()?;
        Some(Arc::clone(&queues[at]))
    }

    /// The queue; made by `make` if it does not exist.
    pub(crate) fn find_or_insert(&self, topic: &str, id: i32, make: impl FnOnce(Arc<str>) -> Arc<Queue>) -> Arc<Queue> {
        if let Some(queue) = self.find(topic, id) {
            return queue;
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        // All queues of a topic share one copy of its name.
        let name = topics.get_key_value(topic).map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let queues = topics.entry(Arc::clone(&name)).or_default();
        match queues.binary_search_by_key(&id, |queue| queue.id) {
            Ok(at) => Arc::clone(&queues[at]),
            Err(at) => {
                let queue = make(name);
                queues.insert(at, Arc::clone(&queue));
                queue
            }
        }
    }

    /// Marks a topic's queues as deleted; they stay in the map.
    pub(crate) fn mark_deleted(&self, topic: &str) {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(topic).into_iter().flatten().for_each(|queue| queue.mark_deleted());
    }

    /// Takes a topic's queues out, marked as deleted.
    pub(crate) fn remove_topic(&self, topic: &str) -> Vec<Arc<Queue>> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let queues = topics.remove(topic).unwrap_or_default();
        queues.iter().for_each(|queue| queue.mark_deleted());
        queues
    }

    /// Every queue, in the order of their topics.
    pub(crate) fn all(&self) -> Vec<Arc<Queue>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().flatten().cloned().collect()
    }

    /// The names of all topics that have a queue.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(topic: &str, id: i32) -> impl FnOnce(Arc<str>) -> Arc<Queue> {
        assert!(!topic.is_empty());
        move |topic| Arc::new(Queue::new(topic, id))
    }

    #[test]
    fn offsets_are_given_out_in_order() {
        let queue = Queue::new("Orders".into(), 3);
        assert_eq!(queue.take_offsets(2), QueueOffset(0));
        assert_eq!(queue.take_offsets(5), QueueOffset(2));
        assert_eq!(queue.take_offsets(1), QueueOffset(7));
        queue.raise_next_append(QueueOffset(2));
        assert_eq!(queue.next_append_offset(), QueueOffset(8), "raising never lowers");
        assert_eq!(queue.max_offset(), QueueOffset(0), "nothing is readable before dispatch");
    }

    #[test]
    fn the_map_finds_each_queue_once_made() {
        let map = QueueMap::default();
        assert!(map.find("Orders", 0).is_none());
        let two = map.find_or_insert("Orders", 2, make("Orders", 2));
        let zero = map.find_or_insert("Orders", 0, make("Orders", 0));
        let again = map.find_or_insert("Orders", 2, |_| panic!("it exists"));
        assert!(Arc::ptr_eq(&two, &again));
        assert!(Arc::ptr_eq(two.topic(), zero.topic()), "one copy of the name");
        assert_eq!(map.find("Orders", 0).map(|queue| queue.id()), Some(0));
        assert!(map.find("Orders", 1).is_none());
        assert_eq!(map.all().len(), 2);
        assert_eq!(map.topics(), vec![Arc::<str>::from("Orders")]);
    }

    #[test]
    fn a_deleted_topic_is_gone_and_its_holders_can_tell() {
        let map = QueueMap::default();
        let held = map.find_or_insert("Orders", 0, make("Orders", 0));
        assert_eq!(map.remove_topic("Orders").len(), 1);
        assert!(held.is_deleted());
        assert!(map.find("Orders", 0).is_none());
        let fresh = map.find_or_insert("Orders", 0, make("Orders", 0));
        assert!(!fresh.is_deleted() && !Arc::ptr_eq(&held, &fresh));
    }
}
