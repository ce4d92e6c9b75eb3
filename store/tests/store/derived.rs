//! Opening again when what is derived from the log is not there, not whole, or lies: queues, index, checkpoint.

use std::path::Path;

use waspmq_store::{Item, Items, KeyQuery, PhysicalOffset, storage::Storage};

use crate::{
    restart::{expected, filled, patch},
    rig::{FILE_BYTES, ROOT, Rig, append, append_keyed, bodies, one, settle, wait_durable},
};

#[test]
fn lying_or_missing_checkpoints_cost_time_and_nothing_else() {
    for lie in [&i64::MAX.to_be_bytes().repeat(3)[..], &[0; 24], &[0xFF; 24]] {
        let rig = filled(60);
        patch(&rig, "checkpoint", 0, lie);
        assert_eq!(bodies(&rig.open(), "T", 0), expected(60));
    }
}

#[test]
fn a_lying_checkpoint_hides_no_queue_that_a_kill_left_without_its_part_of_a_batch() {
    let rig = Rig::new();
    let store = rig.open();
    // The index, where it is incomplete, must not be the reason to read more.
    let keyed = |queue, body: &[u8]| append_keyed(&store, "T", queue, body, "keys").unwrap();
    (0..20).for_each(|at| drop(keyed(i32::from(at % 2), &[at; 99])));
    assert_eq!(keyed(2, b"next file").physical_offsets[0].0, FILE_BYTES as i64);
    settle(&store);
    drop(store);
    for late in ["consumequeue/T/1", "consumequeue/T/2"] {
        rig.storage.remove_dir(&Path::new(ROOT).join(late)).unwrap();
    }
    patch(&rig, "checkpoint", 0, &i64::MAX.to_be_bytes().repeat(3));
    let again = rig.open();
    let found = |queue| bodies(&again, "T", queue).iter().map(|body| body[0]).collect::<Vec<_>>();
    let sent = |queue| (0..20).filter(|at| at % 2 == queue).collect::<Vec<u8>>();
    assert_eq!([0, 1].map(found), [0, 1].map(sent));
    assert_eq!(bodies(&again, "T", 2), [b"next file"]);
}

#[test]
fn queues_and_index_are_rebuilt_when_they_are_gone() {
    for clean in [true, false] {
        let rig = filled(60);
        let store = rig.open();
        if clean {
            store.shutdown();
        }
        drop(store);
        rig.storage.remove_dir(&Path::new(ROOT).join("consumequeue")).unwrap();
        let again = rig.open();
        assert_eq!(bodies(&again, "T", 0), expected(60));
        assert_eq!(again.open_report().messages, 60);
    }
}

#[test]
fn queue_files_that_are_missing_or_cut_short_are_made_anew() {
    for (clean, file, damage) in [
        (true, 0, "removed"),
        (true, 1, "removed"),
        (true, 4, "removed"),
        (true, 1, "cut"),
        (false, 1, "removed"),
        (false, 2, "cut"),
    ] {
        let rig = filled(70);
        let store = rig.open();
        append(&store, "U", 0, b"another").unwrap();
        settle(&store);
        wait_durable(&store, std::time::Duration::from_secs(10));
        store.delete_before(PhysicalOffset(FILE_BYTES as i64)).unwrap();
        if clean {
            assert!(store.shutdown().clean);
        }
        drop(store);
        let files = rig.files("consumequeue/T/0");
        assert_eq!(files.len(), 5, "{files:?}");
        let path = Path::new(ROOT).join("consumequeue/T/0").join(&files[file]);
        rig.storage.remove(&path).unwrap();
        if damage == "cut" {
            rig.storage.write(&path, &[1; 100]).unwrap();
        }
        let again = rig.open();
        assert_eq!(bodies(&again, "T", 0), expected(70)[20..], "{damage} {file}, clean: {clean}");
        assert_eq!(bodies(&again, "U", 0), [b"another"]);
        assert_eq!(append(&again, "T", 0, &[70; 100]).unwrap().first_queue_offset.0, 70);
        settle(&again);
        assert!(again.shutdown().clean);
        drop(again);
        let again = rig.open();
        assert_eq!(again.open_report().recovered_records, 0);
        assert_eq!(bodies(&again, "T", 0), expected(71)[20..]);
    }
}

#[test]
fn a_rebuild_of_deleted_queues_that_is_cut_short_is_begun_again() {
    for seed in 0..10 {
        let rig = filled(100);
        rig.open().shutdown();
        rig.storage.remove_dir(&Path::new(ROOT).join("consumequeue")).unwrap();
        let again = rig.open();
        assert_eq!(again.open_report().messages, 100);
        let rig = rig.power_cut(seed);
        assert_eq!(bodies(&rig.open(), "T", 0), expected(100), "seed {seed}");
    }
}

#[test]
fn a_queue_that_somebody_deletes_between_two_runs_is_made_anew() {
    for gone in ["consumequeue/T/0", "consumequeue/T"] {
        let rig = filled(60);
        let store = rig.open();
        // Its messages are not the newest.
        append(&store, "Other", 0, b"stays").unwrap();
        settle(&store);
        store.shutdown();
        drop(store);
        rig.storage.remove_dir(&Path::new(ROOT).join(gone)).unwrap();
        let again = rig.open();
        assert_eq!(bodies(&again, "T", 0), expected(60));
        assert_eq!(bodies(&again, "Other", 0), [b"stays"]);
        assert_eq!(append(&again, "T", 0, b"next").unwrap().first_queue_offset.0, 60);
    }
}

#[test]
fn keys_are_found_when_another_broker_deleted_the_newest_index_file() {
    let rig = Rig::new();
    let store = rig.open();
    // Three index files of 49 keys.
    for at in 0..120u8 {
        let queue = store.queue("T", 0);
        let properties = format!("KEYS\x01k{at}\x02");
        let item = Item { flag: 0, body: &[at], properties: properties.as_bytes() };
        let mut out = Vec::new();
        store.append(&[one(&queue, Items::One(item))], &mut out);
        out.pop().unwrap().unwrap();
    }
    settle(&store);
    wait_durable(&store, std::time::Duration::from_secs(10));
    store.shutdown();
    drop(store);
    let index = Path::new(ROOT).join("index");
    let newest = rig.storage.list(&index).unwrap().pop().unwrap().name;
    rig.storage.remove(&index.join(newest)).unwrap();
    // Killed before it wrote its checkpoint.
    rig.storage.write(&Path::new(ROOT).join("abort"), b"1").unwrap();
    let store = rig.open();
    for at in 0..120u8 {
        let key = format!("k{at}");
        let query = KeyQuery { topic: "T", key: &key, count_max: 10, begin_ms: 0, end_ms: i64::MAX };
        assert_eq!(store.query(&query).unwrap().records.len(), 1, "{key}");
    }
}
