//! SIGTERM and SIGINT: an end within five seconds that says how many messages are stored, and exactly those at the next
//! start, also while sends are running and pulls are waiting. `WASPMQ_STOP_ROUNDS` stops it more often.

use std::collections::HashSet;
use std::time::Duration;

use waspmq_tests::standalone::{Signal, Standalone};
use waspmq_tests::wire::Connection;

use crate::asking::{
    PULL_MESSAGE, PULL_NOT_FOUND, SEND_MESSAGE, SUCCESS, create_topic, long_pull_fields, read_queue, send, send_fields,
};

const PROMISED: Duration = Duration::from_secs(5);
const QUEUES: i32 = 4;
/// Sends on their way at the same time on one connection.
const IN_FLIGHT: usize = 32;

/// "N messages stored", which a broker says last.
fn messages_said(out: &str) -> u64 {
    let last = out.lines().last().unwrap_or_default();
    last.strip_suffix(" messages stored").unwrap_or_else(|| panic!("{last:?}")).parse().unwrap()
}

/// Sends until the connection ends; returns what was acknowledged.
fn send_until_the_end(address: &str, sender: usize) -> Vec<Vec<u8>> {
    let mut connection = Connection::open(address).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0.. {
        let bodies: Vec<_> =
            (0..IN_FLIGHT).map(|number| format!("{sender} {round} {number}").repeat(30).into_bytes()).collect();
        for (number, body) in bodies.iter().enumerate() {
            let fields = send_fields("Stopped", number as i32 % QUEUES);
            if connection.send(SEND_MESSAGE, &fields, body).is_err() {
                return acknowledged;
            }
        }
        for body in bodies {
            match connection.receive() {
                Ok(reply) if reply.code == SUCCESS => acknowledged.push(body),
                Ok(_) => {}
                Err(_) => return acknowledged,
            }
        }
    }
    acknowledged
}

/// Everything in the topic.
fn stored(broker: &Standalone) -> Vec<Vec<u8>> {
    let mut connection = Connection::open(&broker.address()).unwrap();
    (0..QUEUES).flat_map(|queue| read_queue(&mut connection, "Stopped", queue).unwrap()).collect()
}

fn stops_under_load(signal: Signal) {
    let mut broker = Standalone::serving("stopping", &[]).unwrap();
    let address = broker.address();
    let mut connection = Connection::open(&address).unwrap();
    create_topic(&mut connection, "Stopped", QUEUES).unwrap();
    create_topic(&mut connection, "Quiet", 1).unwrap();
    let mut waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut waiting = Connection::open(&address).unwrap();
            waiting.send(PULL_MESSAGE, &long_pull_fields("Quiet", 0, 0), &[]).unwrap();
            waiting
        })
        .collect();
    let (ended, acknowledged) = std::thread::scope(|scope| {
        let address = &address;
        let senders: Vec<_> = (0..4).map(|sender| scope.spawn(move || send_until_the_end(address, sender))).collect();
        std::thread::sleep(Duration::from_millis(400));
        let ended = broker.end(signal, PROMISED * 4).unwrap();
        let acknowledged: Vec<_> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        (ended, acknowledged)
    });
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    assert!(ended.took < PROMISED, "{:?}", ended.took);
    let said = messages_said(&ended.out);
    assert!(acknowledged.len() > IN_FLIGHT && said >= acknowledged.len() as u64, "{said} {}", acknowledged.len());
    for connection in &mut waiting {
        assert_eq!(connection.receive().unwrap().code, PULL_NOT_FOUND, "who waits is answered");
    }

    let page = broker.start(&[]).unwrap();
    assert!(page.contains(&format!(", {said} messages\n")), "{said} were stored, but now:\n{page}");
    let stored = stored(&broker);
    assert_eq!(stored.len() as u64, said);
    let distinct: HashSet<_> = stored.iter().collect();
    assert_eq!(distinct.len(), stored.len(), "a message is there twice");
    let lost = acknowledged.iter().filter(|body| !distinct.contains(body)).count();
    assert_eq!(lost, 0, "of {} acknowledged messages", acknowledged.len());
}

fn rounds() -> usize {
    std::env::var("WASPMQ_STOP_ROUNDS").map_or(1, |rounds| rounds.parse().expect("WASPMQ_STOP_ROUNDS is a number"))
}

#[test]
fn sigterm_under_load() {
    (0..rounds()).for_each(|_| stops_under_load(Signal::TERM));
}

#[test]
fn sigint_under_load() {
    stops_under_load(Signal::INT);
}

#[test]
fn an_idle_broker_stops_at_once_again_and_again() {
    let mut broker = Standalone::serving("idle", &[]).unwrap();
    for said in 0..3 {
        let mut connection = Connection::open(&broker.address()).unwrap();
        assert_eq!(stored_so_far(&mut connection), said);
        let idle = Connection::open(&broker.address()).unwrap();
        let ended = broker.end(Signal::TERM, PROMISED * 4).unwrap();
        assert_eq!((ended.status.code(), messages_said(&ended.out)), (Some(0), said as u64 + 1), "{}", ended.err);
        assert!(ended.took < PROMISED, "{:?}", ended.took);
        drop(idle);
        let page = broker.start(&[]).unwrap();
        assert!(page.contains(&format!(", {} messages\n", said + 1)), "{page}");
    }
}

/// Queue offset of one more message.
fn stored_so_far(connection: &mut Connection) -> i64 {
    send(connection, "Idle", 0, b"one more").unwrap()
}
