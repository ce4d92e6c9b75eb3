//! The settings of the nameserver: one row per key with RocketMQ's names, files of them, and what may be changed while
//! it runs. Read by `main` and by a broker that carries a nameserver inside.

use crate::error::NamesrvError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use waspmq_settings::{Given, Properties, Settings as _, Warning, settings};

/// Keys that nobody may change over the network, whatever `configBlackList` says: they name files.
const ALWAYS_BLACK: [&str; 4] = ["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"];

settings! {
    /// Every key of the nameserver with its value.
    pub struct Keys {
        /// Address to listen on.
        bind_address: IpAddr = "bindAddress" or IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        /// Port to listen on; 0 takes any free one.
        listen_port: u16 = "listenPort" or 9876;
        /// File of the key-values. Needs a restart.
        kv_config_path: PathBuf = "kvConfigPath" or folder().join("kvConfig.json");
        /// File that changes of this configuration are written to; the -c file where one is given.
        config_store_path: PathBuf = "configStorePath" or folder().join("namesrv.properties");
        /// Keys that updateNamesrvConfig refuses, joined by semicolons.
        config_black_list: String = "configBlackList" or "configBlackList;configStorePath;kvConfigPath".to_owned();
        /// Whether routes of topics with an order configuration say so to clients.
        order_message_enable: bool = "orderMessageEnable" or false;
        /// Whether a registration is answered with the order configuration of all topics.
        return_order_topic_config_to_broker: bool = "returnOrderTopicConfigToBroker" or true;
        /// Milliseconds between two looks for brokers that went silent. A broker is forgotten after 120 s of silence,
        /// or after the time it asked for itself.
        scan_not_active_broker_interval: u64 = "scanNotActiveBrokerInterval" or 5000;
        /// Whether the smallest slave stands in for a missing master where its broker allows it.
        support_acting_master: bool = "supportActingMaster" or false;
        /// Whether all topics may be listed.
        enable_all_topic_list: bool = "enableAllTopicList" or true;
        /// Whether the topics of a cluster and the unit topics may be listed.
        enable_topic_list: bool = "enableTopicList" or true;
        /// Whether topics that a broker's registration no longer names are taken from its routes.
        delete_topic_with_broker_registration: bool = "deleteTopicWithBrokerRegistration" or false;
        /// Whether routes are refused right after the start, until brokers have registered.
        need_wait_for_service: bool = "needWaitForService" or false;
        /// For how many seconds they are.
        wait_seconds_for_service: u64 = "waitSecondsForService" or 45;
        /// Seconds without a byte after which a connection is closed. Needs a restart.
        server_channel_max_idle_time_seconds: u64 = "serverChannelMaxIdleTimeSeconds" or 120;
        /// Seconds that connections have to end in order when the nameserver stops.
        shutdown_wait_time_seconds: u64 = "shutdownWaitTimeSeconds" or 3;
    }
    without effect {
        "rocketmqHome", "productEnvName", "clusterTest", "clientRequestThreadPoolNums", "defaultThreadPoolNums",
        "clientRequestThreadPoolQueueCapacity", "defaultThreadPoolQueueCapacity", "unRegisterBrokerQueueCapacity",
        "notifyMinBrokerIdChanged", "enableControllerInNamesrv", "serverWorkerThreads", "serverCallbackExecutorThreads",
        "serverSelectorThreads", "serverOnewaySemaphoreValue", "serverAsyncSemaphoreValue", "serverSocketSndBufSize",
        "serverSocketRcvBufSize", "writeBufferHighWaterMark", "writeBufferLowWaterMark", "serverSocketBacklog",
        "serverNettyWorkerGroupEnable", "serverPooledByteBufAllocatorEnable", "useEpollNativeSelector",
        "useTLS", "enableShutdownGracefully",
    }
}

/// Where the files lie unless somebody says otherwise: `$HOME/namesrv`.
fn folder() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from(".")).join("namesrv")
}

/// How a nameserver is to run.
#[derive(Debug, Clone)]
pub struct NamesrvConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// All settings; `listen` wins over the two of them that it covers.
    pub keys: Keys,
    /// Whether changes that an earlier run wrote to `configStorePath` apply again.
    pub read_stored: bool,
}

impl NamesrvConfig {
    /// The usual settings with all files in `folder`: for a nameserver inside a broker, and for tests.
    pub fn in_folder(folder: impl AsRef<Path>) -> Self {
        let mut keys = Self::usual_keys();
        keys.kv_config_path = folder.as_ref().join("kvConfig.json");
        keys.config_store_path = folder.as_ref().join("namesrv.properties");
        Self { read_stored: true, ..Self::from_keys(keys) }
    }

    /// The usual settings.
    pub fn usual() -> Self {
        Self { read_stored: true, ..Self::from_keys(Self::usual_keys()) }
    }

    /// The settings of a file; names that mean nothing come as warnings.
    ///
    /// # Errors
    /// The file cannot be read, or a value in it cannot be used.
    pub fn from_file(path: &Path) -> Result<(Self, Vec<Warning>), NamesrvError> {
        let given = read_file(path)?;
        let loaded = Keys::load(&given).map_err(|source| NamesrvError::ConfigValue { path: path.into(), source })?;
        let mut keys = loaded.values;
        keys.config_store_path = path.to_owned();
        Ok((Self::from_keys(keys), loaded.warnings))
    }

    fn from_keys(keys: Keys) -> Self {
        Self { listen: SocketAddr::new(keys.bind_address, keys.listen_port), keys, read_stored: false }
    }

    fn usual_keys() -> Keys {
        Keys::from_given(&[]).expect("nothing given, nothing wrong")
    }

    /// The settings with the changes of earlier runs where those apply.
    ///
    /// # Errors
    /// The file of the changes is there but cannot be used.
    pub(crate) fn with_stored(mut self) -> Result<Self, NamesrvError> {
        let path = self.keys.config_store_path.clone();
        if !self.read_stored || !path.exists() {
            return Ok(self);
        }
        let stored = read_file(&path)?;
        self.keys =
            changed(&self.keys, stored).map_err(|source| NamesrvError::ConfigValue { path: path.clone(), source })?;
        Ok(self)
    }
}

fn read_file(path: &Path) -> Result<Vec<Given>, NamesrvError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| NamesrvError::ConfigUnreadable { path: path.into(), source })?;
    let properties =
        Properties::parse(&text).map_err(|source| NamesrvError::ConfigText { path: path.into(), source })?;
    Ok(properties.into_given())
}

/// The settings with some of them changed; names that no setting has change nothing, as in Java.
///
/// # Errors
/// The first value that its setting does not take.
pub(crate) fn changed(keys: &Keys, changes: Vec<Given>) -> Result<Keys, waspmq_settings::ValueError> {
    let mut given = keys.to_properties().into_given();
    given.extend(changes);
    Keys::from_given(&given)
}

/// The first of these names that must not be changed over the network.
pub(crate) fn black_listed<'g>(keys: &Keys, changes: &'g [Given]) -> Option<&'g str> {
    let black =
        |name: &str| ALWAYS_BLACK.contains(&name) || keys.config_black_list.split(';').any(|key| key.trim() == name);
    changes.iter().map(|given| given.name.as_str()).find(|name| black(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use waspmq_settings::find;

    #[test]
    fn the_file_for_users_names_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/namesrv.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        let keys = NamesrvConfig::usual_keys().to_properties();
        let commented =
            |line: &str| line.strip_prefix('#').and_then(|line| line.split_once('=')).map(|(name, _)| name.to_owned());
        let named: Vec<String> = text.lines().filter_map(commented).collect();
        let expected: Vec<String> = keys.entries.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(named, expected);
        for (name, value) in keys.entries.iter().filter(|(name, _)| !name.ends_with("Path")) {
            assert!(text.contains(&format!("\n#{name}={value}\n")), "{name}={value}");
        }
        let (config, warnings) = NamesrvConfig::from_file(&path).unwrap();
        assert_eq!((config.listen.port(), warnings.len()), (9876, 0));
    }

    #[test]
    fn keys_of_the_java_nameserver_are_known() {
        for name in ["kvConfigPath", "clusterTest", "serverChannelMaxIdleTimeSeconds", "useEpollNativeSelector"] {
            assert!(find(Keys::TABLE, name).is_some(), "{name}");
        }
    }

    #[test]
    fn changes_and_the_black_list() {
        let mut keys = NamesrvConfig::usual_keys();
        let given = |text| Properties::parse(text).unwrap().into_given();
        let new = changed(&keys, given("enableTopicList=false\nnobodyKnows=1\nlistenPort=1")).unwrap();
        assert_eq!((new.enable_topic_list, new.listen_port), (false, 1));
        assert!(changed(&keys, given("enableTopicList=no")).is_err());
        assert_eq!(black_listed(&keys, &given("enableTopicList=false")), None);
        assert_eq!(black_listed(&keys, &given("listenPort=1\nkvConfigPath=/tmp/x")), Some("kvConfigPath"));
        keys.config_black_list = "a; listenPort".to_owned();
        assert_eq!(black_listed(&keys, &given("listenPort=1")), Some("listenPort"));
        assert_eq!(black_listed(&keys, &given("rocketmqHome=/tmp/x")), Some("rocketmqHome"));
    }

    #[test]
    fn stored_changes_apply_again() {
        let folder = tempfile::tempdir().unwrap();
        let config = NamesrvConfig::in_folder(folder.path());
        assert!(config.clone().with_stored().unwrap().keys.enable_topic_list);
        std::fs::write(folder.path().join("namesrv.properties"), "enableTopicList=false\n").unwrap();
        assert!(!config.clone().with_stored().unwrap().keys.enable_topic_list);
        std::fs::write(folder.path().join("namesrv.properties"), "enableTopicList=maybe\n").unwrap();
        let error = config.with_stored().unwrap_err().to_string();
        assert!(error.contains("namesrv.properties") && error.contains("enableTopicList=maybe"), "{error}");
    }
}
