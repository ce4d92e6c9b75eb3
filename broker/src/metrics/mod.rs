//! What a running broker shows to Prometheus, at `http://host:5557/metrics` when `metricsExporterType=PROM`: names, labels
//! and units as RocketMQ 5 exports them, and with `waspmq_` in front what RocketMQ has no name for. Each part of the broker
//! brings a collector of its own; `http` serves what they say.

mod http;
mod store;

use std::net::IpAddr;

use prometheus_client::registry::Registry;

pub use http::Exporter;
pub use store::StoreMetrics;

/// Names of labels that metrics have without being told to.
pub const LABELS_TAKEN: [&str; 7] =
    ["cluster", "node_type", "node_id", "storage_type", "storage_medium", "level", "reason"];

/// Where metrics are served, and what every series carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `metricsPromExporterHost`; none: the address that clients are told.
    pub host: Option<IpAddr>,
    /// `metricsPromExporterPort`.
    pub port: u16,
    /// `metricsLabel`: names and values.
    pub labels: Vec<(String, String)>,
}

/// An empty registry whose series will carry what RocketMQ puts on each: cluster, kind and name of the node, and the
/// labels that the user added.
pub fn registry(cluster: &str, broker_name: &str, added: &[(String, String)]) -> Registry {
    let own = [("cluster", cluster), ("node_type", "broker"), ("node_id", broker_name)];
    let own = own.into_iter().map(|(name, value)| (name.to_owned().into(), value.to_owned().into()));
    let added = added.iter().map(|(name, value)| (name.clone().into(), value.clone().into()));
    Registry::with_labels(own.chain(added))
}
