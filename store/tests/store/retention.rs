//! Old files, full disks and slow ones: what goes, what stays, what is refused and for how long.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use waspmq_store::{
    AppendError, Arrival, ArrivalListener, DiskLevel, Durability, FlushMode, GetRequest, GetStatus, HoursOfDay,
    KeyQuery, MessageStore, NoListener, QueueOffset, RetentionRules,
    clock::{Clock, SettableClock},
};

use crate::rig::{FILE_BYTES, Rig, append, append_keyed, bodies, settle, wait_durable};

const HOUR: Duration = Duration::from_secs(3600);
/// A day that begins at midnight, UTC.
const MIDNIGHT_MS: i64 = 19_675 * 86_400_000;
/// So long a body that four messages fill a file.
const BODY: [u8; 900] = [7; 900];
const FILE_MESSAGES: usize = 4;

/// A rig whose store looks at everything all the time.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.config.flush_interval = Duration::from_millis(1);
    rig.config.flush_pages_min = 0;
    rig.config.retention = RetentionRules {
        every: Duration::from_millis(2),
        pause: Duration::ZERO,
        delete_when: HoursOfDay::new([4]).unwrap(),
        ..RetentionRules::default()
    };
    rig
}

fn open(rig: &Rig, clock: &Arc<SettableClock>) -> Arc<MessageStore> {
    MessageStore::open(rig.config.clone(), Arc::new(NoListener), Arc::clone(clock) as _).unwrap()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Puts the clock on the wall forward. The threads' own time stands still: hours of it would be a sync that took hours.
fn later(clock: &SettableClock, by: Duration) {
    clock.set_now_ms(clock.now_ms() + by.as_millis() as i64);
}

/// As [`until`], while time goes by for the threads that sync.
#[track_caller]
fn in_time(clock: &SettableClock, what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || {
        clock.advance(Duration::from_millis(100));
        holds()
    });
}

/// Time in which a store that does what it should not would have done it.
fn a_while() {
    std::thread::sleep(Duration::from_millis(60));
}

fn first_file(store: &MessageStore) -> u64 {
    store.stats().min_offset.0 as u64 / FILE_BYTES
}

fn fill(store: &MessageStore, files: usize) {
    for _ in 0..files * FILE_MESSAGES {
        append(store, "T", 0, &BODY).unwrap();
    }
}

#[test]
fn old_messages_go_in_their_hour_and_consumers_are_told_where_to_go_on() {
    let rig = rig();
    let clock = Arc::new(SettableClock::new(MIDNIGHT_MS));
    let store = open(&rig, &clock);
    append_keyed(&store, "T", 0, &BODY, "old").unwrap();
    fill(&store, 3);
    later(&clock, HOUR);
    fill(&store, 2);
    append_keyed(&store, "T", 0, &BODY, "young").unwrap();
    settle(&store);
    let found = |key: &str| {
        let query = KeyQuery { topic: "T", key, begin_ms: 0, end_ms: i64::MAX, count_max: 9 };
        store.query(&query).unwrap().records.len()
    };
    assert_eq!((found("old"), found("young")), (1, 1));
    later(&clock, 72 * HOUR);
    a_while();
    assert_eq!(first_file(&store), 0, "old, but it is 1 o'clock");
    later(&clock, 3 * HOUR);
    // All are old now, and the file that is written stays.
    in_time(&clock, "all but the last file go", || first_file(&store) == 5);
    let queue = store.find_queue("T", 0).unwrap();
    until("the queue follows", || queue.min_offset() == QueueOffset(20));
    let got = store.get(&queue, &GetRequest { offset: QueueOffset(3), count_max: 32, bytes_max: 1 << 20 }, None);
    assert_eq!((got.status, got.next_begin_offset), (GetStatus::OffsetTooSmall, QueueOffset(20)));
    assert_eq!(bodies(&store, "T", 0).len(), 2);
    assert_eq!((found("old"), found("young")), (0, 1));
    let names: Vec<_> = rig.files("consumequeue/T/0");
    assert_eq!(names, ["00000000000000000400"], "ten entries a file");
    assert_eq!(rig.files("commitlog").len(), 1);
    append(&store, "T", 0, b"next").unwrap();
    settle(&store);
    assert_eq!(queue.max_offset(), QueueOffset(23), "offsets count on");
    assert!(store.shutdown().clean);
    drop(store);
    assert_eq!(bodies(&open(&rig, &clock), "T", 0).len(), 3);
}

#[test]
fn what_is_not_old_stays_in_the_hour_too() {
    let rig = rig();
    let clock = Arc::new(SettableClock::new(MIDNIGHT_MS));
    let store = open(&rig, &clock);
    fill(&store, 2);
    later(&clock, 73 * HOUR);
    fill(&store, 2);
    settle(&store);
    later(&clock, 3 * HOUR);
    // The second file counts as old as the message that follows it.
    in_time(&clock, "the first file goes", || first_file(&store) == 1);
    a_while();
    assert_eq!((first_file(&store), bodies(&store, "T", 0).len()), (1, 3 * FILE_MESSAGES));
}

/// Holds the dispatcher for as long as the test wants.
struct Gate(Mutex<()>);

impl ArrivalListener for Gate {
    fn arrived(&self, _arrivals: &[Arrival<'_>]) {
        drop(self.0.lock().unwrap());
    }
}

#[test]
fn what_is_not_in_its_queue_yet_stays_however_old_and_however_full_the_disk() {
    let rig = rig();
    let clock = Arc::new(SettableClock::new(MIDNIGHT_MS));
    let gate = Arc::new(Gate(Mutex::new(())));
    // Declared first, so that a test that fails lets the dispatcher go before it waits for its end.
    let store;
    let held = gate.0.lock().unwrap();
    store = MessageStore::open(rig.config.clone(), Arc::clone(&gate) as _, Arc::clone(&clock) as _).unwrap();
    fill(&store, 3);
    assert_eq!(wait_durable(&store, Duration::from_secs(10)), Durability::Durable);
    later(&clock, 76 * HOUR);
    rig.storage.set_size(1 << 20, 1 << 20);
    until("the disk is seen to be full", || store.disk().level == DiskLevel::Full);
    for _ in 0..30 {
        clock.advance(Duration::from_secs(1));
        a_while();
        assert_eq!(first_file(&store), 0);
    }
    drop(held);
    in_time(&clock, "old files go", || first_file(&store) == 2);
}

#[test]
fn at_one_look_so_many_files_go_and_no_more() {
    let mut rig = rig();
    let clock = Arc::new(SettableClock::new(MIDNIGHT_MS));
    let store = open(&rig, &clock);
    fill(&store, 6);
    settle(&store);
    assert!(store.shutdown().clean);
    drop(store);
    later(&clock, 76 * HOUR);
    (rig.config.retention.every, rig.config.retention.files_max) = (HOUR, 2);
    let store = open(&rig, &clock);
    until("the first look is over", || first_file(&store) == 2);
    a_while();
    assert_eq!(first_file(&store), 2);
}

#[test]
fn a_log_longer_than_wanted_loses_its_oldest_files_at_any_hour() {
    let mut rig = rig();
    rig.config.retention.log_bytes_kept = Some(2 * FILE_BYTES);
    let store = rig.open();
    fill(&store, 7);
    until("the log is short again", || first_file(&store) == 4);
    a_while();
    assert_eq!(first_file(&store), 4, "two whole files and the one that is written");
}

#[test]
fn a_disk_too_full_loses_no_more_young_files_than_need_be() {
    let rig = rig();
    let store = rig.open();
    fill(&store, 10);
    settle(&store);
    let others: u64 = 1_000_000;
    let files = rig.used();
    // 88% used: three files less make it 85%.
    let file_percent = 100 * FILE_BYTES;
    rig.storage.set_size(file_percent, file_percent * 88 / 100 - files);
    until("three files go", || first_file(&store) >= 3);
    a_while();
    assert_eq!(first_file(&store), 3);
    assert_eq!(store.disk().level, DiskLevel::Scarce);
    append(&store, "T", 0, b"never refused").unwrap();
    // Full of what is others': all but the last file go in vain, and messages are refused.
    rig.storage.set_size(others, others);
    until("sends are refused", || store.refusal().is_some());
    assert!(matches!(append(&store, "T", 0, b"no"), Err(AppendError::DiskFull { .. })));
    until("the last file is left", || rig.files("commitlog").len() == 1);
    rig.storage.set_size(file_percent, 0);
    until("sends are taken", || store.refusal().is_none());
    append(&store, "T", 0, b"yes").unwrap();
    settle(&store);
    let left = bodies(&store, "T", 0);
    assert!(left.ends_with(&[b"never refused".to_vec(), b"yes".to_vec()]), "{} left", left.len());
}

#[test]
fn without_force_a_full_disk_only_refuses_and_readers_go_on() {
    let mut rig = rig();
    rig.config.retention.clean_forcibly = false;
    let clock = Arc::new(SettableClock::new(MIDNIGHT_MS + 4 * HOUR.as_millis() as i64));
    let store = open(&rig, &clock);
    fill(&store, 3);
    settle(&store);
    for round in 0..20 {
        rig.storage.set_size(1 << 30, 1 << 30);
        // A look that was under way may have found the queues' folder full alone; the next one finds both.
        let figures = "/store/commitlog is 100% full (1.00 of 1.00 GiB)";
        until("sends are refused", || store.refusal().is_some_and(|refusal| refusal.to_string().contains(figures)));
        let error = append(&store, "T", 0, b"no").unwrap_err().to_string();
        assert!(error.contains(figures), "{error}");
        assert_eq!(bodies(&store, "T", 0).len(), 3 * FILE_MESSAGES + round);
        rig.storage.set_size(1 << 30, 0);
        until("sends are taken", || store.refusal().is_none());
        append(&store, "T", 0, b"yes").unwrap();
        settle(&store);
    }
    assert_eq!(first_file(&store), 0);
}

#[test]
fn a_disk_that_is_full_at_the_start_refuses_from_the_start() {
    let rig = rig();
    rig.storage.set_size(1 << 20, 1 << 20);
    let store = open(&rig, &Arc::new(SettableClock::new(MIDNIGHT_MS)));
    assert!(matches!(append(&store, "T", 0, b"no"), Err(AppendError::DiskFull { .. })));
    assert!(store.disk().refused.is_some());
}

#[test]
fn no_room_for_a_file_of_the_log_deletes_what_is_old_at_any_hour() {
    let mut rig = rig();
    rig.config.retention.every = HOUR;
    let clock = Arc::new(SettableClock::new(MIDNIGHT_MS));
    let store = open(&rig, &clock);
    fill(&store, 3);
    settle(&store);
    assert_eq!(wait_durable(&store, Duration::from_secs(10)), Durability::Durable);
    later(&clock, 73 * HOUR);
    rig.storage.set_room(Some(FILE_BYTES / 2));
    // The last file has no room for it.
    let full = (0..9).find_map(|_| append(&store, "T", 1, &BODY).err());
    assert!(matches!(full, Some(AppendError::DiskFull { .. })), "{full:?}");
    in_time(&clock, "old files go", || {
        assert!(append(&store, "T", 1, &BODY).is_err(), "each one that is refused asks for a look");
        first_file(&store) == 2
    });
}

#[test]
fn what_queues_have_no_room_for_is_refused_soon_and_nothing_is_lost() {
    let mut rig = rig();
    // Room enough for all of them in the log.
    rig.config.commit_log_file_bytes = 1 << 20;
    let store = rig.open();
    append(&store, "T", 0, b"0").unwrap();
    settle(&store);
    rig.storage.set_room(Some(0));
    let mut stored = 1;
    until("sends are refused", || {
        // Always to a queue that has no block yet.
        match append(&store, "T", stored, b"1") {
            Ok(_) => stored += 1,
            Err(AppendError::DiskFull { reason }) => {
                assert!(reason.contains("consumequeue/T/"), "{reason}");
                return true;
            }
            Err(other) => panic!("{other}"),
        }
        std::thread::sleep(Duration::from_millis(20));
        false
    });
    assert_eq!(bodies(&store, "T", 0), [b"0"]);
    rig.storage.set_room(None);
    until("sends are taken", || append(&store, "T", 0, b"again").is_ok());
    settle(&store);
    assert!((1..stored).all(|queue| bodies(&store, "T", queue) == [b"1"]));
    assert!(store.shutdown().clean);
}

#[test]
fn a_slow_disk_keeps_who_waits_no_longer_than_the_deadline() {
    let mut rig = rig();
    rig.config.flush = FlushMode::Sync;
    let store = rig.open();
    append(&store, "T", 0, b"first").unwrap();
    assert_eq!(wait_durable(&store, Duration::from_secs(10)), Durability::Durable);
    settle(&store);
    rig.storage.slow_syncs(Duration::from_secs(2));
    append(&store, "T", 0, b"second").unwrap();
    let begun = Instant::now();
    assert_eq!(wait_durable(&store, Duration::from_millis(200)), Durability::TimedOut);
    assert!(begun.elapsed() < Duration::from_millis(1900), "the answer waited for the disk");
    assert_eq!(bodies(&store, "T", 0), [b"first"], "nobody reads what is not on the disk");
    assert_eq!(wait_durable(&store, Duration::from_secs(15)), Durability::Durable);
    rig.storage.slow_syncs(Duration::ZERO);
    settle(&store);
    assert_eq!(bodies(&store, "T", 0).len(), 2);
}
