//! Who reads far behind the end of the log is served by threads that give way to all others, and is served as well.

use std::time::Duration;

use waspmq_tests::standalone::{Signal, Standalone};
use waspmq_tests::wire::Connection;

use crate::asking::{PULL_MESSAGE, SUCCESS, bodies, create_topic, pull_fields, send};

const TOPIC: &str = "Far";
const THREADS: &str = "background";
const BODY_BYTES: usize = 2 << 20;
/// 100 MiB: the first eighteen begin more than 64 MiB behind the end.
const MESSAGES: u8 = 50;

fn body(number: u8) -> Vec<u8> {
    vec![number; BODY_BYTES]
}

fn read(connection: &mut Connection, from: u8, to: u8) {
    for number in from..to {
        let reply = connection.call(PULL_MESSAGE, &pull_fields(TOPIC, 0, number.into()), &[]).unwrap();
        assert_eq!(reply.code, SUCCESS);
        assert!(bodies(&reply).unwrap() == [body(number)], "message {number} is not what was sent");
    }
}

#[test]
fn who_reads_far_behind_the_end_gives_way() {
    let mut broker = Standalone::serving("far-readers", &[]).unwrap();
    let mut sender = Connection::open(&broker.address()).unwrap();
    create_topic(&mut sender, TOPIC, 1).unwrap();
    for number in 0..MESSAGES {
        send(&mut sender, TOPIC, 0, &body(number)).unwrap();
    }
    let [mut near, mut far] = [0; 2].map(|_| Connection::open(&broker.address()).unwrap());
    read(&mut near, MESSAGES - 20, MESSAGES);
    let others = broker.thread_time(THREADS).unwrap();
    read(&mut far, 0, 15);
    let with_far = broker.thread_time(THREADS).unwrap();
    // Both a few wake-ups on the one hand and thirty megabytes on the other.
    assert!(
        with_far > 2 * others + Duration::from_millis(1),
        "{others:?} for those near the end, {with_far:?} with the far one"
    );
    read(&mut near, MESSAGES - 1, MESSAGES);

    let ended = broker.end(Signal::TERM, Duration::from_secs(5)).unwrap();
    assert!(ended.status.success(), "{}", ended.err);
}
