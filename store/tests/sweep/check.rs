//! Holds what a crash has left against the model: opens the disk, reads everything in every way there is, and crashes
//! again in the middle of that, or goes on with the store for a while.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use waspmq_protocol::message::record;
use waspmq_store::{
    Append, Boundary, GetRequest, GetStatus, Item, Items, KeyQuery, MessageStore, QueueOffset, StoreConfig, Work,
    storage::{MemoryStorage, Storage},
};

use crate::{
    Seen,
    life::{ROOT, load_table, open},
    model::{Deletion, Expected, Model, QueueKey, Sent, TOPICS, key_of, properties_of},
    random::Random,
};

/// When crashed stores are opened again.
const LATER_MS: i64 = 1_800_000_000_000;

/// How a life was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    PowerCut,
    Killed,
}

/// A disk as a crash has left it.
pub(crate) struct Crash {
    /// Before which operation.
    pub(crate) moment: u64,
    pub(crate) fate: Fate,
    pub(crate) disk: MemoryStorage,
}

/// The disk when it was put right, and what is on it.
pub(crate) struct After {
    pub(crate) storage: Arc<MemoryStorage>,
    pub(crate) model: Model,
    /// Its checkpoint may lie yet, and then no power cut must come before the next one is written.
    pub(crate) tampered: bool,
}

/// What is known of a crash.
#[derive(Clone, Copy)]
struct View<'a> {
    model: &'a Model,
    moment: u64,
    fate: Fate,
    file_bytes: i64,
}

/// What a recovered store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    begin: i64,
    end: i64,
    queues: Vec<FoundQueue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FoundQueue {
    key: QueueKey,
    next: i64,
    /// The numbers of its messages.
    numbers: Vec<u64>,
    /// It may also be gone.
    deleted: bool,
}

impl Found {
    /// Without what may be there one time and gone the next.
    fn certain(&self) -> impl Iterator<Item = &FoundQueue> {
        self.queues.iter().filter(|queue| !queue.deleted)
    }

    fn is_like(&self, other: &Found) -> bool {
        self.end == other.end && self.certain().eq(other.certain())
    }
}

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}

/// Opens a crashed disk and checks it in every way.
pub(crate) fn check(
    crash: Crash,
    config: &StoreConfig,
    model: &Model,
    seed: u64,
    seen: &mut Seen,
) -> Result<After, String> {
    let mut random = Random::new(seed);
    let view = View { model, moment: crash.moment, fate: crash.fate, file_bytes: config.commit_log_file_bytes as i64 };
    let storage = Arc::new(crash.disk);
    let tampered = crash.fate == Fate::Killed && random.one_in(8);
    if tampered {
        tamper(&storage, &mut random);
        seen.tampered += 1;
    }
    let second = Arc::new(Mutex::new(None));
    if random.one_in(3) && !tampered {
        let (at, seed, second) = (random.below(15) as u64, random.next(), Arc::clone(&second));
        storage.watch(move |storage, moment| {
            if moment == at {
                *second.lock().unwrap() = Some(storage.power_cut(seed));
            }
        });
    }
    let store = open(config, &storage, LATER_MS)?;
    storage.watch(|_, _| {});
    let tell = |error| format!("{error}\ntampered: {tampered}, {:?}{}", store.open_report(), entries_told(&storage));
    let found = compare(&store, view, &mut random).map_err(tell)?;
    note(&store, view, &found, seen);
    drop(store);
    if let Some(second) = second.lock().unwrap().take() {
        seen.second_cuts += 1;
        second_recovery(second, config, (view, &found), &mut random).map_err(|error| format!("cut again: {error}"))?;
    }
    if random.one_in(6) {
        go_on(&Arc::new(storage.kill()), config, (view, &found), &mut random)
            .map_err(|error| format!("gone on: {error}"))?;
    }
    let version = load_table(&storage)?;
    let (lowest, highest) = model.versions_at(view.moment);
    ensure!(
        (lowest..=highest).contains(&version),
        "version {version} of the table was read, not one of {lowest} to {highest}"
    );
    let model = carry_on(view, &found, version);
    Ok(After { storage, model, tampered })
}

/// The files that say how far everything was synced are gone, or lie, or are no such files.
fn tamper(storage: &MemoryStorage, random: &mut Random) {
    let [checkpoint, progress] = ["checkpoint", "progress"].map(|name| Path::new(ROOT).join(name));
    // They need not be there yet.
    match random.below(4) {
        0 => drop(storage.remove(&checkpoint)),
        1 => drop(storage.remove(&progress)),
        2 => drop(storage.write(&checkpoint, &[0x7F; 100])),
        _ => {
            let ahead = i64::MAX.to_be_bytes().repeat(3);
            drop(storage.write(&checkpoint, &[ahead, vec![0; 4096 - 24]].concat()));
        }
    }
}

/// The entries of all queue files, for whoever must find out what is wrong with them.
fn entries_told(storage: &MemoryStorage) -> String {
    let mut told = String::new();
    for key in Model::queues() {
        let dir = Path::new(ROOT).join(format!("consumequeue/{}/{}", TOPICS[key.0], key.1));
        for file in storage.list(&dir).unwrap_or_default() {
            let bytes = storage.read(&dir.join(&file.name)).unwrap_or_default();
            let (entries, _) = bytes.as_chunks::<20>();
            let at = |entry: &[u8; 20]| i64::from_be_bytes(*entry.first_chunk().unwrap_or(&[0; 8]));
            told += &format!("\n{key:?} {}: {:?}", file.name, entries.iter().map(at).collect::<Vec<_>>());
        }
    }
    told
}

fn note(store: &MessageStore, view: View<'_>, found: &Found, seen: &mut Seen) {
    let report = store.open_report();
    match view.fate {
        Fate::PowerCut => seen.cuts += 1,
        Fate::Killed => seen.kills += 1,
    }
    seen.torn += u64::from(report.truncated_bytes > 0);
    seen.lost += u64::from(found.end < view.model.stored_at(view.moment));
    seen.clean += u64::from(report.clean);
    seen.messages += report.messages;
    seen.shortened += u64::from(found.begin > 0);
}

/// The power fails again while the store is put right: it is put right as before.
fn second_recovery(
    disk: MemoryStorage,
    config: &StoreConfig,
    (view, first): (View<'_>, &Found),
    random: &mut Random,
) -> Result<(), String> {
    let storage = Arc::new(disk);
    let store = open(config, &storage, LATER_MS)?;
    let found = compare(&store, View { fate: Fate::PowerCut, ..view }, random)?;
    ensure!(found.end <= first.end, "the log is longer: {} instead of {}", found.end, first.end);
    // What a power cut has left is on the disk.
    let same = view.fate == Fate::Killed || found.is_like(first);
    ensure!(same, "{found:?} is found instead of {first:?}");
    Ok(())
}

/// The store is opened once more, used, closed and opened: what was found is found again, with what came since.
fn go_on(
    storage: &Arc<MemoryStorage>,
    config: &StoreConfig,
    (view, found): (View<'_>, &Found),
    random: &mut Random,
) -> Result<(), String> {
    let store = open(config, storage, LATER_MS)?;
    let again = compare(&store, view, random)?;
    ensure!(
        again.is_like(found),
        "a second recovery gives {again:?} instead of {found:?}\n{:?}{}",
        store.open_report(),
        entries_told(storage)
    );
    for queue in &again.queues {
        let (topic, id) = (TOPICS[queue.key.0], queue.key.1);
        let handle = store.queue(topic, id);
        let message = Append {
            queue: &handle,
            born_host: ([10, 0, 0, 1], 1).into(),
            items: Items::One(Item { flag: 0, body: b"afterwards", properties: b"" }),
            sys_flag: 0,
            born_timestamp: 1,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            wait_durable: false,
        };
        let mut out = Vec::new();
        store.append(&[message], &mut out);
        let stored = out.pop().unwrap().map_err(|error| format!("takes no message: {error}"))?;
        let offset = stored.first_queue_offset.0;
        ensure!(offset == queue.next, "{topic} {id}: the next message got {offset} instead of {}", queue.next);
    }
    store.work(Work::SyncLog);
    ensure!(store.shutdown().clean, "does not close");
    drop(store);
    let store = open(config, storage, LATER_MS)?;
    ensure!(store.open_report().clean, "was not closed");
    for queue in &again.queues {
        let read = read_queue(&store, queue.key)?;
        let numbers: Vec<_> = read.iter().map(|read| read.number).collect();
        let expected: Vec<_> = queue.numbers.iter().copied().chain([u64::from_be_bytes(*b"afterwar")]).collect();
        ensure!(numbers == expected, "{:?} holds {numbers:?} instead of {expected:?}", queue.key);
    }
    Ok(())
}

fn compare(store: &MessageStore, view: View<'_>, random: &mut Random) -> Result<Found, String> {
    let View { model, moment, .. } = view;
    let report = store.open_report();
    ensure!(report.fences.is_empty(), "damage is reported where there is none: {:?}", report.fences);
    let (begin, end) = (store.stats().min_offset.0, report.end.0);
    let must = match view.fate {
        Fate::PowerCut => model.durable_at(moment),
        Fate::Killed => model.stored_at(moment),
    };
    ensure!(end >= must, "the log ends at {end}, though it was kept to {must}; it began at {begin}");
    let may = model.begun_at(moment);
    let may = (may + view.file_bytes - 1) / view.file_bytes * view.file_bytes;
    ensure!(end <= may, "the log ends at {end}, though nothing was stored behind {may}");
    let parted = model.sent.iter().find(|sent| sent.at < end && sent.end > end);
    ensure!(parted.is_none(), "the log ends at {end}, within {parted:?}");
    let min = model.min_at(moment);
    ensure!(begin <= min, "the log begins at {begin}, though nothing before {min} was deleted");
    let mut found = Found { begin, end, queues: Vec::new() };
    for key in Model::queues() {
        let expected = model.expected(key, moment, (begin, end));
        found.queues.push(compare_queue(store, key, (view, &expected), random)?);
    }
    let held = found.queues.iter().map(|queue| queue.numbers.len() as u64).sum::<u64>();
    ensure!(store.stats().messages == held, "{} messages are counted, {held} are there", store.stats().messages);
    let lost = model.sent.iter().find(|sent| sent.keyed && sent.at >= end);
    if let Some(lost) = lost {
        let places = places_of(store, lost)?;
        ensure!(places.is_empty(), "a lost message is found by its key at {places:?}: {lost:?}");
    }
    Ok(found)
}

fn compare_queue(
    store: &MessageStore,
    key: QueueKey,
    (view, expected): (View<'_>, &Expected<'_>),
    random: &mut Random,
) -> Result<FoundQueue, String> {
    let read = read_queue(store, key)?;
    let Expected { messages, optional, deleted, next } = expected;
    let skipped = messages.len().checked_sub(read.len());
    let Some(skipped) = skipped else {
        return Err(format!("{key:?} holds {} messages too many", read.len() - messages.len()));
    };
    ensure!(
        skipped <= *optional || *deleted,
        "{key:?} lacks {} messages: it holds {:?} of {:?}",
        skipped - optional,
        read.iter().map(|read| read.offset).collect::<Vec<_>>(),
        messages.iter().map(|sent| (sent.offset, sent.at)).collect::<Vec<_>>()
    );
    // A rebuild from the log brings back what was deleted.
    let deleted_in_part = *deleted || messages.iter().any(|sent| sent.maybe);
    let messages = &messages[skipped..];
    for (read, sent) in read.iter().zip(messages) {
        let same = (read.offset, read.at) == (sent.offset, sent.at)
            && read.body == sent.body()
            && read.properties == properties_of(sent.number, sent.keyed).as_bytes();
        ensure!(
            same,
            "{key:?}: {sent:?} was stored, {} at {} with offset {} is read",
            read.number,
            read.at,
            read.offset
        );
    }
    let found_next = store.find_queue(TOPICS[key.0], key.1).map_or(0, |queue| queue.next_append_offset().0);
    ensure!(found_next == *next || *deleted && found_next == 0, "{key:?}: {found_next} comes next instead of {next}");
    let min = view.model.min_at(view.moment);
    for sent in messages.iter().filter(|sent| sent.keyed && sent.at >= min) {
        let places = places_of(store, sent)?;
        ensure!(places == [sent.at], "the key of {sent:?} leads to {places:?}");
    }
    if !messages.is_empty() {
        let sent = messages[random.below(messages.len())];
        let queue = store.queue(TOPICS[key.0], key.1);
        let first = messages.iter().find(|other| other.stored_ms >= sent.stored_ms).map_or(0, |first| first.offset);
        let by_time = store.offset_by_time(&queue, sent.stored_ms, Boundary::Lower).map_err(|e| e.to_string())?;
        ensure!(by_time.0 == first, "{key:?}: {} ms means {by_time} instead of {first}", sent.stored_ms);
    }
    let numbers = messages.iter().map(|sent| sent.number).collect();
    Ok(FoundQueue { key, next: found_next, numbers, deleted: deleted_in_part })
}

/// A message as it was read.
pub(crate) struct Read {
    pub(crate) offset: i64,
    pub(crate) at: i64,
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
    pub(crate) properties: Vec<u8>,
}

/// Reads a queue from its first message to its last.
pub(crate) fn read_queue(store: &MessageStore, key: QueueKey) -> Result<Vec<Read>, String> {
    let (topic, id) = (TOPICS[key.0], key.1);
    let Some(queue) = store.find_queue(topic, id) else { return Ok(Vec::new()) };
    let (mut offset, max) = (queue.min_offset(), queue.max_offset());
    let mut all = Vec::new();
    while offset < max {
        let got = store.get(&queue, &GetRequest { offset, count_max: 32, bytes_max: 1 << 20 }, None);
        ensure!(
            got.status == GetStatus::Found,
            "{topic} {id}: {:?} at {offset} of {max}, {:?}",
            got.status,
            store.open_report()
        );
        for piece in &got.records {
            for view in record::records(piece) {
                let view = view.map_err(|error| format!("{topic} {id}: {error} at {offset}"))?;
                ensure!(
                    (view.topic(), view.queue_id()) == (topic, id),
                    "{topic} {id} holds a message of another queue"
                );
                let number = view.body().first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
                let expected = queue.min_offset().0 + all.len() as i64;
                ensure!(view.queue_offset() == expected, "{topic} {id}: {} at {expected}", view.queue_offset());
                let (body, properties) = (view.body().to_vec(), view.properties().to_vec());
                all.push(Read { offset: expected, at: view.physical_offset(), number, body, properties });
            }
        }
        offset = got.next_begin_offset;
    }
    ensure!(queue.max_offset() == QueueOffset(queue.min_offset().0 + all.len() as i64), "{topic} {id} has holes");
    Ok(all)
}

/// Where the messages lie that a message's key leads to.
fn places_of(store: &MessageStore, sent: &Sent) -> Result<Vec<i64>, String> {
    let key = key_of(sent.number);
    let query = KeyQuery { topic: TOPICS[sent.key.0], key: &key, count_max: 8, begin_ms: 0, end_ms: i64::MAX };
    let found = store.query(&query).map_err(|error| error.to_string())?;
    let at =
        |bytes: &[u8]| record::records(bytes).next().and_then(Result::ok).map_or(-1, |view| view.physical_offset());
    Ok(found.records.iter().map(|bytes| at(bytes)).collect())
}

/// The model for the life after the crash.
fn carry_on(view: View<'_>, found: &Found, version: usize) -> Model {
    let View { model, moment, .. } = view;
    let mut next = Model { numbers: model.numbers, ..Model::default() };
    let certain = if view.fate == Fate::PowerCut { found.end } else { model.durable_at(moment) };
    next.durable.push((0, certain));
    next.log_min.push((0, model.min_at(moment)));
    // What a killed process had not synced may yet be lost.
    let (saved, _) = model.versions_at(moment);
    let saved = if view.fate == Fate::PowerCut { version } else { saved };
    next.table = (0..version).map(|at| (0, if at < saved { 0 } else { u64::MAX })).collect();
    let mut sent: Vec<_> = model.sent.iter().filter(|sent| sent.at < found.end).cloned().collect();
    sent.iter_mut().for_each(|sent| (sent.begun, sent.done) = (0, 0));
    for queue in &found.queues {
        let expected = model.expected(queue.key, moment, (found.begin, found.end));
        let generation = model.generation_before(queue.key, found.end);
        next.next.insert(queue.key, queue.next);
        let gone = expected.deleted && queue.next == 0;
        next.generations.insert(queue.key, if gone { generation + 1 } else { generation });
        // What was deleted before may come back after a later crash, and be gone again after one that takes what followed.
        let begun = model.deletions.iter().filter(|deletion| deletion.key == queue.key && deletion.counts_at(moment));
        let kept = begun.filter(|deletion| deletion.generation < generation || gone);
        next.deletions.extend(kept.map(|deletion| Deletion { begun: 0, undone: u64::MAX, ..*deletion }));
        if !gone && expected.deleted {
            let back = |sent: &Sent| queue.numbers.contains(&sent.number);
            sent.iter_mut().filter(|sent| sent.key == queue.key).for_each(|sent| sent.maybe = !back(sent));
        }
    }
    next.sent = sent;
    next
}
