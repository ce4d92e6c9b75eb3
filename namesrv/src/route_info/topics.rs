//! Topics and their queues by broker name, with a bound on all entries together. Only `route_info` uses it; every
//! change goes through here so that the count stays right.

use std::collections::{BTreeMap, HashMap};
use waspmq_protocol::body::topic_config::{PERM_READ, PERM_WRITE};
use waspmq_protocol::body::topic_route::QueueData;

/// Entries (topic and broker) in the table; a cluster of 20 brokers with 100 000 topics each fits.
const ENTRIES_MAX: usize = 2_000_000;

/// Characters of a topic's name; retry and dead-letter topics reach 255.
const NAME_BYTES_MAX: usize = 1024;

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Topic → broker name → queues.
#[derive(Debug, Default)]
pub(super) struct Topics {
    table: HashMap<String, BTreeMap<String, QueueData>>,
    entries: usize,
}

impl Topics {
    pub(super) fn get(&self, topic: &str) -> Option<&BTreeMap<String, QueueData>> {
        self.table.get(topic)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, QueueData>)> {
        self.table.iter()
    }

    pub(super) fn has(&self, topic: &str, broker: &str) -> bool {
        self.table.get(topic).is_some_and(|brokers| brokers.contains_key(broker))
    }

    /// Sets the queues of a topic on one broker. Names that no broker can have are passed over.
    pub(super) fn put(&mut self, topic: &str, queues: QueueData) -> Result<(), Full> {
        if topic.is_empty() || topic.len() > NAME_BYTES_MAX {
            return Ok(());
        }
        let new = !self.has(topic, &queues.broker_name);
        if new && self.entries >= ENTRIES_MAX {
            return Err(Full);
        }
        self.entries += usize::from(new);
        self.table.entry(topic.to_owned()).or_default().insert(queues.broker_name.clone(), queues);
        Ok(())
    }

    pub(super) fn remove(&mut self, topic: &str) {
        self.entries -= self.table.remove(topic).map_or(0, |brokers| brokers.len());
    }

    /// Takes one broker from a topic; a topic without brokers goes.
    pub(super) fn remove_from(&mut self, topic: &str, broker: &str) {
        let Some(brokers) = self.table.get_mut(topic) else { return };
        self.entries -= usize::from(brokers.remove(broker).is_some());
        if brokers.is_empty() {
            self.table.remove(topic);
        }
    }

    /// Takes one broker from all topics, or from those that `goes` says.
    pub(super) fn remove_broker(&mut self, broker: &str, goes: impl Fn(&str) -> bool) {
        let entries = &mut self.entries;
        self.table.retain(|topic, brokers| {
            if goes(topic) && brokers.remove(broker).is_some() {
                *entries -= 1;
            }
            !brokers.is_empty()
        });
    }

    /// Takes the write permission from all topics of a broker; returns how many it has.
    pub(super) fn wipe_write(&mut self, broker: &str) -> i32 {
        self.permissions(broker, |perm| perm & !PERM_WRITE)
    }

    /// Gives read and write permission to all topics of a broker; returns how many it has.
    pub(super) fn allow_write(&mut self, broker: &str) -> i32 {
        self.permissions(broker, |_| PERM_READ | PERM_WRITE)
    }

    fn permissions(&mut self, broker: &str, change: impl Fn(i32) -> i32) -> i32 {
        let mut count = 0;
        for queues in self.table.values_mut().filter_map(|brokers| brokers.get_mut(broker)) {
            queues.perm = change(queues.perm);
            count += 1;
        }
        count
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> (usize, usize) {
        (self.entries, self.table.values().map(BTreeMap::len).sum())
    }
}
