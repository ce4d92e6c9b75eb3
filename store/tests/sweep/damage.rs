//! Bytes that changed on the disk: pages of the log that are gone or are another's, queue files and index files with
//! wrong bits, missing or cut short. What is good is served, nothing wrong ever is, and a rebuild makes it all anew.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use waspmq_protocol::message::record;
use waspmq_store::{
    GetRequest, KeyQuery, MessageStore, Watch, Work, inspect,
    storage::{MemoryStorage, Storage},
};

use crate::{
    faults::{append, config},
    life::{ROOT, open},
    model::{TOPICS, body, key_of},
    number,
    random::Random,
};

pub(crate) const NOW_MS: i64 = 1_800_000_000_000;
pub(crate) const MESSAGES: u64 = 60;
const PAGE_BYTES: usize = 4096;

/// How often each kind of damage is done; a long run does it more often.
fn seeds() -> u64 {
    number("WASPMQ_CUTS").map_or(50, |cuts| cuts.clamp(50, 1000))
}

/// A store of some messages that was closed.
pub(crate) fn closed() -> Arc<MemoryStorage> {
    let storage = Arc::new(MemoryStorage::new());
    let store = open(&config(&storage), &storage, NOW_MS).unwrap();
    for number in 0..MESSAGES {
        append(&store, number).unwrap();
    }
    store.work(Work::SyncLog);
    assert!(store.shutdown().clean);
    storage
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// The files at and below a folder, with their bytes.
pub(crate) fn files(storage: &MemoryStorage, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in storage.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        match entry.is_dir {
            true => all.extend(files(storage, &path)),
            false => all.push((path.clone(), storage.read(&path).unwrap())),
        }
    }
    all
}

/// The messages that can be read, whatever lies between them: offset and number.
pub(crate) fn readable(store: &MessageStore, id: i32) -> Vec<(i64, u64)> {
    let Some(queue) = store.find_queue(TOPICS[0], id) else { return Vec::new() };
    let (mut all, mut offset) = (Vec::new(), queue.min_offset());
    while offset < queue.max_offset() {
        let got = store.get(&queue, &GetRequest { offset, count_max: 32, bytes_max: 1 << 20 }, None);
        assert!(got.next_begin_offset > offset, "{:?} at {offset}", got.status);
        for view in got.records.iter().flat_map(|piece| record::records(piece)) {
            let view = view.unwrap();
            let number = view.body().first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
            assert_eq!(view.body(), body(number, 300), "a message that nobody stored");
            assert_eq!(view.queue_id(), id);
            all.push((view.queue_offset(), number));
        }
        offset = got.next_begin_offset;
    }
    all
}

/// Where each message lies in the log.
fn places(storage: &Arc<MemoryStorage>) -> Vec<(u64, usize, usize)> {
    let mut places = Vec::new();
    inspect::dump(&config(storage), Default::default(), &mut |view| {
        let number = view.body().first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let begin = view.physical_offset() as usize;
        places.push((number, begin, begin + view.len()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    places
}

/// Says that queues and index were never synced and the store was not closed, so that the whole log is read.
pub(crate) fn as_killed_early(storage: &MemoryStorage) {
    storage.reboot();
    storage.write(&path("abort"), b"1").unwrap();
    let mut progress = storage.read(&path("progress")).unwrap();
    progress[32..40].copy_from_slice(&0i64.to_be_bytes());
    progress[40..48].copy_from_slice(&(!0i64).to_be_bytes());
    storage.write(&path("progress"), &progress).unwrap();
}

#[test]
fn a_page_of_the_log_that_is_gone_or_anothers_hides_only_what_lay_there() {
    let whole = closed();
    let places = places(&whole);
    let log = files(&whole, &path("commitlog"));
    assert!(log.len() >= 3 && places.len() as u64 == MESSAGES);
    for seed in 0..seeds() {
        let mut random = Random::new(seed);
        let storage = Arc::new(whole.kill());
        storage.reboot();
        let bad = random.below(log.len() - 1);
        // Half a page, so that records are torn as well.
        let half = PAGE_BYTES / 2 * random.below(2);
        let mut bytes = log[bad].1.clone();
        match random.below(2) {
            0 => bytes[half..half + PAGE_BYTES / 2].fill(0),
            _ => bytes[half..half + PAGE_BYTES / 2]
                .copy_from_slice(&log[random.below(log.len() - 1)].1[..PAGE_BYTES / 2]),
        }
        let is_harmed = |begin: usize, end: usize| {
            let at = bad * PAGE_BYTES..(bad + 1) * PAGE_BYTES;
            let (from, to) = (begin.max(at.start), end.min(at.end));
            from < to && bytes[from - at.start..to - at.start] != log[bad].1[from - at.start..to - at.start]
        };
        storage.write(&log[bad].0, &bytes).unwrap();
        if random.one_in(2) {
            as_killed_early(&storage);
        }
        let store = open(&config(&storage), &storage, NOW_MS).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let read: Vec<_> = [0, 1].into_iter().flat_map(|id| readable(&store, id)).collect();
        for (number, begin, end) in &places {
            let found = read.contains(&((number / 2) as i64, *number));
            assert!(found || is_harmed(*begin, *end), "seed {seed}: message {number} is hidden");
        }
        assert!(append(&store, MESSAGES).is_ok());
    }
}

#[test]
fn damaged_queues_are_found_out_and_made_anew_byte_by_byte() {
    let whole = closed();
    let dir = path("consumequeue");
    let queues = files(&whole, &dir);
    for seed in 0..seeds() {
        let mut random = Random::new(seed);
        let storage = Arc::new(whole.kill());
        storage.reboot();
        let (bad, bytes) = &queues[random.below(queues.len())];
        match random.below(4) {
            0 => storage.remove(bad).unwrap(),
            1 => storage.write(bad, &bytes[..random.below(bytes.len())]).unwrap(),
            2 => storage.remove_dir(bad.parent().unwrap()).unwrap(),
            // Within what is written.
            _ => {
                let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
                storage.flip_bit(bad, random.below(8 * written)).unwrap();
            }
        }
        let found = inspect::check(&config(&storage), &Watch::new(|_, _| {})).unwrap();
        assert!(!found.derived_is_whole(), "seed {seed}: {found:?}");
        assert!(found.log_is_whole());
        inspect::rebuild(&config(&storage), Watch::new(|_, _| {})).unwrap();
        assert!(files(&storage, &dir) == queues, "seed {seed}: other bytes than before");
    }
}

#[test]
fn a_damaged_index_ends_every_query_and_leads_to_nothing_wrong() {
    let whole = closed();
    let index = files(&whole, &path("index"));
    for seed in 0..seeds() {
        let mut random = Random::new(seed);
        let storage = Arc::new(whole.kill());
        storage.reboot();
        for _ in 0..1 + random.below(6) {
            let (bad, bytes) = &index[random.below(index.len())];
            match random.below(2) {
                0 => storage.flip_bit(bad, random.below(8 * bytes.len())).unwrap(),
                // An entry, or a slot, that leads to another one.
                _ => {
                    let mut now = storage.read(bad).unwrap();
                    let at = 40 + random.below((bytes.len() - 44) / 4) * 4;
                    now[at..at + 4].copy_from_slice(&(random.below(12) as u32).to_be_bytes());
                    storage.write(bad, &now).unwrap();
                }
            }
        }
        if random.one_in(2) {
            as_killed_early(&storage);
        }
        let store = open(&config(&storage), &storage, NOW_MS).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = |store: &MessageStore, number| {
            let key = key_of(number);
            let query = KeyQuery { topic: TOPICS[0], key: &key, count_max: 5, begin_ms: 0, end_ms: i64::MAX };
            let found = store.query(&query).unwrap().records;
            let numbers = found.iter().map(|bytes| record::records(bytes).next().unwrap().unwrap().body().to_vec());
            assert!(numbers.into_iter().all(|found| found == body(number, 300)), "seed {seed}");
            found.len()
        };
        assert!((0..MESSAGES).all(|number| found(&store, number) <= 1), "seed {seed}");
        drop(store);
        inspect::rebuild(&config(&storage), Watch::new(|_, _| {})).unwrap();
        let store = open(&config(&storage), &storage, NOW_MS).unwrap();
        assert!((0..MESSAGES).all(|number| found(&store, number) == 1), "seed {seed}");
    }
}

/// Ten thousand messages, files of 64 KiB: many of both kinds of file lie behind the dispatcher.
#[test]
fn what_was_stored_and_not_dispatched_is_found_in_order_and_by_key() {
    const COUNT: u64 = 10_000;
    for synced in [0, COUNT / 2] {
        let storage = Arc::new(MemoryStorage::new());
        let config = waspmq_store::StoreConfig {
            commit_log_file_bytes: 65_536,
            consume_queue_file_bytes: 20_000,
            index_shape: waspmq_store::IndexShape { slots: 1000, entries: 3000 },
            ..config(&storage)
        };
        let store = open(&config, &storage, NOW_MS).unwrap();
        for number in 0..COUNT {
            append(&store, number).unwrap();
            if number == synced {
                store.work(Work::SyncLog);
                while store.work(Work::Dispatch) {}
                store.work(Work::SyncDerived);
            }
        }
        store.work(Work::SyncLog);
        drop(store);
        for disk in [storage.kill(), storage.power_cut(synced)] {
            let disk = Arc::new(disk);
            let store = open(&config, &disk, NOW_MS).unwrap();
            for id in [0, 1] {
                let expected: Vec<_> =
                    (0..COUNT).filter(|number| number % 2 == id).map(|number| ((number / 2) as i64, number)).collect();
                assert!(readable(&store, id as i32) == expected);
            }
            for number in (0..COUNT).step_by(97) {
                let key = key_of(number);
                let query = KeyQuery { topic: TOPICS[0], key: &key, count_max: 5, begin_ms: 0, end_ms: i64::MAX };
                assert_eq!(store.query(&query).unwrap().records.len(), 1, "{key}");
            }
        }
    }
}

/// Everything of a queue is deleted for its age while the dispatcher is ahead of the log's own syncs.
#[test]
fn a_queue_whose_messages_are_deleted_goes_on_counting_after_a_power_cut() {
    let storage = Arc::new(MemoryStorage::new());
    let mut config = config(&storage);
    config.flush = waspmq_store::FlushMode::Async;
    config.retention.log_bytes_kept = Some(4096);
    let store = open(&config, &storage, NOW_MS).unwrap();
    let append_all = |numbers: &[u64]| assert!(numbers.iter().all(|number| append(&store, *number).is_ok()));
    let queue_0: Vec<_> = (0..40).step_by(2).collect();
    let queue_1: Vec<_> = (1..60).step_by(2).collect();
    append_all(&queue_0[..10]);
    store.work(Work::SyncLog);
    append_all(&queue_0[10..]);
    append_all(&queue_1[..2]);
    while store.work(Work::Dispatch) {}
    store.work(Work::SyncDerived);
    append_all(&queue_1[2..]);
    store.work(Work::SyncLog);
    store.work(Work::Retention);
    for seed in 0..20 {
        let disk = Arc::new(storage.power_cut(seed));
        let store = open(&config, &disk, NOW_MS).unwrap();
        let next = store.queue(TOPICS[0], 0).next_append_offset().0;
        assert_eq!(next, 20, "seed {seed}");
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_at_its_last_whole_record() {
    let storage = Arc::new(MemoryStorage::new());
    let store = open(&config(&storage), &storage, NOW_MS).unwrap();
    let ends: Vec<_> = (0..9).map(|number| append(&store, number).unwrap().0 as usize).collect();
    drop(store);
    let log = path("commitlog/00000000000000000000");
    let bytes = storage.read(&log).unwrap();
    assert!(ends[8] > 3500);
    for cut in 0..ends[8] {
        let disk = Arc::new(storage.kill());
        disk.reboot();
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        disk.write(&log, &torn).unwrap();
        let store = open(&config(&disk), &disk, NOW_MS).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let found = readable(&store, 0).len() + readable(&store, 1).len();
        assert_eq!(found, whole, "cut at {cut}");
        assert_eq!(
            store.open_report().end.0 as usize,
            found.checked_sub(1).map_or(0, |last| ends[last]),
            "cut at {cut}"
        );
    }
}
