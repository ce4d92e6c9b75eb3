//! Names of message properties that have a meaning in RocketMQ. Users may not set these themselves.
//!
//! The values live in the property block (`properties`). Names, spelling and letter case are the protocol's.

macro_rules! properties {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $text;)+

        /// Every name above: those a client must not use for its own properties.
        pub const RESERVED: &[&str] = &[$($text),+];
    };
}

properties! {
    /// Blank-separated index keys (producer).
    KEYS = "KEYS";
    /// The tag; consumers filter by its hash (producer).
    TAGS = "TAGS";
    /// `false`: do not wait for flush and replication (producer).
    WAIT = "WAIT";
    /// Delay level from 1 (producer, broker).
    DELAY = "DELAY";
    /// Original topic of a message under retry (broker, consumer).
    RETRY_TOPIC = "RETRY_TOPIC";
    /// Topic to deliver a scheduled or half message to (broker).
    REAL_TOPIC = "REAL_TOPIC";
    /// Queue to deliver a scheduled or half message to (broker).
    REAL_QID = "REAL_QID";
    /// `true` marks a half message (producer).
    TRAN_MSG = "TRAN_MSG";
    /// Producer group, asked for the outcome of a transaction (producer).
    PGROUP = "PGROUP";
    /// First offset of the queue at the time of the pull; not stored (consumer).
    MIN_OFFSET = "MIN_OFFSET";
    /// End of the queue at the time of the pull; not stored (consumer).
    MAX_OFFSET = "MAX_OFFSET";
    /// Legacy (producer).
    BUYER_ID = "BUYER_ID";
    /// Id of the first delivery of a retried message (broker, consumer).
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID";
    /// Legacy; used by the proxy.
    TRANSFER_FLAG = "TRANSFER_FLAG";
    /// Legacy.
    CORRECTION_FLAG = "CORRECTION_FLAG";
    /// Legacy.
    MQ2_FLAG = "MQ2_FLAG";
    /// Times consumed already, moved into the header before sending (consumer).
    RECONSUME_TIME = "RECONSUME_TIME";
    /// Limit of retries, moved into the header before sending (consumer).
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES";
    /// Region id (broker).
    MSG_REGION = "MSG_REGION";
    /// `true` or `false`: clients trace unless `false` (broker).
    TRACE_ON = "TRACE_ON";
    /// The message id that users see; always indexed (producer; broker if absent).
    UNIQ_KEY = "UNIQ_KEY";
    /// Reserved.
    EXTEND_UNIQ_INFO = "EXTEND_UNIQ_INFO";
    /// Start of local consumption, ms; not stored (consumer).
    CONSUME_START_TIME = "CONSUME_START_TIME";
    /// Messages in an inner batch (broker).
    INNER_NUM = "INNER_NUM";
    /// Base offset of an inner batch (broker).
    INNER_BASE = "INNER_BASE";
    /// Data of the duplicate check (broker).
    DUP_INFO = "DUP_INFO";
    /// Seconds before the first transaction check of this message (producer).
    CHECK_IMMUNITY_TIME_IN_SECONDS = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    /// Queue offset of the first half record of a checked half message (broker).
    TRAN_PREPARED_QUEUE_OFFSET = "TRAN_PREPARED_QUEUE_OFFSET";
    /// Transaction id, equal to UNIQ_KEY (broker).
    TRANSACTION_ID = "__transactionId__";
    /// Times a half message was checked (broker).
    TRANSACTION_CHECK_TIMES = "TRANSACTION_CHECK_TIMES";
    /// Legacy.
    INSTANCE_ID = "INSTANCE_ID";
    /// Ties a reply to its request (requester).
    CORRELATION_ID = "CORRELATION_ID";
    /// Client id that a reply goes to (requester).
    REPLY_TO_CLIENT = "REPLY_TO_CLIENT";
    /// How long a requester waits, ms (requester).
    TTL = "TTL";
    /// Arrival of a reply, ms (requester).
    ARRIVE_TIME = "ARRIVE_TIME";
    /// Push of a reply, ms (broker).
    PUSH_REPLY_TIME = "PUSH_REPLY_TIME";
    /// Cluster name (broker).
    CLUSTER = "CLUSTER";
    /// `reply` on a reply message (replier).
    MSG_TYPE = "MSG_TYPE";
    /// Receipt handle of a popped message (broker, consumer).
    POP_CK = "POP_CK";
    /// Reserved.
    POP_CK_OFFSET = "POP_CK_OFFSET";
    /// First pop, ms (broker, consumer).
    FIRST_POP_TIME = "1ST_POP_TIME";
    /// Ordering key (producer).
    SHARDING_KEY = "__SHARDINGKEY";
    /// Legacy.
    FORWARD_QUEUE_ID = "PROPERTY_FORWARD_QUEUE_ID";
    /// Legacy.
    REDIRECT = "REDIRECT";
    /// Comma-joined light queues (producer).
    INNER_MULTI_DISPATCH = "INNER_MULTI_DISPATCH";
    /// Comma-joined offsets in the light queues (broker).
    INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET";
    /// Trace context of gRPC clients, opaque.
    TRACE_CONTEXT = "TRACE_CONTEXT";
    /// Delay in seconds; strongest of the three timer properties (producer).
    TIMER_DELAY_SEC = "TIMER_DELAY_SEC";
    /// Delay in milliseconds (producer).
    TIMER_DELAY_MS = "TIMER_DELAY_MS";
    /// Time of delivery, ms; weakest of the three (producer).
    TIMER_DELIVER_MS = "TIMER_DELIVER_MS";
    /// Scheduled time, ms, floored to the timer's precision (broker).
    TIMER_OUT_MS = "TIMER_OUT_MS";
    /// Timer internals (broker).
    TIMER_ENQUEUE_MS = "TIMER_ENQUEUE_MS";
    /// Timer internals (broker).
    TIMER_DEQUEUE_MS = "TIMER_DEQUEUE_MS";
    /// Timer internals (broker).
    TIMER_ROLL_TIMES = "TIMER_ROLL_TIMES";
    /// Timer internals (broker).
    TIMER_DELAY_LEVEL = "TIMER_DELAY_LEVEL";
    /// Recall marker: topic `+` UNIQ_KEY.
    TIMER_DEL_UNIQKEY = "TIMER_DEL_UNIQKEY";
    /// Original born host of messages sent through gRPC.
    BORN_HOST = "__BORNHOST";
    /// Original born time, ms.
    BORN_TIMESTAMP = "BORN_TIMESTAMP";
    /// Optional checksum over the whole record, always the last entry (broker).
    CRC32 = "__CRC32#";
    /// Topic a dead letter came from (external).
    DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC";
    /// Id a dead letter had (external).
    DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_free_of_separators() {
        let distinct: std::collections::HashSet<_> = RESERVED.iter().collect();
        assert_eq!(distinct.len(), RESERVED.len());
        assert!(RESERVED.iter().all(|name| !name.contains(['\u{1}', '\u{2}']) && !name.is_empty()));
    }
}
