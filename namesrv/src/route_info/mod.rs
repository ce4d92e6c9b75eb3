//! Brokers, clusters, topics and who is alive: what routes are made of. Pure: time comes in with each call, connections
//! are numbers. Changed by registrations (`registration`), by their end (`departure`) and by admins (`admin`), read by
//! route queries (`queries`).
//! Must hold: an address is in the table of brokers exactly as long as its process is in the table of the living, a
//! cluster names exactly its brokers, a topic names only known brokers, and all tables are bounded.

mod admin;
mod departure;
mod queries;
mod registration;
mod topics;

#[cfg(test)]
mod tests;

pub(crate) use queries::UnitTopics;
pub(crate) use registration::Registration;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use topics::Topics;
use waspmq_protocol::body::data_version::DataVersion;
use waspmq_protocol::body::topic_queue_mapping::TopicQueueMapping;
use waspmq_protocol::body::topic_route::BrokerData;

/// The broker id of a master.
const MASTER_ID: i64 = 0;

/// One broker process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BrokerKey {
    pub(crate) cluster: String,
    pub(crate) addr: String,
}

/// What is known of a broker process that is alive.
#[derive(Debug)]
struct LiveBroker {
    name: String,
    /// Monotonic time of its last word.
    seen: Duration,
    /// Silence after which it is forgotten.
    timeout: Duration,
    data_version: DataVersion,
    /// Connection it registered by; when that closes, the broker is gone.
    connection: u64,
    ha_server_addr: String,
}

/// All tables of the nameserver but the key-values.
#[derive(Debug, Default)]
pub(crate) struct RouteInfo {
    topics: Topics,
    /// Static topics: topic → broker name → mapping.
    mappings: HashMap<String, BTreeMap<String, TopicQueueMapping>>,
    brokers: BTreeMap<String, BrokerData>,
    clusters: BTreeMap<String, BTreeSet<String>>,
    live: HashMap<BrokerKey, LiveBroker>,
    /// Of the few brokers that have any.
    filter_servers: HashMap<BrokerKey, Vec<String>>,
}
