//! Looking up by time, by key and by physical offset, against lists, and with offsets no honest client sends.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::test_rig::{Rig, START_MS};

fn body(bytes: &[u8]) -> String {
    String::from_utf8(RecordView::parse(bytes, true).unwrap().body().to_vec()).unwrap()
}

fn query(rig: &Rig, topic: &str, key: &str, count_max: usize, (begin_ms, end_ms): (i64, i64)) -> Vec<String> {
    let query = KeyQuery { topic, key, count_max, begin_ms, end_ms };
    by_key(&rig.log, &rig.index, &query).unwrap().records.iter().map(|bytes| body(bytes)).collect()
}

const EVER: (i64, i64) = (0, i64::MAX);

#[test]
fn a_query_finds_the_newest_messages_with_exactly_that_key() {
    let mut rig = Rig::new();
    let (a, b) = (rig.queues.queue("A", 0), rig.queues.queue("B", 0));
    for n in 0..10 {
        rig.append(&a, format!("a{n}").as_bytes(), format!("KEYS\x01all n{n} all\x02UNIQ_KEY\x01u{n}\x02").as_bytes());
        rig.append(&b, format!("b{n}").as_bytes(), b"KEYS\x01all\x02");
        rig.clock.advance(Duration::from_millis(100));
    }
    rig.dispatch.catch_up(None).unwrap();
    assert_eq!(query(&rig, "A", "u3", 32, EVER), ["a3"]);
    assert_eq!(query(&rig, "A", "n4", 32, EVER), ["a4"]);
    assert_eq!(query(&rig, "A", "all", 3, EVER), ["a7", "a8", "a9"], "a key named twice counts once");
    assert_eq!(query(&rig, "B", "all", 64, EVER).len(), 10);
    assert!(query(&rig, "B", "n4", 32, EVER).is_empty());
    // Times are compared to the millisecond, although the index keeps seconds.
    assert_eq!(query(&rig, "A", "all", 32, (START_MS + 200, START_MS + 400)), ["a2", "a3", "a4"]);
    assert!(query(&rig, "A", "all", 32, (START_MS + 201, START_MS + 299)).is_empty());
    let nothing = KeyQuery { topic: "A", key: "none", count_max: 32, begin_ms: 0, end_ms: i64::MAX };
    let result = by_key(&rig.log, &rig.index, &nothing).unwrap();
    assert_eq!(result.index_last_update_timestamp, START_MS + 900);
    assert!(result.index_last_update_physical_offset < rig.log.max_offset());
}

#[test]
fn a_query_passes_over_records_that_are_deleted() {
    let mut rig = Rig::new();
    let queue = rig.queues.queue("A", 0);
    for n in 0..8 {
        rig.append(&queue, n.to_string().repeat(1000).as_bytes(), b"KEYS\x01k\x02");
    }
    rig.dispatch.catch_up(None).unwrap();
    rig.log.files().delete_before(4096).unwrap();
    assert_eq!(query(&rig, "A", "k", 32, EVER).len(), 5);
}

#[test]
fn a_record_is_found_at_its_own_offset_only() {
    let rig = Rig::new();
    let queue = rig.queues.queue("A", 0);
    // The body looks like a record, but says that it lies elsewhere.
    let first = rig.append(&queue, b"first", b"");
    let inner = record_at(&rig.log, PhysicalOffset(0)).unwrap().unwrap();
    rig.append(&queue, &inner, b"");
    let end = rig.log.max_offset().0;
    let found: Vec<_> =
        (-200..end + 5000).filter(|at| record_at(&rig.log, PhysicalOffset(*at)).unwrap().is_some()).collect();
    assert_eq!(found, [0, first.end.0]);
    for garbage in [i64::MIN, i64::MAX, i64::MAX - 3] {
        assert_eq!(record_at(&rig.log, PhysicalOffset(garbage)).unwrap(), None);
    }
}

#[test]
fn store_times_and_the_first_record() {
    let mut rig = Rig::new();
    assert_eq!(earliest_store_time(&rig.log).unwrap(), None);
    let queue = rig.queues.queue("A", 0);
    assert!(!first_record_in_memory(&rig.log, &queue, 1 << 30).unwrap());
    rig.append(&queue, &[b'x'; 500], b"");
    rig.clock.advance(Duration::from_secs(5));
    rig.append(&queue, &[b'x'; 500], b"");
    rig.dispatch.catch_up(None).unwrap();
    assert_eq!(earliest_store_time(&rig.log).unwrap(), Some(START_MS));
    let times = [-1, 0, 1, 2].map(|at| store_time_of(&rig.log, &queue, QueueOffset(at)).unwrap());
    assert_eq!(times, [None, Some(START_MS), Some(START_MS + 5000), None]);
    assert!(first_record_in_memory(&rig.log, &queue, 1 << 30).unwrap());
    assert!(!first_record_in_memory(&rig.log, &queue, 1000).unwrap(), "too far behind the end");
    queue.publish_min(QueueOffset(1));
    assert!(!first_record_in_memory(&rig.log, &queue, 1 << 30).unwrap(), "deleted");
}

#[test]
fn the_table_of_offsets_by_time() {
    let mut rig = Rig::new();
    let queue = rig.queues.queue("A", 0);
    let by_time =
        |rig: &Rig, time: i64, boundary| offset_by_time(&rig.log, &queue, START_MS + time, boundary).unwrap().0;
    assert_eq!(by_time(&rig, 0, Boundary::Lower), 0);
    assert_eq!(by_time(&rig, 0, Boundary::Upper), 0);
    // Stored at 0, 10, 10, 10, 20.
    for wait in [10, 0, 0, 10, 0] {
        rig.append(&queue, b"x", b"");
        rig.clock.advance(Duration::from_millis(wait));
    }
    rig.dispatch.catch_up(None).unwrap();
    let table = [(-1, 0, 0), (0, 0, 0), (5, 1, 0), (10, 1, 3), (15, 4, 3), (20, 4, 4), (21, 5, 4)];
    for (time, lower, upper) in table {
        assert_eq!(by_time(&rig, time, Boundary::Lower), lower, "the first at {time} or later");
        assert_eq!(by_time(&rig, time, Boundary::Upper), upper, "the last at {time} or earlier");
    }
    queue.publish_min(QueueOffset(2));
    assert_eq!(by_time(&rig, -1, Boundary::Lower), 2);
    assert_eq!(by_time(&rig, -1, Boundary::Upper), 2);
    queue.publish_min(QueueOffset(5));
    assert_eq!(by_time(&rig, 10, Boundary::Lower), 5, "everything is deleted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn offsets_by_time_equal_a_search_in_a_list(
        waits in proptest::collection::vec(0u64..4, 1..60),
        min in 0usize..60,
        asked in -2i64..130,
    ) {
        let mut rig = Rig::new();
        let queue = rig.queues.queue("A", 0);
        let mut times = Vec::new();
        let mut now = 0;
        for wait in waits {
            rig.append(&queue, b"x", b"");
            times.push(now);
            rig.clock.advance(Duration::from_millis(wait));
            now += wait as i64;
        }
        rig.dispatch.catch_up(None).unwrap();
        let min = min.min(times.len() - 1);
        queue.publish_min(QueueOffset(min as i64));
        let lower = (min..times.len()).find(|at| times[*at] >= asked).unwrap_or(times.len());
        let upper = (min..times.len()).rev().find(|at| times[*at] <= asked).unwrap_or(min);
        let by_time = |boundary| offset_by_time(&rig.log, &queue, START_MS + asked, boundary).unwrap().0 as usize;
        prop_assert_eq!((by_time(Boundary::Lower), by_time(Boundary::Upper)), (lower, upper));
    }
}
