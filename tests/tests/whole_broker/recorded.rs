//! Every request of `tests/traffic/broker.jsonl`, which real clients sent to Java's broker, sent to ours in the same
//! order: the answer has the same code, the same ext fields, the same names and types in its body. What each needs to be
//! there before follows from the request and its recorded answer. What differs is listed here, and nothing else may.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use waspmq_tests::standalone::Standalone;
use waspmq_tests::wire::{Connection, Reply, frame_of};

use crate::asking::{GET_MAX_OFFSET, HEART_BEAT, PULL_MESSAGE, SEND_MESSAGE, SUCCESS, create_topic, send_fields};

const QUERY_MESSAGE: i32 = 12;
const QUERY_CONSUMER_OFFSET: i32 = 14;
const GET_CONSUMER_LIST_BY_GROUP: i32 = 38;
const LOCK_BATCH_MQ: i32 = 41;
const UNLOCK_BATCH_MQ: i32 = 42;
const DELETE_TOPIC_IN_BROKER: i32 = 215;
const SEND_BATCH_MESSAGE: i32 = 320;
const GET_TOPIC_CONFIG: i32 = 351;
const LITE_PULL_MESSAGE: i32 = 361;

const REQUEST_CODE_NOT_SUPPORTED: i64 = 3;
const SUBSCRIPTION_NOT_LATEST: i64 = 25;

/// Request codes of the recording that this broker does not serve yet. They are answered with code 3.
const NOT_SERVED: &[(i32, &str)] = &[
    (25, "settings are in the file, and hold from the start"),
    (26, "as above; `broker -p` prints them"),
    (28, "no runtime figures yet"),
    (37, "transactional messages are refused when they are sent"),
    (202, "no statistics yet"),
    (203, "connections are not listed yet"),
    (204, "as above"),
    (208, "no statistics yet"),
    (222, "offsets are not reset by the broker yet"),
    (300, "no statistics yet"),
    (305, "system topics are not listed yet"),
    (306, "old files are not deleted yet"),
    (307, "consumers are not asked for their state yet"),
    (315, "no statistics yet"),
    (316, "old files are not deleted yet"),
    (317, "no statistics yet"),
    (321, "queues are not shown entry by entry yet"),
    (400, "queues are not assigned by the broker yet, without pop"),
    (401, "as above"),
    (907, "no replication yet"),
    (200_050, "no pop yet"),
    (200_051, "no pop yet"),
];

/// Lines whose answer differs although the request is served.
const DIFFERENCES: &[(usize, &str)] = &[
    (9, "an administrator had reset this group's offset (222), which is not served yet"),
    (23, "an empty queue starts a new group at 0, as RocketMQ 4.9 did, so that nothing sent meanwhile is missed"),
    (24, "as above"),
    (100, "a delayed message is refused, not delivered at once"),
];

/// One line of the recording.
struct Exchange {
    line: usize,
    code: i32,
    one_way: bool,
    fields: Map<String, Value>,
    body: Vec<u8>,
    request: Vec<u8>,
    reply: Option<Reply>,
}

impl Exchange {
    fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, field: &str) -> i64 {
        self.text(field).parse().unwrap_or_default()
    }

    fn is_pull(&self) -> bool {
        [PULL_MESSAGE, LITE_PULL_MESSAGE].contains(&self.code)
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_usize;
    let mut bytes = Vec::new();
    for (place, byte) in text.bytes().filter(|byte| *byte != b'=').enumerate() {
        bits = bits << 6 | DIGITS.iter().position(|digit| *digit == byte).unwrap();
        if place % 4 > 0 {
            bytes.push((bits >> (6 - 2 * (place % 4))) as u8);
        }
    }
    bytes
}

fn body_of(side: &Value) -> Vec<u8> {
    match (side["body"].as_str(), side["body64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => base64(text),
        (None, None) => Vec::new(),
    }
}

fn rebuilt(side: &Value) -> Vec<u8> {
    let head = side["head"].as_str().unwrap();
    let (kind, head) = if side["header"] == "JSON" { (0, head.as_bytes().to_vec()) } else { (1, base64(head)) };
    frame_of(kind, &head, &body_of(side))
}

fn recorded() -> Vec<Exchange> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("traffic/broker.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let exchange = |(at, line): (usize, &str)| {
        let value: Value = serde_json::from_str(line).unwrap();
        let request = rebuilt(&value["request"]);
        // A request has the same layout as a reply.
        let parsed = Reply::parse(&request).unwrap();
        Exchange {
            line: at + 1,
            code: value["code"].as_i64().unwrap() as i32,
            one_way: parsed.flag & 2 != 0,
            fields: parsed.fields,
            body: parsed.body,
            request,
            reply: (!value["reply"].is_null()).then(|| Reply::parse(&rebuilt(&value["reply"])).unwrap()),
        }
    };
    text.lines().enumerate().map(exchange).collect()
}

/// The broker, and a connection on which it is brought into the state that an exchange needs.
struct Bench {
    broker: Standalone,
    connection: Connection,
}

impl Bench {
    fn new() -> Self {
        // A pull that finds nothing is held for a second instead of fifteen.
        let broker = Standalone::serving(
            "recorded",
            &["--set", "longPollingEnable=false", "--set", "shortPollingTimeMills=1000"],
        )
        .unwrap();
        let connection = Connection::open(&broker.address()).unwrap();
        let mut this = Self { broker, connection };
        for topic in ["TopicTest", "SqlFilterTest", "BatchTest"] {
            create_topic(&mut this.connection, topic, 4).unwrap();
        }
        this
    }

    fn ask(&mut self, code: i32, fields: Value, body: &[u8]) -> Reply {
        self.connection.call(code, &fields, body).unwrap()
    }

    /// Makes the queue hold exactly so many messages.
    fn fill(&mut self, topic: &str, queue: i64, wanted: i64) {
        let begun = Instant::now();
        loop {
            let place = json!({ "topic": topic, "queueId": queue.to_string() });
            let held = self.ask(GET_MAX_OFFSET, place, &[]).number("offset").unwrap();
            if held == wanted {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{topic} {queue} holds {held} instead of {wanted}");
            // What is acknowledged can be read a moment later, so there may be more of them than were seen just now.
            if held > wanted {
                let deleted = self.ask(DELETE_TOPIC_IN_BROKER, json!({ "topic": topic }), &[]);
                deleted.expect_success("deleting a topic").unwrap();
                create_topic(&mut self.connection, topic, 4).unwrap();
            } else {
                let next = self.append(topic, queue, wanted - held);
                self.wait_for(topic, queue, next);
            }
        }
    }

    /// Appends so many small messages in one batch; returns the offset behind the last one.
    fn append(&mut self, topic: &str, queue: i64, count: i64) -> i64 {
        let mut fields = send_fields(topic, queue as i32);
        fields["batch"] = "true".into();
        // Length, magic, checksum, flag, length of the body; then length of the properties.
        let head = [28_u32, 0, 0, 0, 6].map(u32::to_be_bytes).concat();
        let one = [&head[..], b"filler", &[0, 0]].concat();
        let messages = one.repeat(usize::try_from(count).unwrap());
        let reply = self.ask(SEND_BATCH_MESSAGE, fields, &messages).expect_success("filling a queue").unwrap();
        reply.number("queueOffset").unwrap() + count
    }

    fn wait_for(&mut self, topic: &str, queue: i64, end: i64) {
        let begun = Instant::now();
        let place = json!({ "topic": topic, "queueId": queue.to_string() });
        while self.ask(GET_MAX_OFFSET, place.clone(), &[]).number("offset").unwrap() < end {
            assert!(begun.elapsed() < Duration::from_secs(10), "{topic} {queue} does not reach {end}");
        }
    }

    /// What the request needs to be there to be answered as it was, on the bench's connection or on its own.
    fn prepare(&mut self, exchange: &Exchange, own: &mut Connection) {
        let (group, topic) = (exchange.text("consumerGroup"), exchange.text("topic"));
        let retries = topic.strip_prefix("%RETRY%");
        match exchange.code {
            PULL_MESSAGE | LITE_PULL_MESSAGE => {
                let recorded = exchange.reply.as_ref().map(|reply| reply.number("maxOffset").unwrap_or(1));
                let wanted = recorded.unwrap_or(exchange.number("queueOffset"));
                if retries.is_none() {
                    self.fill(topic, exchange.number("queueId"), wanted);
                }
                if exchange.number("sysFlag") & 4 == 0 {
                    let outdated = exchange.reply.as_ref().is_some_and(|reply| reply.code == SUBSCRIPTION_NOT_LATEST);
                    let version = exchange.number("subVersion") - i64::from(outdated);
                    let kind = exchange.text("expressionType");
                    let expression = if kind == "TAG" { "*" } else { "a IS NULL" };
                    let subscription = json!({
                        "topic": topic, "subString": expression, "expressionType": kind, "subVersion": version,
                        "tagsSet": [], "codeSet": [], "classFilterMode": false,
                    });
                    beat(own, group, &[subscription]);
                }
            }
            QUERY_MESSAGE => {
                let mut fields = send_fields("TopicTest", 0);
                fields["properties"] = format!("UNIQ_KEY\u{1}{}\u{2}", exchange.text("key")).into();
                self.ask(SEND_MESSAGE, fields, b"by key").expect_success("sending").unwrap();
                let query = Value::Object(exchange.fields.clone());
                let found = exchange.reply.as_ref().is_some_and(|reply| reply.code == SUCCESS);
                let begun = Instant::now();
                while found && self.ask(QUERY_MESSAGE, query.clone(), &[]).code != SUCCESS {
                    assert!(begun.elapsed() < Duration::from_secs(10), "line {}: no such key", exchange.line);
                }
            }
            GET_CONSUMER_LIST_BY_GROUP => beat(own, group, &[]),
            QUERY_CONSUMER_OFFSET | GET_TOPIC_CONFIG if retries.is_some() => beat(own, retries.unwrap(), &[]),
            _ => {}
        }
    }

    /// Sends the request and returns its answer, or none if none came: it is one-way, or a pull that is held. The latter
    /// is answered as soon as there is a message.
    fn exchange(&mut self, exchange: &Exchange, own: &mut Connection) -> Option<Reply> {
        own.write(&exchange.request).unwrap();
        let served = !NOT_SERVED.iter().any(|(code, _)| *code == exchange.code);
        let held = exchange.is_pull() && exchange.reply.is_none();
        if exchange.one_way || held && served {
            let sentinel = own.call(GET_MAX_OFFSET, &json!({ "topic": "TopicTest", "queueId": "0" }), &[]);
            sentinel.unwrap_or_else(|error| panic!("line {}: {error}", exchange.line));
        }
        if exchange.one_way {
            return None;
        }
        if held && served {
            let fields = send_fields(exchange.text("topic"), exchange.number("queueId") as i32);
            self.ask(SEND_MESSAGE, fields, b"wakes").expect_success("sending").unwrap();
            let woken = own.receive().unwrap();
            assert_eq!(woken.code, SUCCESS, "line {}: {}", exchange.line, woken.remark);
            assert!(!woken.body.is_empty(), "line {}", exchange.line);
            return None;
        }
        Some(own.receive().unwrap_or_else(|error| panic!("line {}: {error}", exchange.line)))
    }

    /// Takes back what would hinder the next exchange: locks, and memberships with their versions.
    fn clear(&mut self, exchange: &Exchange, own: Connection) {
        if exchange.code == LOCK_BATCH_MQ {
            self.ask(UNLOCK_BATCH_MQ, json!({}), &exchange.body).expect_success("unlocking").unwrap();
        }
        drop(own);
        let body: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
        let beaten = body["consumerDataSet"].as_array().into_iter().flatten();
        let mut groups: BTreeSet<&str> = beaten.filter_map(|group| group["groupName"].as_str()).collect();
        groups.insert(exchange.text("consumerGroup"));
        let begun = Instant::now();
        for group in groups {
            while self.ask(GET_CONSUMER_LIST_BY_GROUP, json!({ "consumerGroup": group }), &[]).code == SUCCESS {
                assert!(begun.elapsed() < Duration::from_secs(10), "{group} is not left with its connection");
            }
        }
    }
}

/// Joins a consumer group.
fn beat(own: &mut Connection, group: &str, subscriptions: &[Value]) {
    let consumer = json!({
        "groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
        "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": false, "subscriptionDataSet": subscriptions,
    });
    let body = json!({ "clientID": "recorded", "producerDataSet": [], "consumerDataSet": [consumer] }).to_string();
    own.call(HEART_BEAT, &json!({}), body.as_bytes()).unwrap().expect_success("a heartbeat").unwrap();
}

/// How an answer looks, without what differs from broker to broker: values, places, times.
#[derive(Debug, PartialEq)]
struct Shape {
    code: i64,
    fields: BTreeSet<String>,
    body: Value,
}

impl Shape {
    fn of(reply: &Reply) -> Self {
        let body = match serde_json::from_slice(&reply.body) {
            Ok(json) => types(&json),
            Err(_) if reply.body.is_empty() => "empty".into(),
            Err(_) => "bytes".into(),
        };
        Self { code: reply.code, fields: reply.fields.keys().cloned().collect(), body }
    }
}

/// Objects whose names are names of topics and groups.
const TABLES: &[&str] = &["topicConfigTable", "subscriptionGroupTable"];

/// Names and types of JSON: arrays and tables by what is in them, each kind once.
fn types(value: &Value) -> Value {
    let distinct = |values: &mut dyn Iterator<Item = &Value>| -> Value {
        let kinds: BTreeSet<String> = values.map(|value| types(value).to_string()).collect();
        kinds.into_iter().collect::<Vec<_>>().into()
    };
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => distinct(&mut items.iter()),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| match value.as_object() {
                Some(table) if TABLES.contains(&name.as_str()) => (name.clone(), distinct(&mut table.values())),
                _ => (name.clone(), types(value)),
            };
            Value::Object(members.iter().map(member).collect())
        }
    }
}

#[test]
fn every_recorded_exchange_has_the_same_shape() {
    let mut bench = Bench::new();
    let (mut different, mut not_served) = (Vec::new(), BTreeSet::new());
    for exchange in recorded() {
        let mut own = Connection::open(&bench.broker.address()).unwrap();
        bench.prepare(&exchange, &mut own);
        let ours = bench.exchange(&exchange, &mut own);
        bench.clear(&exchange, own);
        let (line, code) = (exchange.line, exchange.code);
        if NOT_SERVED.iter().any(|(not_served, _)| *not_served == code) {
            not_served.insert(code);
            let answered = ours.map(|reply| reply.code);
            let expected = (!exchange.one_way).then_some(REQUEST_CODE_NOT_SUPPORTED);
            assert_eq!(answered, expected, "line {line}: if code {code} is served now, take it out of NOT_SERVED");
            continue;
        }
        let (ours, recorded) = (ours.as_ref().map(Shape::of), exchange.reply.as_ref().map(Shape::of));
        let known = DIFFERENCES.iter().find(|(known, _)| *known == line);
        match (ours == recorded, known) {
            (true, None) | (false, Some(_)) => {}
            (true, Some((_, reason))) => panic!("line {line} is no longer different ({reason}): take it out"),
            (false, None) => different.push(format!("line {line}, code {code}:\n  ours {ours:?}\n  Java {recorded:?}")),
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    let listed: BTreeSet<i32> = NOT_SERVED.iter().map(|(code, _)| *code).collect();
    assert_eq!(listed, not_served, "a code that is not in the recording");
}
