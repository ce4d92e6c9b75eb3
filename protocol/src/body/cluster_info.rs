//! The answer's body of GET_BROKER_CLUSTER_INFO: all brokers a nameserver knows.

use super::topic_route::BrokerData;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Brokers and clusters. Written with bare broker ids for every client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInfo {
    /// By broker name.
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    /// Cluster to the names of its brokers.
    pub cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
}
