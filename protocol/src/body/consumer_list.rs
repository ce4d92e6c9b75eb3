//! The answer's body of GET_CONSUMER_LIST_BY_GROUP: all members of a consumer group.

use serde::{Deserialize, Serialize};

/// Client ids of a group's members; every client sorts them and takes its share of the queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerList {
    /// The ids.
    pub consumer_id_list: Vec<String>,
}
