//! What the recording does not show: old clients, refusals, departures, restarts.

use crate::bench::{Bench, connect, exchange, route_request};
use crate::recording::{FULL_REGISTRATION, recorded};
use crate::replay::check;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use waspmq_namesrv::{Namesrv, NamesrvConfig, NamesrvServer};
use waspmq_protocol::body::register_broker::{RegisterBrokerBody, body_crc32};
use waspmq_protocol::header::{
    GetKVConfigRequestHeader, GetKVListByNamespaceRequestHeader, NoHeader, PutKVConfigRequestHeader,
};
use waspmq_protocol::{RemotingCommand, RequestCode, ResponseCode};
use waspmq_store::clock::SettableClock;

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

fn put(key: &str, value: &str) -> RemotingCommand {
    let (namespace, key, value) = ("NS".to_owned(), key.to_owned(), value.to_owned());
    RemotingCommand::request(RequestCode::PUT_KV_CONFIG, &PutKVConfigRequestHeader { namespace, key, value })
}

fn get(key: &str) -> RemotingCommand {
    let header = GetKVConfigRequestHeader { namespace: "NS".to_owned(), key: key.to_owned() };
    RemotingCommand::request(RequestCode::GET_KV_CONFIG, &header)
}

#[test]
fn key_values_that_are_not_there() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(get("k")).response_code(), ResponseCode::QUERY_NOT_FOUND);
    let list = |namespace: &str| {
        let header = GetKVListByNamespaceRequestHeader { namespace: namespace.to_owned() };
        RemotingCommand::request(RequestCode::GET_KVLIST_BY_NAMESPACE, &header)
    };
    assert_eq!(bench.ask(list("NS")).response_code(), ResponseCode::QUERY_NOT_FOUND);
    assert_eq!(bench.ask(put("k", "v")).response_code(), ResponseCode::SUCCESS);
    assert_eq!(bench.ask(get("k")).ext_value("value"), Some("v"));
    assert_eq!(bench.ask(list("NS")).body, r#"{"table":{"k":"v"}}"#);
    let reply = bench.ask(RemotingCommand::request(RequestCode::PUT_KV_CONFIG, &NoHeader {}));
    assert_eq!(reply.response_code(), ResponseCode::SYSTEM_ERROR);
}

/// What is answered as an error has not happened.
#[test]
fn what_cannot_be_saved_is_not_changed() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(put("k", "v")).response_code(), ResponseCode::SUCCESS);
    // A folder in the place of the temporary file: the disk refuses.
    std::fs::create_dir(bench.folder.path().join("kvConfig.json.tmp")).unwrap();
    std::fs::create_dir(bench.folder.path().join("namesrv.properties.tmp")).unwrap();
    let reply = bench.ask(put("k", "w"));
    let remark = reply.remark.clone().unwrap();
    assert_eq!(reply.response_code(), ResponseCode::SYSTEM_ERROR);
    assert!(remark.contains("nothing was changed") && remark.contains("kvConfig.json.tmp"), "{remark}");
    assert_eq!(bench.ask(get("k")).ext_value("value"), Some("v"));
    let update = RemotingCommand::request(RequestCode::UPDATE_NAMESRV_CONFIG, &NoHeader {});
    let reply = bench.ask(update.with_body("enableTopicList=false"));
    assert_eq!(reply.response_code(), ResponseCode::SYSTEM_ERROR);
    let topics = bench.ask(RemotingCommand::request(RequestCode::GET_UNIT_TOPIC_LIST, &NoHeader {}));
    assert_eq!((topics.response_code(), &topics.body[..]), (ResponseCode::SUCCESS, &br#"{"topicList":[]}"#[..]));
}

#[test]
fn a_changed_setting_holds_at_once_and_leaves_the_users_file_as_it_was() {
    let text = "# mine\nlistenPort=1\nenableTopicList=true\nrocketmqHome=/opt\n";
    let mut bench = Bench::with(|config| std::fs::write(&config.keys.config_store_path, text).unwrap());
    let update =
        |text: &'static str| RemotingCommand::request(RequestCode::UPDATE_NAMESRV_CONFIG, &NoHeader {}).with_body(text);
    let listed = RemotingCommand::request(RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST, &NoHeader {});
    assert_eq!(bench.ask(listed.clone()).response_code(), ResponseCode::SUCCESS);
    assert_eq!(bench.ask(update("enableTopicList=false")).response_code(), ResponseCode::SUCCESS);
    assert_eq!(bench.ask(listed).response_code(), ResponseCode::SYSTEM_ERROR);
    let stored = std::fs::read_to_string(bench.folder.path().join("namesrv.properties")).unwrap();
    assert_eq!(stored, "# mine\nlistenPort=1\nrocketmqHome=/opt\nenableTopicList=false\n");
    for (text, code) in [
        ("listenPort=2", ResponseCode::SYSTEM_ERROR),
        ("enableTopicList=perhaps", ResponseCode::SYSTEM_ERROR),
        ("rocketmqHome=/x", ResponseCode::NO_PERMISSION),
        ("configBlackList=", ResponseCode::NO_PERMISSION),
    ] {
        let reply = bench.ask(update(text));
        assert_eq!(reply.response_code(), code, "{text}: {:?}", reply.remark);
    }
}

#[test]
fn a_topic_is_gone_for_an_unregistered_broker_only() {
    let recorded = recorded();
    let mut bench = Bench::new();
    bench.send(&recorded[&FULL_REGISTRATION].request);
    let registration = RemotingCommand::decode(&recorded[&FULL_REGISTRATION].request).unwrap();
    let mut leave = RemotingCommand::request(RequestCode::UNREGISTER_BROKER, &NoHeader {});
    leave.ext = registration.ext;
    assert_eq!(bench.ask(leave.clone()).response_code(), ResponseCode::SUCCESS);
    assert_eq!(bench.route_code("TopicTest"), ResponseCode::TOPIC_NOT_EXIST);
    assert_eq!(bench.ask(leave).response_code(), ResponseCode::SUCCESS);
}

#[test]
fn a_brokers_version_is_compared_and_counts_as_a_sign_of_life() {
    let recorded = recorded();
    let mut bench = Bench::new();
    let registration = RemotingCommand::decode(&recorded[&FULL_REGISTRATION].request).unwrap();
    let body: Value = serde_json::from_slice(&registration.body).unwrap();
    let version = body["topicConfigSerializeWrapper"]["dataVersion"].to_string();
    let ask = |bench: &mut Bench, version: &str| {
        let mut query = RemotingCommand::request(RequestCode::QUERY_DATA_VERSION, &NoHeader {});
        query.ext.clone_from(&registration.ext);
        let reply = bench.ask(query.with_body(version.to_owned()));
        assert_eq!(reply.response_code(), ResponseCode::SUCCESS, "{:?}", reply.remark);
        (reply.ext_value("changed").unwrap().to_owned(), reply.body)
    };
    assert_eq!(ask(&mut bench, &version), ("true".to_owned(), Default::default()));
    bench.send(&recorded[&FULL_REGISTRATION].request);
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(ask(&mut bench, &version), ("false".to_owned(), version.clone().into()));
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(ask(&mut bench, r#"{"counter":1}"#), ("true".to_owned(), version.into()));
    let mut beat = RemotingCommand::request(RequestCode::BROKER_HEARTBEAT, &NoHeader {});
    beat.ext.clone_from(&registration.ext);
    assert_eq!(bench.ask(beat).response_code(), ResponseCode::SUCCESS);
    bench.clock.advance(Duration::from_secs(119));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(bench.route_code("TopicTest"), ResponseCode::SUCCESS);
    bench.clock.advance(Duration::from_secs(2));
    wait_until_gone(&mut bench, "TopicTest");
}

/// As large a table as one broker registers: taken in at once, and its routes are answered without delay.
#[test]
fn ten_thousand_topics_at_once() {
    let mut registration = RemotingCommand::decode(&recorded()[&FULL_REGISTRATION].request).unwrap();
    let mut body = RegisterBrokerBody::decode(&registration.body, 479, false).unwrap();
    let topics = &mut body.topic_config_serialize_wrapper.topic_config_table;
    let pattern = topics["TopicTest"].clone();
    for number in 0..10_000 {
        let mut topic = pattern.clone();
        topic.topic_name = format!("Topic{number}");
        topics.insert(topic.topic_name.clone(), topic);
    }
    let body = body.encode();
    registration.ext.iter_mut().find(|(name, _)| name == "bodyCrc32").unwrap().1 = body_crc32(&body).to_string();
    let mut bench = Bench::new();
    let started = std::time::Instant::now();
    assert_eq!(bench.ask(registration.with_body(body)).response_code(), ResponseCode::SUCCESS);
    let registered = started.elapsed();
    for number in 0..1000 {
        assert_eq!(bench.route_code(&format!("Topic{}", number * 10)), ResponseCode::SUCCESS);
    }
    println!("registered in {registered:?}, then 1000 routes in {:?}", started.elapsed() - registered);
}

#[test]
fn a_port_in_use_is_named() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut config = NamesrvConfig::in_folder(folder.path());
    config.listen = bench.server.as_ref().unwrap().local_addr();
    let error = bench.runtime.block_on(NamesrvServer::start(config)).unwrap_err().to_string();
    assert!(error.contains("cannot listen on 127.0.0.1:") && error.contains("another process"), "{error}");
}
