//! The index against golden bytes written by a Java broker, and against a plain list of keys.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::clock::SettableClock;
use crate::storage::{Fault, MemoryStorage, Operation};

const DIR: &str = "/store/index";

fn open(storage: &Arc<MemoryStorage>, shape: IndexShape, trust: Trust) -> Index {
    let clock = Arc::new(SettableClock::new(1_700_000_000_000));
    Index::open(Arc::clone(storage) as _, clock, DIR.into(), shape, trust).unwrap()
}

fn key(topic: &str, key: &str, physical: i64, store_timestamp: i64) -> KeyEntry {
    let hash = TopicHash::new(topic).of(key.as_bytes());
    KeyEntry { hash, physical_offset: PhysicalOffset(physical), store_timestamp }
}

fn find(index: &Index, hash: i32, begin_ms: i64, end_ms: i64) -> Vec<i64> {
    let mut found = Vec::new();
    index.find(Lookup { hash, begin_ms, end_ms }, &mut |offset| {
        found.push(offset.0);
        true
    });
    found
}

#[test]
fn golden_file() {
    let storage = Arc::new(MemoryStorage::new());
    let index = open(&storage, IndexShape { slots: 7, entries: 10 }, Trust::All);
    const T: i64 = 1_700_000_000_000;
    index.put(&[key("TopicA", "k1", 1000, T)]).unwrap();
    index.put(&[key("TopicA", "k2", 1200, T + 5999), key("TopicA", "k1", 1400, T + 10_000)]).unwrap();
    let bytes = storage.read(&Path::new(DIR).join("20231114221320000")).unwrap();
    assert_eq!(bytes.len(), 40 + 7 * 4 + 10 * 20);
    let header = "0000018bcfe568000000018bcfe58f1000000000000003e800000000000005780000000200000004";
    assert_eq!(hex::encode(&bytes[..40]), header);
    let mut slots = [0u8; 28];
    (slots[7], slots[11]) = (2, 3);
    assert_eq!(bytes[40..68], slots);
    let entries = "717125c900000000000003e80000000000000000\
                   717125c800000000000004b00000000500000000\
                   717125c900000000000005780000000a00000001";
    assert_eq!(hex::encode(&bytes[88..148]), entries);
    assert!(bytes[148..].iter().all(|byte| *byte == 0));
    let hash = key("TopicA", "k1", 0, 0).hash;
    assert_eq!(find(&index, hash, T, T + 10_000), [1400, 1000]);
    assert_eq!(find(&index, hash, T, T + 9_999), [1000]);
    assert_eq!(find(&index, hash, T + 9_000, T + 20_000), [1400]);
    assert_eq!(index.last_update(), (T + 10_000, PhysicalOffset(1400)));
}

#[test]
fn a_new_file_waits_for_no_disk_and_its_name_is_synced_with_its_bytes() {
    let storage = Arc::new(MemoryStorage::new());
    let index = open(&storage, IndexShape { slots: 7, entries: 4 }, Trust::All);
    storage.plan(Fault { operation: Some(Operation::SyncDir), after: 0, lasting: true, errno: 5 });
    let keys: Vec<KeyEntry> = (0..7).map(|at| key("A", "k", 100 * at, 1000)).collect();
    index.put(&keys).unwrap();
    assert!(index.flush(true).is_err(), "nothing may be noted that has no name on the disk");
    assert!(index.flush(true).is_err());
    storage.clear_plans();
    assert_eq!(index.flush(true).unwrap(), Some(1000));
    let found = find(
        &open(&Arc::new(storage.power_cut(1)), IndexShape { slots: 7, entries: 4 }, Trust::All),
        keys[0].hash,
        0,
        2000,
    );
    assert_eq!(found, [600, 500, 400, 300, 200, 100, 0]);
}

#[test]
fn keys_of_records_that_were_cut_do_not_keep_others_out() {
    let storage = Arc::new(MemoryStorage::new());
    let index = open(&storage, IndexShape { slots: 7, entries: 10 }, Trust::All);
    const T: i64 = 1_700_000_000_000;
    (0..30).for_each(|at| index.put(&[key("T", "old", at * 100, T + at)]).unwrap());
    assert!(!index.drop_from(PhysicalOffset(3000)).unwrap(), "the log goes on behind the last key");
    assert!(index.drop_from(PhysicalOffset(1500)).unwrap());
    // Nine keys a file: the second is gone, and the third.
    assert_eq!(index.last_update().1, PhysicalOffset(800));
    index.put(&[key("T", "old", 900, T + 9), key("T", "new", 1500, T + 40)]).unwrap();
    let again = open(&storage, IndexShape { slots: 7, entries: 10 }, Trust::All);
    assert_eq!(find(&again, key("T", "new", 0, 0).hash, 0, i64::MAX), [1500]);
    assert_eq!(find(&again, key("T", "old", 0, 0).hash, 0, i64::MAX).first(), Some(&900));
}

#[test]
fn the_default_shape_is_the_size_of_a_java_brokers_file() {
    assert_eq!(IndexShape::default().file_bytes(), 420_000_040);
}

#[test]
fn names_are_times_and_always_ascend() {
    assert_eq!(time_name(0), 19700101000000000);
    assert_eq!(time_name(1_709_251_199_999), 20240229235959999);
    assert_eq!(time_name(1_709_251_200_000), 20240301000000000);
    let storage = Arc::new(MemoryStorage::new());
    let index = open(&storage, IndexShape { slots: 2, entries: 2 }, Trust::All);
    let keys: Vec<_> = (0..3).map(|n| key("T", "k", n * 100, 1_700_000_000_000 + n)).collect();
    index.put(&keys).unwrap();
    let names: Vec<_> = storage.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["20231114221320000", "20231114221320001", "20231114221320002"]);
}

#[test]
fn a_message_dispatched_again_is_indexed_once_and_files_survive_a_restart() {
    let storage = Arc::new(MemoryStorage::new());
    let shape = IndexShape { slots: 5, entries: 4 };
    let keys: Vec<_> = (1..=8).map(|n| key("T", "k", n * 100, 1_700_000_000_000 + n)).collect();
    open(&storage, shape, Trust::All).put(&keys).unwrap();
    let index = open(&storage, shape, Trust::All);
    index.put(&keys[..7]).unwrap();
    assert_eq!(find(&index, keys[0].hash, 0, i64::MAX), [800, 700, 600, 500, 400, 300, 200, 100]);
    index.put(&[key("T", "k", 900, 1_700_000_000_009)]).unwrap();
    assert_eq!(find(&index, keys[0].hash, 0, i64::MAX)[0], 900);
}

#[test]
fn what_is_not_trusted_goes_and_comes_again() {
    let shape = IndexShape { slots: 5, entries: 4 };
    let keys: Vec<_> = (1..=9).map(|n| key("T", "k", n * 100, 1_700_000_000_000 + n)).collect();
    let all = [900, 800, 700, 600, 500, 400, 300, 200, 100];
    let mark = |name, entries| Trust::Mark(IndexMark { name: 20231114221320000u64.wrapping_add_signed(name), entries });
    let by_time = |n: i64| Trust::Until(1_700_000_000_000 + n);
    let cases = [
        (Trust::All, 9),
        (mark(2, 4), 9),
        (mark(2, 3), 8),
        (mark(1, 4), 6),
        (mark(0, 2), 1),
        (mark(-1, 4), 0),
        (by_time(9), 9),
        (by_time(8), 6),
        (by_time(0), 0),
    ];
    for (trust, kept) in cases {
        let storage = Arc::new(MemoryStorage::new());
        open(&storage, shape, Trust::All).put(&keys).unwrap();
        let index = open(&storage, shape, trust);
        assert_eq!(find(&index, keys[0].hash, 0, i64::MAX), all[9 - kept..], "{trust:?}");
        index.put(&keys[kept..]).unwrap();
        assert_eq!(find(&index, keys[0].hash, 0, i64::MAX), all, "{trust:?}");
    }
}

#[test]
fn behind_a_file_that_is_not_trusted_none_is() {
    let shape = IndexShape { slots: 5, entries: 4 };
    // The clock was set back: the first file ends later than the second.
    let late = 1_700_000_009_000;
    let keys: Vec<_> = (1..=5).map(|n| key("T", "k", n * 100, if n == 3 { late } else { 1_700_000_000_000 })).collect();
    let storage = Arc::new(MemoryStorage::new());
    open(&storage, shape, Trust::All).put(&keys).unwrap();
    let index = open(&storage, shape, Trust::Until(1_700_000_000_500));
    index.put(&keys).unwrap();
    assert_eq!(find(&index, keys[0].hash, 0, i64::MAX), [500, 400, 300, 200, 100]);
}

#[test]
fn old_files_go_with_the_log() {
    let storage = Arc::new(MemoryStorage::new());
    let shape = IndexShape { slots: 5, entries: 4 };
    let keys: Vec<_> = (1..=9).map(|n| key("T", "k", n * 100, 1_700_000_000_000 + n)).collect();
    let index = open(&storage, shape, Trust::All);
    index.put(&keys).unwrap();
    assert_eq!(index.delete_before(PhysicalOffset(601)).unwrap(), 2);
    assert_eq!(find(&index, keys[0].hash, 0, i64::MAX), [900, 800, 700]);
    assert_eq!(index.delete_before(PhysicalOffset(i64::MAX)).unwrap(), 0, "the newest file stays");
}

#[test]
fn flush_reports_full_files_once_and_everything_at_shutdown() {
    let storage = Arc::new(MemoryStorage::new());
    let index = open(&storage, IndexShape { slots: 5, entries: 3 }, Trust::All);
    let keys: Vec<_> = (1..=3).map(|n| key("T", "k", n * 100, 1_700_000_000_000 + n)).collect();
    index.put(&keys).unwrap();
    storage.fail_syncs(true);
    assert!(index.flush(false).is_err());
    storage.fail_syncs(false);
    assert_eq!(index.flush(false).unwrap(), Some(1_700_000_000_002));
    assert_eq!(index.flush(false).unwrap(), None);
    assert_eq!(index.flush(true).unwrap(), Some(1_700_000_000_003));
}

#[test]
fn foreign_files_are_left_alone() {
    let storage = Arc::new(MemoryStorage::new());
    storage.create_dir(Path::new(DIR)).unwrap();
    storage.write(&Path::new(DIR).join("notes"), b"mine").unwrap();
    storage.write(&Path::new(DIR).join("20200101000000000"), b"short").unwrap();
    let index = open(&storage, IndexShape { slots: 5, entries: 3 }, Trust::All);
    assert_eq!(index.last_update(), (0, PhysicalOffset(0)));
    assert_eq!(storage.list(Path::new(DIR)).unwrap().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn finds_what_a_list_of_keys_finds(
        puts in proptest::collection::vec((0u8..12, 0i64..3_000), 1..120),
        slots in 1u32..9,
        entries in 2u32..40,
        batch in 1usize..9,
        (asked, from, length) in (0u8..12, 0i64..120_000, 0i64..60_000),
    ) {
        const T: i64 = 1_700_000_000_000;
        let storage = Arc::new(MemoryStorage::new());
        let index = open(&storage, IndexShape { slots, entries }, Trust::All);
        let mut time = T;
        let keys: Vec<_> = puts.iter().enumerate().map(|(n, (name, wait))| {
            time += wait;
            key("T", &format!("key-{name}"), 100 * n as i64, time)
        }).collect();
        for some in keys.chunks(batch) {
            index.put(some).unwrap();
        }
        let hash = key("T", &format!("key-{asked}"), 0, 0).hash;
        let (begin, end) = (T + from, T + from + length);
        let found = find(&index, hash, begin, end);
        let within = |slack: i64| {
            let hits = keys.iter().rev().filter(move |key| {
                key.hash == hash && begin - slack <= key.store_timestamp && key.store_timestamp <= end + slack
            });
            hits.map(|key| key.physical_offset.0).collect::<Vec<_>>()
        };
        // Whole seconds are stored: everything asked for is found, and at most a second around it.
        let (exact, around) = (within(0), within(999));
        prop_assert!(exact.iter().all(|hit| found.contains(hit)), "{found:?} lacks some of {exact:?}");
        prop_assert!(found.iter().all(|hit| around.contains(hit)), "{found:?} has more than {around:?}");
        prop_assert!(found.is_sorted_by(|a, b| a > b));
    }
}
