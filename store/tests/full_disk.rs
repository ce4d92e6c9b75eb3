//! The store on a real file system that is really full, again and again: a small tmpfs of its own, filled by a balloon
//! beside the store. Messages are refused or stored, never half; readers go on; it goes on by itself when there is room.
//! Mounting needs root: elsewhere the tests say so and do nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use waspmq_protocol::message::record;
use waspmq_store::{
    Append, AppendError, FlushMode, GetRequest, GetStatus, IndexShape, Item, Items, MessageStore, NoListener,
    QueueOffset, RetentionRules, StoreConfig, clock::SystemClock,
};

const MIB: u64 = 1 << 20;
const QUEUES: i32 = 40;
const ROUNDS: usize = 20;
/// RocketMQ-like users expect sends to be taken again so soon.
const WITHIN: Duration = Duration::from_secs(10);

/// A file system of its own, gone with the value.
struct Mount {
    dir: tempfile::TempDir,
}

impl Mount {
    /// `None`, with the reason printed, where nothing may be mounted.
    fn new(test: &str, bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(dir.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Mount { dir }),
            Ok(output) => {
                eprintln!("{test} skipped: no tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("{test} skipped: no mount: {error}");
                None
            }
        }
    }

    fn balloon(&self) -> PathBuf {
        self.dir.path().join("balloon")
    }

    /// Takes all the room but `left` bytes.
    fn inflate(&self, left: u64) {
        let mut file = File::options().create(true).append(true).open(self.balloon()).unwrap();
        let piece = vec![1; 4096];
        while file.write_all(&piece).is_ok() {}
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes.saturating_sub(left)).unwrap();
    }

    fn deflate(&self) {
        fs::remove_file(self.balloon()).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.dir.path()).status();
        // No second panic in a test that fails.
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.dir.path().display());
        }
    }
}

fn config(root: &Path) -> StoreConfig {
    StoreConfig {
        commit_log_file_bytes: MIB,
        consume_queue_file_bytes: 20_000,
        index_shape: IndexShape { slots: 1000, entries: 20_000 },
        store_host: SocketAddr::from(([10, 0, 0, 2], 10911)),
        retention: RetentionRules { clean_forcibly: false, ..RetentionRules::default() },
        ..StoreConfig::new(root.join("store"))
    }
}

fn open(config: &StoreConfig) -> Arc<MessageStore> {
    MessageStore::open(config.clone(), Arc::new(NoListener), Arc::new(SystemClock::new())).unwrap()
}

/// What was accepted, and so must be found, by queue.
struct Ledger {
    queues: Vec<Vec<u64>>,
    next: u64,
}

impl Ledger {
    fn new() -> Self {
        Ledger { queues: vec![Vec::new(); QUEUES as usize], next: 0 }
    }

    /// Stores the next message of a few hundred bytes, with a key.
    fn append(&mut self, store: &MessageStore) -> Result<(), AppendError> {
        let number = self.next;
        self.next += 1;
        let at = (number % QUEUES as u64) as usize;
        let queue = store.queue("Orders", at as i32);
        let (body, properties) = (body(number), format!("KEYS\x01key-{number}\x02"));
        let message = Append {
            queue: &queue,
            born_host: SocketAddr::from(([10, 0, 0, 1], 1234)),
            items: Items::One(Item { flag: 0, body: &body, properties: properties.as_bytes() }),
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            wait_durable: true,
        };
        let mut out = Vec::new();
        store.append(&[message], &mut out);
        out.pop().unwrap()?;
        self.queues[at].push(number);
        Ok(())
    }

    /// Stores a message on a disk that has room again.
    fn append_soon(&mut self, store: &MessageStore) {
        let freed = Instant::now();
        while let Err(error) = self.append(store) {
            assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
            assert!(freed.elapsed() < WITHIN, "still refused after {WITHIN:?}: {error}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything that was accepted can be read, in order and whole, and nothing else can.
    fn check(&self, store: &MessageStore) {
        for (at, expected) in self.queues.iter().enumerate() {
            let Some(queue) = store.find_queue("Orders", at as i32) else {
                assert!(expected.is_empty());
                continue;
            };
            let (mut offset, mut found) = (QueueOffset(0), Vec::new());
            loop {
                let got = store.get(&queue, &GetRequest { offset, count_max: 32, bytes_max: 1 << 20 }, None);
                if got.status != GetStatus::Found {
                    let end = matches!(got.status, GetStatus::OffsetOverflowOne | GetStatus::NoMessageInQueue);
                    assert!(end, "{:?} at {offset} of queue {at}", got.status);
                    break;
                }
                for view in got.records.iter().flat_map(|piece| record::records(piece)) {
                    let view = view.unwrap();
                    let number = u64::from_be_bytes(*view.body().first_chunk().unwrap());
                    assert_eq!(view.body(), body(number));
                    found.push(number);
                }
                offset = got.next_begin_offset;
            }
            assert_eq!(&found, expected, "queue {at}");
        }
    }
}

fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(200 + (number % 700) as usize, number as u8);
    body
}

fn settle(store: &MessageStore) {
    let deadline = Instant::now() + WITHIN;
    while store.stats().dispatch_behind_bytes > 0 {
        assert!(Instant::now() < deadline, "not readable within {WITHIN:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Fills and frees the disk until messages were refused and taken again 20 times.
fn fill_and_free(mount: &Mount, config: &StoreConfig) {
    let mut ledger = Ledger::new();
    let mut store = open(config);
    for round in 0..ROUNDS {
        (0..500).for_each(|_| ledger.append_soon(&store));
        settle(&store);
        // Sometimes to the last byte, sometimes so that some files still get their blocks.
        mount.inflate((round as u64 % 4) * 100_000);
        let deadline = Instant::now() + WITHIN;
        let refused = loop {
            match ledger.append(&store) {
                Err(error) => break error,
                Ok(()) => assert!(Instant::now() < deadline, "messages are still taken in round {round}"),
            }
        };
        assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
        // What had no room in its queue yet cannot be read yet; all else can.
        let readable = store.find_queue("Orders", 0).unwrap();
        let request = GetRequest { offset: QueueOffset(0), count_max: 32, bytes_max: 1 << 20 };
        assert_eq!(store.get(&readable, &request, None).status, GetStatus::Found);
        if round % 5 == 4 {
            // Closing on a full disk keeps everything, and so does being killed on one.
            if round % 2 == 0 {
                store.shutdown();
            }
            drop(store);
            mount.inflate(0);
            // A start on a disk without a free byte serves what is there.
            store = open(config);
            let readable = store.find_queue("Orders", 0).unwrap();
            assert_eq!(store.get(&readable, &request, None).status, GetStatus::Found);
            assert!(ledger.append(&store).is_err());
            mount.deflate();
        } else {
            mount.deflate();
        }
        ledger.append_soon(&store);
        settle(&store);
        ledger.check(&store);
    }
    assert!(store.shutdown().clean);
    drop(store);
    ledger.check(&open(config));
}

#[test]
fn refused_above_the_level_and_taken_again_twenty_times() {
    let Some(mount) = Mount::new("refused_above_the_level_and_taken_again_twenty_times", 64 * MIB) else { return };
    fill_and_free(&mount, &config(mount.dir.path()));
}

/// With no level to stop it, every single file may lack room: of the log, the queues, the index.
fn without_levels(test: &str, flush: FlushMode) {
    let Some(mount) = Mount::new(test, 64 * MIB) else { return };
    let mut config = config(mount.dir.path());
    config.flush = flush;
    let retention = &mut config.retention;
    (retention.delete_above, retention.clean_above, retention.refuse_above) = (100, 100, 100);
    fill_and_free(&mount, &config);
}

#[test]
fn without_levels_whatever_file_lacks_room_nothing_is_lost() {
    without_levels("without_levels_whatever_file_lacks_room_nothing_is_lost", FlushMode::Async);
}

#[test]
fn without_levels_the_same_with_sync_flush() {
    without_levels("without_levels_the_same_with_sync_flush", FlushMode::Sync);
}

#[test]
fn by_force_a_full_disk_loses_the_oldest_messages_and_takes_new_ones() {
    let Some(mount) = Mount::new("by_force_a_full_disk_loses_the_oldest_messages_and_takes_new_ones", 64 * MIB) else {
        return;
    };
    let mut config = config(mount.dir.path());
    config.retention = RetentionRules {
        every: Duration::from_millis(20),
        pause: Duration::from_millis(1),
        ..RetentionRules::default()
    };
    let (store, mut ledger) = (open(&config), Ledger::new());
    // Three times what the disk holds.
    while (store.stats().max_offset.0 as u64) < 192 * MIB {
        ledger.append_soon(&store);
    }
    settle(&store);
    let min = store.stats().min_offset.0 as u64;
    assert!(min >= 128 * MIB && min.is_multiple_of(MIB), "the log begins at {min}");
    assert!(store.disk().space.used_percent() <= 95, "{}", store.disk());
    let queue = store.find_queue("Orders", 0).unwrap();
    let request = GetRequest { offset: QueueOffset(0), count_max: 1, bytes_max: 1 << 20 };
    let deadline = Instant::now() + WITHIN;
    while store.get(&queue, &request, None).status != GetStatus::OffsetTooSmall {
        assert!(Instant::now() < deadline, "the queues do not follow");
        std::thread::sleep(Duration::from_millis(5));
    }
}
