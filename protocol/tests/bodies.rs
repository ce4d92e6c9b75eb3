//! Every JSON body, stored record and batch of the recorded traffic (tests/traffic) is read into its type and
//! written again: the same JSON value, the same record bytes, keys in Java's order.
//!
//! A recorded JSON body whose code has no type here fails the test, so a new recording cannot pass unseen.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::path::PathBuf;
use waspmq_protocol::body::{
    assignment, broker_stats, check_client_config, cluster_info, connections, consume_queue, consume_stats,
    consumer_list, group_list, heartbeat, kv_table, lock_batch, register_broker, reset_offset, subscription_group,
    topic_config, topic_list, topic_route, topic_stats,
};
use waspmq_protocol::java_json;
use waspmq_protocol::message::{batch, record};

/// Bodies that broker and nameserver pass on without reading: a client's running info, and the state of
/// replication, which belongs to the replication of a later release.
const PASSED_ON: [(&str, i64); 3] = [("broker", 307), ("client", 307), ("broker", 907)];

struct Recorded {
    to: String,
    code: i64,
    side: &'static str,
    body: Vec<u8>,
}

fn recorded() -> Vec<Recorded> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/traffic");
    let mut all = Vec::new();
    for name in ["broker", "namesrv", "client"] {
        let text =
            std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).expect("the recordings are in tests/traffic");
        for line in text.lines() {
            let exchange: Value = serde_json::from_str(line).expect("a recorded line is JSON");
            for side in ["request", "reply"] {
                let frame = &exchange[side];
                let body = match (&frame["body"], &frame["body64"]) {
                    (Value::String(text), _) => text.clone().into_bytes(),
                    (_, Value::String(base64)) => decode_base64(base64),
                    _ => continue,
                };
                all.push(Recorded {
                    to: name.to_owned(),
                    code: exchange["code"].as_i64().expect("an exchange has a code"),
                    side,
                    body,
                });
            }
        }
    }
    all
}

fn decode_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0u32;
    let mut count = 0;
    let mut out = Vec::new();
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        bits = bits << 6 | ALPHABET.iter().position(|&letter| letter == byte).expect("base64") as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    out
}

/// Reads and writes a body; returns its recorded and its written value.
fn again<T: DeserializeOwned + Serialize>(body: &[u8]) -> (Value, Value) {
    let typed: T =
        java_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)));
    let written = java_json::to_vec(&typed);
    assert_keys_in_order(&java_json::from_slice(&written).expect("what is written can be read"));
    // Through both forms: whoever reads the standard one reads the same.
    assert_eq!(
        java_json::from_slice::<Value>(&java_json::to_standard(&typed)).expect("standard JSON can be read"),
        java_json::from_slice::<Value>(&written).expect("what is written can be read")
    );
    (
        java_json::from_slice(body).expect("it was read above"),
        java_json::from_slice(&written).expect("what is written can be read"),
    )
}

/// Java prints fields alphabetically; maps of ours are sorted too. Numbers as keys count by value, queues by topic.
fn assert_keys_in_order(value: &Value) {
    match value {
        Value::Array(list) => list.iter().for_each(assert_keys_in_order),
        Value::Object(map) => {
            let keys: Vec<&String> = map.keys().collect();
            if keys.iter().all(|key| key.parse::<i64>().is_err() && !key.starts_with('{')) {
                assert!(keys.is_sorted(), "{keys:?}");
            }
            map.values().for_each(assert_keys_in_order);
        }
        _ => {}
    }
}

fn json_again(recorded: &Recorded) -> Option<(Value, Value)> {
    let body = &recorded.body;
    Some(match (recorded.to.as_str(), recorded.code, recorded.side) {
        ("broker", 21, "reply") => again::<topic_config::TopicConfigTable>(body),
        ("broker", 28, "reply") | ("namesrv", 103, "reply") => again::<kv_table::KvTable>(body),
        ("broker", 34, "request") => again::<heartbeat::HeartbeatData>(body),
        ("broker", 38, "reply") => again::<consumer_list::ConsumerList>(body),
        ("broker", 41, "request") => again::<lock_batch::LockBatch>(body),
        ("broker", 41, "reply") => again::<lock_batch::LockedQueues>(body),
        ("broker", 46, "request") => again::<check_client_config::CheckClientConfig>(body),
        ("broker", 200, "request") => again::<subscription_group::SubscriptionGroupConfig>(body),
        ("broker", 201, "reply") => again::<subscription_group::SubscriptionGroupTable>(body),
        ("broker", 202, "reply") => again::<topic_stats::TopicStatsTable>(body),
        ("broker", 203, "reply") => again::<connections::ConsumerConnection>(body),
        ("broker", 208, "reply") => again::<consume_stats::ConsumeStats>(body),
        ("broker", 222, "reply") => again::<reset_offset::ResetOffset>(body),
        ("broker", 300, "reply") => again::<group_list::GroupList>(body),
        ("broker", 305, "reply") | ("namesrv", 206, "reply") => again::<topic_list::TopicList>(body),
        ("broker", 315, "reply") => again::<broker_stats::BrokerStatsData>(body),
        ("broker", 317, "reply") => again::<consume_stats::BrokerConsumeStats>(body),
        ("broker", 321, "reply") => again::<consume_queue::ConsumeQueueEntries>(body),
        ("broker", 351, "reply") => again::<topic_config::TopicConfig>(body),
        ("broker", 400, "request") => again::<assignment::QueryAssignment>(body),
        ("broker", 400, "reply") => again::<assignment::Assignments>(body),
        ("broker", 401, "request") => again::<assignment::RequestModeSetting>(body),
        ("namesrv", 103, "request") => again::<register_broker::RegisterBrokerBody>(body),
        ("namesrv", 105, "reply") => again::<topic_route::TopicRouteData>(body),
        ("namesrv", 106, "reply") => again::<cluster_info::ClusterInfo>(body),
        _ => return None,
    })
}

#[test]
fn recorded_json_is_written_as_it_was_read() {
    let mut seen = 0;
    for recorded in recorded() {
        if !matches!(recorded.body.first(), Some(b'{' | b'[')) {
            continue;
        }
        let place = format!("{} {} {}", recorded.to, recorded.code, recorded.side);
        if PASSED_ON.contains(&(recorded.to.as_str(), recorded.code)) {
            assert!(java_json::from_slice::<Value>(&recorded.body).is_ok(), "{place}");
            continue;
        }
        let (read, written) = json_again(&recorded).unwrap_or_else(|| panic!("{place}: no type for this body"));
        assert_eq!(read, written, "{place}");
        seen += 1;
    }
    assert!(seen >= 60, "only {seen} bodies were compared; are the recordings complete?");
}

#[test]
fn recorded_records_are_encoded_to_the_same_bytes() {
    let mut seen = 0;
    for recorded in recorded() {
        let stored =
            matches!((recorded.code, recorded.side), (11 | 12 | 33 | 361 | 200_050, "reply") | (39, "request"));
        if !stored {
            continue;
        }
        for view in record::records(&recorded.body) {
            let view = view.unwrap();
            let fields = view.fields();
            let mut out = vec![0; record::encoded_len(&fields)];
            record::encode_into(&fields, &mut out);
            assert!(out == view.bytes(), "{} {}: {fields:?}", recorded.to, recorded.code);
            assert!(view.property("UNIQ_KEY").is_some_and(|key| key.len() == 32 || key.len() == 56));
            seen += 1;
        }
    }
    assert!(seen >= 50, "only {seen} records were compared; are the recordings complete?");
}

#[test]
fn recorded_batches_are_encoded_to_the_same_bytes() {
    let mut seen = 0;
    for recorded in recorded().iter().filter(|recorded| (recorded.code, recorded.side) == (320, "request")) {
        let mut out = Vec::new();
        for item in batch::items(&recorded.body) {
            batch::push_item(&item.unwrap(), &mut out);
            seen += 1;
        }
        assert_eq!(out, recorded.body);
    }
    assert!(seen >= 4, "only {seen} items were compared; are the recordings complete?");
}
