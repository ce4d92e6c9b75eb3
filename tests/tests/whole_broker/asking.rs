//! What the tests here ask a broker again and again: topics, sends, and everything that a topic holds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waspmq_tests::wire::{Connection, Reply};

pub const SEND_MESSAGE: i32 = 10;
pub const PULL_MESSAGE: i32 = 11;
pub const UPDATE_AND_CREATE_TOPIC: i32 = 17;
pub const GET_MAX_OFFSET: i32 = 30;
pub const HEART_BEAT: i32 = 34;
pub const CHECK_CLIENT_CONFIG: i32 = 46;

pub const SUCCESS: i64 = 0;
pub const PULL_NOT_FOUND: i64 = 19;

/// Fields of a send to a topic of four queues.
pub fn send_fields(topic: &str, queue: i32) -> Value {
    json!({
        "producerGroup": "P", "topic": topic, "defaultTopic": "TBW102", "defaultTopicQueueNums": "4",
        "queueId": queue.to_string(), "sysFlag": "0", "bornTimestamp": "1700000000000", "flag": "0",
        "properties": "", "reconsumeTimes": "0", "unitMode": "false", "batch": "false",
    })
}

/// Fields of a pull that brings its own subscription to everything and does not wait.
pub fn pull_fields(topic: &str, queue: i32, offset: i64) -> Value {
    pull_by("TAG", "*", topic, queue, offset)
}

/// Fields of a pull that brings this subscription and does not wait.
pub fn pull_by(kind: &str, expression: &str, topic: &str, queue: i32, offset: i64) -> Value {
    json!({
        "consumerGroup": "G", "topic": topic, "queueId": queue.to_string(), "queueOffset": offset.to_string(),
        "maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0",
        "subscription": expression, "subVersion": "0", "expressionType": kind,
    })
}

/// Fields of a pull that waits for a message at the end of the queue.
pub fn long_pull_fields(topic: &str, queue: i32, offset: i64) -> Value {
    let mut fields = pull_fields(topic, queue, offset);
    fields["sysFlag"] = "6".into();
    fields["suspendTimeoutMillis"] = "60000".into();
    fields
}

/// Makes a topic of `queues` queues.
pub fn create_topic(connection: &mut Connection, topic: &str, queues: i32) -> Result<()> {
    let fields = json!({
        "topic": topic, "defaultTopic": "TBW102", "readQueueNums": queues.to_string(),
        "writeQueueNums": queues.to_string(), "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0",
        "order": "false",
    });
    connection.call(UPDATE_AND_CREATE_TOPIC, &fields, &[])?.expect_success("creating a topic").map(|_| ())
}

/// Sends one message and returns its queue offset.
pub fn send(connection: &mut Connection, topic: &str, queue: i32, body: &[u8]) -> Result<i64> {
    let reply = connection.call(SEND_MESSAGE, &send_fields(topic, queue), body)?;
    reply.expect_success("sending")?.number("queueOffset")
}

/// Sends one message and waits until it can be read, which is a moment after it is acknowledged.
pub fn send_and_see(connection: &mut Connection, topic: &str, queue: i32, body: &[u8]) -> Result<()> {
    let offset = send(connection, topic, queue, body)?;
    let begun = Instant::now();
    while connection.call(PULL_MESSAGE, &pull_fields(topic, queue, offset), &[])?.code != SUCCESS {
        ensure!(begun.elapsed() < Duration::from_secs(10), "{topic} {queue} {offset} is acknowledged and not there");
    }
    Ok(())
}

/// The bodies of all messages of a queue, in order.
pub fn read_queue(connection: &mut Connection, topic: &str, queue: i32) -> Result<Vec<Vec<u8>>> {
    let fields = json!({ "topic": topic, "queueId": queue.to_string() });
    let max = connection.call(GET_MAX_OFFSET, &fields, &[])?.expect_success("asking for the end")?.number("offset")?;
    let mut found = Vec::new();
    while (found.len() as i64) < max {
        let reply = connection.call(PULL_MESSAGE, &pull_fields(topic, queue, found.len() as i64), &[])?;
        let reply = reply.expect_success("pulling")?;
        let bodies = bodies(&reply)?;
        ensure!(!bodies.is_empty(), "a pull of {topic} {queue} found nothing at {} of {max}", found.len());
        found.extend(bodies);
    }
    Ok(found)
}

/// The bodies in the answer to a pull.
pub fn bodies(reply: &Reply) -> Result<Vec<Vec<u8>>> {
    let mut rest = &reply.body[..];
    let mut bodies = Vec::new();
    while !rest.is_empty() {
        let word = |at: usize| {
            let bytes = rest.get(at..at + 4).context("a record that ends too early")?;
            Ok::<usize, anyhow::Error>(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        };
        // Record: size at 0, body's length at 84, hosts being IPv4.
        let (size, length) = (word(0)?, word(84)?);
        bodies.push(rest.get(88..88 + length).context("a body longer than its record")?.to_vec());
        rest = rest.get(size..).context("a record longer than the answer")?;
    }
    Ok(bodies)
}
