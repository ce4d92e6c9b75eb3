//! The smallest remoting client that prepares a scenario: topics, routes, a few plain messages, stored offsets.
//! It shares no code with the broker's own codec, so that one mistake cannot hide in both. Requests have JSON headers;
//! replies are read with either kind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

const SEND_MESSAGE: i32 = 10;
const PULL_MESSAGE: i32 = 11;
const QUERY_CONSUMER_OFFSET: i32 = 14;
const UPDATE_AND_CREATE_TOPIC: i32 = 17;
const GET_ROUTE_BY_TOPIC: i32 = 105;
/// The answer when the broker holds no offset of that group for that queue.
const QUERY_NOT_FOUND: i64 = 22;

/// One reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Response code; 0 is success.
    pub code: i64,
    /// The number of the request it answers.
    pub opaque: i64,
    /// Bit 0: a response. Without it, the broker asks or tells the client something.
    pub flag: i64,
    /// What the server says about it.
    pub remark: String,
    /// The ext fields; every value is a string.
    pub fields: Map<String, Value>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads a whole frame, with a header of either kind.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let kind_and_length = frame.get(4..8).context("a frame of less than eight bytes")?;
        let header_end = 8 + kind_and_length[1..].iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte));
        let header = frame.get(8..header_end).context("a header longer than its frame")?;
        let body = frame[header_end..].to_vec();
        match kind_and_length[0] {
            0 => {
                let header: Value = serde_json::from_slice(header)?;
                Ok(Self {
                    code: header["code"].as_i64().context("a reply without code")?,
                    opaque: header["opaque"].as_i64().context("a reply without opaque")?,
                    flag: header["flag"].as_i64().unwrap_or_default(),
                    remark: header["remark"].as_str().unwrap_or_default().to_owned(),
                    fields: header["extFields"].as_object().cloned().unwrap_or_default(),
                    body,
                })
            }
            1 => Self::parse_binary(header, body).context("a binary header that ends too early"),
            kind => bail!("a header of kind {kind}"),
        }
    }

    fn parse_binary(mut header: &[u8], body: Vec<u8>) -> Option<Self> {
        let mut take = |bytes: usize| {
            let (taken, rest) = header.split_at_checked(bytes)?;
            header = rest;
            Some(taken)
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = number(take(2)?);
        take(3)?; // Language and version.
        let opaque = number(take(4)?);
        let flag = number(take(4)?);
        let remark_bytes = number(take(4)?);
        let remark = text(take(usize::try_from(remark_bytes).ok()?)?);
        let mut left = number(take(4)?);
        let mut fields = Map::new();
        while left > 0 {
            let name_bytes = number(take(2)?);
            let name = text(take(usize::try_from(name_bytes).ok()?)?);
            let value_bytes = number(take(4)?);
            let value = text(take(usize::try_from(value_bytes).ok()?)?);
            fields.insert(name, Value::String(value));
            left -= 6 + name_bytes + value_bytes;
        }
        Some(Self { code, opaque, flag, remark, fields, body })
    }

    /// The reply itself if it says success, else an error that says what it says.
    pub fn expect_success(self, what: &str) -> Result<Self> {
        ensure!(self.code == 0, "{what}: code {}, {}", self.code, self.remark);
        Ok(self)
    }

    /// An ext field as a number.
    pub fn number(&self, field: &str) -> Result<i64> {
        let value =
            self.fields.get(field).and_then(Value::as_str).with_context(|| format!("the reply has no {field}"))?;
        value.parse().with_context(|| format!("{field} is {value}"))
    }
}

/// A request with a JSON header, as bytes. Flag 2 is one-way: no answer is wanted.
pub fn frame(code: i32, opaque: i32, flag: i32, fields: &Value, body: &[u8]) -> Vec<u8> {
    let header = json!({
        "code": code, "language": "OTHER", "version": 0, "opaque": opaque, "flag": flag,
        "serializeTypeCurrentRPC": "JSON", "extFields": fields,
    });
    frame_of(0, header.to_string().as_bytes(), body)
}

/// A frame of a header that is written already; `kind` is 0 for JSON, 1 for RocketMQ's binary one.
pub fn frame_of(kind: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).expect("a test's frame is small").to_be_bytes();
    let mut frame = length(4 + header.len() + body.len()).to_vec();
    frame.push(kind);
    frame.extend(&length(header.len())[1..]);
    frame.extend(header);
    frame.extend(body);
    frame
}

/// A connection that is kept: any number of requests, in any state of completeness.
pub struct Connection {
    stream: TcpStream,
    opaque: i32,
}

impl Connection {
    /// Connects; a read waits for ten seconds at most.
    pub fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, opaque: 0 })
    }

    /// How long a read waits.
    pub fn patience(&self, patience: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    /// A write that gets nowhere for so long fails.
    pub fn impatient(&self, patience: Duration) -> Result<()> {
        Ok(self.stream.set_write_timeout(Some(patience))?)
    }

    /// Another handle of the same socket, for another thread.
    pub fn share(&self) -> Result<Self> {
        Ok(Self { stream: self.stream.try_clone()?, opaque: self.opaque })
    }

    /// Sends these bytes, whatever they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends a request that wants an answer, and returns its number.
    pub fn send(&mut self, code: i32, fields: &Value, body: &[u8]) -> Result<i32> {
        self.opaque += 1;
        self.write(&frame(code, self.opaque, 0, fields, body))?;
        Ok(self.opaque)
    }

    /// The next answer. What the broker tells a client unasked (that its group has changed) is passed over.
    pub fn receive(&mut self) -> Result<Reply> {
        loop {
            let reply = self.receive_any()?;
            if reply.flag & 1 == 1 {
                return Ok(reply);
            }
        }
    }

    fn receive_any(&mut self) -> Result<Reply> {
        let mut frame = vec![0; 4];
        self.stream.read_exact(&mut frame)?;
        let total = frame.iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte));
        frame.resize(4 + total, 0);
        self.stream.read_exact(&mut frame[4..])?;
        Reply::parse(&frame)
    }

    /// Sends a request and waits for its answer, which must be the next one.
    pub fn call(&mut self, code: i32, fields: &Value, body: &[u8]) -> Result<Reply> {
        let opaque = self.send(code, fields, body)?;
        let reply = self.receive().with_context(|| format!("no reply to request {code}"))?;
        ensure!(reply.opaque == i64::from(opaque), "request {opaque} got the answer to {}", reply.opaque);
        Ok(reply)
    }

    /// Whether the other side ends the connection, unasked, within the patience; what it sends before is thrown away.
    pub fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// Sends one request to `address` and waits for its reply.
pub fn call(address: &str, code: i32, fields: Value, body: &[u8]) -> Result<Reply> {
    Connection::open(address)?.call(code, &fields, body).with_context(|| format!("from {address}"))
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

/// What the broker says of a pull by the subscription that the group's own consumers have registered.
pub fn pull_remark(broker: &str, group: &str, topic: &str) -> Result<String> {
    let fields = json!({
        "consumerGroup": group, "topic": topic, "queueId": "0", "queueOffset": "0", "maxMsgNums": "1", "sysFlag": "0",
        "commitOffset": "0", "suspendTimeoutMillis": "0", "subVersion": "0",
    });
    Ok(call(broker, PULL_MESSAGE, fields, &[])?.remark)
}
