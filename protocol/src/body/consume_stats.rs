//! How far groups are: the answers' bodies of GET_CONSUME_STATS and GET_BROKER_CONSUME_STATS.

use crate::java_json;
use crate::message::MessageQueue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStats {
    /// Messages delivered per second over the last minute.
    pub consume_tps: f64,
    /// By queue.
    #[serde(with = "java_json::queue_keys")]
    pub offset_table: BTreeMap<MessageQueue, ConsumeOffset>,
}

/// How far a group is in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeOffset {
    /// End of the queue.
    pub broker_offset: i64,
    /// Offset the group has committed.
    pub consumer_offset: i64,
    /// Store time of the last consumed message, ms; 0 unknown.
    pub last_timestamp: i64,
    /// Offset the group has pulled up to; since 5.x.
    pub pull_offset: i64,
}

/// All groups of a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerConsumeStats {
    /// The broker's address.
    pub broker_addr: String,
    /// One map for each group, with one entry: the group's stats, one per topic.
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    /// Messages not consumed yet, over all groups.
    pub total_diff: i64,
    /// Messages pulled but not committed, over all groups; since 5.x.
    pub total_inflight_diff: i64,
}
