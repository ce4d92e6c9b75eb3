//! The smallest remoting client that prepares a scenario: topics, routes, a few plain messages, stored offsets.
//! It shares no code with the broker's own codec, so that one mistake cannot hide in both. JSON headers only, one
//! request at a time, one connection per call.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

const SEND_MESSAGE: i32 = 10;
const QUERY_CONSUMER_OFFSET: i32 = 14;
const UPDATE_AND_CREATE_TOPIC: i32 = 17;
const GET_ROUTE_BY_TOPIC: i32 = 105;
/// The answer when the broker holds no offset of that group for that queue.
const QUERY_NOT_FOUND: i64 = 22;

/// One reply.
pub struct Reply {
    /// Response code; 0 is success.
    pub code: i64,
    /// What the server says about it.
    pub remark: String,
    /// The ext fields; every value is a string.
    pub fields: Map<String, Value>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Reply {
    fn expect_success(self, what: &str) -> Result<Self> {
        ensure!(self.code == 0, "{what}: code {}, {}", self.code, self.remark);
        Ok(self)
    }

    fn number(&self, field: &str) -> Result<i64> {
        let value =
            self.fields.get(field).and_then(Value::as_str).with_context(|| format!("the reply has no {field}"))?;
        value.parse().with_context(|| format!("{field} is {value}"))
    }
}

/// Sends one request to `address` and waits for its reply.
pub fn call(address: &str, code: i32, fields: Value, body: &[u8]) -> Result<Reply> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let header = json!({
        "code": code, "language": "OTHER", "version": 0, "opaque": 1, "flag": 0,
        "serializeTypeCurrentRPC": "JSON", "extFields": fields,
    })
    .to_string();
    let total = u32::try_from(4 + header.len() + body.len())?;
    let mut frame = total.to_be_bytes().to_vec();
    frame.extend(u32::try_from(header.len())?.to_be_bytes()); // The upper byte is the header's encoding: 0, JSON.
    frame.extend(header.as_bytes());
    frame.extend(body);
    stream.write_all(&frame)?;

    let mut word = [0; 4];
    stream.read_exact(&mut word).with_context(|| format!("no reply to request {code} from {address}"))?;
    let mut rest = vec![0; u32::from_be_bytes(word) as usize];
    stream.read_exact(&mut rest)?;
    let header_length = rest.get(1..4).context("a reply of less than four bytes")?;
    let header_end = 4 + header_length.iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte));
    let header: Value = serde_json::from_slice(rest.get(4..header_end).context("a header longer than its frame")?)?;
    Ok(Reply {
        code: header["code"].as_i64().context("a reply without code")?,
        remark: header["remark"].as_str().unwrap_or_default().to_owned(),
        fields: header["extFields"].as_object().cloned().unwrap_or_default(),
        body: rest.split_off(header_end),
    })
}

/// Makes `topic` with `queues` queues on the broker and waits until the nameserver knows it.
pub fn create_topic(broker: &str, namesrv: &str, topic: &str, queues: i32) -> Result<()> {
    let fields = json!({
        "topic": topic, "defaultTopic": "TBW102", "readQueueNums": queues.to_string(), "writeQueueNums": queues.to_string(),
        "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
    });
    call(broker, UPDATE_AND_CREATE_TOPIC, fields, &[])?.expect_success("creating a topic")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !has_route(namesrv, topic)? {
        ensure!(Instant::now() < deadline, "the nameserver does not know topic {topic} 10 s after it was made");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether the nameserver has a route for `topic`.
pub fn has_route(namesrv: &str, topic: &str) -> Result<bool> {
    Ok(call(namesrv, GET_ROUTE_BY_TOPIC, json!({ "topic": topic }), &[])?.code == 0)
}

/// Stores one message in one queue and returns its queue offset. `properties` are name and value.
pub fn send(broker: &str, topic: &str, queue: i32, properties: &[(&str, &str)], body: &[u8]) -> Result<i64> {
    let block: String = properties.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{2}")).collect();
    let born = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    let fields = json!({
        "producerGroup": "conformance-suite", "topic": topic, "defaultTopic": "TBW102", "defaultTopicQueueNums": "4",
        "queueId": queue.to_string(), "sysFlag": "0", "bornTimestamp": born.to_string(), "flag": "0",
        "properties": block, "reconsumeTimes": "0", "unitMode": "false", "batch": "false",
    });
    call(broker, SEND_MESSAGE, fields, body)?.expect_success("sending a message")?.number("queueOffset")
}

/// The offset that the broker keeps for a consumer group and a queue.
pub fn stored_offset(broker: &str, group: &str, topic: &str, queue: i32) -> Result<Option<i64>> {
    let fields = json!({ "consumerGroup": group, "topic": topic, "queueId": queue.to_string() });
    let reply = call(broker, QUERY_CONSUMER_OFFSET, fields, &[])?;
    match reply.code {
        0 => Ok(Some(reply.number("offset")?)),
        QUERY_NOT_FOUND => Ok(None),
        code => bail!("asking for an offset: code {code}, {}", reply.remark),
    }
}
