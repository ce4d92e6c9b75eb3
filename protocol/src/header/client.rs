//! Headers of client registration and of the calls between broker and client: 34, 35, 38, 40, 220, 221, 307, 309, 326.

use super::headers;

headers! {
    /// Answer to HEART_BEAT (34).
    pub struct HeartbeatResponseHeader {
        /// Whether this broker understands heartbeats without subscriptions.
        is_support_heart_beat_v2: Option<bool> => "IS_SUPPORT_HEART_BEAT_V2",
        /// Whether the group's subscription differs from the one announced.
        is_sub_change: Option<bool> => "IS_SUB_CHANGE",
    }

    /// UNREGISTER_CLIENT (35).
    pub struct UnregisterClientRequestHeader {
        /// Client that leaves.
        client_id: String => "clientID",
        /// Producer group it leaves.
        producer_group: Option<String> => "producerGroup",
        /// Consumer group it leaves.
        consumer_group: Option<String> => "consumerGroup",
    }

    /// GET_CONSUMER_LIST_BY_GROUP (38).
    pub struct GetConsumerListByGroupRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
    }

    /// NOTIFY_CONSUMER_IDS_CHANGED (40), broker to client.
    pub struct NotifyConsumerIdsChangedRequestHeader {
        /// Group whose members changed.
        consumer_group: String => "consumerGroup",
    }

    /// RESET_CONSUMER_CLIENT_OFFSET (220, broker to client) and INVOKE_BROKER_TO_RESET_OFFSET (222).
    pub struct ResetOffsetRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Group.
        group: String => "group",
        /// One queue, or -1 for all.
        queue_id: i32 => "queueId" or -1,
        /// The offset to set on that one queue.
        offset: Option<i64> => "offset",
        /// Milliseconds to go back to; -1: to the end.
        timestamp: i64 => "timestamp",
        /// Whether offsets may also go forward.
        is_force: bool => "isForce",
    }

    /// GET_CONSUMER_STATUS_FROM_CLIENT (221, broker to client) and INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223).
    pub struct GetConsumerStatusRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Group.
        group: String => "group",
        /// One client's id; absent or empty: all.
        client_addr: Option<String> => "clientAddr",
    }

    /// GET_CONSUMER_RUNNING_INFO (307), admin to broker to client.
    pub struct GetConsumerRunningInfoRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Client.
        client_id: String => "clientId",
        /// Whether its stack traces are wanted.
        jstack_enable: bool => "jstackEnable" or false,
    }

    /// CONSUME_MESSAGE_DIRECTLY (309), admin to broker to client.
    pub struct ConsumeMessageDirectlyResultRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Client; absent: any member of the group.
        client_id: Option<String> => "clientId",
        /// Offset message id of the message to consume.
        msg_id: Option<String> => "msgId",
        /// Broker that holds it; set by the broker.
        broker_name: Option<String> => "brokerName",
        /// Topic.
        topic: Option<String> => "topic",
        /// Flags of the topic; set by the broker.
        topic_sys_flag: Option<i32> => "topicSysFlag",
        /// Flags of the group; set by the broker.
        group_sys_flag: Option<i32> => "groupSysFlag",
    }

    /// PUSH_REPLY_MESSAGE_TO_CLIENT (326), broker to client.
    pub struct ReplyMessageRequestHeader {
        /// Producer group of the replier.
        producer_group: String => "producerGroup",
        /// Topic of the reply.
        topic: String => "topic",
        /// Template topic of the reply.
        default_topic: String => "defaultTopic",
        /// Queues wanted by the replier.
        default_topic_queue_nums: i32 => "defaultTopicQueueNums",
        /// Queue.
        queue_id: i32 => "queueId",
        /// System flag of the message.
        sys_flag: i32 => "sysFlag",
        /// Milliseconds of the replier's clock.
        born_timestamp: i64 => "bornTimestamp",
        /// User flag.
        flag: i32 => "flag",
        /// Property block.
        properties: Option<String> => "properties",
        /// Times consumed.
        reconsume_times: Option<i32> => "reconsumeTimes",
        /// Unit mode.
        unit_mode: bool => "unitMode" or false,
        /// `ip:port` of the replier.
        born_host: String => "bornHost",
        /// `ip:port` of the broker.
        store_host: String => "storeHost",
        /// Milliseconds of the broker's clock.
        store_timestamp: i64 => "storeTimestamp",
    }
}
