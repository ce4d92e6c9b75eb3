//! Consume queues on disk: finding the end, cutting, minimum, deletion, bounded mappings; compared with plain lists.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::filter::QueueEntry;
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::queue::Queue;
use crate::storage::{Blocks, Fault, MemoryStorage, Operation, Storage};

const ROOT: &str = "/store/consumequeue";
const FILE_ENTRIES: usize = 10;
const RECORD: i32 = 100;
const EVERY_READ_FAILS: Fault = Fault { operation: Some(Operation::Read), after: 0, lasting: true, errno: 5 };

fn open(storage: &Arc<MemoryStorage>) -> ConsumeQueues {
    ConsumeQueues::open(Arc::clone(storage) as _, ROOT.into(), (FILE_ENTRIES * ENTRY_BYTES) as u64, 3).unwrap()
}

/// Appends entries for the records at `physical`, all of one size.
fn append(queues: &ConsumeQueues, topic: &str, physical: &[i64]) -> (Arc<Queue>, Arc<ConsumeQueue>) {
    let queue = queues.queue(topic, 0);
    let files = queues.files_of(&queue).unwrap();
    for physical in physical {
        let entry = encode(PhysicalOffset(*physical), RECORD, *physical);
        files.append(&entry, PhysicalOffset(physical + i64::from(RECORD))).unwrap();
    }
    queue.publish_max(files.end());
    (queue, files)
}

fn all(files: &Arc<ConsumeQueue>) -> Vec<i64> {
    let mut next = files.first();
    let mut found = Vec::new();
    let mut buffer = [QueueEntry::default(); 7];
    loop {
        let read = files.read(next, files.end(), &mut buffer).unwrap();
        if read == 0 {
            return found;
        }
        assert!(buffer[..read].iter().enumerate().all(|(at, entry)| entry.queue_offset == next.plus(at)));
        found.extend(buffer[..read].iter().map(|entry| entry.physical_offset.0));
        next = next.plus(read);
    }
}

#[test]
fn what_does_not_look_like_a_queue_is_left_alone() {
    let storage = Arc::new(MemoryStorage::new());
    append(&open(&storage), "A", &[0, 100]);
    for dir in ["A/notes", "A/7x", "B"] {
        storage.create_dir(&Path::new(ROOT).join(dir)).unwrap();
    }
    storage.write(&Path::new(ROOT).join("CURRENT"), b"rocksdb").unwrap();
    storage.write(&Path::new(ROOT).join("A/9"), b"file").unwrap();
    let queues = open(&storage);
    assert_eq!(queues.all().len(), 1);
    assert_eq!(queues.find("A", 0).unwrap().max_offset(), QueueOffset(2));
    assert!(queues.find("A", 9).is_none() && queues.find("B", 0).is_none());
    assert_eq!(storage.read(&Path::new(ROOT).join("CURRENT")).unwrap(), b"rocksdb");
}

#[test]
fn entries_that_may_be_on_the_disk_are_brought_in_a_stretch_at_a_time() {
    // A whole number of stretches, as they are counted in each file.
    const STRETCH: i64 = 65_536 / ENTRY_BYTES as i64 + 1;
    let file_bytes = 2 * 65_536 * ENTRY_BYTES as u64;
    let storage = Arc::new(MemoryStorage::new());
    let open = || ConsumeQueues::open(Arc::clone(&storage) as _, ROOT.into(), file_bytes, 3).unwrap();
    let physical: Vec<i64> = (0..3 * STRETCH).map(|at| at * 100).collect();
    let (queue, files) = append(&open(), "A", &physical);
    let far = |files: &Arc<ConsumeQueue>, offset| files.may_wait(QueueOffset(offset), 2);
    let end = queue.max_offset().0;
    assert!(!far(&files, end - 1) && !far(&files, end), "it was just written");
    assert!(far(&files, 0), "it was written long ago");
    let (_, files) = append(&open(), "A", &[end * 100]);
    assert!(far(&files, 0) && far(&files, end - 1), "another process wrote it");
    assert!(!far(&files, end) && !far(&files, end + 1));
    files.bring_in(QueueOffset(1), 2).unwrap();
    assert!(!far(&files, 0) && !far(&files, STRETCH - 2) && far(&files, STRETCH));
    storage.plan(EVERY_READ_FAILS);
    files.bring_in(QueueOffset(STRETCH - 2), 3).unwrap();
    files.bring_in(QueueOffset(end), 2).unwrap();
    assert!(files.bring_in(QueueOffset(STRETCH), 2).is_err() && far(&files, STRETCH));
    storage.clear_plans();
    files.bring_in(QueueOffset(STRETCH), 2).unwrap();
    assert!(!far(&files, STRETCH) && far(&files, 0));
    assert!(files.may_wait(QueueOffset(STRETCH), 4), "it may be gone from memory again");
}

#[test]
fn a_file_of_the_wrong_size_stops_the_start_and_is_named() {
    let storage = Arc::new(MemoryStorage::new());
    append(&open(&storage), "A", &[0]);
    storage.write(&Path::new(ROOT).join("A/0/00000000000000000200"), b"short").unwrap();
    let opened = ConsumeQueues::open(Arc::clone(&storage) as _, ROOT.into(), 200, 3);
    assert!(opened.unwrap_err().to_string().contains("A/0/00000000000000000200 has 5 bytes"));
}

#[test]
fn the_file_size_is_rounded_up_to_whole_entries() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = ConsumeQueues::open(Arc::clone(&storage) as _, ROOT.into(), 41, 3).unwrap();
    append(&queues, "A", &[0]);
    let bytes = storage.file_bytes(&Path::new(ROOT).join("A/0/00000000000000000000")).unwrap();
    assert_eq!(bytes, Some(60));
}

#[test]
fn an_empty_file_made_ahead_is_not_the_end() {
    let storage = Arc::new(MemoryStorage::new());
    append(&open(&storage), "A", &(0..10).map(|n| n * 100).collect::<Vec<_>>());
    storage.create(&Path::new(ROOT).join("A/0/00000000000000000200"), 200, Blocks::Sparse).unwrap();
    let queues = open(&storage);
    let (queue, files) = append(&queues, "A", &[1000]);
    assert_eq!(queue.max_offset(), QueueOffset(11));
    assert_eq!(all(&files).last(), Some(&1000));
}

#[test]
fn a_cut_leaves_nothing_that_a_later_start_could_take_for_an_entry() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = open(&storage);
    let (queue, files) = append(&queues, "A", &(0..35).map(|n| n * 100).collect::<Vec<_>>());
    // The log ends within record 23.
    queues.truncate_to(PhysicalOffset(2350), false).unwrap();
    assert_eq!((queue.max_offset().0, queue.next_append_offset().0), (23, 23));
    assert_eq!(files.end_physical(), PhysicalOffset(2300));
    assert!(storage.file_bytes(&Path::new(ROOT).join("A/0/00000000000000000600")).unwrap().is_none());
    let again = open(&storage);
    assert_eq!(again.find("A", 0).unwrap().max_offset(), QueueOffset(23));
    assert_eq!(again.dispatched_end(), Some(PhysicalOffset(2300)));
    again.truncate_to(PhysicalOffset(0), false).unwrap();
    assert_eq!(again.find("A", 0).unwrap().max_offset(), QueueOffset(0));
    assert_eq!(again.dispatched_end(), None);
}

#[test]
fn leftovers_behind_a_hole_are_wiped_after_a_crash() {
    let storage = Arc::new(MemoryStorage::new());
    append(&open(&storage), "A", &(0..9).map(|n| n * 100).collect::<Vec<_>>());
    let path = Path::new(ROOT).join("A/0/00000000000000000000");
    // A page in the middle did not reach the disk; the binary search may see either side of it.
    storage.wipe(&path, 60..100, crate::storage::Blocks::Sparse).unwrap();
    let queues = open(&storage);
    queues.truncate_to(PhysicalOffset(300), true).unwrap();
    assert_eq!(queues.find("A", 0).unwrap().max_offset(), QueueOffset(3));
    let bytes = storage.read(&path).unwrap();
    assert!(bytes[60..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_minimum_follows_the_log_and_whole_files_go() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = open(&storage);
    let (queue, files) = append(&queues, "A", &(0..35).map(|n| n * 100).collect::<Vec<_>>());
    for (log_min, expected) in [(0, 0), (1, 1), (100, 1), (1950, 20), (3400, 34), (3401, 35), (9000, 35)] {
        queues.correct_min(PhysicalOffset(log_min)).unwrap();
        assert_eq!(queue.min_offset().0, expected, "the log begins at {log_min}");
    }
    assert_eq!(queues.delete_before(PhysicalOffset(2000)).unwrap(), 2);
    assert_eq!((queue.min_offset().0, files.first().0), (20, 20));
    assert_eq!(files.entry_at(QueueOffset(19)).unwrap(), None);
    assert_eq!(queues.delete_before(PhysicalOffset(1 << 40)).unwrap(), 1, "the last file stays");
    assert_eq!((queue.min_offset().0, queue.max_offset().0), (35, 35), "empty, but it goes on counting");
    let again = open(&storage);
    again.correct_min(PhysicalOffset(1 << 40)).unwrap();
    let queue = again.find("A", 0).unwrap();
    assert_eq!((queue.min_offset().0, queue.max_offset().0, queue.next_append_offset().0), (35, 35, 35));
}

#[test]
fn a_deleted_topic_leaves_no_files() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = open(&storage);
    let (queue, _) = append(&queues, "A", &[0, 100]);
    append(&queues, "B", &[200]);
    queues.remove_topic("A").unwrap();
    assert!(queue.is_deleted() && queues.find("A", 0).is_none());
    assert_eq!(open(&storage).topics(), [Arc::<str>::from("B")]);
    queues.remove_all().unwrap();
    assert!(open(&storage).all().is_empty());
}

#[test]
fn a_queue_that_lost_all_its_entries_and_goes_on_later_begins_where_it_goes_on() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = open(&storage);
    append(&queues, "A", &[700, 800]);
    queues.truncate_to(PhysicalOffset(600), true).unwrap();
    let queue = queues.find("A", 0).unwrap();
    let files = queues.files_of(&queue).unwrap();
    files.skip_to(QueueOffset(5)).unwrap();
    files.append(&encode(PhysicalOffset(300), RECORD, 0), PhysicalOffset(400)).unwrap();
    queues.correct_min(PhysicalOffset(0)).unwrap();
    assert_eq!(queue.min_offset(), QueueOffset(5));
}

#[test]
fn filler_that_a_power_cut_left_holes_in_is_filler_again() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = open(&storage);
    let files = queues.files_of(&queues.queue("A", 0)).unwrap();
    append(&queues, "A", &[700]);
    queues.truncate_to(PhysicalOffset(0), true).unwrap();
    files.skip_to(QueueOffset(25)).unwrap();
    drop((queues, files));
    let second = Path::new(ROOT).join("A/0/00000000000000000200");
    storage.write(&second, &[0; FILE_ENTRIES * ENTRY_BYTES]).unwrap();

    let queues = open(&storage);
    queues.truncate_to(PhysicalOffset(600), true).unwrap();
    let (queue, files) = append(&queues, "A", &[300, 400]);
    queues.correct_min(PhysicalOffset(0)).unwrap();
    assert_eq!((queue.min_offset().0, files.end().0), (25, 27));
    assert!((0..25).all(|at| files.entry_at(QueueOffset(at)).unwrap().unwrap().is_blank()));
    drop((queues, queue, files));
    let again = open(&storage);
    again.truncate_to(PhysicalOffset(600), true).unwrap();
    again.correct_min(PhysicalOffset(0)).unwrap();
    assert_eq!(again.find("A", 0).unwrap().min_offset().0, 25);
}

#[test]
fn a_topic_is_deleted_also_before_any_queue_has_a_message() {
    let queues = open(&Arc::new(MemoryStorage::new()));
    queues.queue("A", 0);
    queues.remove_topic("A").unwrap();
    assert!(queues.find("A", 0).is_none());
}

#[test]
fn a_sync_before_the_first_entry_of_the_first_queue_succeeds() {
    let queues = open(&Arc::new(MemoryStorage::new()));
    let queue = queues.queue("A", 0);
    // The dispatcher asks for the files, and another thread syncs before it writes.
    let files = queues.files_of(&queue).unwrap();
    queues.flush(0).unwrap();
    files.append(&[1; ENTRY_BYTES], PhysicalOffset(100)).unwrap();
    queues.flush(0).unwrap();
}

#[test]
fn flushed_entries_survive_a_power_cut() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = open(&storage);
    let physical: Vec<_> = (0..15).map(|n| n * 100).collect();
    append(&queues, "A", &physical);
    queues.flush(2).unwrap();
    let is_lost = |seed| {
        let after = open(&Arc::new(storage.power_cut(seed))).find("A", 0);
        after.is_none_or(|queue| queue.max_offset().0 == 0)
    };
    assert!((0..50).any(is_lost), "less than two pages are not worth a sync");
    queues.flush(0).unwrap();
    let after = Arc::new(storage.power_cut(2));
    let queues = open(&after);
    let queue = queues.find("A", 0).unwrap();
    assert_eq!(all(&queues.files_of(&queue).unwrap()), physical);
}

#[test]
fn many_queues_are_flushed_together() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = open(&storage);
    let topics: Vec<_> = (0..100).map(|n| format!("topic-{n}")).collect();
    topics.iter().for_each(|topic| drop(append(&queues, topic, &[0, 100])));
    storage.fail_syncs(true);
    assert!(queues.flush(0).unwrap_err().to_string().contains("syncing what is below /store/consumequeue"));
    storage.fail_syncs(false);
    queues.flush(0).unwrap();
    append(&queues, "topic-7", &[200]);
    let after = open(&Arc::new(storage.power_cut(0)));
    assert_eq!(after.all().len(), 100);
    assert!(after.all().iter().all(|queue| queue.max_offset().0 >= 2));
    // What was synced together is not synced again alone.
    storage.fail_syncs(true);
    assert!(queues.flush(1).is_ok() && queues.flush(0).is_err());
}

#[test]
fn few_queues_are_mapped_at_once_and_all_can_be_used() {
    let storage = Arc::new(MemoryStorage::new());
    let queues = open(&storage);
    let topics: Vec<_> = (0..12).map(|n| format!("topic-{n}")).collect();
    for round in 0..20 {
        for topic in &topics {
            let (_, files) = append(&queues, topic, &[round * 100]);
            assert_eq!(files.entry_at(QueueOffset(round)).unwrap().map(|entry| entry.tags_code), Some(round * 100));
            assert!(queues.mapped() <= 3, "{} are mapped", queues.mapped());
        }
    }
    for topic in &topics {
        let queue = queues.find(topic, 0).unwrap();
        assert_eq!(all(&queues.files_of(&queue).unwrap()), (0..20).map(|n| n * 100).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn equals_a_list_after_cuts_and_restarts(
        first in 0i64..25,
        steps in proptest::collection::vec((0usize..18, 0.0f64..1.3, any::<bool>()), 1..8),
    ) {
        let storage = Arc::new(MemoryStorage::new());
        let mut queues = open(&storage);
        let mut next_physical = 5_000;
        // Blanks before the first message count as entries of a record at 0.
        let mut model = vec![0; first as usize % FILE_ENTRIES];
        if first > 0 {
            let queue = queues.queue("A", 0);
            let files = queues.files_of(&queue).unwrap();
            files.begin_at(QueueOffset(first)).unwrap();
        }
        for (count, keep, suspect) in steps {
            let added: Vec<i64> = (0..count as i64).map(|n| next_physical + n * 100).collect();
            next_physical += 100 * count as i64;
            append(&queues, "A", &added);
            model.extend(&added);
            let end = if keep < 1.0 { 5_000 + ((next_physical - 5_000) as f64 * keep) as i64 } else { next_physical };
            queues.truncate_to(PhysicalOffset(end), suspect).unwrap();
            model.retain(|physical| *physical == 0 || physical + 100 <= end);
            next_physical = end;
            let queue = queues.queue("A", 0);
            let files = queues.files_of(&queue).unwrap();
            prop_assert_eq!(all(&files), model.clone());
            queues = open(&storage);
            let queue = queues.queue("A", 0);
            let files = queues.files_of(&queue).unwrap();
            prop_assert_eq!(all(&files), model.clone());
            prop_assert_eq!(queue.next_append_offset(), files.end());
            let log_min = PhysicalOffset(5_000 + (end - 5_000) / 3);
            let expected = model.partition_point(|physical| *physical < log_min.0) as i64;
            prop_assert_eq!(files.min_for(log_min).unwrap().0, files.first().0 + expected);
        }
    }
}
