//! The disk refuses: every operation of a run fails once, or from then on, with either error. Nothing is acknowledged
//! that is not on the disk, what could be read can be read, and the next start finds all that was acknowledged.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use waspmq_store::{
    Append, AppendError, Durability, FlushMode, IndexShape, Item, Items, MessageStore, RetentionRules, StoreConfig,
    Work,
    storage::{Fault, MemoryStorage, Operation},
};

use crate::{
    check::read_queue,
    life::{ROOT, open},
    model::{TOPICS, body, key_of},
};

const NOW_MS: i64 = 1_800_000_000_000;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const BODY_BYTES: usize = 300;

pub(crate) fn config(storage: &Arc<MemoryStorage>) -> StoreConfig {
    StoreConfig {
        storage: Arc::clone(storage) as _,
        commit_log_file_bytes: 4096,
        consume_queue_file_bytes: 100,
        index_shape: IndexShape { slots: 7, entries: 10 },
        flush: FlushMode::Sync,
        retention: RetentionRules { log_bytes_kept: Some(1 << 20), pause: Duration::ZERO, ..RetentionRules::default() },
        ..StoreConfig::new(ROOT)
    }
}

/// Stores message `number` in queue `number % 2` of the first topic, with a key.
pub(crate) fn append(store: &MessageStore, number: u64) -> Result<waspmq_store::PhysicalOffset, AppendError> {
    let queue = store.queue(TOPICS[0], (number % 2) as i32);
    let (body, properties) = (body(number, BODY_BYTES), format!("KEYS\x01{}\x02", key_of(number)));
    let message = Append {
        queue: &queue,
        born_host: SocketAddr::from(([10, 0, 0, 1], 1234)),
        items: Items::One(Item { flag: 0, body: &body, properties: properties.as_bytes() }),
        sys_flag: 0,
        born_timestamp: 1,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        wait_durable: true,
    };
    let mut out = Vec::new();
    store.append(&[message], &mut out);
    out.pop().unwrap().map(|stored| stored.end)
}

fn is_poisoned(store: &MessageStore) -> bool {
    matches!(store.refusal(), Some(AppendError::Poisoned { .. }))
}

/// Uses a store for a while, as far as the disk lets it. Returns the numbers of the messages that were acknowledged.
fn run(storage: &Arc<MemoryStorage>, first: u64, close: bool) -> Vec<u64> {
    let acked = Arc::new(Mutex::new(Vec::new()));
    let Ok(store) = open(&config(storage), storage, NOW_MS) else { return Vec::new() };
    for number in first..first + 24 {
        let (poisoned, before) = (is_poisoned(&store), acked.lock().unwrap().len());
        if let Ok(end) = append(&store, number) {
            let acked = Arc::clone(&acked);
            let told = move |durability| {
                if durability == Durability::Durable {
                    acked.lock().unwrap().push(number);
                }
            };
            store.when_durable(end, Duration::MAX, Box::new(told));
        }
        if number % 3 == 2 {
            store.work(Work::SyncLog);
        }
        store.work(Work::Dispatch);
        if number % 5 == 4 {
            store.work(Work::SyncDerived);
        }
        assert!(!poisoned || acked.lock().unwrap().len() == before, "acknowledged after a sync had failed");
        assert!(!poisoned || is_poisoned(&store));
    }
    if close {
        store.shutdown();
    }
    let acked = acked.lock().unwrap();
    acked.clone()
}

/// The numbers that a store holds, each queue's in order.
fn numbers(store: &MessageStore) -> Vec<u64> {
    let mut all = Vec::new();
    for queue in [0, 1] {
        let read = read_queue(store, (0, queue)).unwrap();
        assert!(read.is_sorted_by(|a, b| a.number < b.number), "doubled, or out of order");
        assert!(read.iter().all(|read| read.body == body(read.number, BODY_BYTES)));
        all.extend(read.iter().map(|read| read.number));
    }
    all
}

/// One run with one fault, on an empty disk or where another run has ended. Returns whether it came to pass.
fn survives(fault: Fault, begun: Option<&MemoryStorage>) -> bool {
    let storage = Arc::new(begun.map_or_else(MemoryStorage::new, MemoryStorage::kill));
    storage.plan(fault);
    let before = if begun.is_some() { 24 } else { 0 };
    let mut acked = run(&storage, before, fault.after.is_multiple_of(2));
    acked.extend(0..before);
    let failed = storage.failed_operations();
    storage.clear_plans();
    for disk in [storage.kill(), storage.power_cut(fault.after), storage.power_cut(fault.after + 1000)] {
        let disk = Arc::new(disk);
        let store = open(&config(&disk), &disk, NOW_MS).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        let found = numbers(&store);
        let lost: Vec<_> = acked.iter().filter(|number| !found.contains(number)).collect();
        assert!(lost.is_empty(), "{fault:?}: of {acked:?} are lost {lost:?}");
        append(&store, 1000).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(store.work(Work::SyncLog));
    }
    failed > 0
}

/// A disk on which a store was killed, all of whose messages had been acknowledged.
fn begun() -> MemoryStorage {
    let storage = Arc::new(MemoryStorage::new());
    assert_eq!(run(&storage, 0, false).len(), 24);
    storage.kill()
}

#[test]
fn every_operation_may_fail() {
    let mut faults = 0;
    let begun = begun();
    for errno in [EIO, ENOSPC] {
        for lasting in [false, true] {
            let fault = |after| Fault { operation: None, after, lasting, errno };
            faults += (0..).take_while(|after| survives(fault(*after), None)).count();
            faults += (0..).take_while(|after| survives(fault(*after), Some(&begun))).count();
        }
    }
    assert!(faults > 200, "only {faults} faults");
}

#[test]
fn every_look_at_the_disk_may_fail() {
    let begun = begun();
    for operation in Operation::ALL.into_iter().filter(|operation| !operation.changes()) {
        let fault = |after| Fault { operation: Some(operation), after, lasting: false, errno: EIO };
        assert!((0..).take_while(|after| survives(fault(*after), Some(&begun))).count() > 3, "{operation:?}");
    }
}

#[test]
fn what_could_be_read_can_be_read_when_nothing_can_be_written() {
    let storage = Arc::new(MemoryStorage::new());
    let store = open(&config(&storage), &storage, NOW_MS).unwrap();
    (0..12).for_each(|number| assert!(append(&store, number).is_ok()));
    assert!(store.work(Work::SyncLog));
    while store.work(Work::Dispatch) {}
    storage.plan(Fault { operation: None, after: 0, lasting: true, errno: EIO });
    let refused = (12..40).filter(|number| append(&store, *number).is_err()).count();
    assert!(refused > 0, "a new file was needed");
    store.work(Work::SyncLog);
    assert!(is_poisoned(&store), "{:?} of {:?}", store.refusal(), store.stats());
    assert_eq!(numbers(&store).len(), 12);
}
