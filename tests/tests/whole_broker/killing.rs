//! `kill -9` while messages are sent: every acknowledged message is there afterwards, once, unchanged, where the
//! acknowledgement said, in order. With SYNC_FLUSH, and with ASYNC_FLUSH, for which a kill of the process is no excuse.
//! `WASPMQ_KILL_ROUNDS` sets the number of rounds.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use waspmq_protocol::message::record;
use waspmq_tests::standalone::{Signal, Standalone, mqbench};
use waspmq_tests::wire::{self, Connection};

const SENDING: Duration = Duration::from_millis(1200);
/// More rounds than this are played with fewer and shorter messages, so that all of them fit on a disk.
const FULL_LOAD_ROUNDS: u64 = 100;
/// From SIGKILL to the process' end, and from the end of the sending time to the sender's.
const SOON: Duration = Duration::from_secs(30);

fn rounds() -> u64 {
    std::env::var("WASPMQ_KILL_ROUNDS").map_or(3, |rounds| rounds.parse().expect("WASPMQ_KILL_ROUNDS is a number"))
}

struct Round {
    topic: String,
    journal: PathBuf,
}

impl Round {
    fn new(broker: &Standalone, number: u64) -> Self {
        Self { topic: format!("Killed-{number}"), journal: broker.folder().join(format!("journal-{number}")) }
    }

    fn send(&self, broker: &Standalone) -> Child {
        let (address, journal) = (broker.address(), self.journal.display().to_string());
        let seconds = SENDING.as_secs_f64().to_string();
        let arguments = ["verify", "send", "--broker", &address, "--journal", &journal, "--topic", &self.topic];
        let mut command = mqbench(&arguments).unwrap();
        let (in_flight, size) = if rounds() > FULL_LOAD_ROUNDS { ("1", "100") } else { ("64", "700") };
        command.args(["--queues", "4", "--connections", "4", "--in-flight", in_flight, "--size", size]);
        command.args(["--duration", &seconds]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Compares the topic with the journal; returns how many messages had been acknowledged.
    fn check(&self, broker: &Standalone) -> u64 {
        let (address, journal) = (broker.address(), self.journal.display().to_string());
        let mut command = mqbench(&["--json", "verify", "check", "--broker", &address, "--journal", &journal]).unwrap();
        let output = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} is not what was acknowledged:\n{out}\n{err}", self.topic);
        let found: Value = serde_json::from_str(&out).unwrap();
        for fault in ["lost", "misplaced", "doubled", "corrupt", "unreadable", "out_of_order", "gaps", "foreign"] {
            assert_eq!(found[fault], 0, "{fault}: {out}");
        }
        assert_eq!(found["acknowledged"], found["found"], "{out}");
        found["acknowledged"].as_u64().unwrap()
    }
}

/// A moment that differs from round to round, up to `most`.
fn moment(number: u64, most: u64) -> Duration {
    Duration::from_millis((number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % most)
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    is_killed("killing", &["--set", "flushDiskType=ASYNC_FLUSH"]);
}

#[test]
fn nothing_acknowledged_with_sync_flush_is_lost_by_kill_9() {
    is_killed("killing-sync", &["--set", "flushDiskType=SYNC_FLUSH"]);
}

fn is_killed(name: &str, options: &[&str]) {
    let mut broker = Standalone::serving(name, options).unwrap();
    let mut past: Vec<Round> = Vec::new();
    let mut acknowledged = 0;
    for number in 1..=rounds() {
        let round = Round::new(&broker, number);
        let mut sender = round.send(&broker);
        std::thread::sleep(Duration::from_millis(200) + moment(number, 900));
        broker.end(Signal::KILL, SOON).unwrap();
        if number.is_multiple_of(3) {
            // Once more, in the midst of its recovery.
            broker.launch(options).unwrap();
            std::thread::sleep(moment(number, 60));
            broker.end(Signal::KILL, SOON).unwrap();
        }
        let page = broker.start(options).unwrap();
        assert!(page.contains("not closed properly"), "{page}");
        let begun = Instant::now();
        while sender.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < SENDING + SOON, "the sender does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let more = round.check(&broker);
        assert!(more > 0, "nothing was sent in round {number}");
        println!("round {number}: {more} messages acknowledged, all there");
        acknowledged += more;
        past.push(round);
    }
    // The later kills took nothing of the earlier rounds.
    let again: u64 = past.iter().map(|round| round.check(&broker)).sum();
    assert_eq!(again, acknowledged);
    println!("{} kills: {acknowledged} messages acknowledged, all there", rounds() + rounds() / 3);
}

/// Java's broker deletes its newest index file after a kill, and with few files that is where the oldest keys are.
#[test]
fn the_oldest_keys_are_found_after_kill_9() {
    const KEYS: usize = 1000;
    const QUERY_MESSAGE: i32 = 12;
    // Once with many small index files, once with one of RocketMQ's size.
    for options in [&["--set", "maxHashSlotNum=1000", "--set", "maxIndexNum=4000"][..], &[]] {
        let mut broker = Standalone::serving("oldest-keys", options).unwrap();
        for number in 0..KEYS {
            let (key, body) = (format!("oldest-{number}"), format!("body {number}"));
            wire::send(&broker.address(), "Keyed", 0, &[("KEYS", &key)], body.as_bytes()).unwrap();
        }
        let mut sender = Round::new(&broker, 1).send(&broker);
        std::thread::sleep(Duration::from_millis(700));
        broker.end(Signal::KILL, SOON).unwrap();
        sender.kill().unwrap();
        sender.wait().unwrap();
        broker.start(options).unwrap();
        let mut connection = Connection::open(&broker.address()).unwrap();
        for number in 0..KEYS {
            let fields = json!({
                "topic": "Keyed", "key": format!("oldest-{number}"), "maxNum": "8", "beginTimestamp": "0",
                "endTimestamp": i64::MAX.to_string(),
            });
            let reply = connection.call(QUERY_MESSAGE, &fields, &[]).unwrap().expect_success("a query").unwrap();
            let found: Vec<_> = record::records(&reply.body).map(|record| record.unwrap().body().to_vec()).collect();
            assert_eq!(found, [format!("body {number}").into_bytes()], "{options:?}");
        }
    }
}
