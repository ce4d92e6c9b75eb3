//! Single bits that change on the disk, anywhere in the log: the message they are in is not served, all others are.
//! `WASPMQ_FLIPS=10000` flips more of them.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use waspmq_protocol::message::record::{self, RecordView};
use waspmq_store::{
    GetRequest, Item, Items, KeyQuery, MessageStore, NoListener, PhysicalOffset, QueueOffset,
    clock::SettableClock,
    storage::{MemoryStorage, Storage},
};

use crate::rig::{FILE_BYTES, ROOT, Rig, one, settle};

const QUEUES: i32 = 3;
const MESSAGES: i32 = 60;

/// A message as it was stored, by its offset in the log.
type Stored = BTreeMap<i64, Vec<u8>>;

/// Messages in three queues and several files of the log, keyed, some without a body. `life` makes them different ones.
fn append(store: &MessageStore, messages: Range<i32>, life: i32) {
    for at in messages {
        let queue = store.queue("Topic", at % QUEUES);
        let body = vec![at as u8; (at * 7 % 160) as usize];
        let more = "x".repeat(20 + life as usize % 3);
        let properties = format!("UNIQ_KEY\x01u{at}\x02KEYS\x01same k{life}-{at}\x02TAGS\x01TagA\x02a\x01{more}\x02");
        let item = Item { flag: at, body: &body, properties: properties.as_bytes() };
        let mut out = Vec::new();
        store.append(&[one(&queue, Items::One(item))], &mut out);
        out.pop().unwrap().unwrap();
    }
    settle(store);
}

/// A store of messages that was closed, the messages, and where its log ends.
fn closed() -> (Rig, Stored, u64) {
    let rig = Rig::new();
    let store = rig.open();
    append(&store, 0..MESSAGES, 0);
    let stored = pulled(&store);
    assert_eq!(stored.len(), MESSAGES as usize);
    let end = store.stats().max_offset.0 as u64;
    assert!(store.shutdown().clean);
    (rig, stored, end)
}

/// What pulls of all queues give.
fn pulled(store: &MessageStore) -> Stored {
    let mut found = Stored::new();
    for id in 0..QUEUES {
        let Some(queue) = store.find_queue("Topic", id) else { continue };
        let mut offset = queue.min_offset();
        while offset < queue.max_offset() {
            let got = store.get(&queue, &GetRequest { offset, count_max: 7, bytes_max: 1 << 20 }, None);
            assert!(got.next_begin_offset > offset, "{:?} at {offset:?}", got.status);
            for view in got.records.iter().flat_map(|piece| record::records(piece)) {
                let view = view.unwrap();
                found.insert(view.physical_offset(), view.bytes().to_vec());
            }
            offset = got.next_begin_offset;
        }
    }
    found
}

/// What is found by the key that all have, and what by the offset each has.
fn looked_up(store: &MessageStore, stored: &Stored) -> [Stored; 2] {
    let query = KeyQuery { topic: "Topic", key: "same", count_max: 1000, begin_ms: 0, end_ms: i64::MAX };
    let by_key = store.query(&query).unwrap().records;
    let by_offset = stored.keys().filter_map(|offset| store.record_at(PhysicalOffset(*offset)).unwrap());
    let with_offset =
        |bytes: bytes::Bytes| (RecordView::parse(&bytes, true).unwrap().physical_offset(), bytes.to_vec());
    [by_key.into_iter().map(with_offset).collect(), by_offset.map(with_offset).collect()]
}

/// Where the bit lies: the file, the bit in it, and the message if it is in one.
struct Flip {
    path: std::path::PathBuf,
    bit: usize,
    message: Option<i64>,
}

impl Flip {
    fn at(bit: u64, stored: &Stored) -> Self {
        let (offset, file) = ((bit / 8) as i64, bit / 8 / FILE_BYTES * FILE_BYTES);
        let before = stored.range(..=offset).next_back();
        let message = before.filter(|(start, bytes)| offset < **start + bytes.len() as i64).map(|(start, _)| *start);
        let path = Path::new(ROOT).join(format!("commitlog/{file:020}"));
        Flip { path, bit: (bit - file * 8) as usize, message }
    }

    fn apply(&self, storage: &MemoryStorage) {
        storage.flip_bit(&self.path, self.bit).unwrap();
    }
}

/// All messages are served as they were stored, but for the damaged one, whichever way they are asked for.
fn check(store: &MessageStore, stored: &Stored, flip: &Flip, what: &str) {
    let mut left = stored.clone();
    if let Some(message) = flip.message {
        left.remove(&message);
    }
    let [by_key, by_offset] = looked_up(store, stored);
    for (way, found) in [("pulls", pulled(store)), ("key", by_key), ("offset", by_offset)] {
        let wrong: Vec<_> = found.iter().filter(|(offset, bytes)| stored.get(*offset) != Some(bytes)).collect();
        assert!(wrong.is_empty(), "{what}, {way}: bit {} served as {wrong:?}", flip.bit);
        let missing: Vec<_> = left.keys().filter(|offset| !found.contains_key(offset)).collect();
        assert!(missing.is_empty(), "{what}, {way}: bit {} of {:?} hides {missing:?}", flip.bit, flip.message);
        assert_eq!(found.len(), left.len(), "{what}, {way}: bit {} of {:?} is served", flip.bit, flip.message);
    }
    assert_eq!(store.stats().damaged > 0, flip.message.is_some(), "{what}: counted");
}

fn seeds() -> u64 {
    std::env::var("WASPMQ_FLIPS").ok().and_then(|count| count.parse().ok()).unwrap_or(150)
}

fn random_bit(seed: u64, bytes: u64) -> u64 {
    let mixed = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 8) % (bytes * 8)
}

/// The same files on a disk of their own.
fn copy(rig: &Rig) -> Rig {
    let copy = MemoryStorage::new();
    for dir in [
        "",
        "commitlog",
        "consumequeue/Topic/0",
        "consumequeue/Topic/1",
        "consumequeue/Topic/2",
        "index",
        "waspmq/sums",
    ] {
        let dir = Path::new(ROOT).join(dir);
        copy.create_dir(&dir).unwrap();
        for file in rig.storage.list(&dir).unwrap().into_iter().filter(|entry| !entry.is_dir) {
            let path = dir.join(&file.name);
            copy.write(&path, &rig.storage.read(&path).unwrap()).unwrap();
        }
    }
    let mut copied = Rig::on(copy);
    copied.config.index_shape = rig.config.index_shape;
    copied
}

#[test]
fn a_bit_that_flips_at_rest_costs_its_message_and_no_other() {
    let (rig, stored, end) = closed();
    let mut hit = 0;
    for seed in 0..seeds() {
        let flip = Flip::at(random_bit(seed, end), &stored);
        hit += u64::from(flip.message.is_some());
        let rig = copy(&rig);
        flip.apply(&rig.storage);
        let store = rig.open();
        assert_eq!(store.open_report().end.0 as u64, end, "seed {seed}: the log was cut");
        check(&store, &stored, &flip, &format!("seed {seed}"));
        assert!(store.shutdown().clean);
        drop(store);
        check(&rig.open(), &stored, &flip, &format!("seed {seed}, again"));
    }
    assert!(hit * 10 > seeds() * 8, "{hit} of {} in a message", seeds());
}

#[test]
fn a_bit_that_flips_beneath_a_running_store_costs_its_message_and_no_other() {
    let (rig, stored, end) = closed();
    for seed in 0..seeds() {
        // A store that has just been opened relies on nothing that it did not read itself.
        let store = rig.open();
        let flip = Flip::at(random_bit(seed, end), &stored);
        flip.apply(&rig.storage);
        check(&store, &stored, &flip, &format!("seed {seed}"));
        drop(store);
        flip.apply(&rig.storage);
    }
    let store = rig.open();
    assert_eq!(pulled(&store), stored);
}

/// Where RocketMQ's own checksum does not reach, by the name of the field and the byte of the record.
fn unchecked_fields(message: &[u8]) -> Vec<(&'static str, usize)> {
    let find = |part: &[u8]| message.windows(part.len()).position(|window| window == part).unwrap();
    vec![
        ("body checksum", 9),
        ("queue id", 15),
        ("flag", 19),
        ("queue offset", 27),
        ("sys flag", 39),
        ("born time", 47),
        ("born host", 50),
        ("born port", 55),
        ("store time", 63),
        ("store host", 66),
        ("reconsume times", 75),
        ("half message", 83),
        ("topic", find(b"Topic") + 1),
        ("property name", find(b"TAGS")),
        ("property value", find(b"TagA")),
        ("key", find(b"same")),
        ("other property", find(b"xxx")),
    ]
}

#[test]
fn header_topic_and_properties_that_change_are_noticed() {
    let (rig, stored, end) = closed();
    let (message, bytes) = stored.iter().nth(20).unwrap();
    for (name, at) in unchecked_fields(bytes) {
        for strangers in [false, true] {
            let rig = copy(&rig);
            if strangers {
                // As if another broker had used the folder since.
                rig.storage.remove(&Path::new(ROOT).join("progress")).unwrap();
            }
            let flip = Flip::at((*message as u64 + at as u64) * 8 + 1, &stored);
            assert_eq!(flip.message, Some(*message));
            flip.apply(&rig.storage);
            let store = rig.open();
            assert_eq!((store.open_report().end.0 as u64, store.stats().messages), (end, MESSAGES as u64), "{name}");
            let as_stored = RecordView::parse(bytes, true).unwrap();
            let queue = store.find_queue("Topic", as_stored.queue_id()).unwrap();
            let time = |offset: i64| store.store_time_of(&queue, QueueOffset(offset)).unwrap();
            assert_eq!(time(as_stored.queue_offset()), None, "a time that may be damaged is not believed: {name}");
            assert!(time(as_stored.queue_offset() + 1).is_some());
            check(&store, &stored, &flip, name);
        }
    }
}

#[test]
fn queues_and_index_that_are_made_anew_leave_a_damaged_message_out() {
    let (rig, stored, _) = closed();
    let (message, bytes) = stored.iter().nth(20).unwrap();
    for (name, at) in unchecked_fields(bytes) {
        let rig = copy(&rig);
        let flip = Flip::at((*message as u64 + at as u64) * 8, &stored);
        flip.apply(&rig.storage);
        for derived in ["consumequeue", "index"] {
            rig.storage.remove_dir(&Path::new(ROOT).join(derived)).unwrap();
        }
        check(&rig.open(), &stored, &flip, name);
    }
}

/// After a reboot what was not synced for certain is read again. A bit that flipped meanwhile must not become good so.
#[test]
fn what_is_dispatched_again_is_compared_with_what_was_noted_before() {
    for seed in 0..20 {
        let rig = Rig::new();
        let store = rig.open();
        append(&store, 0..MESSAGES, 0);
        let (stored, end) = (pulled(&store), store.stats().max_offset.0 as u64);
        drop(store);
        rig.storage.reboot();
        let (message, bytes) = stored.iter().nth(seed).unwrap();
        // A record whose body does not have its checksum is where a log ends that was not synced.
        let fields: Vec<_> = unchecked_fields(bytes).into_iter().filter(|(name, _)| *name != "body checksum").collect();
        let (name, at) = fields[seed % fields.len()];
        let flip = Flip::at((*message as u64 + at as u64) * 8, &stored);
        flip.apply(&rig.storage);
        let store = rig.open();
        assert_eq!(store.open_report().end.0 as u64, end, "{name}");
        check(&store, &stored, &flip, name);
        assert!(store.shutdown().clean);
        drop(store);
        check(&rig.open(), &stored, &flip, name);
    }
}

#[test]
fn sums_outlive_a_power_cut() {
    for seed in 0..10 {
        let (rig, stored, _) = closed();
        let rig = rig.power_cut(seed);
        let message = stored.keys().nth(seed as usize * 5).unwrap();
        let flip = Flip::at((*message as u64 + 19) * 8, &stored);
        flip.apply(&rig.storage);
        check(&rig.open(), &stored, &flip, &format!("seed {seed}"));
    }
}

/// A folder whose messages were stored by a broker that knows nothing of sums.
#[test]
fn what_was_stored_without_sums_is_served_without() {
    for files in [0, 1] {
        let (rig, stored, _) = closed();
        for name in rig.files("waspmq/sums").into_iter().skip(files) {
            rig.storage.remove(&Path::new(ROOT).join("waspmq/sums").join(name)).unwrap();
        }
        let store = rig.open();
        append(&store, MESSAGES..2 * MESSAGES, 0);
        let more = pulled(&store);
        assert!(store.shutdown().clean);
        drop(store);
        assert!(more.len() == 2 * MESSAGES as usize && stored.iter().all(|(offset, bytes)| more[offset] == *bytes));
        assert_eq!(pulled(&rig.open()), more);
        let (message, _) = more.iter().next_back().unwrap();
        let flip = Flip::at((*message as u64 + 19) * 8, &more);
        flip.apply(&rig.storage);
        check(&rig.open(), &more, &flip, "stored with sums");
    }
}

/// Sums of records that another broker has cut off and replaced do not speak against those it stored since.
#[test]
fn records_that_another_broker_stored_in_the_place_of_ours_are_served() {
    for (shared, clean) in [(0, true), (1, false), (30, true), (30, false), (55, true), (59, false), (60, true)] {
        let [ours, theirs] = [(1, MESSAGES), (2, MESSAGES + 7)].map(|(life, count)| {
            let rig = Rig::new();
            let clock = Arc::new(SettableClock::new(1_700_000_000_000));
            let store = MessageStore::open(rig.config.clone(), Arc::new(NoListener), clock).unwrap();
            append(&store, 0..shared, 0);
            append(&store, shared..count, life);
            let stored = pulled(&store);
            if clean {
                store.shutdown();
            }
            (rig, stored)
        });
        let (rig, stored) = (theirs.0, theirs.1);
        rig.storage.remove(&Path::new(ROOT).join("progress")).unwrap();
        let dir = Path::new(ROOT).join("waspmq/sums");
        rig.storage.remove_dir(&dir).unwrap();
        rig.storage.create_dir(&dir).unwrap();
        for name in ours.0.files("waspmq/sums") {
            rig.storage.write(&dir.join(&name), &ours.0.storage.read(&dir.join(&name)).unwrap()).unwrap();
        }
        let what = format!("{shared} shared, clean: {clean}");
        for _ in 0..2 {
            let store = rig.open();
            assert_eq!(pulled(&store), stored, "{what}");
            assert_eq!(looked_up(&store, &stored), [stored.clone(), stored.clone()], "{what}");
            assert_eq!(store.stats().damaged, 0, "{what}");
            assert!(store.shutdown().clean);
        }
        // Those before are still checked, and so are those that are stored from now on.
        let store = rig.open();
        append(&store, 67..70, 3);
        let stored = pulled(&store);
        assert!(store.shutdown().clean);
        drop(store);
        let messages: Vec<_> = stored.keys().copied().collect();
        for at in
            [0, (shared as usize).saturating_sub(1), 68].into_iter().filter(|at| *at == 68 || *at < shared as usize)
        {
            let flip = Flip::at((messages[at] as u64 + 19) * 8, &stored);
            flip.apply(&rig.storage);
            check(&rig.open(), &stored, &flip, &format!("{what}: {at}"));
            flip.apply(&rig.storage);
        }
    }
}
