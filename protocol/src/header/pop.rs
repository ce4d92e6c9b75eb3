//! Headers of pop consumption: 200050 to 200055. Since RocketMQ 5.0.

use super::headers;

headers! {
    /// POP_MESSAGE (200050).
    pub struct PopMessageRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Topic.
        topic: String => "topic",
        /// Queue; -1: any of this broker.
        queue_id: i32 => "queueId",
        /// Most messages wanted, at most 32.
        max_msg_nums: i32 => "maxMsgNums",
        /// Milliseconds until messages that were not acknowledged come again.
        invisible_time: i64 => "invisibleTime",
        /// Milliseconds the broker may hold the request.
        poll_time: i64 => "pollTime",
        /// Milliseconds of the client's clock; 0: the broker takes its own.
        born_time: i64 => "bornTime" or 0,
        /// Where a new group starts: 0 at the oldest message, 1 at the newest.
        init_mode: i32 => "initMode",
        /// Expression type; absent: `TAG`.
        exp_type: Option<String> => "expType",
        /// Expression; absent: `*`.
        exp: Option<String> => "exp",
        /// Whether order is kept.
        order: bool => "order" or false,
        /// Tells repeated attempts of an ordered pop apart.
        attempt_id: Option<String> => "attemptId",
    }

    /// Answer to POP_MESSAGE.
    pub struct PopMessageResponseHeader {
        /// Milliseconds of the broker's clock.
        pop_time: i64 => "popTime",
        /// As asked for.
        invisible_time: i64 => "invisibleTime",
        /// Revive queue; 999: ordered.
        revive_qid: i32 => "reviveQid",
        /// Messages left, an estimate.
        rest_num: i64 => "restNum",
        /// `R Q START` entries joined by semicolons.
        start_offset_info: Option<String> => "startOffsetInfo",
        /// `R Q O1,O2` entries joined by semicolons.
        msg_offset_info: Option<String> => "msgOffsetInfo",
        /// Counts of an ordered pop.
        order_count_info: Option<String> => "orderCountInfo",
    }

    /// ACK_MESSAGE (200051).
    pub struct AckMessageRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Topic; the retry topic where the message came from it.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// The receipt handle (property `POP_CK`).
        extra_info: String => "extraInfo",
        /// Queue offset.
        offset: i64 => "offset",
    }

    /// CHANGE_MESSAGE_INVISIBLETIME (200053).
    pub struct ChangeInvisibleTimeRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// The receipt handle.
        extra_info: String => "extraInfo",
        /// Queue offset.
        offset: i64 => "offset",
        /// Milliseconds from now.
        invisible_time: i64 => "invisibleTime",
    }

    /// Answer to CHANGE_MESSAGE_INVISIBLETIME.
    pub struct ChangeInvisibleTimeResponseHeader {
        /// Milliseconds of the broker's clock.
        pop_time: i64 => "popTime",
        /// As asked for.
        invisible_time: i64 => "invisibleTime",
        /// Revive queue.
        revive_qid: i32 => "reviveQid",
    }

    /// NOTIFICATION (200054).
    pub struct NotificationRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// Milliseconds the broker may hold the request.
        poll_time: i64 => "pollTime",
        /// Milliseconds of the client's clock.
        born_time: i64 => "bornTime",
        /// Whether order is kept.
        order: bool => "order" or false,
        /// Tells repeated attempts apart.
        attempt_id: Option<String> => "attemptId",
    }

    /// Answer to NOTIFICATION.
    pub struct NotificationResponseHeader {
        /// Whether there is a message.
        has_msg: bool => "hasMsg",
        /// Whether the broker holds too many requests already.
        polling_full: bool => "pollingFull" or false,
    }

    /// POLLING_INFO (200055).
    pub struct PollingInfoRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
    }

    /// Answer to POLLING_INFO.
    pub struct PollingInfoResponseHeader {
        /// Requests held.
        polling_num: i32 => "pollingNum",
    }
}
