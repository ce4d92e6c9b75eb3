//! The answer's body of QUERY_CONSUME_QUEUE: entries of a consume queue, for tools.

use super::subscription_data::SubscriptionData;
use serde::{Deserialize, Serialize};

/// Some entries of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeQueueEntries {
    /// The group's compiled filter as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_data: Option<String>,
    /// End of the queue.
    pub max_queue_index: i64,
    /// Start of the queue.
    pub min_queue_index: i64,
    /// The entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_data: Option<Vec<ConsumeQueueEntry>>,
    /// The group's subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
}

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeQueueEntry {
    /// Filter bits of the entry's extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_map: Option<String>,
    /// Whether the group's filter keeps it.
    pub eval: bool,
    /// The entry's extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_data_json: Option<String>,
    /// Why it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// Offset of the record in the commit log.
    pub physic_offset: i64,
    /// Size of the record.
    pub physic_size: i32,
    /// Tags code.
    pub tags_code: i64,
}
