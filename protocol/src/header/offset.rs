//! Headers of the offset requests: consumer offsets 14 and 15, queue offsets and times 29 to 32.

use super::headers;

headers! {
    /// QUERY_CONSUMER_OFFSET (14).
    pub struct QueryConsumerOffsetRequestHeader {
        /// Group whose offset is asked for.
        consumer_group: String => "consumerGroup",
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// `false`: a group without an offset gets QUERY_NOT_FOUND even where it might start at 0. Absent means true.
        set_zero_if_not_found: Option<bool> => "setZeroIfNotFound",
    }

    /// Answer to QUERY_CONSUMER_OFFSET.
    pub struct QueryConsumerOffsetResponseHeader {
        /// Next offset the group will consume.
        offset: i64 => "offset",
    }

    /// UPDATE_CONSUMER_OFFSET (15).
    pub struct UpdateConsumerOffsetRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// Next offset the group will consume.
        commit_offset: i64 => "commitOffset",
    }

    /// SEARCH_OFFSET_BY_TIMESTAMP (29).
    pub struct SearchOffsetRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// Store time searched for, milliseconds.
        timestamp: i64 => "timestamp",
        /// `lower` (first at or after, the default) or `upper` (last at or before).
        boundary_type: Option<String> => "boundaryType",
    }

    /// Answer to SEARCH_OFFSET_BY_TIMESTAMP.
    pub struct SearchOffsetResponseHeader {
        /// The offset found.
        offset: i64 => "offset",
    }

    /// GET_MAX_OFFSET (30).
    pub struct GetMaxOffsetRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// Whether only offsets that consumers may see count.
        committed: bool => "committed" or true,
    }

    /// Answer to GET_MAX_OFFSET.
    pub struct GetMaxOffsetResponseHeader {
        /// The next offset to be assigned.
        offset: i64 => "offset",
    }

    /// GET_MIN_OFFSET (31).
    pub struct GetMinOffsetRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
    }

    /// Answer to GET_MIN_OFFSET.
    pub struct GetMinOffsetResponseHeader {
        /// The first offset still there; -1 without such a queue.
        offset: i64 => "offset",
    }

    /// GET_EARLIEST_MSG_STORETIME (32).
    pub struct GetEarliestMsgStoretimeRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
    }

    /// Answer to GET_EARLIEST_MSG_STORETIME.
    pub struct GetEarliestMsgStoretimeResponseHeader {
        /// Milliseconds; -1 when the queue is empty.
        timestamp: i64 => "timestamp",
    }
}
