//! Consumer groups as a broker configures them: the answers and requests of the subscription group codes,
//! and the persisted subscriptionGroup.json.

use super::data_version::DataVersion;
use super::tolerant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of one consumer group. The default is that of a group created on its first heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupConfig {
    /// Since 5.0; stored without signs, requests prefix `+` or `-`.
    pub attributes: BTreeMap<String, String>,
    /// Broker id to read from.
    pub broker_id: i64,
    /// Whether the group may consume in broadcasting mode.
    pub consume_broadcast_enable: bool,
    /// False stops the group's pulls.
    pub consume_enable: bool,
    /// Whether a new group may begin at the first message.
    pub consume_from_min_enable: bool,
    /// Since 5.0: pops in order.
    pub consume_message_orderly: bool,
    /// Minutes a message may take to be consumed.
    pub consume_timeout_minute: i32,
    /// Name.
    pub group_name: String,
    /// Since 5.0: delays between retries of pop consumers.
    pub group_retry_policy: GroupRetryPolicy,
    /// 1 unit; legacy.
    pub group_sys_flag: i32,
    /// Whether members are told when others come and go.
    pub notify_consumer_ids_changed_enable: bool,
    /// Deliveries after the first before a message goes to the dead letters.
    pub retry_max_times: i32,
    /// Queues of the group's retry topic; 0 or less drops what should be retried.
    pub retry_queue_nums: i32,
    /// Subscriptions fixed by an administrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<Vec<FixedSubscription>>,
    /// Broker id suggested to a group that lags behind the memory.
    pub which_broker_when_consume_slowly: i64,
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: GroupRetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

impl SubscriptionGroupConfig {
    /// A group with the default settings.
    pub fn new(group: impl Into<String>) -> Self {
        Self { group_name: group.into(), ..Self::default() }
    }
}

/// A subscription fixed by an administrator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FixedSubscription {
    /// Expression.
    pub expression: String,
    /// `TAG`, `SQL92`, …
    pub expression_type: String,
    /// Topic.
    pub topic: String,
    /// Version.
    #[serde(deserialize_with = "tolerant::number")]
    pub version: i64,
}

named_enum! {
    /// Kind of a retry policy.
    RetryPolicyType {
        /// Each delay grows by a factor.
        Exponential = 0 "EXPONENTIAL",
        /// A list of delays.
        #[default]
        Customized = 1 "CUSTOMIZED",
    }
}

/// Delays between retries of pop consumers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupRetryPolicy {
    /// The list, if `policy_type` is customized and it is not the default list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<CustomizedRetryPolicy>,
    /// The growth, if `policy_type` is exponential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<ExponentialRetryPolicy>,
    /// Which of the two.
    #[serde(rename = "type")]
    pub policy_type: RetryPolicyType,
}

/// A list of delays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomizedRetryPolicy {
    /// Delays in order, ms.
    pub next: Vec<i64>,
}

/// Delays that grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExponentialRetryPolicy {
    /// First delay, ms.
    pub initial: i64,
    /// Largest delay, ms.
    pub max: i64,
    /// Factor.
    pub multiplier: i64,
}

impl Default for ExponentialRetryPolicy {
    fn default() -> Self {
        Self { initial: 5000, max: 7_200_000, multiplier: 2 }
    }
}

/// All groups of a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupTable {
    /// Version of the table.
    pub data_version: DataVersion,
    /// Group, then topic, to bits of what is forbidden (bit 2^index).
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// By group.
    pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
}

/// The request of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupList {
    /// The groups.
    pub group_config_list: Vec<SubscriptionGroupConfig>,
}

/// The answer of UPDATE_AND_GET_GROUP_FORBIDDEN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupForbidden {
    /// Group.
    pub group: String,
    /// Whether the group may read the topic.
    pub readable: bool,
    /// Topic.
    pub topic: String,
}
