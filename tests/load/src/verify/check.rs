//! Compares stored records with a journal: pure, so that every kind of fault can be injected in a test.
//! A record is told every queue and place it was read from; at the end each acknowledged message must have been seen once,
//! where the broker said, with the bytes that were sent.

use std::collections::HashMap;

use serde::Serialize;
use waspmq_protocol::message::record::RecordView;

use super::body::{self, BodyKind};
use super::journal::{Ack, Fate, Journal};

/// Faults described in words, at most.
const EXAMPLES_MAX: usize = 20;

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Messages the broker acknowledged.
    pub acknowledged: u64,
    /// Acknowledged messages found, wherever.
    pub found: u64,
    /// Acknowledged and nowhere to be found.
    pub lost: u64,
    /// When the first of the lost was acknowledged, ms since 1970; 0 if none is lost.
    pub first_lost_ms: u64,
    /// Lost, though the broker has one that it stored later.
    pub lost_before_others: u64,
    /// Found, but not in the queue, at the offset or under the message id of the acknowledgement.
    pub misplaced: u64,
    /// Further copies of a message.
    pub doubled: u64,
    /// Bodies that are not what was sent.
    pub corrupt: u64,
    /// Records that cannot be read, whose checksum is wrong or that name another queue.
    pub unreadable: u64,
    /// Sent after an earlier message of the same producer was acknowledged, yet stored before it.
    pub out_of_order: u64,
    /// Offsets missing between two records of a queue.
    pub gaps: u64,
    /// Sent without an answer, and stored.
    pub unknown_stored: u64,
    /// Sent without an answer, and not stored.
    pub unknown_absent: u64,
    /// Refused, and stored all the same.
    pub refused_stored: u64,
    /// Records of other runs.
    pub foreign: u64,
    /// The first faults in words.
    pub examples: Vec<String>,
}

impl Findings {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        let faults =
            [self.lost, self.misplaced, self.doubled, self.corrupt, self.unreadable, self.out_of_order, self.gaps];
        faults.iter().all(|count| *count == 0)
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }
}

/// Where a message was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    queue: u32,
    offset: i64,
    physical: i64,
    crc: u32,
}

/// A comparison under way.
#[derive(Debug)]
pub struct Checker {
    journal: Journal,
    queues: HashMap<(String, i32), u32>,
    /// By producer and sequence number, as far as any was seen.
    seen: Vec<Vec<Option<Seen>>>,
    last_offsets: HashMap<u32, i64>,
    findings: Findings,
}

impl Checker {
    /// Begins a comparison with `journal`.
    pub fn new(journal: Journal) -> Self {
        let queues = journal.queues.iter().cloned().zip(0..).collect();
        let seen = journal.fates.iter().map(|fates| vec![None; fates.len()]).collect();
        Self { journal, queues, seen, last_offsets: HashMap::new(), findings: Findings::default() }
    }

    /// Takes the next record of a queue; the records of one queue come in the order they lie there.
    pub fn record(&mut self, broker: &str, queue: i32, bytes: &[u8]) {
        let record = match RecordView::parse(bytes, true) {
            Ok(record) if record.queue_id() == queue && record.len() == bytes.len() => record,
            Ok(_) => return self.unreadable(broker, queue, "it names another queue or another length"),
            Err(error) => return self.unreadable(broker, queue, &error.to_string()),
        };
        let next_queue = self.queues.len() as u32;
        let queue = *self.queues.entry((broker.to_owned(), queue)).or_insert(next_queue);
        let offset = record.queue_offset();
        if let Some(last) = self.last_offsets.insert(queue, offset)
            && offset != last + 1
        {
            self.findings.gaps += 1;
            self.findings.example(|| format!("gap: {broker} queue {}: {offset} follows {last}", record.queue_id()));
        }
        match body::read(record.body()) {
            BodyKind::Whole(origin, crc) if origin.run == self.journal.run => {
                let seen = Seen { queue, offset, physical: record.physical_offset(), crc };
                self.saw(origin.producer, origin.sequence, seen);
            }
            BodyKind::Damaged(origin) if origin.run == self.journal.run => {
                self.findings.corrupt += 1;
                self.findings.example(|| {
                    format!("corrupt: {broker} queue {} offset {offset}: the body was changed", record.queue_id())
                });
            }
            _ => self.findings.foreign += 1,
        }
    }

    fn unreadable(&mut self, broker: &str, queue: i32, reason: &str) {
        self.findings.unreadable += 1;
        self.findings.example(|| format!("unreadable: a record of {broker} queue {queue}: {reason}"));
    }

    fn saw(&mut self, producer: u32, sequence: u64, seen: Seen) {
        let fates = self.seen.get_mut(producer as usize);
        let Some(slot) = fates.and_then(|fates| fates.get_mut(sequence as usize)) else {
            // Sent in the tool's last moment, before its fate was noted.
            self.findings.unknown_stored += 1;
            return;
        };
        if let Some(first) = slot {
            let (first, second) = (first.offset, seen.offset);
            self.findings.doubled += 1;
            self.findings.example(|| {
                format!("doubled: producer {producer} message {sequence}: at offsets {first} and {second}")
            });
        } else {
            *slot = Some(seen);
        }
    }

    /// Ends the comparison. With `strict_order`, messages that were in flight together must lie in the order of sending too.
    pub fn finish(mut self, strict_order: bool) -> Findings {
        let fates = std::mem::take(&mut self.journal.fates);
        self.judge_losses(&fates);
        for (producer, fates) in fates.iter().enumerate() {
            for (sequence, fate) in fates.iter().enumerate() {
                let seen = self.seen[producer][sequence];
                match (fate, seen) {
                    (Fate::Acknowledged(ack), seen) => self.compare(producer, sequence, ack, seen),
                    (Fate::Unknown, Some(_)) => self.findings.unknown_stored += 1,
                    (Fate::Unknown, None) => self.findings.unknown_absent += 1,
                    (Fate::Refused, Some(_)) => self.findings.refused_stored += 1,
                    (Fate::Refused, None) => {}
                }
            }
            self.check_order(producer, fates, strict_order);
        }
        self.findings
    }

    /// A broker that may lose what was not synced yet loses the end of its log, and nothing else.
    fn judge_losses(&mut self, fates: &[Vec<Fate>]) {
        let acknowledged = |fate: &Fate| if let Fate::Acknowledged(ack) = fate { Some(*ack) } else { None };
        let all = fates.iter().zip(&self.seen).flat_map(|(fates, seen)| fates.iter().zip(seen));
        let all: Vec<(Ack, bool)> =
            all.filter_map(|(fate, seen)| Some((acknowledged(fate)?, seen.is_some()))).collect();
        let broker = |ack: &Ack| self.journal.queues[ack.queue as usize].0.as_str();
        let mut ends: HashMap<&str, i64> = HashMap::new();
        for (ack, _) in all.iter().filter(|(_, found)| *found) {
            let end = ends.entry(broker(ack)).or_default();
            *end = ack.physical.max(*end);
        }
        let lost = || all.iter().filter(|(_, found)| !found).map(|(ack, _)| ack);
        let first_ms = lost().map(|ack| ack.acked_ms).min().unwrap_or(0);
        let before = lost().filter(|ack| ends.get(broker(ack)).is_some_and(|end| ack.physical < *end)).count();
        (self.findings.first_lost_ms, self.findings.lost_before_others) = (first_ms, before as u64);
    }

    fn compare(&mut self, producer: usize, sequence: usize, ack: &Ack, seen: Option<Seen>) {
        let findings = &mut self.findings;
        findings.acknowledged += 1;
        let Some(seen) = seen else {
            findings.lost += 1;
            let (broker, queue) = &self.journal.queues[ack.queue as usize];
            findings.example(|| {
                format!("lost: producer {producer} message {sequence}: {broker} queue {queue} offset {}", ack.offset)
            });
            return;
        };
        findings.found += 1;
        if seen.crc != ack.crc {
            findings.corrupt += 1;
            findings
                .example(|| format!("corrupt: producer {producer} message {sequence} is not the one that was sent"));
        }
        if (seen.queue, seen.offset, seen.physical) != (ack.queue, ack.offset, ack.physical) {
            findings.misplaced += 1;
            findings.example(|| {
                let (at, said) = ((seen.queue, seen.offset, seen.physical), (ack.queue, ack.offset, ack.physical));
                format!("misplaced: producer {producer} message {sequence}: at {at:?}, acknowledged at {said:?} (queue, offset, physical)")
            });
        }
    }

    /// Goes through each queue from its end: nothing may lie before a message that was acknowledged before it was sent.
    fn check_order(&mut self, producer: usize, fates: &[Fate], strict: bool) {
        let mut by_queue: HashMap<u32, Vec<(i64, u64, u64, usize)>> = HashMap::new();
        for (sequence, fate) in fates.iter().enumerate() {
            if let (Fate::Acknowledged(ack), Some(seen)) = (fate, self.seen[producer][sequence]) {
                let known = if strict { ack.sent } else { ack.acked };
                by_queue.entry(seen.queue).or_default().push((seen.offset, ack.sent, known, sequence));
            }
        }
        for (queue, mut messages) in by_queue {
            messages.sort_unstable_by_key(|(offset, ..)| std::cmp::Reverse(*offset));
            let mut earliest = (u64::MAX, 0);
            for (_, sent, known, sequence) in messages {
                if earliest.0 < sent {
                    self.findings.out_of_order += 1;
                    let (broker, id) = &self.journal.queues[queue as usize];
                    let before = earliest.1;
                    self.findings.example(|| {
                        format!("out of order: producer {producer}: message {sequence} lies before {before} in {broker} queue {id}")
                    });
                }
                earliest = earliest.min((known, sequence));
            }
        }
    }
}

#[cfg(test)]
mod tests;
