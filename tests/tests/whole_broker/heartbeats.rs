//! The second version of the heartbeat: a client says its subscriptions once, and from then on only a fingerprint of
//! them. What it said once must hold until somebody says something else.

use serde_json::{Value, json};
use waspmq_tests::standalone::Standalone;
use waspmq_tests::wire::Connection;

use crate::asking::{HEART_BEAT, PULL_MESSAGE, SUCCESS, create_topic, pull_fields, send_and_see};

const SUBSCRIPTION_NOT_EXIST: i64 = 24;

/// Beats for group G, and returns whether the broker asks for the subscriptions.
fn beat(connection: &mut Connection, fingerprint: i32, topics: Option<&[&str]>) -> bool {
    let subscriptions: Vec<Value> = topics
        .unwrap_or_default()
        .iter()
        .map(|topic| json!({ "topic": topic, "subString": "*", "expressionType": "TAG", "subVersion": 1 }))
        .collect();
    let consumer = json!({ "groupName": "G", "messageModel": "CLUSTERING", "subscriptionDataSet": subscriptions });
    let body = json!({
        "clientID": "c", "producerDataSet": [], "consumerDataSet": [consumer], "heartbeatFingerprint": fingerprint,
        "withoutSub": topics.is_none(),
    });
    let reply = connection.call(HEART_BEAT, &json!({}), body.to_string().as_bytes()).unwrap();
    let reply = reply.expect_success("a heartbeat").unwrap();
    assert_eq!(reply.fields["IS_SUPPORT_HEART_BEAT_V2"], "true");
    reply.fields["IS_SUB_CHANGE"] == "true"
}

/// The code of a pull by what the group subscribed to.
fn pulled(connection: &mut Connection, topic: &str) -> i64 {
    let mut fields = pull_fields(topic, 0, 0);
    fields["sysFlag"] = "0".into();
    connection.call(PULL_MESSAGE, &fields, &[]).unwrap().code
}

#[test]
fn subscriptions_hold_while_heartbeats_leave_them_out() {
    let broker = Standalone::serving("heartbeats", &[]).unwrap();
    let mut connection = Connection::open(&broker.address()).unwrap();
    for topic in ["One", "Two"] {
        create_topic(&mut connection, topic, 1).unwrap();
        send_and_see(&mut connection, topic, 0, b"message").unwrap();
    }
    let mut connection = Connection::open(&broker.address()).unwrap();
    let codes = |connection: &mut Connection| (pulled(connection, "One"), pulled(connection, "Two"));
    assert!(beat(&mut connection, 7, None), "the broker knows nothing of this group");
    assert_eq!(codes(&mut connection), (SUBSCRIPTION_NOT_EXIST, SUBSCRIPTION_NOT_EXIST));
    assert!(beat(&mut connection, 7, Some(&["One"])));
    assert!(!beat(&mut connection, 7, None));
    assert_eq!(codes(&mut connection), (SUCCESS, SUBSCRIPTION_NOT_EXIST));
    // Another fingerprint: until the subscriptions are told, the old ones hold.
    assert!(beat(&mut connection, 8, None));
    assert_eq!(codes(&mut connection), (SUCCESS, SUBSCRIPTION_NOT_EXIST));
    assert!(beat(&mut connection, 8, Some(&["Two"])));
    assert!(!beat(&mut connection, 8, None));
    assert_eq!(codes(&mut connection), (SUBSCRIPTION_NOT_EXIST, SUCCESS));
    // The first version tells everything each time, nothing included.
    assert!(beat(&mut connection, 0, Some(&[])));
    assert_eq!(codes(&mut connection), (SUBSCRIPTION_NOT_EXIST, SUBSCRIPTION_NOT_EXIST));
    assert!(beat(&mut connection, 8, None));
}
