//! Static topics: which broker holds which part of a logical queue. Carried in registrations, routes and
//! topic tables; a broker without static topics has empty tables.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The mapping of one topic on one broker. In routes and registrations `hosted_queues` is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicQueueMapping {
    /// Broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bname: Option<String>,
    /// Logical queue to physical queue, for those this broker leads.
    pub curr_id_map: BTreeMap<i32, i32>,
    /// Being moved.
    pub dirty: bool,
    /// Version of the mapping, ms.
    pub epoch: i64,
    /// Logical queue to the parts of it, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosted_queues: Option<BTreeMap<i32, Vec<LogicQueueItem>>>,
    /// Namespace of the mapping, normally `__global__`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Logical queues of the topic.
    pub total_queues: i32,
}

/// One part of a logical queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogicQueueItem {
    /// Broker that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bname: Option<String>,
    /// End in the physical queue; −1 while it is open.
    pub end_offset: i64,
    /// Generation.
    #[serde(rename = "gen")]
    pub generation: i32,
    /// Logical offset of its start.
    pub logic_offset: i64,
    /// Physical queue.
    pub queue_id: i32,
    /// Start in the physical queue.
    pub start_offset: i64,
    /// Time of its last message, ms; −1 unknown.
    pub time_of_end: i64,
    /// Time of its first message, ms; −1 unknown.
    pub time_of_start: i64,
}
