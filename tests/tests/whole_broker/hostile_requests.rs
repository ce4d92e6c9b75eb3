//! Requests in whole frames that mean nothing: every request code with no fields, wrong fields, odd bodies. Each gets
//! exactly one answer with its own number, and its connection goes on; with the one-way flag it gets none.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use waspmq_protocol::code::RequestCode;
use waspmq_tests::wire::{Connection, frame, frame_of};

use crate::asking::{GET_MAX_OFFSET, HEART_BEAT, SEND_MESSAGE, SUCCESS};
use crate::good_client::GoodClient;

const REQUEST_CODE_NOT_SUPPORTED: i64 = 3;
const ONE_WAY: i32 = 2;

/// Fields that requests have, so that wrong values of all of them can be sent at once.
const FIELDS: &str = "a b c d e f g h i j k l m n attemptId attributes batch beginTimestamp bname bornTime bornTimestamp \
    boundaryType cleanOffset clientAddr clientID commitLogOffset commitOffset commitOrRollback consumerGroup count \
    defaultTopic defaultTopicQueueNums delayLevel endTimestamp exp expType expressionType extraInfo flag force group \
    groupName index initMode invisibleTime isForce isOrder jstackEnable key lo maxMsgBytes maxMsgNums maxNum \
    maxReconsumeTimes msgId offset order originMsgId originTopic perm pollTime producerGroup properties queueId \
    queueOffset readQueueNums reconsumeTimes requestSource setZeroIfNotFound statsKey statsName subVersion subscription \
    suspendTimeoutMillis timestamp topic topicFilterType topicSysFlag transactionId unitMode writeQueueNums";

/// Every field with this value. Pulls with it are not held: a held pull is answered, but not soon.
fn all(value: &Value) -> Value {
    let mut fields: Map<String, Value> = FIELDS.split_whitespace().map(|name| (name.into(), value.clone())).collect();
    fields.insert("sysFlag".into(), if value.as_str() == Some("2147483647") { "1".into() } else { value.clone() });
    Value::Object(fields)
}

fn odd_fields() -> Vec<(&'static str, Value)> {
    let mut long = all(&"x".into());
    for field in ["topic", "b", "consumerGroup", "group", "properties", "i", "subscription"] {
        long[field] = "x".repeat(70_000).into();
    }
    vec![
        ("no fields", json!({})),
        ("null for fields", Value::Null),
        ("empty text", all(&"".into())),
        ("text for numbers", all(&"x".into())),
        ("-1", all(&"-1".into())),
        ("0", all(&"0".into())),
        ("the largest int", all(&"2147483647".into())),
        ("the largest long", all(&"9223372036854775807".into())),
        ("more than a long", all(&"99999999999999999999999".into())),
        ("booleans", all(&"true".into())),
        ("odd characters", all(&"\u{0}\u{1}\u{2}/../ü%\u{10FFFF}".into())),
        ("long text", long),
        ("numbers that are no text", all(&5.into())),
        ("null", all(&Value::Null)),
    ]
}

fn odd_bodies() -> Vec<Vec<u8>> {
    let texts = ["{}", "[]", "null", "17", "{\"clientID\":1,\"groupName\":[],\"mqSet\":{}}", "{\"clientID\":", "a=b\n"];
    let mut bodies: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.extend([vec![], vec![0xFF; 100], vec![0x7F; 100], vec![0; 100], "[".repeat(100_000).into_bytes()]);
    bodies
}

/// Sends all of `frames`, which have the numbers 0, 1, 2, ... Checks that each number is answered once, and returns
/// the codes of the answers.
fn answers(connection: &mut Connection, frames: &[Vec<u8>], what: &str) -> Vec<i64> {
    let mut codes = BTreeMap::new();
    for (first, frames) in frames.chunks(16).enumerate().map(|(chunk, frames)| (chunk * 16, frames)) {
        connection.write(&frames.concat()).unwrap();
        for _ in frames {
            let reply = connection.receive().unwrap_or_else(|error| panic!("{what}, from {first} on: {error}"));
            let twice = codes.insert(reply.opaque, reply.code);
            assert_eq!(twice, None, "{what}: request {} got a second answer", reply.opaque);
        }
    }
    // A further answer would come before this one.
    connection.write(&frame(GET_MAX_OFFSET, -5, 0, &json!({ "topic": "Good", "queueId": "0" }), &[])).unwrap();
    assert_eq!(connection.receive().unwrap().opaque, -5, "{what}: an answer too many");
    let answered: Vec<i64> = codes.keys().copied().collect();
    assert_eq!(answered, (0..frames.len() as i64).collect::<Vec<_>>(), "{what}");
    codes.into_values().collect()
}

fn codes() -> impl Iterator<Item = i32> {
    RequestCode::ALL.iter().map(|(code, _)| code.0)
}

#[test]
fn an_unknown_code_is_not_supported_and_the_connection_goes_on() {
    let (broker, mut good) = GoodClient::with_broker("unknown-code");
    let mut connection = Connection::open(&broker.address()).unwrap();
    let unknown = [0, -1, 9, 16, 999, 8192, 65_536, 199_999, i32::MAX, i32::MIN];
    let frames: Vec<_> =
        unknown.iter().zip(0..).map(|(code, opaque)| frame(*code, opaque, 0, &json!({}), b"body")).collect();
    let answered = answers(&mut connection, &frames, "unknown codes");
    assert!(answered.iter().all(|code| *code == REQUEST_CODE_NOT_SUPPORTED), "{answered:?}");
    good.goes_on("beside unknown codes");
    good.finish(&broker);
}

#[test]
fn every_request_is_answered_once_however_odd() {
    let (broker, mut good) = GoodClient::with_broker("odd");
    let (fields, bodies) = (odd_fields(), odd_bodies());
    let mut connection = Connection::open(&broker.address()).unwrap();
    connection.patience(Duration::from_secs(30)).unwrap();
    for code in codes() {
        let of_fields = fields.iter().map(|(_, fields)| (fields.clone(), &b"body"[..]));
        let of_bodies = bodies.iter().map(|body| (json!({ "topic": "Odd", "group": "G", "queueId": "0" }), &body[..]));
        let frames: Vec<_> = of_fields
            .chain(of_bodies)
            .zip(0..)
            .map(|((fields, body), opaque)| frame(code, opaque, 0, &fields, body))
            .collect();
        answers(&mut connection, &frames, &format!("code {code}"));
        good.goes_on(&format!("after code {code}"));
    }
    good.finish(&broker);
}

#[test]
fn a_one_way_request_gets_no_answer_however_odd() {
    let (broker, mut good) = GoodClient::with_broker("one-way");
    let mut connection = Connection::open(&broker.address()).unwrap();
    for code in codes().chain([-1, 999]) {
        for (_, fields) in odd_fields() {
            connection.write(&frame(code, 1, ONE_WAY, &fields, b"body")).unwrap();
        }
    }
    // A topic that is made is told to the name server before its answer would come: that has time, too.
    std::thread::sleep(Duration::from_millis(500));
    assert!(answers(&mut connection, &[], "one-way requests").is_empty());
    good.goes_on("beside one-way requests");
    good.finish(&broker);
}

#[test]
fn headers_that_are_odd_but_whole_are_answered() {
    let (broker, mut good) = GoodClient::with_broker("headers");
    let mut connection = Connection::open(&broker.address()).unwrap();
    let heads = [
        "{\"code\":10,\"opaque\":0}",
        "{\"opaque\":1,\"code\":10,\"flag\":0,\"language\":\"KLINGON\",\"version\":99999,\"serializeTypeCurrentRPC\":\"JSON\"}",
        "{\"code\":10,\"opaque\":2,\"extFields\":{},\"remark\":\"\\ud800\",\"more\":[{\"a\":[1,2.5e3,null]}]}",
        " {\"code\" : 10 , \"opaque\" : 3 , \"extFields\" : { \"topic\" : \"\\u0000\" , \"topic\" : \"twice\" } } ",
        "{\"code\":10,\"opaque\":4,\"extFields\":{\"queueId\":1,\"topic\":true,\"sysFlag\":1.5}}",
    ];
    let frames: Vec<_> = heads.iter().map(|head| frame_of(0, head.as_bytes(), b"x")).collect();
    let codes = answers(&mut connection, &frames, "odd headers");
    assert!(codes.iter().all(|code| *code != SUCCESS), "nothing was sent: {codes:?}");
    let beat = json!({ "clientID": "c", "producerDataSet": [], "consumerDataSet": [] }).to_string();
    let frames = [frame(HEART_BEAT, 0, 0, &Value::Null, beat.as_bytes())];
    assert_eq!(answers(&mut connection, &frames, "a heartbeat after them"), [SUCCESS]);
    assert_ne!(answers(&mut connection, &[frame(SEND_MESSAGE, 0, 0, &json!({}), &[])], "a send"), [SUCCESS]);
    good.goes_on("beside odd headers");
    good.finish(&broker);
}
