//! Every recorded exchange, sent to a fresh nameserver: same code, same ext fields, same names and types in the body.
//! The state each answer needs is built from the recorded registrations. What differs on purpose is in `DIFFERENCES`.

use crate::bench::Bench;
use crate::recording::{Exchange, FULL_REGISTRATION, ONE_TOPIC, recorded};
use serde_json::Value;
use std::collections::BTreeMap;
use waspmq_protocol::header::DeleteTopicFromNamesrvRequestHeader;
use waspmq_protocol::{HeaderKind, RemotingCommand, RequestCode, ResponseCode, java_json};

/// Lines of the recording whose answer differs on purpose, and why.
const DIFFERENCES: [(usize, &str); 3] = [
    (11, "asked with a binary header: ours answers in the header kind of the request, Java in its own"),
    (16, "asked with a binary header, as above"),
    (24, "settings as text: ours has fewer, each of them one that Java has too"),
];

impl Bench {
    /// Sends a recorded request and compares the answers.
    pub(crate) fn replay(&mut self, exchange: &Exchange) {
        let reply = self.send(&exchange.request);
        check(exchange, &reply);
    }
}

pub(crate) fn check(exchange: &Exchange, reply: &RemotingCommand) {
    let number = exchange.number;
    let expected = &exchange.reply;
    let differs = DIFFERENCES.iter().find(|(line, _)| *line == number);
    assert_eq!(reply.response_code(), expected.response_code(), "line {number}: {:?}", reply.remark);
    assert_eq!((reply.opaque, reply.flags), (expected.opaque, expected.flags), "line {number}");
    let names = |command: &RemotingCommand| {
        let mut names: Vec<_> = command.ext.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names(reply), names(expected), "line {number}");
    let first_line =
        |command: &RemotingCommand| command.remark.as_ref().map(|remark| remark.lines().next().unwrap().to_owned());
    assert_eq!(first_line(reply), first_line(expected), "line {number}");
    match differs {
        None => assert_eq!(reply.kind, expected.kind, "line {number}"),
        Some((24, _)) => return check_settings(reply, expected),
        Some(_) => assert_eq!((reply.kind, expected.kind), (HeaderKind::RocketMq, HeaderKind::Json), "line {number}"),
    }
    assert_eq!(reply.body.is_empty(), expected.body.is_empty(), "line {number}");
    if !reply.body.is_empty() {
        assert_eq!(shape(&reply.body), shape(&expected.body), "line {number}");
        // Keys are quoted, or not, as in the recording.
        let bare = |body: &[u8]| body.windows(3).any(|window| window == b"{0:");
        assert_eq!(bare(&reply.body), bare(&expected.body), "line {number}");
    }
}

fn check_settings(reply: &RemotingCommand, expected: &RemotingCommand) {
    let names = |body: &[u8]| -> Vec<String> {
        let text = std::str::from_utf8(body).unwrap();
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned()).collect()
    };
    let known = names(&expected.body);
    let ours = names(&reply.body);
    assert!(ours.is_sorted() && ours.len() > 10);
    for name in ours {
        assert!(known.contains(&name), "{name} is no setting of the Java nameserver");
    }
}

/// Names and types of a JSON text: values are replaced by the names of their types, arrays by their first element.
fn shape(body: &[u8]) -> Value {
    fn of(value: &Value) -> Value {
        match value {
            Value::Null => Value::from("null"),
            Value::Bool(_) => Value::from("boolean"),
            Value::Number(_) => Value::from("number"),
            Value::String(_) => Value::from("string"),
            Value::Array(items) => Value::Array(items.first().map(of).into_iter().collect()),
            Value::Object(members) => {
                let sorted: BTreeMap<_, _> = members.iter().map(|(name, value)| (name.clone(), of(value))).collect();
                Value::Object(sorted.into_iter().collect())
            }
        }
    }
    of(&serde_json::from_slice(&java_json::normalise(body).unwrap()).unwrap())
}

fn delete_topic(topic: &str) -> RemotingCommand {
    let header = DeleteTopicFromNamesrvRequestHeader { topic: topic.into(), cluster_name: None };
    RemotingCommand::request(RequestCode::DELETE_TOPIC_IN_NAMESRV, &header)
}

#[test]
fn every_recorded_exchange_has_the_same_shape() {
    let recorded = recorded();
    let mut bench = Bench::new();
    let mut replayed = Vec::new();
    let mut replay = |bench: &mut Bench, number: usize| {
        bench.replay(&recorded[&number]);
        replayed.push(number);
    };
    // The recorded answer to the full registration carries key-values that are not there yet.
    let first = bench.send(&recorded[&FULL_REGISTRATION].request);
    assert_eq!((first.response_code(), first.body.len()), (ResponseCode::SUCCESS, 0));
    replay(&mut bench, ONE_TOPIC);
    // Key-values, then the registration whose answer carries them.
    for number in [1, 2, 3, FULL_REGISTRATION] {
        replay(&mut bench, number);
    }
    // Routes by both versions and both header kinds; the cluster; the topics.
    for number in [6, 7, 8, 9, 10, 11, 17, 18, 20, 21] {
        replay(&mut bench, number);
    }
    // Topics that did not exist when their route was asked for.
    for topic in ["RequestTopic", "NAMESPACE_TOPIC", "SqlFilterTest"] {
        assert_eq!(bench.ask(delete_topic(topic)).response_code(), ResponseCode::SUCCESS);
    }
    for number in 12..=16 {
        replay(&mut bench, number);
    }
    // Deleting, permissions, settings.
    for number in [22, 19, 25, 23, 24] {
        replay(&mut bench, number);
    }
    replayed.sort_unstable();
    assert_eq!(replayed, recorded.keys().copied().collect::<Vec<_>>());
}
