//! Names of topics: the answers' bodies of the topic list codes of nameserver and broker.

use serde::{Deserialize, Serialize};

/// Topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicList {
    /// Some broker's address, in the nameserver's list of system topics and in QUERY_TOPICS_BY_CONSUMER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    /// The names.
    pub topic_list: Vec<String>,
}
