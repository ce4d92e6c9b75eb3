//! What was stored, when, and what was promised of it: plain lists, against which a recovered store is held.
//! Moments are counted in operations of the disk: a crash before operation n sees what was done at n or earlier.

use std::collections::BTreeMap;

/// A queue: the topic's number and its own.
pub(crate) type QueueKey = (usize, i32);

pub(crate) const TOPICS: [&str; 3] = ["Orders", "Bills", "A-topic-with-a-long-name"];
pub(crate) const QUEUES: i32 = 2;

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) key: QueueKey,
    /// Which life of the topic it belongs to: a deleted topic begins anew.
    pub(crate) generation: u32,
    pub(crate) offset: i64,
    /// Where the record lies in the log.
    pub(crate) at: i64,
    pub(crate) end: i64,
    /// Tells it from all others.
    pub(crate) number: u64,
    pub(crate) body_bytes: usize,
    pub(crate) keyed: bool,
    pub(crate) stored_ms: i64,
    /// Operations before and after it was stored.
    pub(crate) begun: u64,
    pub(crate) done: u64,
    /// It was deleted with its topic before an earlier crash, and need not be there.
    pub(crate) maybe: bool,
}

impl Sent {
    pub(crate) fn body(&self) -> Vec<u8> {
        body(self.number, self.body_bytes)
    }
}

/// The number, then bytes that follow from it.
pub(crate) fn body(number: u64, bytes: usize) -> Vec<u8> {
    let pattern = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    let mut body: Vec<u8> = pattern.iter().copied().cycle().take(bytes).collect();
    body[..8].copy_from_slice(&number.to_be_bytes());
    body
}

pub(crate) fn key_of(number: u64) -> String {
    format!("key-{number}")
}

/// Without a key there may be none; some are longer than a sector.
pub(crate) fn properties_of(number: u64, keyed: bool) -> String {
    let filler = if number.is_multiple_of(7) { "x".repeat(number as usize % 900) } else { String::new() };
    match (keyed, filler.is_empty()) {
        (true, true) => format!("KEYS\x01{}\x02", key_of(number)),
        (true, false) => format!("KEYS\x01{}\x02filler\x01{filler}\x02", key_of(number)),
        (false, true) => String::new(),
        (false, false) => format!("filler\x01{filler}\x02"),
    }
}

/// The end of a queue's generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deletion {
    pub(crate) key: QueueKey,
    pub(crate) generation: u32,
    pub(crate) begun: u64,
    /// From this moment on the queue was there again.
    pub(crate) undone: u64,
}

impl Deletion {
    /// Whether the queue may be gone at `moment`.
    pub(crate) fn counts_at(&self, moment: u64) -> bool {
        (self.begun..=self.undone).contains(&moment)
    }
}

/// Everything that was done in a life.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// In the order of the log.
    pub(crate) sent: Vec<Sent>,
    /// From this moment on the log was on the disk so far.
    pub(crate) durable: Vec<(u64, i64)>,
    pub(crate) deletions: Vec<Deletion>,
    pub(crate) generations: BTreeMap<QueueKey, u32>,
    /// The offset the next message of a queue must get.
    pub(crate) next: BTreeMap<QueueKey, i64>,
    /// From this moment on the log might begin so late.
    pub(crate) log_min: Vec<(u64, i64)>,
    /// Versions of the table: when its save was begun, and when it was done.
    pub(crate) table: Vec<(u64, u64)>,
    pub(crate) numbers: u64,
}

/// What a queue must hold after a crash.
pub(crate) struct Expected<'a> {
    /// Its messages, in order: a part of the oldest may be missing.
    pub(crate) messages: Vec<&'a Sent>,
    /// So many of them.
    pub(crate) optional: usize,
    /// All of it may be missing, and be counted from 0 again.
    pub(crate) deleted: bool,
    /// The next message's offset.
    pub(crate) next: i64,
}

impl Model {
    /// The log must reach so far if the power was cut at `moment`.
    pub(crate) fn durable_at(&self, moment: u64) -> i64 {
        self.durable.iter().filter(|(since, _)| *since <= moment).map(|(_, end)| *end).max().unwrap_or(0)
    }

    /// The log must reach so far if the process was killed at `moment`.
    pub(crate) fn stored_at(&self, moment: u64) -> i64 {
        self.sent.iter().filter(|sent| sent.done <= moment).map(|sent| sent.end).max().unwrap_or(0)
    }

    /// The log may reach so far.
    pub(crate) fn begun_at(&self, moment: u64) -> i64 {
        self.sent.iter().filter(|sent| sent.begun <= moment).map(|sent| sent.end).max().unwrap_or(0)
    }

    /// The log may begin so late.
    pub(crate) fn min_at(&self, moment: u64) -> i64 {
        self.log_min.iter().filter(|(since, _)| *since <= moment).map(|(_, min)| *min).max().unwrap_or(0)
    }

    /// What a queue must hold if there was a crash at `moment` and the log ends at `end`.
    pub(crate) fn expected(&self, key: QueueKey, moment: u64, (begin, end): (i64, i64)) -> Expected<'_> {
        let min = self.min_at(moment);
        let generation = self.generation_before(key, end);
        let held = self.sent.iter().filter(|sent| sent.key == key && sent.at < end && sent.generation == generation);
        let held: Vec<_> = held.collect();
        let gone = held.iter().filter(|sent| sent.at < begin).count();
        let optional = held.iter().filter(|sent| sent.at < min || sent.maybe).count();
        let deleted = self
            .deletions
            .iter()
            .any(|deletion| deletion.key == key && deletion.generation >= generation && deletion.counts_at(moment));
        let next = held.last().map_or(0, |last| last.offset + 1);
        let messages = held[gone..].to_vec();
        Expected { messages, optional: optional.saturating_sub(gone), deleted, next }
    }

    /// The life of a queue to which its last message before `end` belongs.
    pub(crate) fn generation_before(&self, key: QueueKey, end: i64) -> u32 {
        let held = self.sent.iter().filter(|sent| sent.key == key && sent.at < end);
        held.map(|sent| sent.generation).max().unwrap_or(0)
    }

    /// The latest version of the table that must be readable, and the latest that may be.
    pub(crate) fn versions_at(&self, moment: u64) -> (usize, usize) {
        let last = |reached: &dyn Fn(&(u64, u64)) -> bool| self.table.iter().filter(|save| reached(save)).count();
        (last(&|save| save.1 <= moment), last(&|save| save.0 <= moment))
    }

    /// Whether nothing was stored in a queue since its topic was deleted.
    pub(crate) fn is_deleted(&self, key: QueueKey) -> bool {
        self.generations.get(&key).is_some_and(|generation| *generation > 0)
            && self.next.get(&key).is_none_or(|next| *next == 0)
    }

    /// A deleted queue had come back at `moment`, as it may after a kill: it goes on at `next`.
    pub(crate) fn comes_back(&mut self, key: QueueKey, next: i64, moment: u64) {
        let generation = self.generations.entry(key).or_insert(1);
        *generation -= 1;
        let generation = *generation;
        self.next.insert(key, next);
        let of_it = |deletion: &&mut Deletion| deletion.key == key && deletion.generation == generation;
        self.deletions.iter_mut().filter(of_it).for_each(|deletion| deletion.undone = deletion.undone.min(moment));
        let of_it = self.sent.iter_mut().filter(|sent| sent.key == key && sent.generation == generation);
        of_it.for_each(|sent| sent.maybe = true);
    }

    /// What happened, for whoever must find out why a crash lost something.
    pub(crate) fn told(&self) -> String {
        let mut told = format!("durable {:?}\nlog_min {:?}\n", self.durable, self.log_min);
        for deletion in &self.deletions {
            told += &format!("{deletion:?}\n");
        }
        for sent in &self.sent {
            let Sent { key, generation, offset, at, end, number, begun, done, maybe, .. } = sent;
            told += &format!("{key:?} life {generation} offset {offset}: message {number} at {at}..{end}");
            told += &format!(", operations {begun}..{done}{}\n", if *maybe { ", deleted" } else { "" });
        }
        told
    }

    pub(crate) fn queues() -> impl Iterator<Item = QueueKey> {
        (0..TOPICS.len()).flat_map(|topic| (0..QUEUES).map(move |queue| (topic, queue)))
    }
}
