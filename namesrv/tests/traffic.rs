//! Every recorded exchange with Java's nameserver (`tests/traffic/namesrv.jsonl`), sent to a fresh one of ours: same
//! code, same ext fields, same names and types in the body. The state each answer needs is built from the recorded
//! registrations. What differs on purpose is listed in `DIFFERENCES`.
#![expect(clippy::unwrap_used, reason = "a test: what fails here shall fail loudly")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use waspmq_namesrv::{Namesrv, NamesrvConfig, NamesrvServer};
use waspmq_protocol::header::{DeleteTopicFromNamesrvRequestHeader, GetRouteInfoRequestHeader, NoHeader};
use waspmq_protocol::{FRAME_BYTES_MAX, HeaderKind, RemotingCommand, RequestCode, ResponseCode, frame, java_json};
use waspmq_store::clock::SettableClock;

/// Lines of the recording whose answer differs on purpose, and why.
const DIFFERENCES: [(usize, &str); 3] = [
    (11, "asked with a binary header: ours answers in the header kind of the request, Java in its own"),
    (16, "asked with a binary header, as above"),
    (24, "settings as text: ours has fewer, each of them one that Java has too"),
];

struct Exchange {
    number: usize,
    request: Vec<u8>,
    reply: RemotingCommand,
}

fn frame_of(side: &Value) -> Vec<u8> {
    let head = side["head"].as_str().unwrap();
    let (kind, head) = if side["header"] == "JSON" { (0, head.as_bytes().to_vec()) } else { (1, base64(head)) };
    let body = side["body"].as_str().unwrap_or_default().as_bytes();
    let mut frame = (4 + head.len() as u32 + body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(head.len() as u32 | kind << 24).to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(body);
    frame
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

fn recorded() -> BTreeMap<usize, Exchange> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/traffic/namesrv.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let exchanges = text.lines().enumerate().map(|(at, line)| {
        let value: Value = serde_json::from_str(line).unwrap();
        assert!(value["request"]["body64"].is_null() && value["reply"]["body64"].is_null());
        let reply = RemotingCommand::decode(&frame_of(&value["reply"])).unwrap();
        (at + 1, Exchange { number: at + 1, request: frame_of(&value["request"]), reply })
    });
    exchanges.collect()
}

/// A nameserver of its own, its clock, and one connection to it.
struct Bench {
    runtime: tokio::runtime::Runtime,
    server: Option<NamesrvServer>,
    clock: Arc<SettableClock>,
    connection: TcpStream,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut NamesrvConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = NamesrvConfig::in_folder(folder.path());
        config.keys.scan_not_active_broker_interval = 20;
        change(&mut config);
        let clock = Arc::new(SettableClock::new(1_700_000_000_000));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let namesrv = Namesrv::new(config, clock.clone()).unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime.block_on(async { NamesrvServer::serve(namesrv, listen) }).unwrap();
        let connection = connect(server.local_addr());
        Self { runtime, server: Some(server), clock, connection, folder }
    }

    fn send(&mut self, frame: &[u8]) -> RemotingCommand {
        exchange(&mut self.connection, frame)
    }

    fn ask(&mut self, command: RemotingCommand) -> RemotingCommand {
        self.send(&command.encode())
    }

    fn route_code(&mut self, topic: &str) -> ResponseCode {
        self.ask(route_request(topic, 479)).response_code()
    }

    /// Sends a recorded request and compares the answers.
    fn replay(&mut self, exchange: &Exchange) {
        let reply = self.send(&exchange.request);
        check(exchange, &reply);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let server = self.server.take().unwrap();
        self.runtime.block_on(async { server.drain(Duration::from_secs(1)).await });
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection
}

fn exchange(connection: &mut TcpStream, frame: &[u8]) -> RemotingCommand {
    connection.write_all(frame).unwrap();
    let mut reply = Vec::new();
    while frame::split(&reply, FRAME_BYTES_MAX).unwrap().is_none() {
        let mut part = [0; 4096];
        let count = connection.read(&mut part).unwrap();
        assert!(count > 0, "the nameserver closed the connection");
        reply.extend_from_slice(&part[..count]);
    }
    RemotingCommand::decode(&reply).unwrap()
}

fn route_request(topic: &str, version: i32) -> RemotingCommand {
    let header = GetRouteInfoRequestHeader { topic: topic.into(), accept_standard_json_only: None };
    RemotingCommand { version, ..RemotingCommand::request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &header) }
}

fn check(exchange: &Exchange, reply: &RemotingCommand) {
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

/// The full registration, and the one of a single topic.
const FULL_REGISTRATION: usize = 5;
const ONE_TOPIC: usize = 4;

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

#[test]
fn old_clients_get_bare_broker_ids() {
    let recorded = recorded();
    let mut bench = Bench::new();
    bench.send(&recorded[&FULL_REGISTRATION].request);
    for (version, quoted) in [(317, false), (400, false), (401, true), (479, true)] {
        let reply = bench.ask(route_request("TopicTest", version));
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        assert_eq!(text.contains("{\"0\":\"127.0.0.1:10911\"}"), quoted, "version {version}: {text}");
        assert_eq!(text.contains("{0:\"127.0.0.1:10911\"}"), !quoted, "version {version}: {text}");
    }
}

#[test]
fn the_order_configuration_is_in_the_route_only_when_enabled() {
    let recorded = recorded();
    for enabled in [false, true] {
        let mut bench = Bench::with(|config| config.keys.order_message_enable = enabled);
        bench.send(&recorded[&FULL_REGISTRATION].request);
        bench.replay(&recorded[&1]);
        let body: Value = serde_json::from_slice(&bench.ask(route_request("TopicTest", 479)).body).unwrap();
        assert_eq!(body["orderTopicConf"].as_str(), enabled.then_some("broker-a:4"));
    }
}

#[test]
fn a_damaged_registration_is_refused_and_a_compressed_one_read() {
    let mut registration = RemotingCommand::decode(&recorded()[&FULL_REGISTRATION].request).unwrap();
    let mut bench = Bench::new();
    let mut damaged = registration.clone();
    damaged.body = [&registration.body[..], b" "].concat().into();
    let reply = bench.ask(damaged);
    assert_eq!((reply.response_code(), reply.remark.as_deref()), (ResponseCode::SYSTEM_ERROR, Some("crc32 not match")));
    assert_eq!(bench.route_code("TopicTest"), ResponseCode::TOPIC_NOT_EXIST);

    use waspmq_protocol::body::register_broker::{RegisterBrokerBody, body_crc32};
    let body = RegisterBrokerBody::decode(&registration.body, 479, false).unwrap().encode_compressed(479);
    for (name, value) in &mut registration.ext {
        match name.as_str() {
            "compressed" => *value = "true".into(),
            "bodyCrc32" => *value = body_crc32(&body).to_string(),
            _ => {}
        }
    }
    assert_eq!(bench.ask(registration.with_body(body)).response_code(), ResponseCode::SUCCESS);
    assert_eq!(bench.route_code("TopicTest"), ResponseCode::SUCCESS);
}

/// Waits until a topic's route is gone.
fn wait_until_gone(bench: &mut Bench, topic: &str) {
    for _ in 0..500 {
        if bench.route_code(topic) == ResponseCode::TOPIC_NOT_EXIST {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{topic} still has a route");
}

#[test]
fn a_broker_is_forgotten_after_silence() {
    let recorded = recorded();
    let mut bench = Bench::new();
    bench.send(&recorded[&FULL_REGISTRATION].request);
    bench.clock.advance(Duration::from_secs(119));
    bench.send(&recorded[&FULL_REGISTRATION].request);
    bench.clock.advance(Duration::from_secs(119));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(bench.route_code("TopicTest"), ResponseCode::SUCCESS);
    bench.clock.advance(Duration::from_secs(2));
    wait_until_gone(&mut bench, "TopicTest");
}

#[test]
fn a_broker_is_forgotten_when_its_connection_closes() {
    let recorded = recorded();
    let mut bench = Bench::new();
    let mut broker = connect(bench.server.as_ref().unwrap().local_addr());
    exchange(&mut broker, &recorded[&FULL_REGISTRATION].request);
    assert_eq!(bench.route_code("TopicTest"), ResponseCode::SUCCESS);
    drop(broker);
    wait_until_gone(&mut bench, "TopicTest");
}

#[test]
fn what_admins_change_outlives_a_restart() {
    let recorded = recorded();
    let mut bench = Bench::new();
    bench.replay(&recorded[&1]);
    let update =
        |text: &'static str| RemotingCommand::request(RequestCode::UPDATE_NAMESRV_CONFIG, &NoHeader {}).with_body(text);
    assert_eq!(bench.ask(update("enableTopicList=false\nunknownKey=1\n")).response_code(), ResponseCode::SUCCESS);
    assert_eq!(
        bench.ask(update("enableTopicList=true\nkvConfigPath=/tmp/x\n")).response_code(),
        ResponseCode::NO_PERMISSION
    );
    assert_eq!(bench.ask(update("listenPort=many\n")).response_code(), ResponseCode::SYSTEM_ERROR);
    let folder = bench.folder.path().to_owned();
    let again = Namesrv::new(NamesrvConfig::in_folder(&folder), Arc::new(SettableClock::new(0))).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = bench.runtime.block_on(async { NamesrvServer::serve(again, listen) }).unwrap();
    let mut connection = connect(server.local_addr());
    check(&recorded[&2], &exchange(&mut connection, &recorded[&2].request));
    let settings = exchange(&mut connection, &recorded[&24].request);
    assert!(std::str::from_utf8(&settings.body).unwrap().contains("enableTopicList=false\n"));
    bench.runtime.block_on(async { server.drain(Duration::from_secs(1)).await });
}

#[test]
fn unknown_and_incomplete_requests_are_answered() {
    let mut bench = Bench::new();
    let reply = bench.ask(RemotingCommand::request(RequestCode(4711), &NoHeader {}));
    assert_eq!(reply.response_code(), ResponseCode::REQUEST_CODE_NOT_SUPPORTED);
    assert_eq!(reply.remark.as_deref(), Some(" request type 4711 not supported"));
    let reply = bench.ask(RemotingCommand::request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &NoHeader {}));
    assert_eq!(reply.response_code(), ResponseCode::SYSTEM_ERROR);
    assert_eq!(reply.remark.as_deref(), Some("the request has no field \"topic\""));
}

#[test]
fn routes_wait_for_brokers_after_a_start_when_told() {
    let recorded = recorded();
    let mut bench = Bench::with(|config| config.keys.need_wait_for_service = true);
    bench.send(&recorded[&FULL_REGISTRATION].request);
    assert_eq!(bench.route_code("TopicTest"), ResponseCode::SYSTEM_ERROR);
    bench.clock.advance(Duration::from_secs(46));
    assert_eq!(bench.route_code("TopicTest"), ResponseCode::SUCCESS);
}
