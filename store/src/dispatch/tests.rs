//! From the log into queues, index and listeners: order, repetition, transactions, damage, restarts.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use waspmq_protocol::message::flags;

use super::*;
use crate::consume_queue::ENTRY_BYTES;
use crate::index::{Lookup, TopicHash};
use crate::offsets::QueueOffset;
use crate::storage::Storage;
use crate::test_rig::{QUEUE_FILE_BYTES, QUEUES_DIR, Rig, START_MS};

fn indexed(rig: &Rig, topic: &str, key: &str) -> Vec<i64> {
    let hash = TopicHash::new(topic).of(key.as_bytes());
    let mut found = Vec::new();
    rig.index.find(Lookup { hash, begin_ms: 0, end_ms: i64::MAX }, &mut |offset| {
        found.push(offset.0);
        true
    });
    found.reverse();
    found
}

#[test]
fn each_message_is_told_once_and_in_the_order_of_the_log() {
    let mut rig = Rig::new();
    let queues = [rig.queues.queue("A", 0), rig.queues.queue("B", 3)];
    let mut expected = Vec::new();
    for n in 0..100i64 {
        let queue = &queues[(n % 3 == 0) as usize];
        let body = n.to_string().into_bytes();
        let appended = rig.append(queue, &body, b"TAGS\x01TagA\x02");
        expected.push((queue.topic().to_string(), queue.id(), appended.first_queue_offset.0, 0x27a807, body));
        if n % 7 == 0 {
            rig.dispatch.catch_up(None).unwrap();
        }
    }
    assert!(rig.heard().len() < expected.len());
    rig.dispatch.catch_up(None).unwrap();
    rig.dispatch.catch_up(None).unwrap();
    assert_eq!(rig.heard(), expected[expected.len() - 1..], "what follows the last call in the loop");
    assert_eq!(rig.dispatch.position(), rig.log.max_offset());
    assert_eq!(queues[0].max_offset().0 + queues[1].max_offset().0, 100);
}

#[test]
fn half_and_rollback_messages_enter_no_queue_and_rollbacks_no_index() {
    let mut rig = Rig::new();
    let queue = rig.queues.queue("T", 0);
    let properties = b"UNIQ_KEY\x01u\x02KEYS\x01a b\x02";
    let half = rig.append_flagged(&queue, b"half", properties, flags::TRANSACTION_PREPARED).unwrap();
    rig.append_flagged(&queue, b"rollback", properties, flags::TRANSACTION_ROLLBACK).unwrap();
    let commit = rig.append_flagged(&queue, b"commit", properties, flags::TRANSACTION_COMMIT).unwrap();
    rig.dispatch.catch_up(None).unwrap();
    assert_eq!(rig.heard().into_iter().map(|heard| heard.4).collect::<Vec<_>>(), [b"commit"]);
    assert_eq!((queue.max_offset(), commit.first_queue_offset), (QueueOffset(1), QueueOffset(0)));
    for key in ["u", "a", "b"] {
        assert_eq!(indexed(&rig, "T", key), [half.physical_offsets[0].0, commit.physical_offsets[0].0], "{key}");
    }
}

#[test]
fn a_delayed_message_has_its_due_time_in_its_entry() {
    let mut rig = Rig::new();
    let queue = rig.queues.queue("SCHEDULE_TOPIC_XXXX", 2);
    rig.append(&queue, b"later", b"DELAY\x013\x02TAGS\x01TagA\x02");
    rig.dispatch.catch_up(None).unwrap();
    assert_eq!(rig.heard()[0].3, START_MS + 10_000);
}

#[test]
fn entries_are_the_bytes_a_java_broker_writes_and_cross_files() {
    let mut rig = Rig::new();
    let queue = rig.queues.queue("TopicA", 0);
    let mut expected = Vec::new();
    for n in 0..12 {
        let appended = rig.append(&queue, b"body", b"TAGS\x01TagA\x02");
        let start = appended.physical_offsets[0];
        let size = (appended.end.0 - start.0) as i32;
        expected.extend_from_slice(&start.0.to_be_bytes());
        expected.extend_from_slice(&size.to_be_bytes());
        expected.extend_from_slice(&0x27a807_i64.to_be_bytes());
        assert_eq!(appended.first_queue_offset.0, n);
    }
    rig.dispatch.catch_up(None).unwrap();
    assert_eq!(rig.queue_file("TopicA", 0, 0), expected[..QUEUE_FILE_BYTES as usize]);
    let second = rig.queue_file("TopicA", 0, QUEUE_FILE_BYTES);
    assert_eq!(second[..2 * ENTRY_BYTES], expected[QUEUE_FILE_BYTES as usize..]);
    assert!(second[2 * ENTRY_BYTES..].iter().all(|byte| *byte == 0));
}

#[test]
fn dispatching_again_after_a_restart_changes_nothing() {
    let mut rig = Rig::new();
    rig.fill("A", 0, 25);
    rig.fill("B", 1, 3);
    let (a, b) = (rig.queue_file("A", 0, 2 * QUEUE_FILE_BYTES), rig.queue_file("B", 1, 0));
    let again = rig.reopen();
    let (queue_a, queue_b) = (again.queues.find("A", 0).unwrap(), again.queues.find("B", 1).unwrap());
    assert_eq!((queue_a.max_offset().0, queue_b.max_offset().0), (25, 3));
    assert_eq!((queue_a.next_append_offset().0, queue_b.next_append_offset().0), (25, 3));
    assert_eq!(again.queues.dispatched_end(), Some(again.log.max_offset()));
    again.dispatch_from(PhysicalOffset(0)).catch_up(None).unwrap();
    assert_eq!((queue_a.max_offset().0, queue_b.max_offset().0), (25, 3));
    assert_eq!((again.queue_file("A", 0, 2 * QUEUE_FILE_BYTES), again.queue_file("B", 1, 0)), (a, b));
}

#[test]
fn a_queue_whose_first_messages_are_gone_begins_with_blanks() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 15);
    let third = rig.queues.files_of(&queue).unwrap().entry_at(QueueOffset(13)).unwrap().unwrap();
    rig.storage.remove_dir(std::path::Path::new(QUEUES_DIR)).unwrap();
    let again = rig.reopen();
    let mut dispatch = again.dispatch_from(third.physical_offset);
    dispatch.catch_up(None).unwrap();
    let queue = again.queues.find("A", 0).unwrap();
    assert_eq!((queue.min_offset().0, queue.max_offset().0, queue.next_append_offset().0), (13, 15, 15));
    let bytes = again.queue_file("A", 0, QUEUE_FILE_BYTES);
    assert_eq!(bytes[..3 * ENTRY_BYTES], crate::consume_queue::BLANK.repeat(3));
    assert_eq!(bytes[3 * ENTRY_BYTES..][..8], third.physical_offset.0.to_be_bytes());
    let third_start = rig.reopen();
    third_start.queues.correct_min(PhysicalOffset(0)).unwrap();
    assert_eq!(third_start.queues.find("A", 0).unwrap().min_offset().0, 13, "blanks are never readable");
}

#[test]
fn missing_entries_leave_their_places_empty() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 6);
    let fifth = rig.queues.files_of(&queue).unwrap().entry_at(QueueOffset(4)).unwrap().unwrap();
    let first = rig.queues.files_of(&queue).unwrap().entry_at(QueueOffset(0)).unwrap().unwrap();
    rig.queues.truncate_to(first.physical_end(), true).unwrap();
    assert_eq!(queue.max_offset().0, 1);
    rig.dispatch_from(fifth.physical_offset).catch_up(None).unwrap();
    assert_eq!(queue.max_offset().0, 6);
    let files = rig.queues.files_of(&queue).unwrap();
    assert!((1..4).all(|at| files.entry_at(QueueOffset(at)).unwrap().unwrap().is_blank()));
    assert_eq!(files.entry_at(QueueOffset(4)).unwrap(), Some(fifth));
}

#[test]
fn a_topic_made_again_after_its_deletion_counts_from_zero() {
    let mut rig = Rig::new();
    rig.fill("A", 0, 5);
    rig.queues.remove_topic("A").unwrap();
    let queue = rig.fill("A", 0, 2);
    assert_eq!((queue.min_offset().0, queue.max_offset().0), (0, 2));
    // After a crash the log is dispatched again from before the deletion.
    rig.storage.remove_dir(std::path::Path::new(QUEUES_DIR)).unwrap();
    let again = rig.reopen();
    again.dispatch_from(PhysicalOffset(0)).catch_up(None).unwrap();
    let queue = again.queues.find("A", 0).unwrap();
    assert_eq!((queue.min_offset().0, queue.max_offset().0), (0, 2));
}

#[test]
fn a_queue_that_is_deleted_amid_a_batch_has_no_holes() {
    let mut rig = Rig::new();
    let queue = rig.fill("A", 0, 2);
    (0..3).for_each(|_| drop(rig.append(&queue, b"late", b"")));
    // The topic is being deleted; its files still are there, and come back if the power fails now.
    rig.queues.mark_deleted("A");
    rig.dispatch.catch_up(None).unwrap();
    let entries = rig.queue_file("A", 0, 0);
    let sizes: Vec<_> = entries.chunks(ENTRY_BYTES).map(|entry| entry[8..12].to_vec()).collect();
    assert!(sizes[..5].iter().all(|size| size[0] == 0 && size[3] > 0), "a place was left empty: {sizes:?}");
}

#[test]
fn a_damaged_record_hides_only_itself() {
    let rig = Rig::new();
    let queue = rig.queues.queue("A", 0);
    let appended: Vec<_> = (0..40).map(|n: i32| rig.append(&queue, n.to_string().as_bytes(), b"")).collect();
    let bad = appended[3].physical_offsets[0].0 as u64;
    let path = std::path::Path::new("/store/commitlog/00000000000000000000");
    let before = rig.reopen();
    before.storage.wipe(path, bad..bad + 8, crate::storage::Blocks::Reserved).unwrap();
    let mut dispatch = before.dispatch_from(PhysicalOffset(0));
    dispatch.catch_up(None).unwrap();
    let bodies: Vec<_> = before.heard().into_iter().map(|heard| String::from_utf8(heard.4).unwrap()).collect();
    let expected: Vec<_> = (0..40).filter(|n| *n != 3).map(|n| n.to_string()).collect();
    assert_eq!(bodies, expected);
    assert_eq!(before.queues.find("A", 0).unwrap().max_offset().0, 40);
}

#[test]
fn a_full_disk_delays_messages_and_loses_none() {
    let mut rig = Rig::new();
    let queue = rig.queues.queue("A", 0);
    for n in 0..30 {
        rig.append(&queue, n.to_string().as_bytes(), b"KEYS\x01k\x02");
    }
    rig.storage.set_room(Some(0));
    let error = rig.dispatch.catch_up(None).unwrap_err().to_string();
    assert!(error.contains("/store/consumequeue/A/0/"), "{error}");
    assert!(rig.heard().is_empty());
    // Enough for the queue's three files, not for the index.
    rig.storage.set_room(Some(3 * QUEUE_FILE_BYTES + 60));
    let error = rig.dispatch.catch_up(None).unwrap_err().to_string();
    assert!(error.contains("/store/index/"), "{error}");
    rig.storage.set_room(None);
    rig.dispatch.catch_up(None).unwrap();
    assert_eq!(rig.heard().into_iter().map(|heard| heard.2).collect::<Vec<_>>(), (0..30).collect::<Vec<_>>());
    assert_eq!((queue.max_offset().0, indexed(&rig, "A", "k").len()), (30, 30));
}

#[test]
fn more_queues_than_are_kept_at_hand() {
    let mut rig = Rig::new();
    for round in 0..2 {
        for topic in 0..300 {
            let queue = rig.queues.queue(&format!("topic-{topic:05}"), topic % 5);
            rig.append(&queue, round.to_string().as_bytes(), b"");
        }
    }
    rig.dispatch.catch_up(None).unwrap();
    assert_eq!(rig.heard().len(), 600);
    assert!(rig.queues.all().iter().all(|queue| queue.max_offset().0 == 2));
    let again = rig.reopen();
    assert_eq!(again.queues.all().len(), 300);
    assert!(again.queues.all().iter().all(|queue| (queue.min_offset().0, queue.max_offset().0) == (0, 2)));
}

#[test]
fn the_thread_follows_appends_and_ends_when_told() {
    let rig = Rig::new();
    let root = Path::new("/store");
    rig.storage.create_dir(root).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(&*rig.storage, root).unwrap());
    let dispatcher = Dispatcher::start(rig.dispatch_from(PhysicalOffset(0)), checkpoint).unwrap();
    let queue = rig.queues.queue("A", 0);
    for n in 0..200 {
        let end = rig.append(&queue, n.to_string().as_bytes(), b"").end;
        if n % 50 == 0 {
            assert!(dispatcher.wait_for(end, Duration::from_secs(20)));
            // Long enough for it to fall asleep.
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    assert!(dispatcher.wait_for(rig.log.max_offset(), Duration::from_secs(20)));
    dispatcher.stop();
    let end = rig.append(&queue, b"after", b"").end;
    assert!(!dispatcher.wait_for(end, Duration::from_millis(5)));
    assert_eq!(rig.heard().into_iter().map(|heard| heard.2).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    assert!(dispatcher.fault().is_none());
}

/// What a test does to the store.
#[derive(Clone, Debug)]
enum Step {
    Append { queue: usize, body: usize },
    Dispatch,
    Restart,
    Crash { lost_bytes: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0usize..4, 0usize..600).prop_map(|(queue, body)| Step::Append { queue, body }),
        3 => Just(Step::Dispatch),
        1 => Just(Step::Restart),
        1 => (0i64..3_000).prop_map(|lost_bytes| Step::Crash { lost_bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The queues are what the log says, whatever happens: compared with plain lists of physical offsets.
    #[test]
    fn queues_equal_lists(steps in proptest::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new();
        let mut lists: Vec<Vec<PhysicalOffset>> = vec![Vec::new(); 4];
        let mut ends = vec![0u64];
        for step in steps {
            match step {
                Step::Append { queue, body } => {
                    let handle = rig.queues.queue("T", queue as i32);
                    let appended = rig.append(&handle, &vec![b'x'; body], b"");
                    prop_assert_eq!(appended.first_queue_offset.0, lists[queue].len() as i64);
                    lists[queue].push(appended.physical_offsets[0]);
                    ends.push(appended.end.0 as u64);
                }
                Step::Dispatch => rig.dispatch.catch_up(None).unwrap(),
                Step::Restart => {
                    rig.dispatch.catch_up(None).unwrap();
                    rig = rig.reopen();
                }
                Step::Crash { lost_bytes } => {
                    // The log keeps whole records up to somewhere; what is derived from it may know more.
                    rig.dispatch.catch_up(None).unwrap();
                    let wanted = (rig.log.files().wrote() as i64 - lost_bytes).max(0) as u64;
                    ends.retain(|end| *end <= wanted);
                    let end = *ends.last().unwrap_or(&0);
                    for list in &mut lists {
                        list.retain(|offset| (offset.0 as u64) < end);
                    }
                    let after = Rig::with_log_end(Arc::clone(&rig.storage), end);
                    let from = PhysicalOffset(end as i64 / 2);
                    after.queues.truncate_to(from, true).unwrap();
                    rig = after;
                    rig.dispatch = rig.dispatch_from(PhysicalOffset(0));
                    rig.dispatch.catch_up(None).unwrap();
                }
            }
        }
        rig.dispatch.catch_up(None).unwrap();
        for (id, list) in lists.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            let queue = rig.queues.find("T", id as i32).unwrap();
            let files = rig.queues.files_of(&queue).unwrap();
            prop_assert_eq!(queue.max_offset().0, list.len() as i64);
            for (at, offset) in list.iter().enumerate() {
                let entry = files.entry_at(QueueOffset(at as i64)).unwrap().unwrap();
                prop_assert_eq!(entry.physical_offset, *offset);
            }
        }
    }
}
