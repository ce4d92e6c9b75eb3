//! Every frame that Apache clients and the Apache broker exchanged in the recording `tests/traffic/*.jsonl`: it decodes,
//! it encodes back (same bytes in the binary header, same JSON value in the other), and its header is the typed one.

#![expect(clippy::unwrap_used, reason = "a test: what is recorded is known to be readable")]

use serde_json::Value;
use std::path::Path;
use waspmq_protocol::command::{CommandHeader, HeaderError};
use waspmq_protocol::header::*;
use waspmq_protocol::{Command, FRAME_BYTES_MAX, HeaderKind, RemotingCommand, RequestCode, frame};

struct Exchange {
    line: String,
    code: i32,
    request: Vec<u8>,
    reply: Option<Vec<u8>>,
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits =
        text.bytes().filter(|byte| *byte != b'=').map(|byte| DIGITS.iter().position(|digit| *digit == byte).unwrap());
    let mut bits = 0_usize;
    let mut bytes = Vec::new();
    for (place, digit) in digits.enumerate() {
        bits = bits << 6 | digit;
        if place % 4 > 0 {
            bytes.push((bits >> (6 - 2 * (place % 4))) as u8);
        }
    }
    bytes
}

/// The frame of one side of a recorded exchange.
fn frame_of(side: &Value) -> Vec<u8> {
    let head = side["head"].as_str().unwrap();
    let (kind, head) = if side["header"] == "JSON" { (0, head.as_bytes().to_vec()) } else { (1, base64(head)) };
    let body = match (side["body"].as_str(), side["body64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => base64(text),
        (None, None) => Vec::new(),
    };
    let mut frame = (4 + head.len() as u32 + body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(head.len() as u32 | kind << 24).to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(&body);
    frame
}

fn exchanges() -> Vec<Exchange> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/traffic");
    let mut exchanges = Vec::new();
    for name in ["broker", "client", "namesrv"] {
        let text = std::fs::read_to_string(folder.join(name).with_extension("jsonl")).unwrap();
        for (number, line) in text.lines().enumerate() {
            let value: Value = serde_json::from_str(line).unwrap();
            exchanges.push(Exchange {
                line: format!("{name}.jsonl:{}", number + 1),
                code: value["code"].as_i64().unwrap() as i32,
                request: frame_of(&value["request"]),
                reply: value["reply"].is_object().then(|| frame_of(&value["reply"])),
            });
        }
    }
    assert_eq!(exchanges.len(), 152);
    exchanges
}

fn check_round_trip(line: &str, frame: &[u8]) -> RemotingCommand {
    let bounds = frame::split(frame, FRAME_BYTES_MAX).unwrap().unwrap();
    assert_eq!(bounds.total, frame.len(), "{line}");
    let command = Command::decode(frame, &bounds).unwrap_or_else(|error| panic!("{line}: {error}")).to_owned();
    let again = command.encode();
    match command.kind {
        HeaderKind::RocketMq => assert_eq!(again, frame, "{line}"),
        HeaderKind::Json => {
            let value = |frame: &[u8]| {
                let bounds = frame::split(frame, FRAME_BYTES_MAX).unwrap().unwrap();
                let mut value: Value = serde_json::from_slice(&frame[bounds.header.clone()]).unwrap();
                // An empty object and none are the same: Java writes the former where a header class has no values.
                if value["extFields"] == serde_json::json!({}) {
                    value.as_object_mut().unwrap().shift_remove("extFields");
                }
                (value, frame[bounds.body].to_vec())
            };
            let (header, body) = value(frame);
            assert_eq!(header["serializeTypeCurrentRPC"], "JSON", "{line}");
            assert_eq!(value(&again), (header, body), "{line}");
        }
    }
    command
}

#[test]
fn every_recorded_frame_decodes_and_encodes_back() {
    for exchange in exchanges() {
        let request = check_round_trip(&exchange.line, &exchange.request);
        assert_eq!(request.code, exchange.code, "{}", exchange.line);
        if let Some(reply) = &exchange.reply {
            let reply = check_round_trip(&exchange.line, reply);
            assert!(reply.flags.is_response(), "{}", exchange.line);
            assert_eq!(reply.opaque, request.opaque, "{}", exchange.line);
        }
    }
}

/// Reads a header and compares what it writes with what was read: each of its fields, nothing made up.
fn check_header<H: CommandHeader>(command: &RemotingCommand) -> Result<(), HeaderError> {
    let header: H = command.header()?;
    header.encode(&mut |name, value| match command.ext_value(name) {
        Some(sent) => assert_eq!(sent, value, "field {name}"),
        None => assert!(matches!(value.as_ref(), "false" | "true" | "0" | "-1"), "{name} was not sent but has {value}"),
    });
    Ok(())
}

type Check = fn(&RemotingCommand) -> Result<(), HeaderError>;

/// The typed header of each recorded request; `None` where a request has no fields of its own.
fn check_of(code: RequestCode) -> Option<Check> {
    Some(match code {
        RequestCode::SEND_MESSAGE | RequestCode::SEND_REPLY_MESSAGE => check_header::<SendMessageRequestHeader>,
        RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE | RequestCode::SEND_REPLY_MESSAGE_V2 => {
            check_header::<SendMessageRequestHeaderV2>
        }
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => check_header::<PullMessageRequestHeader>,
        RequestCode::QUERY_MESSAGE => check_header::<QueryMessageRequestHeader>,
        RequestCode::QUERY_CONSUMER_OFFSET => check_header::<QueryConsumerOffsetRequestHeader>,
        RequestCode::UPDATE_CONSUMER_OFFSET => check_header::<UpdateConsumerOffsetRequestHeader>,
        RequestCode::UPDATE_AND_CREATE_TOPIC => check_header::<CreateTopicRequestHeader>,
        RequestCode::SEARCH_OFFSET_BY_TIMESTAMP => check_header::<SearchOffsetRequestHeader>,
        RequestCode::GET_MAX_OFFSET => check_header::<GetMaxOffsetRequestHeader>,
        RequestCode::GET_MIN_OFFSET => check_header::<GetMinOffsetRequestHeader>,
        RequestCode::GET_EARLIEST_MSG_STORETIME => check_header::<GetEarliestMsgStoretimeRequestHeader>,
        RequestCode::VIEW_MESSAGE_BY_ID => check_header::<ViewMessageRequestHeader>,
        RequestCode::UNREGISTER_CLIENT => check_header::<UnregisterClientRequestHeader>,
        RequestCode::CONSUMER_SEND_MSG_BACK => check_header::<ConsumerSendMsgBackRequestHeader>,
        RequestCode::END_TRANSACTION => check_header::<EndTransactionRequestHeader>,
        RequestCode::GET_CONSUMER_LIST_BY_GROUP => check_header::<GetConsumerListByGroupRequestHeader>,
        RequestCode::CHECK_TRANSACTION_STATE => check_header::<CheckTransactionStateRequestHeader>,
        RequestCode::NOTIFY_CONSUMER_IDS_CHANGED => check_header::<NotifyConsumerIdsChangedRequestHeader>,
        other => return admin_check_of(other),
    })
}

/// The same for what tools and name servers are asked.
fn admin_check_of(code: RequestCode) -> Option<Check> {
    Some(match code {
        RequestCode::PUT_KV_CONFIG => check_header::<PutKVConfigRequestHeader>,
        RequestCode::GET_KV_CONFIG => check_header::<GetKVConfigRequestHeader>,
        RequestCode::DELETE_KV_CONFIG => check_header::<DeleteKVConfigRequestHeader>,
        RequestCode::GET_KVLIST_BY_NAMESPACE => check_header::<GetKVListByNamespaceRequestHeader>,
        RequestCode::REGISTER_BROKER => check_header::<RegisterBrokerRequestHeader>,
        RequestCode::UNREGISTER_BROKER => check_header::<UnRegisterBrokerRequestHeader>,
        RequestCode::GET_ROUTEINFO_BY_TOPIC => check_header::<GetRouteInfoRequestHeader>,
        RequestCode::GET_TOPIC_STATS_INFO => check_header::<GetTopicStatsInfoRequestHeader>,
        RequestCode::GET_CONSUMER_CONNECTION_LIST => check_header::<GetConsumerConnectionListRequestHeader>,
        RequestCode::GET_PRODUCER_CONNECTION_LIST => check_header::<GetProducerConnectionListRequestHeader>,
        RequestCode::WIPE_WRITE_PERM_OF_BROKER => check_header::<WipeWritePermOfBrokerRequestHeader>,
        RequestCode::ADD_WRITE_PERM_OF_BROKER => check_header::<AddWritePermOfBrokerRequestHeader>,
        RequestCode::DELETE_SUBSCRIPTIONGROUP => check_header::<DeleteSubscriptionGroupRequestHeader>,
        RequestCode::GET_CONSUME_STATS => check_header::<GetConsumeStatsRequestHeader>,
        RequestCode::DELETE_TOPIC_IN_BROKER => check_header::<DeleteTopicRequestHeader>,
        RequestCode::DELETE_TOPIC_IN_NAMESRV => check_header::<DeleteTopicFromNamesrvRequestHeader>,
        RequestCode::REGISTER_TOPIC_IN_NAMESRV => check_header::<RegisterTopicRequestHeader>,
        RequestCode::RESET_CONSUMER_CLIENT_OFFSET | RequestCode::INVOKE_BROKER_TO_RESET_OFFSET => {
            check_header::<ResetOffsetRequestHeader>
        }
        RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT | RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => {
            check_header::<GetConsumerStatusRequestHeader>
        }
        RequestCode::GET_TOPICS_BY_CLUSTER => check_header::<GetTopicsByClusterRequestHeader>,
        RequestCode::QUERY_TOPIC_CONSUME_BY_WHO => check_header::<QueryTopicConsumeByWhoRequestHeader>,
        RequestCode::QUERY_CONSUME_TIME_SPAN => check_header::<QueryConsumeTimeSpanRequestHeader>,
        RequestCode::GET_CONSUMER_RUNNING_INFO => check_header::<GetConsumerRunningInfoRequestHeader>,
        RequestCode::QUERY_CORRECTION_OFFSET => check_header::<QueryCorrectionOffsetHeader>,
        RequestCode::CONSUME_MESSAGE_DIRECTLY => check_header::<ConsumeMessageDirectlyResultRequestHeader>,
        RequestCode::CLONE_GROUP_OFFSET => check_header::<CloneGroupOffsetRequestHeader>,
        RequestCode::VIEW_BROKER_STATS_DATA => check_header::<ViewBrokerStatsDataRequestHeader>,
        RequestCode::GET_BROKER_CONSUME_STATS => check_header::<GetConsumeStatsInBrokerHeader>,
        RequestCode::QUERY_CONSUME_QUEUE => check_header::<QueryConsumeQueueRequestHeader>,
        RequestCode::QUERY_DATA_VERSION => check_header::<QueryDataVersionRequestHeader>,
        RequestCode::RESUME_CHECK_HALF_MESSAGE => check_header::<ResumeCheckHalfMessageRequestHeader>,
        RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT => check_header::<ReplyMessageRequestHeader>,
        RequestCode::QUERY_TOPICS_BY_CONSUMER => check_header::<QueryTopicsByConsumerRequestHeader>,
        RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER => check_header::<QuerySubscriptionByConsumerRequestHeader>,
        RequestCode::GET_TOPIC_CONFIG => check_header::<GetTopicConfigRequestHeader>,
        RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG => check_header::<GetSubscriptionGroupConfigRequestHeader>,
        RequestCode::UPDATE_AND_GET_GROUP_FORBIDDEN => check_header::<UpdateGroupForbiddenRequestHeader>,
        RequestCode::GET_BROKER_MEMBER_GROUP => check_header::<GetBrokerMemberGroupRequestHeader>,
        RequestCode::BROKER_HEARTBEAT => check_header::<BrokerHeartbeatRequestHeader>,
        RequestCode::RECALL_MESSAGE => check_header::<RecallMessageRequestHeader>,
        RequestCode::POP_MESSAGE => check_header::<PopMessageRequestHeader>,
        RequestCode::ACK_MESSAGE => check_header::<AckMessageRequestHeader>,
        RequestCode::CHANGE_MESSAGE_INVISIBLETIME => check_header::<ChangeInvisibleTimeRequestHeader>,
        RequestCode::NOTIFICATION => check_header::<NotificationRequestHeader>,
        _ => return None,
    })
}

#[test]
fn every_recorded_request_has_its_typed_header() {
    let mut without = Vec::new();
    for exchange in exchanges() {
        let request = RemotingCommand::decode(&exchange.request).unwrap();
        match check_of(request.request_code()) {
            Some(check) => check(&request).unwrap_or_else(|error| panic!("{}: {error}", exchange.line)),
            // Fields that any request may carry do not count.
            None if request.ext.iter().all(|(name, _)| matches!(name.as_str(), "ReqT" | "ns" | "nsd" | "bname")) => {}
            None => without.push(format!("{} {} {:?}", exchange.line, request.request_code(), request.ext)),
        }
    }
    assert_eq!(without, Vec::<String>::new(), "requests with fields but without a typed header");
}

#[test]
fn the_hot_answers_have_their_typed_headers() {
    let mut seen = [0; 3];
    for exchange in exchanges() {
        let Some(reply) = &exchange.reply else { continue };
        let reply = RemotingCommand::decode(reply).unwrap();
        match RequestCode(exchange.code) {
            RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE
                if reply.code == 0 =>
            {
                seen[0] += 1;
                check_header::<SendMessageResponseHeader>(&reply).unwrap();
            }
            RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE if matches!(reply.code, 0 | 19 | 20 | 21) => {
                seen[1] += 1;
                check_header::<PullMessageResponseHeader>(&reply).unwrap();
            }
            RequestCode::POP_MESSAGE if reply.code == 0 => {
                seen[2] += 1;
                check_header::<PopMessageResponseHeader>(&reply).unwrap();
            }
            _ => {}
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
