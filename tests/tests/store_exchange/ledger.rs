//! What must be in the folder: records that a broker has shown, byte by byte, and messages that were acknowledged or sent
//! and not seen yet. Must hold: a broker that shows more, less or something else is an error that names the message.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};
use waspmq_tests::wire::Connection;

use crate::asking;
use crate::load::{Outcome, TOPICS, number_of};
use crate::record::Record;

/// Every queue by topic and number.
pub fn all_queues() -> impl Iterator<Item = (&'static str, i32)> {
    TOPICS.into_iter().flat_map(|(topic, queues)| (0..queues).map(move |queue| (topic, queue)))
}

/// The messages of a folder.
#[derive(Default)]
pub struct Ledger {
    /// In order of offset, from 0 on.
    pub seen: BTreeMap<(&'static str, i32), Vec<Record>>,
    pub unseen: Outcome,
}

impl Ledger {
    /// Adds what was sent.
    pub fn note(&mut self, outcome: Outcome) {
        self.unseen.acknowledged.extend(outcome.acknowledged);
        self.unseen.in_doubt.extend(outcome.in_doubt);
    }

    /// Reads every queue and compares. Afterwards everything there is has been seen.
    pub fn compare(&mut self, connection: &mut Connection) -> Result<()> {
        let mut acknowledged = HashMap::new();
        for message in std::mem::take(&mut self.unseen.acknowledged) {
            let key = (message.sent.topic, message.sent.queue, message.queue_offset);
            let number = message.sent.number().to_owned();
            ensure!(acknowledged.insert(key, message).is_none(), "{key:?} was given out twice, again to {number}");
        }
        let in_doubt = std::mem::take(&mut self.unseen.in_doubt).into_iter();
        let mut in_doubt: HashMap<_, _> = in_doubt.map(|sent| (sent.number().to_owned(), sent)).collect();
        for (topic, queue) in all_queues() {
            let of_queue = acknowledged.keys().filter(|(t, q, _)| (*t, *q) == (topic, queue));
            let end = of_queue.map(|(_, _, offset)| offset + 1).max().unwrap_or(0);
            let seen = self.seen.entry((topic, queue)).or_default();
            let found = asking::read_queue(connection, topic, queue, end.max(seen.len() as i64))?;
            if let Some((found, seen)) = found.iter().zip(&*seen).find(|(found, seen)| found != seen) {
                let at = found.bytes.iter().zip(&seen.bytes).position(|(found, seen)| found != seen);
                bail!("{} has changed at byte {at:?}; it is {} now", seen.place(), found.place());
            }
            for record in &found[seen.len()..] {
                let place = record.place();
                let sent = match acknowledged.remove(&(topic, queue, record.queue_offset)) {
                    Some(message) => {
                        let physical = message.physical_offset;
                        ensure!(physical == record.physical_offset, "{place} was acknowledged at {physical}");
                        message.sent
                    }
                    None => in_doubt.remove(number_of(&record.properties)).with_context(|| {
                        format!("{place} is no message that was sent since: {:?}", record.properties)
                    })?,
                };
                if let Some(difference) = sent.difference(record) {
                    bail!("{place} is not what was sent: {difference}");
                }
            }
            *seen = found;
        }
        ensure!(acknowledged.is_empty(), "{} acknowledged messages are in no queue", acknowledged.len());
        Ok(())
    }

    /// Every record.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.seen.values().flatten()
    }

    /// Forgets what lies at `physical_offset` in the log and behind.
    pub fn cut(&mut self, physical_offset: i64) {
        self.seen.values_mut().for_each(|records| records.retain(|record| record.physical_offset < physical_offset));
    }
}
