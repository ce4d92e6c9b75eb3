//! Typed headers from any fields: every header of the protocol, and the two borrowed views. What decodes has to encode
//! and decode to the same. The input is text: one `name=value` a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::RequestCode;
use waspmq_protocol::command::{CommandHeader, ExtFields};
use waspmq_protocol::header::*;

fn check<H: CommandHeader + PartialEq + std::fmt::Debug>(ext: &ExtFields<'_>) {
    let Ok(header) = H::decode(ext) else { return };
    let mut fields = Vec::new();
    header.encode(&mut |name, value| fields.push((name, value.into_owned())));
    let again: ExtFields<'_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(H::decode(&again).as_ref(), Ok(&header));
}

macro_rules! check_all {
    ($ext:expr, $($header:ty),+ $(,)?) => { $(check::<$header>($ext);)+ };
}

fuzz_target!(|text: &str| {
    let ext: ExtFields<'_> = text.lines().filter_map(|line| line.split_once('=')).collect();
    check_all!(
        &ext,
        AckMessageRequestHeader,
        BrokerHeartbeatRequestHeader,
        ChangeInvisibleTimeRequestHeader,
        CheckTransactionStateRequestHeader,
        CloneGroupOffsetRequestHeader,
        ConsumeMessageDirectlyResultRequestHeader,
        ConsumerSendMsgBackRequestHeader,
        CreateTopicRequestHeader,
        EndTransactionRequestHeader,
        GetMaxOffsetRequestHeader,
        GetRouteInfoRequestHeader,
        NotificationRequestHeader,
        PopMessageRequestHeader,
        PullMessageRequestHeader,
        PullMessageResponseHeader,
        PutKVConfigRequestHeader,
        QueryConsumeQueueRequestHeader,
        QueryMessageRequestHeader,
        RegisterBrokerRequestHeader,
        ReplyMessageRequestHeader,
        ResetOffsetRequestHeader,
        SearchOffsetRequestHeader,
        SendMessageRequestHeader,
        SendMessageRequestHeaderV2,
        SendMessageResponseHeader,
    );
    // The views of the hot path read what the owned headers read.
    for code in [RequestCode::SEND_MESSAGE, RequestCode::SEND_MESSAGE_V2] {
        let _ = SendMessageHeader::decode(code, &ext);
    }
    if let Ok(header) = SendMessageRequestHeaderV2::decode(&ext)
        && let Ok(view) = SendMessageHeader::decode(RequestCode::SEND_MESSAGE_V2, &ext)
        && !text.contains("queueId")
    {
        assert_eq!(view.queue_id, header.queue_id);
    }
    if let Ok(header) = PullMessageRequestHeader::decode(&ext) {
        let view = PullMessageHeader::decode(&ext).expect("the owned header is the stricter one");
        assert!(view.topic.eq_str(&header.topic) && view.queue_offset == header.queue_offset);
    }
});
