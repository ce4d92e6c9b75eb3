//! Topics and their queues by broker name, with a bound on all entries together. Only `route_info` uses it; every
//! change goes through here so that the count stays right.

use std::collections::HashMap;
use waspmq_protocol::body::topic_config::{PERM_READ, PERM_WRITE};
use waspmq_protocol::body::topic_route::QueueData;

/// Entries (topic and broker) in the table; a cluster of 20 brokers with 50 000 topics each fits.
const ENTRIES_MAX: usize = 1_000_000;

/// Bytes of a topic's name; names of retry and dead-letter topics reach 255.
const NAME_BYTES_MAX: usize = 255;

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the nameserver knows {entries_max} topics of brokers and takes no more; delete topics that nobody needs")]
pub(crate) struct Full {
    entries_max: usize,
}

/// Topic → queues on each broker, by broker name.
#[derive(Debug)]
pub(super) struct Topics {
    table: HashMap<String, Vec<QueueData>>,
    entries: usize,
    entries_max: usize,
}

impl Default for Topics {
    fn default() -> Self {
        Self::bounded(ENTRIES_MAX)
    }
}

impl Topics {
    pub(super) fn bounded(entries_max: usize) -> Self {
        Self { table: HashMap::new(), entries: 0, entries_max }
    }

    /// The queues of a topic, in the order of the brokers' names.
    pub(super) fn get(&self, topic: &str) -> Option<&[QueueData]> {
        self.table.get(topic).map(Vec::as_slice)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &[QueueData])> {
        self.table.iter().map(|(topic, queues)| (topic, queues.as_slice()))
    }

    pub(super) fn has(&self, topic: &str, broker: &str) -> bool {
        self.table.get(topic).is_some_and(|queues| place(queues, broker).is_ok())
    }

    /// Whether all these topics of a broker can be put in.
    pub(super) fn check_room<'t>(
        &self,
        broker: &str,
        topics: impl ExactSizeIterator<Item = &'t String>,
    ) -> Result<(), Full> {
        let room = self.entries_max - self.entries;
        // Counting costs a look-up for each topic, so it is left out as long as it cannot matter.
        if topics.len() <= room || topics.filter(|topic| !self.has(topic, broker)).count() <= room {
            return Ok(());
        }
        Err(Full { entries_max: self.entries_max })
    }

    /// Sets the queues of a topic on one broker. Names that no topic can have are passed over.
    pub(super) fn put(&mut self, topic: &str, queues: QueueData) -> Result<(), Full> {
        if topic.is_empty() || topic.len() > NAME_BYTES_MAX {
            tracing::debug!(bytes = topic.len(), broker = queues.broker_name, "a topic's name that cannot be one");
            return Ok(());
        }
        let full = self.entries >= self.entries_max;
        match self.table.get_mut(topic) {
            Some(known) => match place(known, &queues.broker_name) {
                Ok(at) => {
                    known[at] = queues;
                    return Ok(());
                }
                Err(_) if full => {}
                Err(at) => {
                    self.entries += 1;
                    known.insert(at, queues);
                    return Ok(());
                }
            },
            None if full => {}
            None => {
                self.entries += 1;
                self.table.insert(topic.to_owned(), vec![queues]);
                return Ok(());
            }
        }
        Err(Full { entries_max: self.entries_max })
    }

    pub(super) fn remove(&mut self, topic: &str) {
        self.entries -= self.table.remove(topic).map_or(0, |queues| queues.len());
    }

    /// Takes one broker from a topic; a topic without brokers goes.
    pub(super) fn remove_from(&mut self, topic: &str, broker: &str) {
        let Some(queues) = self.table.get_mut(topic) else { return };
        if let Ok(at) = place(queues, broker) {
            queues.remove(at);
            self.entries -= 1;
        }
        if queues.is_empty() {
            self.table.remove(topic);
        }
    }

    /// Takes one broker from all topics, or from those that `goes` says.
    pub(super) fn remove_broker(&mut self, broker: &str, goes: impl Fn(&str) -> bool) {
        let entries = &mut self.entries;
        self.table.retain(|topic, queues| {
            if let Ok(at) = place(queues, broker)
                && goes(topic)
            {
                queues.remove(at);
                *entries -= 1;
            }
            !queues.is_empty()
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
        for queues in self.table.values_mut() {
            if let Ok(at) = place(queues, broker) {
                queues[at].perm = change(queues[at].perm);
                count += 1;
            }
        }
        count
    }

    /// The entries as counted and as they are.
    #[cfg(test)]
    pub(super) fn entries(&self) -> (usize, usize) {
        (self.entries, self.table.values().map(Vec::len).sum())
    }
}

/// Where a broker's queues are, or belong.
fn place(queues: &[QueueData], broker: &str) -> Result<usize, usize> {
    queues.binary_search_by(|known| known.broker_name.as_str().cmp(broker))
}
