//! Checked values of all settings: numbers in range, paths known, addresses resolved.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waspmq_protocol::name;
use waspmq_settings::{Given, SettingValue, Warning};
use waspmq_store::{IndexShape, StoreConfig};

use super::keys::{BrokerRole, Keys, MetricsExporterType};
use super::retention;
use crate::metrics::MetricsConfig;

/// Clients of RocketMQ 4.4 send to the port so far below the listening port.
pub const VIP_PORT_BELOW: u16 = 2;

/// More queues than any cluster needs; each costs a consume queue.
pub const QUEUES_MAX: i32 = 65_536;

/// Where the name servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameServers {
    /// One inside this process, on this port.
    Inside {
        /// Port of the name server.
        port: u16,
    },
    /// Others, `host:port` each.
    Outside(Vec<String>),
}

/// Everything a broker needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `brokerName`.
    pub broker_name: String,
    /// `brokerId`; 0 is a master.
    pub broker_id: i64,
    /// `brokerIP1`; none: found on the machine.
    pub advertised: Option<IpAddr>,
    /// `bindAddress`.
    pub bind: IpAddr,
    /// `listenPort`; clients of RocketMQ 4.4 also use the port two below.
    pub listen_port: u16,
    /// `namesrvAddr`, or one inside.
    pub name_servers: NameServers,
    /// `registerNameServerPeriod`.
    pub register_every: Duration,
    /// `brokerPermission`: 4 read, 2 write.
    pub permission: i32,
    /// Files and flushing.
    pub store: StoreConfig,
    /// The data folder.
    pub root: PathBuf,
    /// Where tables lie (`config` in the data folder).
    pub tables: PathBuf,
    /// `autoCreateTopicEnable`.
    pub auto_create_topic: bool,
    /// `defaultTopicQueueNums`.
    pub default_topic_queues: i32,
    /// `clusterTopicEnable`.
    pub cluster_topic: bool,
    /// `brokerTopicEnable`.
    pub broker_topic: bool,
    /// `msgTraceTopicName`, when `traceTopicEnable`.
    pub trace_topic: Option<String>,
    /// `autoCreateSubscriptionGroup`.
    pub auto_create_group: bool,
    /// `notifyConsumerIdsChangedEnable`.
    pub notify_changes: bool,
    /// `enablePropertyFilter`: subscriptions other than tags. On unless switched off, unlike RocketMQ.
    pub property_filter: bool,
    /// `longPollingEnable`.
    pub long_polling: bool,
    /// `shortPollingTimeMills`.
    pub short_polling_ms: i64,
    /// `maxHeldPulls`.
    pub held_pulls_max: usize,
    /// `litePullMessageEnable`.
    pub lite_pull: bool,
    /// `maxTransferCountOnMessageInMemory`.
    pub pull_count_max: usize,
    /// `maxTransferBytesOnMessageInMemory`.
    pub pull_bytes_max: usize,
    /// `flushConsumerOffsetInterval`.
    pub persist_offsets_every: Duration,
    /// `syncFlushTimeout`.
    pub sync_flush_timeout: Duration,
    /// `regionId`.
    pub region: String,
    /// `traceOn`.
    pub trace_on: bool,
    /// `metricsExporterType` and what belongs to it; none: nobody sees metrics.
    pub metrics: Option<MetricsConfig>,
    /// `--plugins`.
    pub plugins: Option<PathBuf>,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no properties file.
    #[error("the configuration file {path} cannot be understood: {source}")]
    NoProperties {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        source: waspmq_settings::PropertiesError,
    },
    /// A value is not of the setting's type.
    #[error(transparent)]
    Type(#[from] waspmq_settings::ValueError),
    /// A value is not what the key takes.
    #[error("{key}={value}: {reason}")]
    Value {
        /// The setting.
        key: String,
        /// What was given.
        value: String,
        /// What it should be.
        reason: String,
    },
}

/// A key that names what this version does not do, where leaving it out silently would be worse than not starting.
fn refuse_what_is_not_served(keys: &Keys) -> Result<(), ConfigError> {
    let refuse = |key: &str, value: String, reason: &str| {
        Err(ConfigError::Value { key: key.to_owned(), value, reason: reason.to_owned() })
    };
    if keys.acl {
        return refuse(
            "aclEnable",
            "true".into(),
            "access control is not served in this version; nobody would be kept out",
        );
    }
    if keys.controller || keys.dledger {
        let key = if keys.controller { "enableControllerMode" } else { "enableDLegerCommitLog" };
        return refuse(key, "true".into(), "failover is not served in this version");
    }
    if keys.role != BrokerRole::AsyncMaster || keys.broker_id != 0 {
        let reason = "replication is not served in this version; only brokerRole=ASYNC_MASTER with brokerId=0 is";
        return refuse("brokerRole", keys.role.show(), reason);
    }
    Ok(())
}

/// Keys that users set to be safe and that do nothing yet; the start page says so.
const NOT_YET: [&str; 2] = ["messageDelayLevel", "transientStorePoolEnable"];

/// What deserves a word although the broker starts.
#[must_use]
pub fn notes(given: &[Given], warnings: &[Warning]) -> Vec<String> {
    let unknown = warnings.iter().map(ToString::to_string);
    let unseen = |given: &Given| given.name == "metricsExporterType" && matches!(&*given.value, "OTLP_GRPC" | "LOG");
    let idle = given.iter().filter(|given| NOT_YET.contains(&given.name.as_str()) || unseen(given));
    let idle = idle.map(|given| format!("{} is known but not applied in this version", given.name));
    unknown.chain(idle).chain(retention::clamped(given)).collect()
}

impl Config {
    /// Checks what the keys say.
    ///
    /// # Errors
    /// The first value that cannot be used, or that asks for what this version does not do.
    pub fn from_keys(keys: Keys) -> Result<Self, ConfigError> {
        refuse_what_is_not_served(&keys)?;
        let bad = |key: &str, value: String, reason: &str| ConfigError::Value {
            key: key.to_owned(),
            value,
            reason: reason.to_owned(),
        };
        name::check_topic(&keys.cluster)
            .map_err(|error| bad("brokerClusterName", keys.cluster.clone(), &error.to_string()))?;
        name::check_topic(&keys.broker_name)
            .map_err(|error| bad("brokerName", keys.broker_name.clone(), &error.to_string()))?;
        if keys.listen_port <= VIP_PORT_BELOW {
            return Err(bad(
                "listenPort",
                keys.listen_port.to_string(),
                "the port two below is needed too; take 3 or more",
            ));
        }
        if !(1..=QUEUES_MAX).contains(&keys.default_topic_queues) {
            return Err(bad("defaultTopicQueueNums", keys.default_topic_queues.to_string(), "1 to 65536 is expected"));
        }
        if keys.pull_count_max == 0 {
            return Err(bad("maxTransferCountOnMessageInMemory", "0".into(), "at least 1 is expected"));
        }
        let root = match keys.root.clone() {
            Some(root) => root,
            None => default_root()?,
        };
        let name_servers = match &keys.name_servers {
            None => NameServers::Inside { port: keys.inner_name_server_port },
            Some(list) => NameServers::Outside(addresses(list)?),
        };
        Ok(Self {
            store: store_config(&keys, &root),
            metrics: metrics(&keys),
            tables: root.join("config"),
            root,
            advertised: keys.advertised,
            bind: keys.bind,
            listen_port: keys.listen_port,
            name_servers,
            register_every: Duration::from_millis(keys.register_period_ms.clamp(10_000, 60_000)),
            permission: keys.permission,
            auto_create_topic: keys.auto_create_topic,
            default_topic_queues: keys.default_topic_queues,
            cluster_topic: keys.cluster_topic,
            broker_topic: keys.broker_topic,
            trace_topic: keys.trace_topic.then_some(keys.trace_topic_name),
            auto_create_group: keys.auto_create_group,
            notify_changes: keys.notify_changes,
            property_filter: keys.property_filter,
            long_polling: keys.long_polling,
            short_polling_ms: keys.short_polling_ms,
            held_pulls_max: keys.held_pulls_max,
            lite_pull: keys.lite_pull,
            pull_count_max: keys.pull_count_max,
            pull_bytes_max: keys.pull_bytes_max,
            persist_offsets_every: Duration::from_millis(keys.flush_offsets_ms.max(100)),
            sync_flush_timeout: Duration::from_millis(keys.sync_flush_timeout_ms),
            region: keys.region,
            trace_on: keys.trace_on,
            cluster: keys.cluster,
            broker_name: keys.broker_name,
            broker_id: keys.broker_id,
            plugins: None,
        })
    }
}

fn metrics(keys: &Keys) -> Option<MetricsConfig> {
    let shown = keys.metrics == MetricsExporterType::Prom;
    shown.then(|| MetricsConfig {
        host: keys.metrics_host,
        port: keys.metrics_port,
        labels: keys.metrics_labels.0.clone(),
    })
}

fn store_config(keys: &Keys, root: &Path) -> StoreConfig {
    StoreConfig {
        commit_log_dir: keys.commit_log.clone(),
        commit_log_file_bytes: keys.commit_log_file,
        consume_queue_file_bytes: keys.consume_queue_file,
        index_enable: keys.index,
        index_shape: IndexShape { slots: keys.index_slots, entries: keys.index_entries },
        body_bytes_max: keys.body_bytes_max,
        flush: keys.flush.0,
        flush_interval: Duration::from_millis(keys.flush_interval_ms.max(1)),
        flush_pages_min: keys.flush_pages_min,
        flush_thorough_interval: Duration::from_millis(keys.flush_thorough_ms.max(1)),
        check_crc_on_recovery: keys.check_crc,
        retention: retention::rules(keys),
        ..StoreConfig::new(root)
    }
}

/// RocketMQ's data folder: `store` in the user's home.
fn default_root() -> Result<PathBuf, ConfigError> {
    std::env::home_dir().map(|home| home.join("store")).ok_or_else(|| ConfigError::Value {
        key: "storePathRootDir".into(),
        value: String::new(),
        reason: "the user has no home folder to keep data in; name one, with --data too".into(),
    })
}

fn addresses(list: &str) -> Result<Vec<String>, ConfigError> {
    let addresses: Vec<String> =
        list.split([';', ',']).map(str::trim).filter(|address| !address.is_empty()).map(String::from).collect();
    let is_address = |address: &String| {
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if addresses.is_empty() || !addresses.iter().all(is_address) {
        return Err(ConfigError::Value {
            key: "namesrvAddr".into(),
            value: list.to_owned(),
            reason: "host:port is expected, several joined by semicolons".into(),
        });
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use waspmq_settings::{Properties, Settings as _};

    fn config(text: &str) -> Result<Config, ConfigError> {
        let text = format!("storePathRootDir=/data\n{text}");
        Config::from_keys(Keys::load(&Properties::parse(&text).unwrap().into_given()).unwrap().values)
    }

    #[test]
    fn a_cluster_member_of_the_course_notes() {
        let text = "rokerRole=ASYNC_MASTER\nnamesrvAddr=rocketmq-nameserver1:9876;rocketmq-nameserver2:9876\n\
                    mapedFileSizeCommitLog=1048576\nflushDiskType=SYNC_FLUSH\nstorePathConsuQueue=/x\nmaxMessageSize=65536";
        let config = config(text).unwrap();
        let servers = ["rocketmq-nameserver1:9876", "rocketmq-nameserver2:9876"].map(String::from).to_vec();
        assert_eq!(config.name_servers, NameServers::Outside(servers));
        assert_eq!(config.store.commit_log_file_bytes, 1_048_576);
        assert_eq!(config.store.flush, waspmq_store::FlushMode::Sync);
        assert_eq!(config.store.body_bytes_max, 65_536);
    }

    #[test]
    fn what_is_not_served_is_refused_not_ignored() {
        for text in
            ["aclEnable=true", "brokerRole=SLAVE", "brokerId=1", "enableControllerMode=true", "namesrvAddr=nowhere"]
        {
            let error = config(text).unwrap_err().to_string();
            assert!(error.contains('='), "{text}: {error}");
        }
    }

    #[test]
    fn idle_and_unknown_keys_are_mentioned() {
        let given =
            Properties::parse("messageDelayLevel=1s\nlistenPrt=1\nabortFile=x\nmetricsExporterType=LOG").unwrap();
        let given = given.into_given();
        let notes = notes(&given, &Keys::load(&given).unwrap().warnings);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].contains("did you mean listenPort?"), "{notes:?}");
    }
}
