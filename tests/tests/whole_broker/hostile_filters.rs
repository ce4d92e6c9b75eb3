//! SQL92 expressions made to overwhelm whoever parses them, on every way that an expression can take: refused with the
//! reason, and the broker goes on.

use serde_json::{Value, json};
use waspmq_tests::wire::Connection;

use crate::asking::{
    CHECK_CLIENT_CONFIG, HEART_BEAT, PULL_MESSAGE, SUCCESS, create_topic, pull_by, pull_fields, send_and_see,
};
use crate::good_client::GoodClient;

const SYSTEM_ERROR: i64 = 1;
const SUBSCRIPTION_PARSE_FAILED: i64 = 23;
const FILTER_DATA_NOT_EXIST: i64 = 27;
const MANY: usize = 20_000;

fn overwhelming() -> Vec<(&'static str, String)> {
    vec![
        ("ANDs", vec!["a = 1"; MANY].join(" AND ")),
        ("ORs", vec!["a = 1"; MANY].join(" OR ")),
        ("brackets", format!("{}a = 1{}", "(".repeat(MANY), ")".repeat(MANY))),
        ("open brackets", "(".repeat(MANY)),
        ("NOTs", format!("{}a", "NOT ".repeat(MANY))),
        ("signs", format!("a > {}1", "- ".repeat(MANY))),
        ("a sum", format!("a > {}", vec!["1"; MANY].join(" + "))),
        ("a list", format!("a IN ({})", vec!["'x'"; MANY].join(","))),
        ("one long name", format!("{} = 1", "a".repeat(MANY * 10))),
        ("one long text", format!("a = '{}'", "x".repeat(MANY * 10))),
    ]
}

fn subscription(expression: &str) -> Value {
    json!({
        "topic": "Filtered", "subString": expression, "expressionType": "SQL92", "tagsSet": [], "codeSet": [],
        "subVersion": 1, "classFilterMode": false,
    })
}

/// Pulls by what the group's heartbeat subscribed to.
fn pull_of_group() -> Value {
    let mut fields = pull_fields("Filtered", 0, 0);
    fields["sysFlag"] = "0".into();
    fields
}

fn heartbeat(expression: &str) -> Vec<u8> {
    let consumer = json!({
        "groupName": "G", "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
        "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": false,
        "subscriptionDataSet": [subscription(expression)],
    });
    json!({ "clientID": "c", "producerDataSet": [], "consumerDataSet": [consumer] }).to_string().into_bytes()
}

#[test]
fn overwhelming_expressions_are_refused() {
    let (broker, mut good) = GoodClient::with_broker("sql");
    let mut connection = Connection::open(&broker.address()).unwrap();
    create_topic(&mut connection, "Filtered", 1).unwrap();
    send_and_see(&mut connection, "Filtered", 0, b"wanted").unwrap();
    let refused = [SUBSCRIPTION_PARSE_FAILED, SYSTEM_ERROR];
    for (name, expression) in overwhelming() {
        let check = json!({
            "clientId": "c", "group": "G", "namespace": "", "subscriptionData": subscription(&expression),
        });
        let checked = connection.call(CHECK_CLIENT_CONFIG, &json!({}), check.to_string().as_bytes()).unwrap();
        assert!(refused.contains(&checked.code), "{name} in a check: {} {:.300}", checked.code, checked.remark);
        let fields = pull_by("SQL92", &expression, "Filtered", 0, 0);
        let pulled = connection.call(PULL_MESSAGE, &fields, &[]).unwrap();
        assert!(refused.contains(&pulled.code), "{name} in a pull: {} {:.300}", pulled.code, pulled.remark);
        for reply in [&checked, &pulled] {
            assert!(!reply.remark.is_empty() && reply.remark.len() < 2_000, "{name}: {} bytes", reply.remark.len());
        }
        // A heartbeat speaks for many subscriptions and succeeds; who then pulls by this one hears of it.
        let beaten = connection.call(HEART_BEAT, &json!({}), &heartbeat(&expression)).unwrap();
        assert!([SUCCESS].iter().chain(&refused).any(|code| beaten.code == *code), "{name} in a heartbeat");
        let pulled = connection.call(PULL_MESSAGE, &pull_of_group(), &[]).unwrap();
        assert_eq!(pulled.code, FILTER_DATA_NOT_EXIST, "{name} by heartbeat: {:.300}", pulled.remark);
        good.goes_on(name);
        // The next pull is answered, by tag and by SQL.
        let everything = connection.call(PULL_MESSAGE, &pull_fields("Filtered", 0, 0), &[]).unwrap();
        assert_eq!(everything.code, SUCCESS, "{}", everything.remark);
        let fields = pull_by("SQL92", "a IS NULL", "Filtered", 0, 0);
        let filtered = connection.call(PULL_MESSAGE, &fields, &[]).unwrap();
        assert_eq!(filtered.code, SUCCESS, "{}", filtered.remark);
    }
    good.finish(&broker);
}
