//! Frames whose bytes the Java implementation reads and writes exactly so (the protocol's golden vectors), and
//! properties that hold for any command: it survives both encodings, and no bytes make a decoder panic.

#![expect(clippy::unwrap_used, reason = "a test: what fails here shall fail loudly")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use waspmq_protocol::command::{Flags, Language};
use waspmq_protocol::header::{GetMaxOffsetRequestHeader, NotifyConsumerIdsChangedRequestHeader, SendMessageHeader};
use waspmq_protocol::header::{SendMessageRequestHeaderV2, SendMessageResponseHeader};
use waspmq_protocol::{
    Command, FRAME_BYTES_MAX, HeadWriter, HeaderKind, RemotingCommand, RequestCode, ResponseCode, frame,
};

const UNIQ_KEY: &str = "7F0000010001070DEA4E000000010000";

/// SEND_MESSAGE_V2, JSON.
const V1: &str = "000001640000015b7b22636f6465223a3331302c226578744669656c6473223a7b2261223a225047222c2262223a2254\
6f70696354657374222c2263223a22544257313032222c2264223a2234222c2265223a2231222c2266223a2230222c22\
67223a2231373030303030303030303030222c2268223a2230222c2269223a22554e49515f4b45595c75303030313746\
3030303030313030303130373044454134453030303030303031303030305c7530303032574149545c75303030317472\
75655c7530303032544147535c7530303031546167415c7530303032222c226a223a2230222c226b223a2266616c7365\
222c226d223a2266616c7365222c226e223a2262726f6b65722d61227d2c22666c6167223a302c226c616e6775616765\
223a224a415641222c226f7061717565223a312c2273657269616c697a655479706543757272656e74525043223a224a\
534f4e222c2276657273696f6e223a3437397d68656c6c6f";

/// Its answer.
const V2: &str = "0000011e0000011a7b22636f6465223a302c226578744669656c6473223a7b2271756575654964223a2231222c225452\
4143455f4f4e223a2274727565222c224d53475f524547494f4e223a2244656661756c74526567696f6e222c226d7367\
4964223a223746303030303031303030303241394630303030303030303030303031303030222c2271756575654f6666\
736574223a2237222c227472616e73616374696f6e4964223a2237463030303030313030303130373044454134453030\
30303030303130303030227d2c22666c6167223a312c226c616e6775616765223a224a415641222c226f706171756522\
3a312c2273657269616c697a655479706543757272656e74525043223a224a534f4e222c2276657273696f6e223a3437\
397d";

/// GET_MAX_OFFSET, ROCKETMQ.
const V3: &str = "0000003b01000037001e0001df000000020000000000000000000000220005746f70696300000009546f706963546573\
740007717565756549640000000133";

/// An answer with a remark, ROCKETMQ.
const V4: &str = "000000210100001d00110001df0000000200000001000000086e6f20746f70696300000000";

/// NOTIFY_CONSUMER_IDS_CHANGED, JSON.
const V8: &str = "00000087000000837b22636f6465223a34302c226578744669656c6473223a7b22636f6e73756d657247726f7570223a\
224347227d2c22666c6167223a322c226c616e6775616765223a224a415641222c226f7061717565223a392c22736572\
69616c697a655479706543757272656e74525043223a224a534f4e222c2276657273696f6e223a3437397d";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

/// Decodes borrowed and owned, checks that both agree and that encoding gives the same bytes back.
fn check(hex: &str) -> RemotingCommand {
    let frame = bytes(hex);
    let bounds = frame::split(&frame, FRAME_BYTES_MAX).unwrap().unwrap();
    assert_eq!(bounds.total, frame.len());
    let owned = RemotingCommand::decode(&frame).unwrap();
    assert_eq!(Command::decode(&frame, &bounds).unwrap().to_owned(), owned);
    assert_eq!(hex::encode(owned.encode()), hex);
    owned
}

#[test]
fn v1_send_request() {
    let command = check(V1);
    assert_eq!((command.request_code(), command.opaque, command.version), (RequestCode::SEND_MESSAGE_V2, 1, 479));
    assert_eq!((command.flags, command.language, &command.body[..]), (Flags::REQUEST, Language::JAVA, &b"hello"[..]));
    let properties = format!("UNIQ_KEY\u{1}{UNIQ_KEY}\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA\u{2}");
    let header = SendMessageRequestHeaderV2 {
        producer_group: "PG".into(),
        topic: "TopicTest".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: 1,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: Some(properties.clone()),
        reconsume_times: Some(0),
        unit_mode: Some(false),
        max_reconsume_times: None,
        batch: Some(false),
        broker_name: Some("broker-a".into()),
    };
    assert_eq!(command.header(), Ok(header.clone()));
    let built = RemotingCommand::request(RequestCode::SEND_MESSAGE_V2, &header).with_body("hello");
    assert_eq!(RemotingCommand { opaque: 1, ..built }, command);

    let frame = bytes(V1);
    let bounds = frame::split(&frame, FRAME_BYTES_MAX).unwrap().unwrap();
    let borrowed = Command::decode(&frame, &bounds).unwrap();
    let view = SendMessageHeader::decode(borrowed.request_code(), &borrowed.ext).unwrap();
    assert!(view.topic.eq_str("TopicTest") && view.broker_name.unwrap().eq_str("broker-a") && !view.batch);
    assert_eq!(view.properties.unwrap().to_cow(), properties);
    assert_eq!((view.queue_id, view.born_timestamp, view.max_reconsume_times), (1, 1_700_000_000_000, None));
}

#[test]
fn v2_send_answer() {
    let command = check(V2);
    assert_eq!((command.response_code(), command.flags, command.opaque), (ResponseCode::SUCCESS, Flags::RESPONSE, 1));
    let header: SendMessageResponseHeader = command.header().unwrap();
    assert_eq!((header.queue_id, header.queue_offset), (1, 7));
    assert_eq!(
        (header.msg_id.as_str(), header.transaction_id.as_deref()),
        ("7F00000100002A9F0000000000001000", Some(UNIQ_KEY))
    );

    let mut out = BytesMut::new();
    HeadWriter::response(&mut out, HeaderKind::Json, ResponseCode::SUCCESS, 1)
        .ext_i64("queueId", 1)
        .ext_str("TRACE_ON", "true")
        .ext_str("MSG_REGION", "DefaultRegion")
        .ext_str("msgId", "7F00000100002A9F0000000000001000")
        .ext_i64("queueOffset", 7)
        .ext_str("transactionId", UNIQ_KEY)
        .finish(0);
    assert_eq!(hex::encode(out), V2);
}

#[test]
fn v3_binary_request() {
    let command = check(V3);
    assert_eq!((command.kind, command.opaque, command.version), (HeaderKind::RocketMq, 2, 479));
    let header = GetMaxOffsetRequestHeader { topic: "TopicTest".into(), queue_id: 3, committed: true };
    assert_eq!((command.request_code(), command.header()), (RequestCode::GET_MAX_OFFSET, Ok(header)));
}

#[test]
fn v4_binary_answer_with_remark() {
    let command = check(V4);
    assert_eq!((command.response_code(), command.remark.as_deref()), (ResponseCode::TOPIC_NOT_EXIST, Some("no topic")));
    let mut out = BytesMut::new();
    HeadWriter::response(&mut out, HeaderKind::RocketMq, ResponseCode::TOPIC_NOT_EXIST, 2).remark("no topic").finish(0);
    assert_eq!(hex::encode(out), V4);
}

#[test]
fn v8_oneway_request_to_a_client() {
    let command = check(V8);
    assert!(command.flags.is_oneway() && !command.flags.is_response());
    let header = NotifyConsumerIdsChangedRequestHeader { consumer_group: "CG".into() };
    assert_eq!((command.request_code(), command.header()), (RequestCode::NOTIFY_CONSUMER_IDS_CHANGED, Ok(header)));
}

#[test]
fn v9_codes_above_16_bits_come_back_from_a_binary_header() {
    let mut command = RemotingCommand::request(RequestCode::POP_MESSAGE, &waspmq_protocol::header::NoHeader {});
    command.kind = HeaderKind::RocketMq;
    let frame = command.encode();
    assert_eq!(i16::from_be_bytes([frame[8], frame[9]]), 3442);
    assert_eq!(RemotingCommand::decode(&frame).unwrap().request_code(), RequestCode::POP_MESSAGE);
}

fn json(header: &str) -> Result<RemotingCommand, waspmq_protocol::command::DecodeError> {
    let mut frame = (4 + header.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
    frame.extend_from_slice(header.as_bytes());
    RemotingCommand::decode(&frame)
}

#[test]
fn json_headers_of_other_clients() {
    // The C++ client: numbers as values, a newline at the end, no version of the encoding.
    let cpp = json("{\"code\":310,\"extFields\":{\"a\":\"PG\",\"d\":4,\"e\":-1,\"k\":false,\"x\":null},\"flag\":0,\"language\":\"CPP\",\"opaque\":7,\"version\":333}\n").unwrap();
    assert_eq!((cpp.language, cpp.opaque, cpp.version), (Language::CPP, 7, 333));
    assert_eq!(
        (cpp.ext_value("d"), cpp.ext_value("e"), cpp.ext_value("k"), cpp.ext_value("x")),
        (Some("4"), Some("-1"), Some("false"), None)
    );
    // Any order, white space, unknown keys with anything in them, ordinals, numbers in quotes, nulls.
    let odd = json(" { \"zone\" : {\"a\":[1,{\"b\":\"]}\\\"\"}],\"c\":1.5e3} , \"remark\":null,\"version\":\"479\",\r\n\"language\":9,\"opaque\":-2147483648,\t\"flag\":3,\"extFields\":null,\"code\" : 17 } ").unwrap();
    assert_eq!(
        (odd.language, odd.opaque, odd.version, odd.flags, odd.code),
        (Language::GO, i32::MIN, 479, Flags(3), 17)
    );
    assert_eq!((odd.remark, odd.ext.len()), (None, 0));
    // Raw control characters and escapes mean the same.
    let raw = json("{\"code\":1,\"extFields\":{\"\\u0069\":\"A\u{1}B\u{2}\"},\"remark\":\"\\u4e2d文\"}").unwrap();
    assert_eq!((raw.ext_value("i"), raw.remark.as_deref()), (Some("A\u{1}B\u{2}"), Some("中文")));
    let nothing = json("{}").unwrap();
    assert_eq!((nothing.code, nothing.version, nothing.opaque, nothing.language), (0, 0, 0, Language::JAVA));
    assert_eq!(json("{\"language\":\"KLINGON\"}").unwrap().language, Language::OTHER);
}

#[test]
fn json_headers_that_are_none() {
    let cases = [
        "",
        "null",
        "[]",
        "{",
        "{\"code\"}",
        "{\"code\":}",
        "{\"code\":1,}",
        "{\"code\":1}x",
        "{\"code\":1}{}",
        "{code:1}",
        "{\"code\":2147483648}",
        "{\"code\":1.5}",
        "{\"code\":\"x\"}",
        "{\"code\":true}",
        "{\"code\":12a}",
        "{\"remark\":\"",
        "{\"remark\":\"\\",
        "{\"remark\":\"\\x\"}",
        "{\"remark\":\"\\u12\"}",
        "{\"remark\":\"\\u12g4\"}",
        "{\"a\":[1,2}",
        "{\"a\":nul}",
        "{\"a\":-}",
        "{\"extFields\":{\"a\":\"b\"}",
        "{\"extFields\":{\"a\" \"b\"}}",
    ];
    for header in cases {
        assert!(json(header).is_err(), "{header}");
    }
    let error = json("{\"code\":12a}").unwrap_err();
    assert_eq!(error.to_string(), "the JSON header is wrong at byte 10: expected a comma or a closing brace");
    let many: Vec<_> = (0..1025).map(|field| format!("\"{field}\":\"\"")).collect();
    assert!(json(&format!("{{\"extFields\":{{{}}}}}", many.join(","))).is_err());
    assert!(json(&format!("{{\"extFields\":{{{}}}}}", many[1..].join(","))).is_ok());
    assert!(json(&"[".repeat(100_000)).is_err());
    assert!(json(&format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000))).is_ok());
    let not_utf8 = [&[0, 0, 0, 7, 0, 0, 0, 3][..], b"{\xff}"].concat();
    assert!(RemotingCommand::decode(&not_utf8).is_err());
}

#[test]
fn binary_headers_that_are_none() {
    let frame = bytes(V3);
    let header = &frame[8..];
    let binary = |header: &[u8]| {
        let mut frame = (4 + header.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&(header.len() as u32 | 1 << 24).to_be_bytes());
        frame.extend_from_slice(header);
        RemotingCommand::decode(&frame)
    };
    assert!(binary(header).is_ok());
    for end in 0..header.len() {
        assert!(binary(&header[..end]).is_err(), "cut to {end} bytes");
    }
    // Lengths: of the remark at 13, of the fields at 17, of the first name at 21, of its value at 28.
    for (at, wrong) in [(13, -1), (13, 1000), (17, -1), (17, 35), (28, -1), (28, 1000)] {
        let mut damaged = header.to_vec();
        damaged[at..at + 4].copy_from_slice(&i32::to_be_bytes(wrong));
        assert!(binary(&damaged).is_err(), "{wrong} at {at}");
    }
    let mut damaged = header.to_vec();
    damaged[21..23].copy_from_slice(&(-1_i16).to_be_bytes());
    assert!(binary(&damaged).is_err());
}

#[test]
fn a_header_beyond_any_frame_becomes_an_error_answer() {
    let huge = "x".repeat(17 << 20);
    let long_name = "n".repeat(40_000);
    for (kind, name, value) in [
        (HeaderKind::Json, "a", huge.as_str()),
        (HeaderKind::RocketMq, "a", &huge),
        (HeaderKind::RocketMq, &long_name, "v"),
    ] {
        let mut out = BytesMut::from(&b"before"[..]);
        HeadWriter::response(&mut out, kind, ResponseCode::SUCCESS, 9).ext_str(name, value).finish(3);
        out.extend_from_slice(b"abc");
        let answer = RemotingCommand::decode(&out[6..]).unwrap();
        assert_eq!(
            (answer.response_code(), answer.opaque, &answer.body[..]),
            (ResponseCode::SYSTEM_ERROR, 9, &b"abc"[..])
        );
        assert!(answer.remark.unwrap().contains("more than a frame can hold"));
    }
}

fn any_command() -> impl Strategy<Value = RemotingCommand> {
    let text = || prop_oneof![".{0,40}", "[a-zA-Z0-9_]{0,20}", "[\\x00-\\x7f]{0,30}"];
    let fields = prop::collection::vec((text(), text()), 0..25);
    let numbers = (any::<i16>(), 0_u8..14, any::<i16>(), any::<i32>(), any::<i32>());
    (numbers, prop::option::of(text()), fields, prop::collection::vec(any::<u8>(), 0..50), any::<bool>()).prop_map(
        |((code, language, version, opaque, flag), remark, ext, body, json)| RemotingCommand {
            code: if flag & 1 == 1 { code.into() } else { RequestCode::from_binary(code).0 },
            language: Language(language),
            version: version.into(),
            opaque,
            flags: Flags(flag),
            remark: remark.filter(|remark| !remark.is_empty()),
            ext,
            body: Bytes::from(body),
            kind: if json { HeaderKind::Json } else { HeaderKind::RocketMq },
        },
    )
}

proptest! {
    #[test]
    fn any_command_survives_both_encodings(command in any_command()) {
        for kind in [HeaderKind::Json, HeaderKind::RocketMq] {
            let command = RemotingCommand { kind, ..command.clone() };
            let frame = command.encode();
            let bounds = frame::split(&frame, FRAME_BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(bounds.total, frame.len());
            let borrowed = Command::decode(&frame, &bounds).unwrap();
            prop_assert_eq!(&borrowed.to_owned(), &command);
            for (name, _) in &command.ext {
                let value = borrowed.ext.get(name).map(|value| value.to_cow());
                prop_assert_eq!(value.as_deref(), command.ext_value(name));
            }
        }
    }

    #[test]
    fn json_is_what_other_readers_read(command in any_command()) {
        let command = RemotingCommand { kind: HeaderKind::Json, ..command };
        let frame = command.encode();
        let bounds = frame::split(&frame, FRAME_BYTES_MAX).unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&frame[bounds.header]).unwrap();
        prop_assert_eq!(value["code"].as_i64(), Some(command.code.into()));
        prop_assert_eq!(value["remark"].as_str(), command.remark.as_deref());
        for (name, _) in &command.ext {
            prop_assert_eq!(value["extFields"][name].as_str(), command.ext_value(name));
        }
        let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        prop_assert!(keys.is_sorted(), "{:?}", keys);
    }

    #[test]
    fn mutated_frames_do_not_panic(command in any_command(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut frame = command.encode().to_vec();
        for (place, byte) in changes {
            let place = place.index(frame.len());
            frame[place] = byte;
        }
        if let Ok(command) = RemotingCommand::decode(&frame) {
            // What was read can be written and read again.
            prop_assert!(RemotingCommand::decode(&command.encode()).is_ok());
        }
    }

    #[test]
    fn bytes_of_any_kind_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), json_like in "[\\[\\]{}\":,\\\\ua-f0-9 ]{0,80}", kind in 0_u32..2) {
        for header in [bytes.as_slice(), json_like.as_bytes()] {
            let mut frame = (4 + header.len() as u32).to_be_bytes().to_vec();
            frame.extend_from_slice(&(header.len() as u32 | kind << 24).to_be_bytes());
            frame.extend_from_slice(header);
            if let Ok(command) = RemotingCommand::decode(&frame) {
                let _ = command.header::<SendMessageRequestHeaderV2>();
            }
        }
        let _ = RemotingCommand::decode(&bytes);
    }
}
