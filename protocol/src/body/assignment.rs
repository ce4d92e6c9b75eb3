//! Balancing by the broker: the bodies of QUERY_ASSIGNMENT, SET_MESSAGE_REQUEST_MODE and
//! GET_ALL_MESSAGE_REQUEST_MODE, and the persisted messageRequestMode.json.

use super::heartbeat::MessageModel;
use crate::message::MessageQueue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

named_enum! {
    /// How a group gets a topic's messages.
    MessageRequestMode {
        /// By pulls, each queue by one member.
        #[default]
        Pull = 0 "PULL",
        /// By pops, each queue by several.
        Pop = 1 "POP",
    }
}

/// The request of QUERY_ASSIGNMENT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignment {
    /// Who asks.
    pub client_id: String,
    /// Its group.
    pub consumer_group: String,
    /// The group's model.
    pub message_model: MessageModel,
    /// `AVG`, `AVG_BY_CIRCLE`, …
    pub strategy_name: String,
    /// Topic.
    pub topic: String,
}

/// The answer of QUERY_ASSIGNMENT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Assignments {
    /// The caller's queues.
    pub message_queue_assignments: Vec<Assignment>,
}

/// One queue of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Assignment {
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<BTreeMap<String, String>>,
    /// The queue.
    pub message_queue: MessageQueue,
    /// Pull or pop.
    pub mode: MessageRequestMode,
}

/// The request of SET_MESSAGE_REQUEST_MODE and an entry of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestModeSetting {
    /// Group.
    pub consumer_group: String,
    /// Pull or pop.
    pub mode: MessageRequestMode,
    /// Queues that members share in pop mode.
    pub pop_share_queue_num: i32,
    /// Topic.
    pub topic: String,
}

/// All settings of a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestModeTable {
    /// Topic, then group.
    pub message_request_mode_map: BTreeMap<String, BTreeMap<String, RequestModeSetting>>,
}
