//! What the log keeps in memory.

use std::ops::Range;

use super::*;
use crate::{
    clock::SystemClock,
    queue::Queue,
    storage::{Hint, MemoryStorage, Storage as _},
};

/// A log on this disk.
fn log(storage: &Arc<MemoryStorage>, config: StoreConfig) -> CommitLog {
    let config = StoreConfig { storage: Arc::clone(storage) as _, ..config };
    storage.create_dir(&config.commit_log_dir()).unwrap();
    CommitLog::open(&config).unwrap()
}

/// What leaves the page table before a sync of so many bytes.
fn released_before_sync(flush: FlushMode, bytes: usize) -> Vec<Range<usize>> {
    let storage = Arc::new(MemoryStorage::new());
    let log = log(&storage, StoreConfig { commit_log_file_bytes: 16 << 20, flush, ..StoreConfig::new("/store") });
    log.start_appending().unwrap();
    let queue = Arc::new(Queue::new("T".into(), 0));
    let mut out = Vec::new();
    while log.files().wrote() < bytes as u64 {
        let message = Append {
            queue: &queue,
            born_host: "10.0.0.1:1".parse().unwrap(),
            items: Items::One(Item { flag: 0, body: &[1; 10_000], properties: b"" }),
            sys_flag: 0,
            born_timestamp: 0,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            wait_durable: false,
        };
        log.append(&[message], &SystemClock::new(), &mut out);
    }
    assert!(out.iter().all(Result::is_ok));
    storage.take_hints();
    log.release_unsynced();
    let released = |hint| match hint {
        Hint::Release(range) => range,
        other => panic!("{other:?}"),
    };
    storage.take_hints().into_iter().map(released).collect()
}

#[test]
fn what_is_to_be_synced_leaves_the_page_table_but_for_its_last_page_if_it_is_worth_a_call() {
    let page = PAGE_BYTES as usize;
    for flush in [FlushMode::Sync, FlushMode::Async] {
        assert_eq!(released_before_sync(flush, 20_000), []);
        let [range] = &released_before_sync(flush, 100_000)[..] else { panic!("one call does it") };
        assert_eq!((range.start, range.end % page), (0, 0));
        assert!((100_000 - page..=110_200).contains(&range.end), "{range:?}");
    }
}

#[test]
fn pages_made_by_the_megabyte_are_not_split_but_none_are_while_senders_wait() {
    let much = LITTLE_UNSYNCED_BYTES as usize + 100_000;
    let [range] = &released_before_sync(FlushMode::Async, much)[..] else { panic!("one call does it") };
    assert_eq!(*range, 0..LITTLE_UNSYNCED_BYTES as usize);
    let [range] = &released_before_sync(FlushMode::Sync, much)[..] else { panic!("one call does it") };
    assert!(range.end > much - PAGE_BYTES as usize, "{range:?}");
}

#[test]
fn what_is_not_dispatched_stays_in_memory() {
    const GIB: u64 = 1 << 30;
    let storage = Arc::new(MemoryStorage::new());
    let config = StoreConfig { commit_log_file_bytes: 1 << 20, memory_bytes: 20 * GIB, ..StoreConfig::new("/store") };
    let first = config.commit_log_dir().join(format!("{:020}", 8 * GIB));
    storage.create_dir(&config.commit_log_dir()).unwrap();
    storage.create(&first, config.commit_log_file_bytes, Blocks::Reserved).unwrap();
    // All of it is on the disk.
    let log = log(&storage, config);
    assert_eq!(log.files().flushed(), 8 * GIB + (1 << 20));
    storage.take_hints();
    for (second, dispatched) in [(1, GIB), (2, 4 * GIB), (3, 4 * GIB), (4, 5 * GIB)] {
        log.note_dispatched(physical(dispatched));
        log.give_back(Duration::from_secs(second));
        let given = storage.take_hints();
        let bytes = given.iter().map(|hint| match hint {
            Hint::GiveBack(_, range) => range.end - range.start,
            other => panic!("{other:?}"),
        });
        // But for the last gigabyte before what is dispatched.
        let expected = [0, 2 * GIB, 0, GIB][second as usize - 1];
        assert_eq!(bytes.sum::<u64>(), expected, "dispatched up to {dispatched}");
    }
}
