//! Whatever stands in the files: every file of a folder may hold anything, be cut short, longer, empty, another's, or not be
//! there. A start ends, with a store that serves nothing wrong or with an error that names a file; and so do the tools.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use waspmq_store::{
    KeyQuery, MessageStore, Watch, Work, inspect,
    storage::{MemoryStorage, Storage},
};

use crate::{
    damage::{MESSAGES, NOW_MS, as_killed_early, closed, files, readable},
    faults::{append, config},
    life::{ROOT, open},
    model::{TOPICS, body, key_of},
    number,
    random::Random,
};

/// How many folders are looked at; a long run looks at more.
fn folders() -> u64 {
    number("WASPMQ_CUTS").map_or(1000, |cuts| (cuts / 4).max(1000))
}

/// What must have happened, or the test proves nothing.
#[derive(Debug, Default)]
struct Seen {
    opened: u64,
    refused: u64,
    whole: u64,
    harmed: u64,
}

/// Changes one file in some way. `all` are the files as they were.
fn spoil(storage: &MemoryStorage, all: &[(PathBuf, Vec<u8>)], random: &mut Random) {
    let (path, before) = &all[random.below(all.len())];
    let mut bytes = storage.read(path).unwrap_or_default();
    if bytes.is_empty() {
        bytes.clone_from(before);
    }
    let len = bytes.len().max(1);
    match random.below(8) {
        0 => return storage.remove(path).unwrap_or_default(),
        1 => bytes.clear(),
        2 => bytes.truncate(random.below(len)),
        3 => bytes.extend((0..1 + random.below(200)).map(|_| random.next() as u8)),
        4 => {
            let at = random.below(len);
            bytes.iter_mut().skip(at).take(1 + random.below(64)).for_each(|byte| *byte = random.next() as u8);
        }
        5 => {
            let word =
                random.pick(&[0, -1, i64::from(i32::MAX), i64::from(i32::MIN), 1, i64::MAX, i64::MIN, len as i64]);
            let word = word.to_be_bytes();
            let word = if random.one_in(2) { &word[..] } else { &word[4..] };
            let at = random.below(len) & !3;
            bytes.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = *new);
        }
        6 => {
            let other = &all[random.below(all.len())].1;
            let (from, to) = (random.below(other.len().max(1)), random.below(len));
            let piece = other.iter().skip(from).take(1 + random.below(600));
            bytes.iter_mut().skip(to).zip(piece).for_each(|(byte, new)| *byte = *new);
        }
        // Another file's bytes under this name.
        _ => bytes.clone_from(&all[random.below(all.len())].1),
    }
    storage.write(path, &bytes).unwrap();
}

/// Everything that can be asked of a store: it answers, and with nothing that was not stored. How many messages it has.
fn ask(store: &MessageStore) -> usize {
    while store.work(Work::Dispatch) {}
    let read = readable(store, 0).len() + readable(store, 1).len();
    for wanted in 0..MESSAGES {
        let key = key_of(wanted);
        let query = KeyQuery { topic: TOPICS[0], key: &key, count_max: 5, begin_ms: 0, end_ms: i64::MAX };
        let Ok(found) = store.query(&query) else { continue };
        for bytes in &found.records {
            let record = waspmq_protocol::message::record::records(bytes).next().unwrap().unwrap();
            assert_eq!(record.body(), body(wanted, 300), "another message under this key");
        }
    }
    for queue in store.all_queues() {
        for time in [0, NOW_MS, i64::MAX] {
            let _ = store.offset_by_time(&queue, time, waspmq_store::Boundary::Lower);
        }
    }
    let _ = (store.earliest_store_time(), store.stats());
    if let Ok(end) = append(store, MESSAGES + 1) {
        store.work(Work::SyncLog);
        while store.work(Work::Dispatch) {}
        assert!(store.durable() >= end || store.refusal().is_some());
    }
    store.work(Work::SyncDerived);
    store.work(Work::Retention);
    read
}

fn look(whole: &MemoryStorage, all: &[(PathBuf, Vec<u8>)], seed: u64, seen: &mut Seen) {
    let mut random = Random::new(seed);
    let storage = Arc::new(whole.kill());
    storage.reboot();
    if random.one_in(2) {
        as_killed_early(&storage);
    }
    for _ in 0..1 + random.below(3) {
        spoil(&storage, all, &mut random);
    }
    let tools_first = random.one_in(4);
    if tools_first {
        let _ = inspect::check(&config(&storage), &Watch::new(|_, _| {}));
        let _ = inspect::dump(&config(&storage), Default::default(), &mut |_| std::ops::ControlFlow::Continue(()));
        let _ = inspect::rebuild(&config(&storage), Watch::new(|_, _| {}));
    }
    match open(&config(&storage), &storage, NOW_MS) {
        Ok(store) => {
            seen.opened += 1;
            match ask(&store) as u64 {
                MESSAGES => seen.whole += 1,
                _ => seen.harmed += 1,
            }
            store.shutdown();
        }
        Err(error) => {
            seen.refused += 1;
            assert!(error.contains(ROOT), "no file is named: {error}");
        }
    }
}

#[test]
fn whatever_stands_in_the_files_a_start_ends_and_nothing_wrong_is_served() {
    let whole = closed();
    let mut all = files(&whole, Path::new(ROOT));
    all.retain(|(path, _)| !path.ends_with("lock"));
    let mut seen = Seen::default();
    let seeds = number("WASPMQ_SEED").map_or(0..folders(), |seed| seed..seed + 1);
    let alone = seeds.end - seeds.start == 1;
    for seed in seeds {
        let looked = catch_unwind(AssertUnwindSafe(|| look(&whole, &all, seed, &mut seen)));
        looked.unwrap_or_else(|panic| {
            eprintln!("seed {seed}: play it again with WASPMQ_SEED={seed}");
            resume_unwind(panic)
        });
    }
    println!("{seen:?}");
    assert!(alone || seen.refused > 20 && seen.whole > 100 && seen.harmed > 100, "{seen:?}");
}
