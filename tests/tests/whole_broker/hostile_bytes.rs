//! Bytes that are no requests, requests that never end, connections that come and go, answers that nobody reads: each
//! costs its own connection at most, and a bounded amount of memory.

use std::time::{Duration, Instant};

use serde_json::json;
use waspmq_tests::wire::{Connection, frame, frame_of};

use crate::asking::{
    GET_MAX_OFFSET, PULL_MESSAGE, SEND_MESSAGE, create_topic, long_pull_fields, pull_fields, send, send_fields,
};
use crate::good_client::GoodClient;

const SYSTEM_BUSY: i64 = 2;
const MIB: u64 = 1024 * 1024;

fn words(total: i32, header: u32) -> Vec<u8> {
    [total.to_be_bytes(), header.to_be_bytes()].concat()
}

fn send_frame() -> Vec<u8> {
    frame(SEND_MESSAGE, 77, 0, &send_fields("Cut", 0), b"whole")
}

#[test]
fn bytes_that_are_no_request_cost_their_connection() {
    let (broker, mut good) = GoodClient::with_broker("bytes");
    let deep = |bracket: &str| frame_of(0, bracket.repeat(100_000).as_bytes(), &[]);
    let in_header = |text: &[u8]| frame_of(0, &[b"{\"code\":10,\"opaque\":1,\"remark\":", text, b"}"].concat(), &[]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect()),
        ("zeroes", vec![0; 5000]),
        ("HTTP", b"POST /topics HTTP/1.1\r\nHost: broker\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0][..], &[0; 200]].concat()),
        ("total length -1", words(-1, 10)),
        ("total length 0", words(0, 10)),
        ("the largest total length", words(i32::MAX, 10)),
        ("the smallest total length", words(i32::MIN, 10)),
        ("one byte over 16 MiB", words((16 << 20) - 3, 100)),
        ("a header longer than its frame", [words(100, 97), vec![b' '; 96]].concat()),
        ("the longest header", [words(100, 0x00FF_FFFF), vec![b' '; 96]].concat()),
        ("a header of kind 9", [words(100, 9 << 24 | 10), vec![b' '; 96]].concat()),
        ("no header", words(4, 0)),
        ("half JSON", frame_of(0, b"{\"code\":10,\"opaque\":", &[])),
        ("a JSON number", frame_of(0, b"17", &[])),
        ("code as text", frame_of(0, b"{\"code\":\"ten\",\"opaque\":1}", &[])),
        ("100,000 arrays", deep("[")),
        ("100,000 objects", deep("{\"a\":")),
        ("deep within", in_header("[".repeat(100_000).as_bytes())),
        ("invalid UTF-8", in_header(b"\"\xff\xfe\"")),
        ("a binary header cut short", frame_of(1, &[0; 20], &[])),
        ("a binary header of huge lengths", frame_of(1, &[[0_u8, 10].as_slice(), &[0x7F; 30]].concat(), &[])),
    ];
    for (name, bytes) in cases {
        let mut hostile = Connection::open(&broker.address()).unwrap();
        // The broker may close while the rest is on its way.
        let _ = hostile.write(&bytes);
        assert!(hostile.is_closed(), "{name}: the connection is still open");
        good.goes_on(name);
    }
    good.finish(&broker);
}

#[test]
fn a_frame_cut_anywhere_is_forgotten() {
    let (broker, mut good) = GoodClient::with_broker("cut");
    let frame = send_frame();
    for cut in 0..frame.len() {
        let mut half = Connection::open(&broker.address()).unwrap();
        half.write(&frame[..cut]).unwrap();
        drop(half);
    }
    good.goes_on("after frames cut short");
    let mut connection = Connection::open(&broker.address()).unwrap();
    // No half frame was taken for a whole one.
    assert_eq!(send(&mut connection, "Cut", 0, b"the first").unwrap(), 0);
    good.finish(&broker);
}

#[test]
fn slow_senders_are_answered_when_their_frame_is_whole() {
    let (broker, mut good) = GoodClient::with_broker("slow");
    let frame = send_frame();
    let mut slow: Vec<_> = (0..30).map(|_| Connection::open(&broker.address()).unwrap()).collect();
    for byte in &frame {
        for connection in &mut slow {
            connection.write(&[*byte]).unwrap();
        }
    }
    good.goes_on("beside slow senders");
    for connection in &mut slow {
        let reply = connection.receive().unwrap().expect_success("a slow send").unwrap();
        assert_eq!(reply.opaque, 77);
    }
    good.finish(&broker);
}

#[test]
fn five_hundred_connections_come_and_go() {
    let (mut broker, mut good) = GoodClient::with_broker("many");
    let address = broker.address();
    let round = |asks: bool| {
        let mut open: Vec<_> = (0..500).map(|_| Connection::open(&address).unwrap()).collect();
        for connection in open.iter_mut().filter(|_| asks) {
            connection.send(GET_MAX_OFFSET, &json!({ "topic": "Good", "queueId": "0" }), &[]).unwrap();
        }
        for connection in open.iter_mut().filter(|_| asks) {
            connection.receive().unwrap().expect_success("asking for an offset").unwrap();
        }
    };
    round(true);
    let before = broker.memory().unwrap();
    for number in 0..4 {
        round(number % 2 == 0);
        good.goes_on("beside 500 connections");
    }
    let after = broker.memory().unwrap();
    assert!(after < before + 32 * MIB, "memory grew from {before} to {after}");
    good.finish(&broker);
}

#[test]
fn who_reads_no_answers_is_not_read_either() {
    let (mut broker, mut good) = GoodClient::with_broker("unread");
    let mut connection = Connection::open(&broker.address()).unwrap();
    create_topic(&mut connection, "Large", 1).unwrap();
    for _ in 0..32 {
        send(&mut connection, "Large", 0, &vec![b'x'; 200_000]).unwrap();
    }
    let before = broker.memory().unwrap();
    let pulls: Vec<u8> =
        (0..200).flat_map(|opaque| frame(PULL_MESSAGE, opaque, 0, &pull_fields("Large", 0, 0), &[])).collect();
    let mut greedy: Vec<_> = (0..8).map(|_| Connection::open(&broker.address()).unwrap()).collect();
    for connection in &mut greedy {
        connection.impatient(Duration::from_millis(200)).unwrap();
        // Answers of gigabytes, until the broker takes no more.
        let begun = Instant::now();
        while connection.write(&pulls).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the broker reads on and on");
        }
        good.goes_on("beside a client that reads nothing");
    }
    let after = broker.memory().unwrap();
    assert!(after < before + 64 * MIB, "memory grew from {before} to {after}");
    drop(greedy);
    good.finish(&broker);
}

/// The code of the answer to a pull that may wait, or none if it waits.
fn held(address: &str) -> Option<i64> {
    let mut connection = Connection::open(address).unwrap();
    connection.patience(Duration::from_millis(300)).unwrap();
    connection.send(PULL_MESSAGE, &long_pull_fields("Quiet", 0, 0), &[]).unwrap();
    connection.receive().ok().map(|reply| reply.code)
}

#[test]
fn pulls_that_wait_are_no_way_to_fill_the_memory() {
    let (mut broker, mut good) = GoodClient::with_options("waiting", &["--set", "maxHeldPulls=20000"]);
    let address = broker.address();
    create_topic(&mut Connection::open(&address).unwrap(), "Quiet", 1).unwrap();
    assert_eq!(held(&address), None);
    let before = broker.memory().unwrap();
    let pulls = frame(PULL_MESSAGE, 1, 0, &long_pull_fields("Quiet", 0, 0), &[]).repeat(1_000);
    let greedy: Vec<_> = (0..3)
        .map(|_| {
            let mut connection = Connection::open(&address).unwrap();
            for _ in 0..10 {
                connection.write(&pulls).unwrap();
            }
            good.goes_on("beside thousands of pulls that wait");
            connection
        })
        .collect();
    let begun = Instant::now();
    while held(&address) != Some(SYSTEM_BUSY) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the broker holds on and on");
    }
    let after = broker.memory().unwrap();
    assert!(after < before + 32 * MIB, "memory grew from {before} to {after}");
    drop(greedy);
    let begun = Instant::now();
    while held(&address).is_some() {
        assert!(begun.elapsed() < Duration::from_secs(20), "pulls of closed connections are never forgotten");
    }
    good.finish(&broker);
}
