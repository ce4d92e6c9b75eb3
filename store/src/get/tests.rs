//! `get` against the status table, its limits, filters of all verdicts, and a naive filter over a list.

use proptest::prelude::*;
use waspmq_protocol::message::record::records;

use super::*;
use crate::storage::Storage;
use crate::test_rig::{LOG_FILE_BYTES, QUEUES_DIR, Rig};

fn ask(offset: i64, count_max: usize, bytes_max: usize) -> GetRequest {
    GetRequest { offset: QueueOffset(offset), count_max, bytes_max }
}

fn bodies(result: &GetResult) -> Vec<String> {
    let found: Vec<_> = result
        .records
        .iter()
        .flat_map(|piece| records(piece).map(|record| String::from_utf8(record.unwrap().body().to_vec()).unwrap()))
        .collect();
    assert_eq!(found.len(), result.count);
    assert_eq!(result.records.iter().map(Bytes::len).sum::<usize>(), result.bytes);
    found
}

/// Answers from two tables: what the entry's queue offset says, then what the record's body says.
struct Table<E, R> {
    entry: E,
    record: R,
    largest_batch: usize,
}

fn table<E: FnMut(i64) -> Verdict, R: FnMut(&[u8]) -> Verdict>(entry: E, record: R) -> Table<E, R> {
    Table { entry, record, largest_batch: 0 }
}

impl<E: FnMut(i64) -> Verdict, R: FnMut(&[u8]) -> Verdict> MessageFilter for Table<E, R> {
    fn by_entry(&mut self, entries: &[QueueEntry], verdicts: &mut [Verdict]) {
        assert!(entries.len() == verdicts.len() && entries.len() <= FILTER_BATCH_MAX);
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::CannotSay));
        self.largest_batch = self.largest_batch.max(entries.len());
        for (entry, verdict) in entries.iter().zip(verdicts) {
            *verdict = (self.entry)(entry.queue_offset.0);
        }
    }

    fn by_record(&mut self, records: &[FilterRecord<'_>], verdicts: &mut [Verdict]) {
        assert!(records.len() == verdicts.len() && !records.is_empty());
        for (record, verdict) in records.iter().zip(verdicts) {
            assert_eq!(record.entry.queue_offset.0, record.record.queue_offset());
            *verdict = (self.record)(record.record.body());
        }
    }
}

fn never(_: &[u8]) -> Verdict {
    panic!("no record was needed");
}

#[test]
fn the_status_table() {
    let mut rig = Rig::new();
    let empty = rig.queues.queue("A", 1);
    let result = get(&rig.log, &empty, &ask(5, 32, 1000), None);
    assert_eq!((result.status, result.next_begin_offset.0), (GetStatus::NoMessageInQueue, 0));
    let queue = rig.fill("A", 0, 25);
    rig.queues
        .correct_min(rig.queues.files_of(&queue).unwrap().entry_at(QueueOffset(3)).unwrap().unwrap().physical_offset)
        .unwrap();
    let status = |offset| {
        let result = get(&rig.log, &queue, &ask(offset, 1, 1000), None);
        assert_eq!((result.min_offset.0, result.max_offset.0), (3, 25));
        (result.status, result.next_begin_offset.0)
    };
    assert_eq!(status(-1), (GetStatus::OffsetTooSmall, 3));
    assert_eq!(status(2), (GetStatus::OffsetTooSmall, 3));
    assert_eq!(status(3), (GetStatus::Found, 4));
    assert_eq!(status(24), (GetStatus::Found, 25));
    assert_eq!(status(25), (GetStatus::OffsetOverflowOne, 25));
    assert_eq!(status(26), (GetStatus::OffsetOverflowBadly, 25));
    let mut drop_all = table(|_| Verdict::Drop, never);
    let result = get(&rig.log, &queue, &ask(3, 32, 1000), Some(&mut drop_all));
    // Ten entries a file: one call does not go on into the next.
    assert_eq!((result.status, result.next_begin_offset.0), (GetStatus::NoMatchedMessage, 10));
}

#[test]
fn an_entry_that_cannot_be_read_leads_to_the_next_file() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 25);
    rig.queues.files_of(&queue).unwrap().unmap();
    rig.storage.remove(&std::path::Path::new(QUEUES_DIR).join("A/0/00000000000000000200")).unwrap();
    let result = get(&rig.log, &queue, &ask(12, 8, 1000), None);
    assert_eq!((result.status, result.next_begin_offset.0), (GetStatus::OffsetFoundNull, 12), "it may come back");
    let result = get(&rig.log, &queue, &ask(8, 8, 1000), None);
    assert_eq!((result.status, result.next_begin_offset.0, result.count), (GetStatus::Found, 10, 2));
}

#[test]
fn limits_hold_but_the_first_message_always_comes() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 9);
    let one = get(&rig.log, &queue, &ask(0, 1, 1000), None).bytes;
    let counted = |count_max, bytes_max| get(&rig.log, &queue, &ask(0, count_max, bytes_max), None).count;
    assert_eq!(counted(32, 1), 1);
    assert_eq!(counted(32, 2 * one - 1), 1);
    assert_eq!(counted(32, 2 * one), 2);
    assert_eq!(counted(5, 1 << 20), 5);
    assert_eq!(counted(0, 1 << 20), 1, "nobody asks for nothing");
    assert_eq!(get(&rig.log, &queue, &ask(0, 5, 1 << 20), None).next_begin_offset.0, 5);
    let last = get(&rig.log, &queue, &ask(8, 5, 1 << 20), None);
    assert_eq!(last.behind_bytes, one as i64, "the last message begins its own length behind the end");
}

#[test]
fn neighbours_in_the_log_are_one_piece() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 4);
    let other = rig.queues.queue("B", 0);
    rig.append(&other, b"between", b"");
    rig.fill("A", 0, 4);
    let result = get(&rig.log, &queue, &ask(0, 32, 1 << 20), None);
    assert_eq!(result.records.len(), 2);
    assert_eq!(bodies(&result), ["0", "1", "2", "3", "0", "1", "2", "3"]);
}

#[test]
fn records_in_several_files_of_the_log() {
    let mut rig = Rig::new();
    let queue = rig.queues.queue("A", 0);
    let expected: Vec<_> = (0..8).map(|n| n.to_string().repeat(1500)).collect();
    for body in &expected {
        rig.append(&queue, body.as_bytes(), b"");
    }
    rig.dispatch.catch_up(None).unwrap();
    assert!(rig.log.files().wrote() > 3 * LOG_FILE_BYTES);
    let result = get(&rig.log, &queue, &ask(0, 32, 1 << 20), None);
    assert_eq!(bodies(&result), expected);
    assert_eq!(result.records.len(), 4, "one piece a file");
}

#[test]
fn the_walk_stops_before_a_message_that_cannot_be_judged() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 10);
    let judge = |at: i64| match at {
        4 => Verdict::CannotSay,
        at if at % 2 == 0 => Verdict::Keep,
        _ => Verdict::Drop,
    };
    let result = get(&rig.log, &queue, &ask(0, 32, 1 << 20), Some(&mut table(judge, never)));
    assert_eq!(
        (result.status, result.next_begin_offset.0, bodies(&result)),
        (GetStatus::Found, 4, vec!["0".into(), "2".into()])
    );
    let result = get(&rig.log, &queue, &ask(3, 32, 1 << 20), Some(&mut table(judge, never)));
    assert_eq!((result.status, result.next_begin_offset.0, result.count), (GetStatus::Undecided, 4, 0));
    // The second stage cannot say either, or says again that it needs the record it has.
    for verdict in [Verdict::CannotSay, Verdict::NeedRecord] {
        let by_record = |body: &[u8]| if body == b"1" { verdict } else { Verdict::Keep };
        let mut filter = table(|_| Verdict::NeedRecord, by_record);
        let result = get(&rig.log, &queue, &ask(0, 32, 1 << 20), Some(&mut filter));
        assert_eq!((result.status, result.next_begin_offset.0, result.count), (GetStatus::Found, 1, 1));
    }
}

#[test]
fn a_filter_that_does_nothing_decides_nothing() {
    struct Idle;
    impl MessageFilter for Idle {
        fn by_entry(&mut self, _: &[QueueEntry], _: &mut [Verdict]) {}
        fn by_record(&mut self, _: &[FilterRecord<'_>], _: &mut [Verdict]) {}
    }
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 3);
    let result = get(&rig.log, &queue, &ask(0, 32, 1 << 20), Some(&mut Idle));
    assert_eq!((result.status, result.next_begin_offset.0), (GetStatus::Undecided, 0));
}

#[test]
fn a_full_batch_ends_before_the_next_message_that_is_wanted() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 10);
    let odd = |at: i64| if at % 2 == 1 { Verdict::Keep } else { Verdict::Drop };
    let result = get(&rig.log, &queue, &ask(0, 2, 1 << 20), Some(&mut table(odd, never)));
    assert_eq!(bodies(&result), ["1", "3"]);
    assert_eq!(result.next_begin_offset.0, 5, "behind the dropped one, before the next that is wanted");
}

#[test]
fn deleted_and_damaged_records_are_passed_over_and_said_so() {
    let mut rig = Rig::new();
    let queue = rig.queues.queue("A", 0);
    let offsets: Vec<_> =
        (0..12).map(|n| rig.append(&queue, n.to_string().repeat(700).as_bytes(), b"").physical_offsets[0]).collect();
    rig.dispatch.catch_up(None).unwrap();
    let in_first_file = offsets.iter().filter(|offset| (offset.0 as u64) < LOG_FILE_BYTES).count();
    let all_gone = get(&rig.log, &queue, &ask(0, in_first_file, 1 << 20), None);
    assert_eq!(all_gone.count, in_first_file);
    rig.log.files().delete_before(LOG_FILE_BYTES).unwrap();
    let result = get(&rig.log, &queue, &ask(0, 32, 1 << 20), None);
    assert_eq!((result.status, result.next_begin_offset.0), (GetStatus::Found, 10));
    assert_eq!(result.count, 10 - in_first_file);
    let mut need = table(|_| Verdict::NeedRecord, |_: &[u8]| Verdict::Drop);
    let removing = get(&rig.log, &queue, &ask(0, 32, 1 << 20), Some(&mut need));
    assert_eq!(removing.status, GetStatus::MessageWasRemoving);
    // A record whose head was overwritten.
    let damaged = offsets[in_first_file];
    let start = damaged.0 as u64 - damaged.0 as u64 % LOG_FILE_BYTES;
    let path = std::path::Path::new("/store/commitlog").join(format!("{start:020}"));
    let range = damaged.0 as u64 - start + 28..damaged.0 as u64 - start + 36;
    rig.storage.wipe(&path, range, crate::storage::Blocks::Reserved).unwrap();
    let result = get(&rig.log, &queue, &ask(in_first_file as i64, 32, 1 << 20), None);
    assert_eq!(result.count, 9 - in_first_file);
}

#[test]
fn a_page_of_entries_in_the_wrong_place_leads_to_nobody_elses_messages() {
    let mut rig = Rig::new();
    rig.fill("A", 0, 20);
    for (topic, id) in [("A", 1), ("B", 0)] {
        rig.fill(topic, id, 10);
    }
    let path = std::path::Path::new(QUEUES_DIR).join(format!("A/0/{:020}", 0));
    let others = [("A", 1, 0), ("B", 0, 0), ("A", 0, 200)];
    for (topic, id, start) in others {
        rig.storage.write(&path, &rig.queue_file(topic, id, start)).unwrap();
        let rig = rig.reopen();
        let queue = rig.queues.queue("A", 0);
        let result = get(&rig.log, &queue, &ask(0, 32, 1 << 20), None);
        assert_eq!((result.status, result.count), (GetStatus::MessageWasRemoving, 0), "{topic} {id} {start}");
        assert_eq!((result.next_begin_offset.0, rig.log.damaged_reads()), (10, 10));
        let mut need = table(|_| Verdict::NeedRecord, never);
        assert_eq!(get(&rig.log, &queue, &ask(0, 32, 1 << 20), Some(&mut need)).status, GetStatus::MessageWasRemoving);
        assert_eq!(get(&rig.log, &queue, &ask(10, 32, 1 << 20), None).count, 10, "the rest is served");
    }
}

#[test]
fn what_may_lie_on_the_disk_is_known_until_it_was_read() {
    let mut rig = Rig::new();
    rig.fill("A", 0, 30);
    let may_wait = |rig: &Rig, offset| may_wait(&rig.log, &rig.queues.queue("A", 0), &ask(offset, 8, 1 << 20));
    assert!(!may_wait(&rig, 0), "it was just written");
    let rig = rig.reopen();
    rig.log.recovered(0, rig.log.files().wrote());
    assert!(may_wait(&rig, 0) && may_wait(&rig, 29));
    assert!(![-1, 30, 31].into_iter().any(|offset| may_wait(&rig, offset)), "nothing is read there");
    assert_eq!(get(&rig.log, &rig.queues.queue("A", 0), &ask(0, 32, 1 << 20), None).count, 10);
    assert!(!may_wait(&rig, 0) && !may_wait(&rig, 1));
}

#[test]
fn tags_that_java_keeps_in_files_of_their_own_are_taken_from_the_records() {
    struct Codes(Vec<i64>);
    impl MessageFilter for Codes {
        fn by_entry(&mut self, entries: &[QueueEntry], verdicts: &mut [Verdict]) {
            self.0.extend(entries.iter().map(|entry| entry.tags_code));
            verdicts.fill(Verdict::Keep);
        }
        fn by_record(&mut self, _: &[FilterRecord<'_>], _: &mut [Verdict]) {}
    }
    let mut rig = Rig::new();
    let queue = rig.queues.queue("A", 0);
    for tag in ["TagA", "", "TagB"] {
        rig.append(&queue, b"body", format!("TAGS\x01{tag}\x02").as_bytes());
    }
    rig.dispatch.catch_up(None).unwrap();
    let path = std::path::Path::new(QUEUES_DIR).join(format!("A/0/{:020}", 0));
    let mut bytes = rig.storage.read(&path).unwrap();
    for (entry, address) in [(0_usize, 0_i64), (1, 34)] {
        let at = entry * ENTRY_BYTES + 12;
        bytes[at..at + 8].copy_from_slice(&(i64::MIN + address).to_be_bytes());
    }
    rig.storage.write(&path, &bytes).unwrap();
    let rig = rig.reopen();
    let mut codes = Codes(Vec::new());
    let result = get(&rig.log, &rig.queues.queue("A", 0), &ask(0, 32, 1 << 20), Some(&mut codes));
    assert_eq!((result.count, codes.0), (3, vec![0x27_A807, 0, 0x27_A808]));
}

#[test]
fn a_filter_sees_no_more_than_one_call_may_scan() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 10);
    let mut asked = Vec::new();
    let mut filter = table(
        |at| {
            asked.push(at);
            Verdict::Drop
        },
        never,
    );
    get(&rig.log, &queue, &ask(0, 1, 1 << 20), Some(&mut filter));
    assert!(filter.largest_batch <= FILTER_BATCH_MAX);
    assert_eq!(asked, (0..10).collect::<Vec<_>>());
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        6 => Just(Verdict::Keep),
        6 => Just(Verdict::Drop),
        4 => Just(Verdict::NeedRecord),
        1 => Just(Verdict::CannotSay),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Going through a queue call by call gives what a list gives, message by message, whatever the limits.
    #[test]
    fn equals_a_naive_filter(
        sizes in proptest::collection::vec(0usize..500, 1..60),
        others in proptest::collection::vec(any::<bool>(), 60),
        by_entry in proptest::collection::vec(verdict(), 60),
        by_record in proptest::collection::vec(verdict(), 60),
        count_max in 1usize..40,
        bytes_max in 0usize..4000,
    ) {
        let mut rig = Rig::new();
        let (queue, other) = (rig.queues.queue("A", 0), rig.queues.queue("B", 0));
        let mut expected = Vec::new();
        for (at, size) in sizes.iter().enumerate() {
            let body = format!("{at} {}", "x".repeat(*size));
            rig.append(&queue, body.as_bytes(), b"");
            if others[at] {
                rig.append(&other, b"other", b"");
            }
            expected.push(body);
        }
        rig.dispatch.catch_up(None).unwrap();
        // The naive filter: up to the first message that cannot be judged.
        let decide = |at: usize| match by_entry[at] {
            Verdict::NeedRecord => Some(by_record[at]).filter(|verdict| *verdict != Verdict::NeedRecord),
            other => Some(other),
        };
        let undecided = (0..sizes.len()).find(|at| matches!(decide(*at), None | Some(Verdict::CannotSay)));
        let reach = undecided.unwrap_or(sizes.len());
        let wanted: Vec<_> = (0..reach).filter(|at| decide(*at) == Some(Verdict::Keep)).map(|at| expected[at].clone()).collect();

        let mut offset = 0;
        let mut found = Vec::new();
        for _ in 0..200 {
            let mut filter = table(
                |at| by_entry[at as usize],
                |body: &[u8]| {
                    let at = std::str::from_utf8(body).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
                    by_record[at]
                },
            );
            let result = get(&rig.log, &queue, &ask(offset, count_max, bytes_max), Some(&mut filter));
            let some = bodies(&result);
            prop_assert!(some.len() <= count_max);
            prop_assert!(some.len() <= 1 || result.bytes <= bytes_max);
            found.extend(some);
            offset = result.next_begin_offset.0;
            match result.status {
                GetStatus::Found | GetStatus::NoMatchedMessage => {}
                GetStatus::Undecided => break,
                GetStatus::OffsetOverflowOne => break,
                status => prop_assert!(false, "unexpected {status:?} at {offset}"),
            }
        }
        prop_assert_eq!(offset as usize, reach);
        prop_assert_eq!(found, wanted);
    }
}
