//! Headers of looking up messages: by key 12, by offset message id 33; and of sending one back, 36.

use super::headers;

headers! {
    /// QUERY_MESSAGE (12). Whether the key is a unique id stands in the ext field `_UNIQUE_KEY_QUERY`.
    pub struct QueryMessageRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Key or unique id.
        key: String => "key",
        /// Most messages wanted.
        max_num: i32 => "maxNum",
        /// Store time from, milliseconds.
        begin_timestamp: i64 => "beginTimestamp",
        /// Store time to, milliseconds.
        end_timestamp: i64 => "endTimestamp",
        /// Whether `key` is a unique id.
        unique_key_query: bool => "_UNIQUE_KEY_QUERY" or false,
    }

    /// Answer to QUERY_MESSAGE.
    pub struct QueryMessageResponseHeader {
        /// Store time of the newest indexed message, milliseconds.
        index_last_update_timestamp: i64 => "indexLastUpdateTimestamp",
        /// Physical offset of the newest indexed message.
        index_last_update_phyoffset: i64 => "indexLastUpdatePhyoffset",
    }

    /// VIEW_MESSAGE_BY_ID (33).
    pub struct ViewMessageRequestHeader {
        /// Topic; sent by 5.3 and later.
        topic: Option<String> => "topic",
        /// Physical offset.
        offset: i64 => "offset",
    }

    /// CONSUMER_SEND_MSG_BACK (36).
    pub struct ConsumerSendMsgBackRequestHeader {
        /// Physical offset of the message that was not consumed.
        offset: i64 => "offset",
        /// Consumer group.
        group: String => "group",
        /// Below 0: to the dead letters; 0: the broker chooses; above 0: this level.
        delay_level: i32 => "delayLevel",
        /// The client's id of the message; not used to find it.
        origin_msg_id: Option<String> => "originMsgId",
        /// Topic it was consumed from.
        origin_topic: Option<String> => "originTopic",
        /// Unit mode.
        unit_mode: bool => "unitMode" or false,
        /// Most deliveries; replaces the group's own limit.
        max_reconsume_times: Option<i32> => "maxReconsumeTimes",
        /// Name of the broker that is meant.
        broker_name: Option<String> => "bname",
    }
}
