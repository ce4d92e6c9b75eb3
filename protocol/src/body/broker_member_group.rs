//! The answer's body of GET_BROKER_MEMBER_GROUP: a master and its slaves.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerMemberGroupAnswer {
    /// The group; absent if the broker's name is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_member_group: Option<BrokerMemberGroup>,
}

/// Brokers of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerMemberGroup {
    /// Broker id (0 is the master) to address.
    pub broker_addrs: BTreeMap<i64, String>,
    /// The name they share.
    pub broker_name: String,
    /// Cluster.
    pub cluster: String,
}
