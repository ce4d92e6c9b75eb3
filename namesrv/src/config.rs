//! The settings of the nameserver: one row per key with RocketMQ's names, and the files they come from. Read by `cli`
//! for the program, and by a broker that carries a nameserver inside.

use crate::error::NamesrvError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use waspmq_settings::{Given, Properties, Settings as _, settings};

settings! {
    /// Every key of the nameserver with its value.
    pub struct Keys {
        /// Address to listen on.
        bind_address: IpAddr = "bindAddress" or IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        /// Port to listen on; 0 takes any free one.
        listen_port: u16 = "listenPort" or 9876;
        /// File of the key-values.
        kv_config_path: PathBuf = "kvConfigPath" or folder().join("kvConfig.json");
        /// File that settings changed over the network are written to. With -c it is always that file.
        config_store_path: PathBuf = "configStorePath" or folder().join("namesrv.properties");
        /// Keys that nobody may change over the network, joined by semicolons.
        config_black_list: String = "configBlackList" or "configBlackList;configStorePath;kvConfigPath".to_owned();
        /// Whether routes of topics with an order configuration carry it.
        order_message_enable: bool = "orderMessageEnable" or false;
        /// Whether a registration is answered with the order configuration of all topics.
        return_order_topic_config_to_broker: bool = "returnOrderTopicConfigToBroker" or true;
        /// Milliseconds between two looks for silent brokers. A broker is forgotten after 120 s of silence, or after
        /// the time it asked for.
        scan_not_active_broker_interval: u64 = "scanNotActiveBrokerInterval" or 5000;
        /// Whether the slave with the smallest id stands in for a missing master where its broker allows it.
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
        /// Seconds without a byte after which a connection is closed; 0: never.
        server_channel_max_idle_time_seconds: u32 = "serverChannelMaxIdleTimeSeconds" or 120;
    }
    without effect {
        "rocketmqHome", "productEnvName", "clusterTest", "clientRequestThreadPoolNums", "defaultThreadPoolNums",
        "clientRequestThreadPoolQueueCapacity", "defaultThreadPoolQueueCapacity", "unRegisterBrokerQueueCapacity",
        "notifyMinBrokerIdChanged", "enableControllerInNamesrv", "serverWorkerThreads", "serverCallbackExecutorThreads",
        "serverSelectorThreads", "serverOnewaySemaphoreValue", "serverAsyncSemaphoreValue", "serverSocketSndBufSize",
        "serverSocketRcvBufSize", "writeBufferHighWaterMark", "writeBufferLowWaterMark", "serverSocketBacklog",
        "serverNettyWorkerGroupEnable", "serverPooledByteBufAllocatorEnable", "useEpollNativeSelector",
        "useTLS", "enableShutdownGracefully", "shutdownWaitTimeSeconds",
    }
}

/// Where the files lie unless somebody says otherwise: `$HOME/namesrv`.
fn folder() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from(".")).join("namesrv")
}

/// How a nameserver is to run.
#[derive(Debug, Clone)]
pub struct NamesrvConfig {
    /// Address and port to listen on; wins over the two keys that say the same.
    pub listen: SocketAddr,
    /// All settings.
    pub keys: Keys,
}

impl NamesrvConfig {
    /// The usual settings with all files in `folder`: for a nameserver inside a broker, and for tests.
    pub fn in_folder(folder: impl AsRef<Path>) -> Self {
        let mut keys = Keys::from_given(&[]).expect("nothing given, nothing wrong");
        keys.kv_config_path = folder.as_ref().join("kvConfig.json");
        keys.config_store_path = folder.as_ref().join("namesrv.properties");
        Self::from_keys(keys)
    }

    /// These settings.
    pub fn from_keys(keys: Keys) -> Self {
        Self { listen: SocketAddr::new(keys.bind_address, keys.listen_port), keys }
    }
}

/// The entries of a configuration file.
///
/// # Errors
/// The file cannot be read, or is no properties file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<Given>, NamesrvError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| NamesrvError::ConfigUnreadable { path: path.into(), source })?;
    let properties =
        Properties::parse(&text).map_err(|source| NamesrvError::ConfigText { path: path.into(), source })?;
    Ok(properties.into_given())
}

#[cfg(test)]
mod tests {
    use super::*;
    use waspmq_settings::find;

    /// What the file for users has to be.
    fn file_for_users() -> String {
        let mut text = String::from(
            "# The nameserver's settings: namesrv -c conf/namesrv.conf\n\
             # Names are RocketMQ's. What stands here are the defaults; take the # from a line to change it.\n",
        );
        let keys = NamesrvConfig::in_folder("$HOME/namesrv").keys.to_properties();
        for (name, value) in keys.entries {
            let doc = find(Keys::TABLE, &name).unwrap().doc;
            let doc: String = doc.iter().map(|line| format!("#{line}\n")).collect();
            text.push_str(&format!("\n{doc}#{name}={value}\n"));
        }
        text
    }

    #[test]
    fn the_file_for_users_names_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/namesrv.conf");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), file_for_users());
        let uncommented: String = file_for_users()
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.starts_with(' '))
            .map(|line| format!("{line}\n"))
            .collect();
        let loaded = Keys::load(&Properties::parse(&uncommented).unwrap().into_given()).unwrap();
        assert_eq!((loaded.values, loaded.warnings), (NamesrvConfig::in_folder("$HOME/namesrv").keys, Vec::new()));
    }

    #[test]
    fn keys_of_the_java_nameserver_are_known() {
        for name in ["kvConfigPath", "clusterTest", "serverChannelMaxIdleTimeSeconds", "useEpollNativeSelector"] {
            assert!(find(Keys::TABLE, name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("namesrv.conf");
        assert!(read_file(&path).unwrap_err().to_string().contains("namesrv.conf cannot be read"));
        std::fs::write(&path, "a=1\nb=\\uZZZZ\n").unwrap();
        let error = read_file(&path).unwrap_err().to_string();
        assert!(error.contains("namesrv.conf cannot be understood: line 2"), "{error}");
    }
}
