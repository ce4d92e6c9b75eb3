//! Good, damaged and unfinished stores, looked at without a broker.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::commit_log::{Append, Item, Items};
use crate::index::IndexShape;
use crate::storage::{MemoryStorage, Storage};

const FILE_BYTES: u64 = 4096;
const RECORD_BYTES: usize = 91 + 5 + 17 + 100;

struct Rig {
    storage: Arc<MemoryStorage>,
    config: StoreConfig,
}

impl Rig {
    /// A store of `count` messages in two queues.
    fn filled(count: u8, close: bool) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        let config = StoreConfig {
            storage: Arc::clone(&storage) as _,
            commit_log_file_bytes: FILE_BYTES,
            consume_queue_file_bytes: 200,
            index_shape: IndexShape { slots: 7, entries: 50 },
            flush_interval: Duration::from_millis(10),
            ..StoreConfig::new("/store")
        };
        let store = MessageStore::open(config.clone(), Arc::new(NoListener), Arc::new(SystemClock::new())).unwrap();
        for at in 0..count {
            let queue = store.queue("Topic", i32::from(at % 2));
            let item = Item { flag: 0, body: &[at; 100], properties: b"KEYS\x01k\x02TAGS\x01TagA\x02" };
            let message = Append {
                queue: &queue,
                born_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
                items: Items::One(item),
                sys_flag: 0,
                born_timestamp: 0,
                reconsume_times: 0,
                prepared_transaction_offset: 0,
                wait_durable: false,
            };
            let mut out = Vec::new();
            store.append(&[message], &mut out);
            out.pop().unwrap().unwrap();
        }
        while store.stats().dispatch_behind_bytes > 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        if close {
            store.shutdown();
        }
        Rig { storage, config }
    }

    fn patch(&self, name: &str, at: usize, bytes: &[u8]) {
        let path = Path::new("/store").join(name);
        let mut content = self.storage.read(&path).unwrap();
        content[at..at + bytes.len()].copy_from_slice(bytes);
        self.storage.write(&path, &content).unwrap();
        self.storage.reboot();
    }

    fn check(&self) -> StoreCheck {
        check(&self.config, &Watch::new(|done, total| assert!(done <= total))).unwrap()
    }

    fn rebuild(&self) -> OpenReport {
        rebuild(&self.config, Watch::new(|_, _| {})).unwrap()
    }
}

#[test]
fn a_good_store_is_whole() {
    for closed in [true, false] {
        let rig = Rig::filled(60, closed);
        let found = rig.check();
        assert!(found.log_is_whole() && found.derived_is_whole(), "{found:?}");
        assert_eq!((found.closed, found.log.records, found.queues.entries), (closed, 60, 60));
        assert_eq!((found.queues.queues, found.index.keys, found.log.torn_bytes), (2, 60, 0));
        assert!(found.log.oldest_ms > 0 && found.log.oldest_ms <= found.log.newest_ms);
    }
}

#[test]
fn a_store_that_is_open_is_left_alone() {
    let rig = Rig::filled(1, true);
    let _open = MessageStore::open(rig.config.clone(), Arc::new(NoListener), Arc::new(SystemClock::new())).unwrap();
    let watch = Watch::new(|_, _| {});
    assert!(matches!(check(&rig.config, &watch), Err(OpenError::Locked { .. })));
    assert!(matches!(rebuild(&rig.config, watch), Err(OpenError::Locked { .. })));
}

#[test]
fn damage_is_named_and_what_follows_is_still_compared() {
    for (at, bytes) in [(100, &[0xEE; 4][..]), (0, &[0x7F, 1, 1, 1][..]), (4, &[0; 4][..]), (28, &[0xFF][..])] {
        let rig = Rig::filled(60, true);
        let begin = 3 * RECORD_BYTES;
        rig.patch("commitlog/00000000000000000000", begin + at, bytes);
        let found = rig.check();
        let damage = &found.log.damages[0];
        assert_eq!((damage.from.0 as usize, damage.to.0 as usize), (begin, begin + RECORD_BYTES), "{at}");
        assert_eq!((found.log.damages.len(), found.log.records), (1, 59), "{at}");
        assert!(!found.log_is_whole() && found.derived_is_whole(), "{found:?}");
    }
}

#[test]
fn damage_at_a_files_end_reaches_into_the_next() {
    let rig = Rig::filled(60, true);
    let last = (FILE_BYTES as usize - 8) / RECORD_BYTES - 1;
    rig.patch(
        "commitlog/00000000000000000000",
        last * RECORD_BYTES,
        &vec![0; FILE_BYTES as usize - last * RECORD_BYTES],
    );
    let found = rig.check();
    let damage = &found.log.damages[0];
    assert_eq!((damage.from.0 as usize, damage.to.0), (last * RECORD_BYTES, FILE_BYTES as i64));
    assert_eq!(found.log.records, 59);
}

#[test]
fn a_torn_end_is_no_damage_and_repair_cuts_it() {
    let rig = Rig::filled(5, false);
    rig.patch("commitlog/00000000000000000000", 4 * RECORD_BYTES + 150, &[0; RECORD_BYTES - 150]);
    rig.storage.remove_dir(Path::new("/store/consumequeue")).unwrap();
    // A body checksum does not cover what was torn off behind the body.
    rig.patch("commitlog/00000000000000000000", 4 * RECORD_BYTES + 100, &[0xEE; 8]);
    let found = rig.check();
    assert!(found.log_is_whole() && found.log.torn_bytes > 0, "{found:?}");
    assert_eq!((found.log.records, found.queues.behind), (4, 4));
    assert_eq!(rig.rebuild().messages, 4);
    let found = rig.check();
    assert!(found.closed && found.derived_is_whole() && found.log.torn_bytes == 0, "{found:?}");
}

#[test]
fn wrong_missing_and_surplus_entries_are_found_and_rebuilt() {
    let rig = Rig::filled(58, true);
    let before = rig.storage.read(Path::new("/store/consumequeue/Topic/0/00000000000000000000")).unwrap();
    rig.patch("consumequeue/Topic/0/00000000000000000000", 45, &[7]);
    rig.patch("consumequeue/Topic/1/00000000000000000000", 60, &[0; 20]);
    rig.patch("consumequeue/Topic/1/00000000000000000400", 199, &[1]);
    let found = rig.check();
    assert_eq!((found.queues.wrong, found.queues.missing, found.queues.entries), (1, 1, 56), "{found:?}");
    assert_eq!(found.queues.surplus, 1, "{found:?}");
    assert!(found.queues.examples.iter().any(|text| text.contains("Topic queue 0 offset 2")), "{found:?}");
    assert!(found.log_is_whole() && !found.derived_is_whole());
    assert_eq!(rig.rebuild().messages, 58);
    assert!(rig.check().derived_is_whole());
    let after = rig.storage.read(Path::new("/store/consumequeue/Topic/0/00000000000000000000")).unwrap();
    assert!(before == after, "a rebuilt queue is byte for byte what it was");
}

#[test]
fn an_index_that_leads_in_circles_is_found() {
    let rig = Rig::filled(30, true);
    let name = rig.storage.list(Path::new("/store/index")).unwrap().remove(0).name;
    let entries_at = 40 + 7 * 4;
    rig.patch(&format!("index/{name}"), entries_at + 3 * 20 + 16, &9_i32.to_be_bytes());
    let found = rig.check();
    assert!(found.index.problems[0].contains("entry 3 leads to 9"), "{found:?}");
    rig.rebuild();
    assert!(rig.check().index.problems.is_empty());
}

#[test]
fn a_missing_file_is_named() {
    let rig = Rig::filled(60, true);
    rig.storage.remove(Path::new("/store/commitlog/00000000000000004096")).unwrap();
    let found = rig.check();
    assert!(found.log.problems[0].contains("the file before it ends at 4096"), "{found:?}");
    assert!(!found.log_is_whole());
}

#[test]
fn a_dump_begins_where_it_is_told_and_ends_when_told() {
    let rig = Rig::filled(60, true);
    let shown = Mutex::new(Vec::new());
    let from = PhysicalOffset(FILE_BYTES as i64 + 1);
    dump(&rig.config, from, &mut |record| {
        let mut shown = shown.lock().unwrap();
        shown.push(record.physical_offset());
        if shown.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let shown = shown.into_inner().unwrap();
    assert_eq!(shown[0], FILE_BYTES as i64 + RECORD_BYTES as i64);
    assert_eq!(shown.len(), 3);
}

#[test]
fn what_only_the_sums_notice_is_named_and_stays_named() {
    for closed in [true, false] {
        let rig = Rig::filled(60, closed);
        let begin = 3 * RECORD_BYTES;
        // The user's flag.
        let path = Path::new("/store/commitlog/00000000000000000000");
        rig.storage.flip_bit(path, (begin + 19) * 8).unwrap();
        let found = rig.check();
        let damage = &found.log.damages[0];
        assert_eq!((damage.from.0 as usize, damage.to.0 as usize), (begin, begin + RECORD_BYTES));
        assert!(damage.reason.contains("header"), "{damage:?}");
        assert_eq!((found.log.damages.len(), found.log.records), (1, 59));
        assert_eq!((found.sums.checked, found.sums.unchecked), (59, 0));
        assert!(!found.log_is_whole() && found.derived_is_whole(), "{found:?}");
        for _ in 0..2 {
            rig.rebuild();
            let found = rig.check();
            assert_eq!((found.log.damages.len(), found.sums.checked, found.sums.unchecked), (1, 59, 0), "{found:?}");
        }
        rig.storage.flip_bit(path, (begin + 19) * 8).unwrap();
        assert!(rig.check().log_is_whole());
    }
}

#[test]
fn sums_that_are_missing_are_no_damage_and_are_made_anew() {
    let rig = Rig::filled(60, true);
    let dir = Path::new("/store/waspmq/sums");
    let names: Vec<_> = rig.storage.list(dir).unwrap().into_iter().map(|entry| entry.name).collect();
    let before: Vec<_> = names.iter().map(|name| rig.storage.read(&dir.join(name)).unwrap()).collect();
    rig.storage.remove(&dir.join(&names[0])).unwrap();
    let found = rig.check();
    assert!(found.log_is_whole() && found.derived_is_whole(), "{found:?}");
    assert!(found.sums.unchecked > 0 && found.sums.checked + found.sums.unchecked == 60, "{found:?}");
    rig.storage.flip_bit(&dir.join(&names[1]), 3).unwrap();
    let found = rig.check();
    assert!(found.sums.problems[0].contains(&names[1]) && !found.derived_is_whole(), "{found:?}");
    assert!(rig.storage.file_bytes(&dir.join(&names[1])).unwrap().is_some(), "a check changes nothing");
    rig.rebuild();
    let found = rig.check();
    assert!(found.derived_is_whole() && found.sums.checked == 60, "{found:?}");
    let after: Vec<_> = names.iter().map(|name| rig.storage.read(&dir.join(name)).unwrap()).collect();
    assert!(before == after, "sums made anew are byte for byte what they were");
}
