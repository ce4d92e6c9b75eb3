//! The answer's body of GET_TOPIC_STATS_INFO: the bounds of a topic's queues on one broker.

use crate::java_json;
use crate::message::MessageQueue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bounds by queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStatsTable {
    /// By queue.
    #[serde(with = "java_json::queue_keys")]
    pub offset_table: BTreeMap<MessageQueue, TopicOffset>,
    /// Messages stored per second over the last minute; since 5.x.
    pub topic_put_tps: f64,
}

/// Bounds of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicOffset {
    /// Store time of the newest message, ms; 0 without one.
    pub last_update_timestamp: i64,
    /// One past the last offset.
    pub max_offset: i64,
    /// First offset.
    pub min_offset: i64,
}
