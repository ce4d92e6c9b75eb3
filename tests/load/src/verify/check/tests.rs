//! A clean run is found clean, and every kind of fault, put into it, is found and named.

use super::super::body::Origin;
use super::*;
use waspmq_protocol::message::record::{RecordFields, encode_into, encoded_len};

const RUN: u64 = 0xFEED;

/// One stored message.
#[derive(Clone)]
struct Stored {
    queue: i32,
    offset: i64,
    physical: i64,
    body: Vec<u8>,
}

impl Stored {
    fn record(&self) -> Vec<u8> {
        let host = "127.0.0.1:10911".parse().unwrap();
        let fields = RecordFields {
            queue_id: self.queue,
            flag: 0,
            queue_offset: self.offset,
            physical_offset: self.physical,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_timestamp: 2,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &self.body,
            topic: "T",
            properties: b"",
        };
        let mut bytes = vec![0; encoded_len(&fields)];
        encode_into(&fields, &mut bytes);
        bytes
    }
}

fn body(sequence: u64) -> (Vec<u8>, u32) {
    let mut bytes = vec![0; 100];
    let crc = body::write(&mut bytes, Origin { run: RUN, producer: 0, sequence });
    (bytes, crc)
}

/// A producer that sent 40 messages to two queues in turn, two in flight at any time, and what a faultless broker stored.
fn run() -> (Journal, Vec<Stored>) {
    let mut journal = Journal { run: RUN, topic: "T".into(), ..Journal::default() };
    journal.queues = vec![("b".into(), 0), ("b".into(), 1)];
    let (mut fates, mut stored) = (Vec::new(), Vec::new());
    for sequence in 0..40_u64 {
        let (body, crc) = body(sequence);
        let (queue, offset, physical) = (sequence as u32 % 2, sequence as i64 / 2, sequence as i64 * 300);
        fates.push(Fate::Acknowledged(Ack {
            queue,
            offset,
            physical,
            sent: sequence * 2,
            acked: sequence * 2 + 5,
            crc,
            acked_ms: sequence * 10,
        }));
        stored.push(Stored { queue: queue as i32, offset, physical, body });
    }
    journal.fates = vec![fates];
    (journal, stored)
}

fn check(journal: &Journal, stored: &[Stored], strict: bool) -> Findings {
    let mut checker = Checker::new(journal.clone());
    for queue in 0..2 {
        let mut of_queue: Vec<_> = stored.iter().filter(|message| message.queue == queue).collect();
        of_queue.sort_by_key(|message| message.offset);
        of_queue.iter().for_each(|message| checker.record("b", queue, &message.record()));
    }
    checker.finish(strict)
}

/// The counts that differ from those of the faultless run.
fn faults(findings: &Findings) -> Vec<(&'static str, u64)> {
    let Findings { lost, misplaced, doubled, corrupt, unreadable, out_of_order, gaps, .. } = findings;
    let all = [
        ("lost", *lost),
        ("misplaced", *misplaced),
        ("doubled", *doubled),
        ("corrupt", *corrupt),
        ("unreadable", *unreadable),
        ("out of order", *out_of_order),
        ("gaps", *gaps),
    ];
    assert_eq!(findings.examples.is_empty(), findings.is_clean());
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn a_faultless_run_is_clean() {
    let (journal, stored) = run();
    let findings = check(&journal, &stored, true);
    assert!(findings.is_clean(), "{findings:?}");
    assert_eq!((findings.acknowledged, findings.found, findings.foreign), (40, 40, 0));
}

#[test]
fn a_message_that_is_gone_is_lost_and_leaves_a_gap() {
    let (journal, mut stored) = run();
    stored.remove(10);
    assert_eq!(faults(&check(&journal, &stored, true)), [("lost", 1), ("gaps", 1)]);
    let (journal, mut stored) = run();
    stored.truncate(37);
    assert_eq!(faults(&check(&journal, &stored, true)), [("lost", 3)]);
}

#[test]
fn a_second_copy_is_doubled() {
    let (journal, mut stored) = run();
    stored.push(Stored { offset: 20, physical: 40 * 300, ..stored[6].clone() });
    assert_eq!(faults(&check(&journal, &stored, true)), [("doubled", 1)]);
}

#[test]
fn a_changed_body_is_corrupt_and_its_message_lost() {
    let (journal, mut stored) = run();
    stored[5].body[50] ^= 1;
    assert_eq!(faults(&check(&journal, &stored, true)), [("lost", 1), ("corrupt", 1)]);
}

#[test]
fn another_whole_body_under_the_same_number_is_corrupt() {
    let (journal, mut stored) = run();
    let mut longer = vec![0; 120];
    body::write(&mut longer, Origin { run: RUN, producer: 0, sequence: 5 });
    stored[5].body = longer;
    assert_eq!(faults(&check(&journal, &stored, true)), [("corrupt", 1)]);
}

#[test]
fn a_record_that_does_not_fit_its_checksum_is_unreadable() {
    let (journal, stored) = run();
    let mut checker = Checker::new(journal);
    for (index, message) in stored.iter().filter(|message| message.queue == 0).enumerate() {
        let mut record = message.record();
        if index == 3 {
            record[100] ^= 1;
        }
        checker.record("b", if index == 4 { 1 } else { 0 }, &record);
    }
    let findings = checker.finish(true);
    assert_eq!(faults(&findings), [("lost", 22), ("unreadable", 2), ("gaps", 1)]);
}

#[test]
fn a_message_elsewhere_than_acknowledged_is_misplaced() {
    let (journal, mut stored) = run();
    stored[39].physical += 8;
    assert_eq!(faults(&check(&journal, &stored, true)), [("misplaced", 1)]);
    let (journal, mut stored) = run();
    stored[39].queue = 0;
    stored[39].offset = 20;
    assert_eq!(faults(&check(&journal, &stored, true)), [("misplaced", 1)]);
}

/// Messages 4 and 6 of queue 0 change places, in the log and in what the broker acknowledged.
fn swapped(one: usize, other: usize) -> Findings {
    let (mut journal, mut stored) = run();
    let (first, second) = (stored[one].body.clone(), stored[other].body.clone());
    (stored[one].body, stored[other].body) = (second, first);
    let fates = &mut journal.fates[0];
    let (Fate::Acknowledged(mut a), Fate::Acknowledged(mut b)) = (fates[one], fates[other]) else {
        panic!("both acked")
    };
    std::mem::swap(&mut a.offset, &mut b.offset);
    std::mem::swap(&mut a.physical, &mut b.physical);
    (fates[one], fates[other]) = (Fate::Acknowledged(a), Fate::Acknowledged(b));
    check(&journal, &stored, false)
}

#[test]
fn order_counts_from_the_acknowledgement_and_strictly_from_the_send() {
    // In flight together: 4 was acknowledged (13) after 6 was sent (12).
    assert!(swapped(4, 6).is_clean());
    // Message 8 was sent (16) when 4 had been acknowledged (13).
    assert_eq!(faults(&swapped(4, 8)), [("out of order", 1)]);
    let (mut journal, stored) = run();
    let Fate::Acknowledged(ack) = &mut journal.fates[0][6] else { panic!("acked") };
    ack.sent = 5;
    assert!(check(&journal, &stored, false).is_clean());
    assert_eq!(faults(&check(&journal, &stored, true)), [("out of order", 1)]);
}

#[test]
fn what_was_not_acknowledged_may_be_there_or_not() {
    let (mut journal, mut stored) = run();
    journal.fates[0][38] = Fate::Unknown;
    journal.fates[0][39] = Fate::Unknown;
    journal.fates[0][37] = Fate::Refused;
    stored.pop();
    let mut other = vec![1; 100];
    body::write(&mut other, Origin { run: RUN + 1, producer: 0, sequence: 0 });
    stored.push(Stored { queue: 0, offset: 20, physical: 99_999, body: other });
    let (late, _) = body(40);
    stored.push(Stored { queue: 0, offset: 21, physical: 99_999, body: late });
    let findings = check(&journal, &stored, true);
    assert!(findings.is_clean(), "{findings:?}");
    let Findings { acknowledged, unknown_stored, unknown_absent, refused_stored, foreign, .. } = findings;
    assert_eq!((acknowledged, unknown_stored, unknown_absent, refused_stored, foreign), (37, 2, 1, 1, 1));
}

#[test]
fn a_lost_end_is_told_from_a_lost_middle_and_has_a_time() {
    let (journal, stored) = run();
    let end_lost = check(&journal, &stored[..30], true);
    assert_eq!((end_lost.lost, end_lost.first_lost_ms, end_lost.lost_before_others), (10, 300, 0));
    let middle_lost = check(&journal, &[&stored[..20], &stored[22..]].concat(), true);
    assert_eq!((middle_lost.lost, middle_lost.first_lost_ms, middle_lost.lost_before_others), (2, 200, 2));
}
