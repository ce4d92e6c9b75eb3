//! The body of CHECK_CLIENT_CONFIG: a consumer asks, once per subscription that is no tag filter, whether
//! the broker takes it.

use super::subscription_data::SubscriptionData;
use serde::{Deserialize, Serialize};

/// One subscription to be checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckClientConfig {
    /// Who asks.
    pub client_id: String,
    /// Its consumer group.
    pub group: String,
    /// Namespace of the first kind, where one is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The subscription.
    pub subscription_data: SubscriptionData,
}
