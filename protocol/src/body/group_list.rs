//! The answer's body of QUERY_TOPIC_CONSUME_BY_WHO: groups that consume a topic.

use serde::{Deserialize, Serialize};

/// Groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupList {
    /// The names.
    pub group_list: Vec<String>,
}
