//! The answer's body of QUERY_CONSUME_TIME_SPAN: of what age the messages are that a group has not consumed.

use crate::message::MessageQueue;
use serde::{Deserialize, Serialize};

/// All queues of a topic on one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeTimeSpans {
    /// One per queue.
    pub consume_time_span_set: Vec<QueueTimeSpan>,
}

/// One queue. The texts are local times as `1970-01-01#00:00:00:001`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueTimeSpan {
    /// Store time of the last consumed message, ms.
    pub consume_time_stamp: i64,
    /// The same as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consume_time_stamp_str: Option<String>,
    /// How far behind the newest message that is, ms.
    pub delay_time: i64,
    /// Store time of the newest message, ms.
    pub max_time_stamp: i64,
    /// The same as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time_stamp_str: Option<String>,
    /// The queue.
    pub message_queue: MessageQueue,
    /// Store time of the oldest message, ms.
    pub min_time_stamp: i64,
    /// The same as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_time_stamp_str: Option<String>,
}
