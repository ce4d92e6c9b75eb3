//! Where bytes lie: records, the filler at a file's end, and which file a record goes into. Golden bytes are those of a
//! Java broker.

use std::sync::Arc;

use waspmq_store::{
    AppendError, Item, Items, MessageStore, NoListener, PhysicalOffset, QueueOffset, clock::SettableClock,
};

use crate::rig::{FILE_BYTES, Rig, append, append_all, bodies, one, settle};

/// Bytes a record takes besides its body, with the topic `T` and the properties of the rig.
const EXTRA: usize = 91 + 1 + 10;

fn body(record_bytes: usize) -> Vec<u8> {
    vec![b'x'; record_bytes - EXTRA]
}

#[test]
fn the_record_of_a_java_broker() {
    let rig = Rig::new();
    let clock = Arc::new(SettableClock::new(0x0000_01a1_fa96_beff));
    let store = MessageStore::open(rig.config.clone(), Arc::new(NoListener), clock).unwrap();
    let queue = store.queue("TopicA", 0);
    let properties =
        [&b"a\x011\x02KEYS\x01k0\x02UNIQ_KEY\x01"[..], b"0A000001000018B4AAC2000000000000\x02", b"TAGS\x01TagA\x02"]
            .concat();
    let item = Item { flag: 7, body: b"body-0", properties: &properties };
    let mut out = Vec::new();
    store.append(&[one(&queue, Items::One(item)), one(&queue, Items::One(item))], &mut out);
    let second = out.pop().unwrap().unwrap();
    assert_eq!(second.first_queue_offset, QueueOffset(1));
    assert_eq!(second.physical_offsets[..], [PhysicalOffset(167)]);
    assert_eq!((second.end, second.store_timestamp), (PhysicalOffset(334), 0x0000_01a1_fa96_beff));
    settle(&store);

    let log = rig.bytes_of("commitlog/00000000000000000000");
    let head = "000000a7daa320a7060bb6a6000000000000000700000000000000000000000000000000000000000000018bcfe56800\
                0a000001000004d2000001a1fa96beff0a00000200002a9f00000000000000000000000000000006626f64792d30\
                06546f7069634100406101310";
    assert!(hex::encode(&log[..167]).starts_with(head), "{}", hex::encode(&log[..167]));
    assert_eq!(log[167 + 20..167 + 36], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 167]);
    let entries = rig.bytes_of("consumequeue/TopicA/0/00000000000000000000");
    assert_eq!(hex::encode(&entries[20..40]), "00000000000000a7000000a7000000000027a807");
}

#[test]
fn a_record_that_does_not_fit_leaves_a_filler_and_goes_into_the_next_file() {
    let rig = Rig::new();
    let store = rig.open();
    append(&store, "T", 0, &body(FILE_BYTES as usize - 60)).unwrap();
    let next = append(&store, "T", 0, &body(200)).unwrap();
    assert_eq!(next.physical_offsets[..], [PhysicalOffset(FILE_BYTES as i64)]);
    let first = rig.bytes_of("commitlog/00000000000000000000");
    let end = &first[FILE_BYTES as usize - 60..];
    assert_eq!(hex::encode(&end[..8]), "0000003ccbd43194");
    assert!(end[8..].iter().all(|byte| *byte == 0));
    assert_eq!(rig.bytes_of("commitlog/00000000000000004096")[..4], 200u32.to_be_bytes());
}

#[test]
fn eight_bytes_always_remain_at_a_files_end() {
    let store = Rig::new().open();
    let exact = FILE_BYTES as usize - 8;
    assert_eq!(append(&store, "T", 0, &body(exact)).unwrap().end, PhysicalOffset(exact as i64));
    let too_long = append(&store, "T", 0, &body(exact + 1));
    assert!(
        matches!(too_long, Err(AppendError::RecordTooLarge { bytes, bytes_max }) if bytes == exact + 1 && bytes_max == exact)
    );
    append(&store, "T", 0, &body(exact - 300)).unwrap();
    let fits = append(&store, "T", 0, &body(300)).unwrap();
    assert_eq!(fits.end, PhysicalOffset(2 * FILE_BYTES as i64 - 8));
    assert_eq!(append(&store, "T", 0, &body(300)).unwrap().physical_offsets[0], PhysicalOffset(2 * FILE_BYTES as i64));
}

#[test]
fn a_batch_lies_in_one_file_on_consecutive_offsets() {
    let store = Rig::new().open();
    append(&store, "T", 0, &body(3000)).unwrap();
    let items = [&body(500)[..], &body(300), &body(400)];
    let batch = append_all(&store, "T", 0, &items).unwrap();
    assert_eq!(batch.first_queue_offset, QueueOffset(1));
    assert_eq!(batch.physical_offsets[..], [4096, 4596, 4896].map(PhysicalOffset));
    assert_eq!(batch.end, PhysicalOffset(5296));
    settle(&store);
    assert_eq!(bodies(&store, "T", 0).len(), 4);
    let whole = vec![items[0]; 9];
    assert!(matches!(append_all(&store, "T", 0, &whole), Err(AppendError::RecordTooLarge { .. })));
    assert_eq!(append(&store, "T", 0, b"on").unwrap().first_queue_offset, QueueOffset(4), "refused ones take no place");
}

#[test]
fn half_messages_take_no_place_in_a_queue() {
    let store = Rig::new().open();
    let queue = store.queue("T", 0);
    let item = Item { flag: 0, body: b"half", properties: b"" };
    let half = waspmq_store::Append { sys_flag: 0x4, ..one(&queue, Items::One(item)) };
    let mut out = Vec::new();
    store.append(&[one(&queue, Items::One(item)), half, one(&queue, Items::One(item))], &mut out);
    let offsets: Vec<_> = out.iter().map(|result| result.as_ref().unwrap().first_queue_offset.0).collect();
    assert_eq!(offsets, [0, 0, 1]);
    settle(&store);
    assert_eq!(queue.max_offset(), QueueOffset(2));
}

#[test]
fn limits_refuse_one_message_and_not_its_neighbours() {
    let mut rig = Rig::new();
    rig.config.body_bytes_max = 100;
    let store = rig.open();
    let queue = store.queue("T", 0);
    let long = [0; 40_000];
    let item = |body, properties| Items::One(Item { flag: 0, body, properties });
    let mut out = Vec::new();
    let messages = [item(&long[..101], b""), item(b"fine", b""), item(b"", &long[..32_768])];
    store.append(&messages.map(|items| one(&queue, items)), &mut out);
    assert!(matches!(out[0], Err(AppendError::BodyTooLarge { bytes: 101, bytes_max: 100 })));
    assert_eq!(out[1].as_ref().unwrap().first_queue_offset, QueueOffset(0));
    assert!(matches!(out[2], Err(AppendError::PropertiesTooLarge { bytes: 32_768, bytes_max: 32_767 })));
    store.set_body_bytes_max(101);
    assert!(append(&store, "T", 0, &long[..101]).is_ok());
}

#[test]
fn ipv6_hosts_take_twelve_bytes_more() {
    let rig = Rig::new();
    let store = rig.open();
    let queue = store.queue("T", 0);
    let item = Item { flag: 0, body: b"six", properties: b"" };
    let born_host = "[2001:db8::1]:99".parse().unwrap();
    let mut out = Vec::new();
    store.append(&[waspmq_store::Append { born_host, ..one(&queue, Items::One(item)) }], &mut out);
    let end = out.pop().unwrap().unwrap().end;
    assert_eq!(end, PhysicalOffset(91 + 12 + 3 + 1));
    let log = rig.bytes_of("commitlog/00000000000000000000");
    assert_eq!(hex::encode(&log[36..40]), "00000010");
    assert_eq!(hex::encode(&log[48..68]), "20010db800000000000000000000000100000063");
}

#[test]
fn four_threads_get_dense_offsets_in_the_order_of_the_log() {
    const EACH: usize = 500;
    let mut rig = Rig::new();
    rig.config.commit_log_file_bytes = 1 << 16;
    let store = rig.open();
    let mut places: Vec<_> = std::thread::scope(|scope| {
        let append_many = |thread: u8| {
            let store = &store;
            move || {
                let append_one = |_| append(store, "T", 0, &[thread; 50]).unwrap();
                let places = (0..EACH).map(append_one).map(|at| (at.first_queue_offset.0, at.physical_offsets[0].0));
                let places: Vec<_> = places.collect();
                assert!(places.is_sorted());
                places
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(append_many(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    places.sort_unstable();
    assert!(places.iter().enumerate().all(|(at, (queue_offset, _))| *queue_offset == at as i64));
    assert!(places.is_sorted_by_key(|(_, physical)| *physical));
    settle(&store);
    assert_eq!(bodies(&store, "T", 0).len(), 4 * EACH);
}
