//! A client that behaves, on a connection of its own: sends a message, pulls it, compares, and again. Whatever others
//! do to the broker at the same time, it must go on being served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use waspmq_tests::standalone::Standalone;
use waspmq_tests::wire::Connection;

use crate::asking::{PULL_MESSAGE, PULL_NOT_FOUND, bodies, create_topic, pull_fields, send};

const TOPIC: &str = "Good";

/// The client, working on a thread of its own.
pub struct GoodClient {
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    work: Option<JoinHandle<Result<()>>>,
}

impl GoodClient {
    /// A broker and a good client at work on it.
    pub fn with_broker(name: &str) -> (Standalone, Self) {
        Self::with_options(name, &[])
    }

    /// As [`GoodClient::with_broker`], the broker having these options.
    pub fn with_options(name: &str, options: &[&str]) -> (Standalone, Self) {
        let broker = Standalone::serving(name, options).unwrap();
        let client = Self::start(&broker);
        (broker, client)
    }

    fn start(broker: &Standalone) -> Self {
        let mut connection = Connection::open(&broker.address()).unwrap();
        create_topic(&mut connection, TOPIC, 1).unwrap();
        let (rounds, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, ending) = (rounds.clone(), stop.clone());
        let work = std::thread::spawn(move || {
            while !ending.load(Ordering::Acquire) {
                one_round(&mut connection, counted.load(Ordering::Acquire))?;
                counted.fetch_add(1, Ordering::AcqRel);
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        let mut client = Self { rounds, stop, work: Some(work) };
        client.goes_on("at the start");
        client
    }

    /// Waits for two more rounds: one of them began after whatever happened before.
    pub fn goes_on(&mut self, after: &str) {
        let (before, begun) = (self.rounds.load(Ordering::Acquire), Instant::now());
        while self.rounds.load(Ordering::Acquire) < before + 2 {
            if self.work.as_ref().is_some_and(JoinHandle::is_finished) {
                let ended = self.work.take().map(JoinHandle::join);
                panic!("the good client is no longer served {after}: {ended:?}");
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the good client waits and waits {after}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The broker has seen hostile clients, and served the good one to the end without a panic.
    pub fn finish(mut self, broker: &Standalone) {
        self.goes_on("at the end");
        self.stop.store(true, Ordering::Release);
        self.work.take().unwrap().join().unwrap().unwrap();
        assert!(!broker.log().contains("panicked"), "{}", broker.log());
    }
}

impl Drop for GoodClient {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn one_round(connection: &mut Connection, round: u64) -> Result<()> {
    let body = format!("good {round}").into_bytes();
    let offset = send(connection, TOPIC, 0, &body)?;
    ensure!(offset as u64 == round, "offset {offset} in round {round}");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let reply = connection.call(PULL_MESSAGE, &pull_fields(TOPIC, 0, offset), &[])?;
        if reply.code == PULL_NOT_FOUND && Instant::now() < deadline {
            continue; // It can be read a moment after it is acknowledged.
        }
        let found = bodies(&reply.expect_success("pulling")?)?;
        ensure!(found == [body], "other messages than what was sent in round {round}");
        return Ok(());
    }
}
