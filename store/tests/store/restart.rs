//! Opening again: after a clean stop, after a kill, after torn, stale, damaged or missing bytes.

use std::path::Path;

use waspmq_store::{Item, Items, KeyQuery, OpenError, PhysicalOffset, storage::Storage};

use crate::rig::{FILE_BYTES, ROOT, Rig, append, bodies, bodies_around_damage, one, settle, wait_durable};

const RECORD_BYTES: i64 = 91 + 1 + 10 + 100;

/// A store with `count` messages of 202 bytes, in one queue.
pub(crate) fn filled(count: u8) -> Rig {
    let rig = Rig::new();
    let store = rig.open();
    for at in 0..count {
        append(&store, "T", 0, &[at; 100]).unwrap();
    }
    settle(&store);
    rig
}

pub(crate) fn expected(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|at| vec![at; 100]).collect()
}

/// Changes bytes of a file behind the store's back, as only a power cut or a bad disk does.
pub(crate) fn patch(rig: &Rig, name: &str, at: usize, bytes: &[u8]) {
    rig.storage.reboot();
    let path = Path::new(ROOT).join(name);
    let mut content = rig.storage.read(&path).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    rig.storage.write(&path, &content).unwrap();
    rig.storage.sync_dir(path.parent().unwrap()).unwrap();
}

fn log_file(offset: u64) -> String {
    format!("commitlog/{:020}", offset / FILE_BYTES * FILE_BYTES)
}

#[test]
fn after_a_clean_stop_nothing_is_read_again() {
    let rig = Rig::new();
    let store = rig.open();
    for at in 0..50 {
        append(&store, "T", 0, &[at; 100]).unwrap();
    }
    let end = store.stats().max_offset;
    assert!(store.shutdown().clean);
    let again = rig.open();
    let report = again.open_report();
    assert!(report.clean);
    assert_eq!((report.recovered_from, report.recovered_records, report.end), (end, 0, end));
    assert_eq!((report.messages, report.truncated_bytes), (50, 0));
    assert_eq!(bodies(&again, "T", 0), expected(50));
    append(&again, "T", 0, &[50; 100]).unwrap();
    settle(&again);
    assert_eq!(bodies(&again, "T", 0), expected(51));
}

#[test]
fn after_a_kill_everything_is_there_and_offsets_go_on() {
    let rig = filled(60);
    let again = rig.open();
    assert!(!again.open_report().clean);
    assert_eq!(again.open_report().messages, 60);
    assert_eq!(append(&again, "T", 0, &[60; 100]).unwrap().first_queue_offset.0, 60);
    settle(&again);
    assert_eq!(bodies(&again, "T", 0), expected(61));
}

#[test]
fn after_a_kill_nothing_that_was_dispatched_is_read_again() {
    for reboot in [false, true] {
        let rig = filled(60);
        rig.open().shutdown();
        let store = rig.open();
        append(&store, "T", 0, &[60; 100]).unwrap();
        settle(&store);
        let end = store.stats().max_offset;
        drop(store);
        if reboot {
            rig.storage.reboot();
        }
        let report = rig.open().open_report().clone();
        assert_eq!((report.messages, report.end), (61, end));
        // After a reboot what was not synced may be lost, so it is read again.
        assert_eq!(report.recovered_records, u64::from(reboot));
    }
}

#[test]
fn after_many_kills_each_key_is_found_once() {
    let rig = Rig::new();
    let mut expected = Vec::new();
    for life in 0..20u8 {
        let store = rig.open();
        for at in 0..7u8 {
            let queue = store.queue("T", 0);
            let item = Item { flag: 0, body: &[life, at], properties: b"KEYS\x01same\x02" };
            let mut out = Vec::new();
            store.append(&[one(&queue, Items::One(item))], &mut out);
            out.pop().unwrap().unwrap();
            expected.push(vec![life, at]);
        }
        if life % 3 > 0 {
            settle(&store);
        }
        drop(store);
    }
    let store = rig.open();
    assert_eq!(bodies(&store, "T", 0), expected);
    let query = KeyQuery { topic: "T", key: "same", count_max: 1000, begin_ms: 0, end_ms: i64::MAX };
    let found = store.query(&query).unwrap();
    assert_eq!(found.records.len(), expected.len());
}

#[test]
fn a_torn_end_is_cut_at_whichever_byte_it_was_torn() {
    let last = 4 * RECORD_BYTES as usize;
    for torn in 0..RECORD_BYTES as usize {
        let rig = filled(5);
        patch(&rig, &log_file(0), last + torn, &vec![0; RECORD_BYTES as usize - torn]);
        let again = rig.open();
        // The last byte of the properties is not covered by the body's checksum; zeroing it tears nothing.
        let kept = if torn == RECORD_BYTES as usize { 5 } else { 4 };
        let stored = bodies(&again, "T", 0);
        assert!(stored.len() >= kept, "torn at {torn}");
        assert_eq!(stored[..4], expected(4)[..]);
        assert_eq!(append(&again, "T", 0, b"next").unwrap().first_queue_offset.0, stored.len() as i64);
    }
}

#[test]
fn garbage_behind_the_end_is_wiped() {
    let rig = filled(5);
    let end = 5 * RECORD_BYTES as usize;
    patch(&rig, &log_file(0), end, &[0xAB; 500]);
    let again = rig.open();
    assert_eq!(again.open_report().truncated_bytes, 500);
    assert_eq!(bodies(&again, "T", 0), expected(5));
    drop(again);
    assert!(rig.bytes_of(&log_file(0))[end..].iter().all(|byte| *byte == 0));
}

#[test]
fn records_that_were_cut_once_never_come_back() {
    let rig = filled(6);
    // The fourth record is torn; the fifth and sixth behind it are whole, but were never synced.
    patch(&rig, &log_file(0), 3 * RECORD_BYTES as usize + 100, &[0xEE; 30]);
    let again = rig.open();
    assert_eq!(bodies(&again, "T", 0), expected(3));
    append(&again, "T", 0, &[3; 100]).unwrap();
    settle(&again);
    drop(again);
    assert_eq!(bodies(&rig.open(), "T", 0), expected(4));
}

/// A store of six synced messages that was killed before queues and index were synced, with some bytes changed.
fn damaged(at: usize, bytes: &[u8]) -> (Rig, Vec<u8>) {
    let rig = Rig::new();
    let store = rig.open();
    for at in 0..6 {
        append(&store, "T", 0, &[at; 100]).unwrap();
    }
    settle(&store);
    // A clean stop notes how much was synced; then the process is taken for killed.
    store.shutdown();
    drop(store);
    rig.storage.write(&Path::new(ROOT).join("abort"), b"1").unwrap();
    // Derived data is complete up to the end; say it is not, so that the log is read.
    let mut progress = rig.bytes_of("progress");
    progress[32..40].copy_from_slice(&0i64.to_be_bytes());
    progress[40..48].copy_from_slice(&(-1i64).to_be_bytes());
    patch(&rig, "progress", 0, &progress);
    patch(&rig, &log_file(0), at, bytes);
    let log = rig.bytes_of(&log_file(0));
    (rig, log)
}

#[test]
fn damage_before_what_was_synced_is_fenced_and_left_as_it_is() {
    for bad in 0..6 {
        let begin = bad * RECORD_BYTES as usize;
        // In the body, and in the length, with which one loses the way.
        for (at, bytes) in [(begin + 100, &[0xEE; 8][..]), (begin, &[0x7F, 0, 0, 0][..]), (begin, &[0; 91][..])] {
            let (rig, before) = damaged(at, bytes);
            let store = rig.open();
            let (from, to) = (PhysicalOffset(begin as i64), PhysicalOffset((begin + RECORD_BYTES as usize) as i64));
            let fences = &store.open_report().fences;
            assert_eq!(
                fences.iter().map(|fence| (fence.from, fence.to)).collect::<Vec<_>>(),
                [(from, to)],
                "{bad} {at}"
            );
            // Of the newest message nothing is left that says which place it had.
            let place = if bad == 5 && at == begin { 5 } else { 6 };
            assert_eq!(append(&store, "T", 0, &[6; 100]).unwrap().first_queue_offset.0, place, "{bad} {at}");
            settle(&store);
            let mut left = expected(7);
            left.remove(bad);
            assert_eq!(bodies_around_damage(&store, "T", 0), left, "{bad} {at}");
            store.shutdown();
            let old = 6 * RECORD_BYTES as usize;
            assert!(rig.bytes_of(&log_file(0))[..old] == before[..old], "the damaged bytes were changed");
        }
    }
}

#[test]
fn a_body_that_was_changed_on_the_disk_is_never_served() {
    let rig = filled(6);
    rig.open().shutdown();
    patch(&rig, &log_file(0), 2 * RECORD_BYTES as usize + 100, &[0xEE; 8]);
    let store = rig.open();
    assert!(store.open_report().fences.is_empty(), "a clean start reads nothing");
    let mut left = expected(6);
    left.remove(2);
    assert_eq!(bodies_around_damage(&store, "T", 0), left);
}

#[test]
fn a_missing_last_file_is_reported() {
    let rig = Rig::new();
    let store = rig.open();
    for at in 0..40 {
        append(&store, "T", 0, &[at; 100]).unwrap();
    }
    store.shutdown();
    drop(store);
    let last = rig.storage.list(&Path::new(ROOT).join("commitlog")).unwrap().pop().unwrap().name;
    rig.storage.remove(&Path::new(ROOT).join("commitlog").join(last)).unwrap();
    assert!(matches!(rig.try_open(), Err(OpenError::Damaged { reason, .. }) if reason.contains("missing")));
}

#[test]
fn a_shortened_last_file_is_named_and_an_empty_one_is_removed() {
    let rig = filled(30);
    let last = rig.storage.list(&Path::new(ROOT).join("commitlog")).unwrap().pop().unwrap().name;
    let path = Path::new(ROOT).join("commitlog").join(&last);
    let whole = rig.storage.read(&path).unwrap();
    rig.storage.write(&path, &whole[..1000]).unwrap();
    let error = rig.try_open().unwrap_err().to_string();
    assert!(error.contains(&last) && error.contains("has 1000 bytes"), "{error}");
    rig.storage.write(&path, &whole).unwrap();
    let next = Path::new(ROOT).join("commitlog").join(format!("{:020}", last.parse::<u64>().unwrap() + FILE_BYTES));
    rig.storage.write(&next, b"").unwrap();
    assert_eq!(bodies(&rig.open(), "T", 0), expected(30));
}

#[test]
fn a_folder_of_a_java_broker_is_opened_by_its_checkpoint_alone() {
    for clean in [true, false] {
        let rig = filled(60);
        let store = rig.open();
        if clean {
            store.shutdown();
        }
        drop(store);
        rig.storage.remove(&Path::new(ROOT).join("progress")).unwrap();
        let again = rig.open();
        assert_eq!(again.open_report().clean, clean);
        assert_eq!(bodies(&again, "T", 0), expected(60));
        assert_eq!(append(&again, "T", 0, b"next").unwrap().first_queue_offset.0, 60);
    }
}

/// RocketMQ's broker cuts a damaged log and its queues without wiping what lies behind.
#[test]
fn what_another_broker_cut_from_log_and_queues_stays_cut() {
    for clean in [true, false] {
        let old = Rig::new();
        let store = old.open();
        (0..18).for_each(|at| drop(append(&store, "T", i32::from(at % 2), &[at; 100]).unwrap()));
        settle(&store);
        drop(store);
        std::thread::sleep(std::time::Duration::from_millis(5));

        let rig = Rig::new();
        let store = rig.open();
        let mut expected = [Vec::new(), Vec::new()];
        // Six messages are left of the old ones. Queue 1 gets nothing since.
        for (at, queue) in [0, 1, 0, 1, 0, 1, 0, 0, 0, 0].into_iter().enumerate() {
            let body = [at as u8 + 100; 100];
            append(&store, "T", queue, &body).unwrap();
            expected[queue as usize].push(body.to_vec());
        }
        settle(&store);
        if clean {
            store.shutdown();
        }
        drop(store);
        for (name, end) in
            [(log_file(0), 10 * RECORD_BYTES as usize), ("consumequeue/T/1/".to_owned() + &"0".repeat(20), 60)]
        {
            patch(&rig, &name, end, &old.bytes_of(&name)[end..]);
        }
        rig.storage.remove(&Path::new(ROOT).join("progress")).unwrap();

        let again = rig.open();
        assert_eq!(again.open_report().end, PhysicalOffset(10 * RECORD_BYTES), "clean: {clean}");
        for queue in [0, 1] {
            append(&again, "T", queue, b"next").unwrap();
            expected[queue as usize].push(b"next".to_vec());
        }
        settle(&again);
        assert_eq!([0, 1].map(|queue| bodies(&again, "T", queue)), expected, "clean: {clean}");
    }
}

/// A kill comes between the queues of a batch, and the checkpoint claims that the first file is all dispatched.
/// The log begins in its second file, the queue in the file that holds what is left.
#[test]
fn an_empty_store_opens_and_closes() {
    let rig = Rig::new();
    for _ in 0..3 {
        let store = rig.open();
        assert_eq!((store.open_report().messages, store.open_report().end), (0, PhysicalOffset(0)));
        assert!(store.shutdown().clean);
    }
    let store = rig.open();
    append(&store, "T", 0, &[0; 100]).unwrap();
    settle(&store);
    drop(store);
    assert_eq!(bodies(&rig.open(), "T", 0), expected(1));
}

#[test]
fn deleted_files_move_the_first_offset_and_a_deleted_topic_begins_anew() {
    let rig = filled(100);
    let store = rig.open();
    append(&store, "Other", 0, b"stays").unwrap();
    settle(&store);
    wait_durable(&store, std::time::Duration::from_secs(10));
    assert_eq!(store.delete_before(PhysicalOffset(2 * FILE_BYTES as i64)).unwrap(), 2);
    let queue = store.find_queue("T", 0).unwrap();
    assert!(queue.min_offset().0 > 0);
    let left = bodies(&store, "T", 0);
    assert_eq!(left[..], expected(100)[queue.min_offset().0 as usize..]);
    store.delete_topic("T").unwrap();
    assert!(queue.is_deleted());
    assert_eq!(append(&store, "T", 0, b"anew").unwrap().first_queue_offset.0, 0);
    settle(&store);
    assert_eq!(bodies(&store, "T", 0), [b"anew"]);
    store.shutdown();
    drop(store);
    let again = rig.open();
    assert_eq!(bodies(&again, "T", 0), [b"anew"]);
    assert_eq!(bodies(&again, "Other", 0), [b"stays"]);
}

#[test]
fn a_deleted_topic_stays_deleted_though_its_message_was_the_newest() {
    for others in [0, 10] {
        let rig = filled(others);
        let store = rig.open();
        (0..5).for_each(|at| drop(append(&store, "Gone", 0, &[at; 100]).unwrap()));
        settle(&store);
        store.delete_topic("Gone").unwrap();
        store.shutdown();
        drop(store);
        let again = rig.open();
        assert!(again.find_queue("Gone", 0).is_none());
        assert_eq!(append(&again, "Gone", 0, b"anew").unwrap().first_queue_offset.0, 0);
        assert_eq!(bodies(&again, "T", 0), expected(others));
    }
}

#[test]
fn a_topic_made_again_goes_on_where_its_newer_life_ended() {
    let rig = filled(15);
    let store = rig.open();
    store.delete_topic("T").unwrap();
    (0..3).for_each(|at| drop(append(&store, "T", 0, &[at; 100]).unwrap()));
    settle(&store);
    drop(store);
    // Both lives are dispatched again, the older first.
    rig.storage.reboot();
    let again = rig.open();
    assert_eq!(append(&again, "T", 0, &[3; 100]).unwrap().first_queue_offset.0, 3);
    settle(&again);
    assert_eq!(bodies(&again, "T", 0), expected(4));
}
