//! Topics of a broker: the answers of GET_TOPIC_CONFIG and GET_ALL_TOPIC_CONFIG, the request of
//! UPDATE_AND_CREATE_TOPIC_LIST, part of REGISTER_BROKER, and the persisted topics.json.

use super::data_version::DataVersion;
use super::topic_queue_mapping::TopicQueueMapping;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bit of `perm`: new topics may be made after this one.
pub const PERM_INHERIT: i32 = 1;
/// Bit of `perm`: producers see its queues.
pub const PERM_WRITE: i32 = 2;
/// Bit of `perm`: consumers see its queues.
pub const PERM_READ: i32 = 4;
/// Bit of `perm`: legacy.
pub const PERM_PRIORITY: i32 = 8;

named_enum! {
    /// Whether messages of a topic have one tag or several.
    TopicFilterType {
        /// One.
        #[default]
        SingleTag = 0 "SINGLE_TAG",
        /// Several.
        MultiTag = 1 "MULTI_TAG",
    }
}

/// One topic on one broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfig {
    /// Since 5.0: message type, clean-up policy and so on. Stored without signs; requests prefix `+` or `-`.
    pub attributes: BTreeMap<String, String>,
    /// Only in the answer of GET_TOPIC_CONFIG for a static topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping_detail: Option<TopicQueueMapping>,
    /// Created as an ordered topic.
    pub order: bool,
    /// The `PERM_…` bits.
    pub perm: i32,
    /// Queues that consumers see.
    pub read_queue_nums: i32,
    /// One tag or several.
    pub topic_filter_type: TopicFilterType,
    /// Name.
    pub topic_name: String,
    /// 1 unit, 2 unit subscription; legacy.
    pub topic_sys_flag: i32,
    /// Queues that producers see.
    pub write_queue_nums: i32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            mapping_detail: None,
            order: false,
            perm: PERM_READ | PERM_WRITE,
            read_queue_nums: 16,
            topic_filter_type: TopicFilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

impl TopicConfig {
    /// A topic with that many queues for reading and writing.
    pub fn new(topic: impl Into<String>, queues: i32, perm: i32) -> Self {
        Self { topic_name: topic.into(), read_queue_nums: queues, write_queue_nums: queues, perm, ..Self::default() }
    }
}

/// All topics of a broker, or those of them that a registration is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigTable {
    /// Version of the table.
    pub data_version: DataVersion,
    /// Version of the mappings; on the wire since 5.0, not in topics.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping_data_version: Option<DataVersion>,
    /// By topic.
    pub topic_config_table: BTreeMap<String, TopicConfig>,
    /// Static topics with all parts; on the wire since 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_detail_map: Option<BTreeMap<String, TopicQueueMapping>>,
    /// Static topics in short; on the wire since 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_info_map: Option<BTreeMap<String, TopicQueueMapping>>,
}

impl TopicConfigTable {
    /// As 5.x brokers put it on the wire when there are no static topics.
    pub fn new(data_version: DataVersion, topics: impl IntoIterator<Item = TopicConfig>) -> Self {
        Self {
            data_version,
            mapping_data_version: Some(DataVersion::default()),
            topic_config_table: topics.into_iter().map(|topic| (topic.topic_name.clone(), topic)).collect(),
            topic_queue_mapping_detail_map: Some(BTreeMap::new()),
            topic_queue_mapping_info_map: Some(BTreeMap::new()),
        }
    }
}

/// The request of UPDATE_AND_CREATE_TOPIC_LIST.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigList {
    /// The topics; all are created or none.
    pub topic_config_list: Vec<TopicConfig>,
}
