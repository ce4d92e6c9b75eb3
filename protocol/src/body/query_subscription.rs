//! The answer's body of QUERY_SUBSCRIPTION_BY_CONSUMER: what a group wants of a topic.

use super::subscription_data::SubscriptionData;
use serde::{Deserialize, Serialize};

/// One group and one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QuerySubscription {
    /// Group.
    pub group: String,
    /// Absent if the group is not online or does not subscribe the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
    /// Topic.
    pub topic: String,
}
