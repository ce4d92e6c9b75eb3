//! The requests of this test, and how many of them are on their way at a time. Every answer is matched with its request
//! by number: Java's broker answers in any order.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use waspmq_tests::wire::{Connection, Reply};

use crate::record::Record;

pub const SEND_MESSAGE: i32 = 10;
pub const SEND_BATCH_MESSAGE: i32 = 320;
const PULL_MESSAGE: i32 = 11;
pub const QUERY_MESSAGE: i32 = 12;
pub const UPDATE_CONSUMER_OFFSET: i32 = 15;
pub const UPDATE_AND_CREATE_TOPIC: i32 = 17;
pub const GET_ALL_TOPIC_CONFIG: i32 = 21;
pub const SEARCH_OFFSET_BY_TIMESTAMP: i32 = 29;
const GET_MAX_OFFSET: i32 = 30;
const GET_MIN_OFFSET: i32 = 31;
pub const VIEW_MESSAGE_BY_ID: i32 = 33;
pub const UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: i32 = 200;
pub const GET_ALL_SUBSCRIPTIONGROUP_CONFIG: i32 = 201;

const IN_FLIGHT: usize = 64;
/// A cold Java broker on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Code, ext fields and body.
pub type Request = (i32, Value, Vec<u8>);

/// A connection that waits long.
pub fn connect(address: &str) -> Result<Connection> {
    let connection = Connection::open(address)?;
    connection.patience(PATIENCE)?;
    Ok(connection)
}

/// Sends all requests, many at a time, and shows `each` its number and answer as they come. Returns at the first
/// failure of the connection, or of `each`.
pub fn ask_all(
    connection: &mut Connection,
    requests: &[Request],
    mut each: impl FnMut(usize, Reply) -> Result<()>,
) -> Result<()> {
    let mut waiting = HashMap::new();
    let mut next = requests.iter().enumerate();
    loop {
        while waiting.len() < IN_FLIGHT {
            let Some((number, (code, fields, body))) = next.next() else { break };
            waiting.insert(i64::from(connection.send(*code, fields, body)?), number);
        }
        if waiting.is_empty() {
            return Ok(());
        }
        let reply = connection.receive()?;
        let number = waiting.remove(&reply.opaque).context("an answer to nothing that was asked")?;
        each(number, reply)?;
    }
}

/// Name and number of a queue as ext fields.
pub fn queue_fields(topic: &str, queue: i32) -> Value {
    json!({ "topic": topic, "queueId": queue.to_string() })
}

/// The first offset of a queue, and one past the last.
pub fn bounds(connection: &mut Connection, topic: &str, queue: i32) -> Result<(i64, i64)> {
    let fields = queue_fields(topic, queue);
    let mut ask = |code: i32| {
        let reply = connection.call(code, &fields, &[])?.expect_success("asking for an offset")?;
        reply.number("offset")
    };
    Ok((ask(GET_MIN_OFFSET)?, ask(GET_MAX_OFFSET)?))
}

/// The next messages of a queue from `offset` on that are subscribed to, and where to go on.
fn pull(
    connection: &mut Connection,
    (topic, queue, offset): (&str, i32, i64),
    subscription: &str,
) -> Result<(Vec<Record>, i64)> {
    let fields = json!({
        "consumerGroup": "exchange-reader", "topic": topic, "queueId": queue.to_string(),
        "queueOffset": offset.to_string(), "maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0",
        "suspendTimeoutMillis": "0", "subscription": subscription, "subVersion": "0", "expressionType": "TAG",
    });
    let begun = Instant::now();
    loop {
        let reply = connection.call(PULL_MESSAGE, &fields, &[])?;
        let next = reply.number("nextBeginOffset");
        match (reply.code, next) {
            (0, Ok(next)) => return Ok((Record::all(&reply.body)?, next)),
            // None of those that were looked at.
            (20, Ok(next)) if next > offset => return Ok((Vec::new(), next)),
            // Nothing yet, or at once again.
            (19 | 20, _) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            (code, _) => bail!("pulling {topic} {queue} {offset}: code {code}, {} {:?}", reply.remark, reply.fields),
        }
    }
}

/// The messages of a queue before `end` that have this tag, as the broker sorts them out.
pub fn read_tagged(connection: &mut Connection, topic: &str, queue: i32, end: i64, tag: &str) -> Result<Vec<Record>> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < end {
        let (more, next) = pull(connection, (topic, queue, offset), tag)?;
        ensure!(next > offset, "a pull of {topic} {queue} for {tag} stays at {offset} of {end}");
        found.extend(more);
        offset = next;
    }
    Ok(found)
}

/// Everything in a queue, once it holds at least `expected` messages. Every message must say that it belongs where it
/// was found.
pub fn read_queue(connection: &mut Connection, topic: &str, queue: i32, expected: i64) -> Result<Vec<Record>> {
    let begun = Instant::now();
    let max = loop {
        let (min, max) = bounds(connection, topic, queue)?;
        ensure!(min <= 0, "{topic} {queue} begins at {min}");
        if max >= expected {
            break max;
        }
        ensure!(begun.elapsed() < PATIENCE, "{topic} {queue} ends at {max}, {expected} were acknowledged");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut found: Vec<Record> = Vec::new();
    while (found.len() as i64) < max {
        let (more, _) = pull(connection, (topic, queue, found.len() as i64), "*")?;
        ensure!(!more.is_empty(), "a pull of {topic} {queue} found nothing at {} of {max}", found.len());
        for record in more {
            let expected = (topic, queue, found.len() as i64);
            let says = (record.topic.as_str(), record.queue, record.queue_offset);
            ensure!(says == expected, "a pull for {expected:?} found {}", record.place());
            found.push(record);
        }
    }
    Ok(found)
}
