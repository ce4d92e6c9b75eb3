//! The settings of a broker by name: RocketMQ's names with their misspelt variants, WaspMQ's own behind them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use crate::metrics::LABELS_TAKEN;
use waspmq_settings::{SettingValue, settings};
use waspmq_store::{FlushMode, HoursOfDay, RetentionRules};

/// `flushDiskType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushDiskType(pub FlushMode);

impl SettingValue for FlushDiskType {
    fn expected() -> String {
        "ASYNC_FLUSH or SYNC_FLUSH".into()
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "ASYNC_FLUSH" => Some(Self(FlushMode::Async)),
            "SYNC_FLUSH" => Some(Self(FlushMode::Sync)),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self.0 {
            FlushMode::Async => "ASYNC_FLUSH".into(),
            FlushMode::Sync => "SYNC_FLUSH".into(),
        }
    }
}

/// `deleteWhen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteWhen(pub HoursOfDay);

impl Default for DeleteWhen {
    fn default() -> Self {
        Self(RetentionRules::default().delete_when)
    }
}

impl SettingValue for DeleteWhen {
    fn expected() -> String {
        "hours from 00 to 23, joined by semicolons,".into()
    }

    fn parse(text: &str) -> Option<Self> {
        let hours: Option<Vec<u8>> = text.split(';').map(|hour| hour.trim().parse().ok()).collect();
        HoursOfDay::new(hours?).map(Self)
    }

    fn show(&self) -> String {
        let hours: Vec<String> = self.0.each().map(|hour| format!("{hour:02}")).collect();
        hours.join(";")
    }
}

/// `brokerRole`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerRole {
    /// Acknowledges without waiting for slaves.
    AsyncMaster,
    /// Acknowledges when slaves have the message.
    SyncMaster,
    /// Copies a master.
    Slave,
}

impl SettingValue for BrokerRole {
    fn expected() -> String {
        "ASYNC_MASTER, SYNC_MASTER or SLAVE".into()
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "ASYNC_MASTER" => Some(Self::AsyncMaster),
            "SYNC_MASTER" => Some(Self::SyncMaster),
            "SLAVE" => Some(Self::Slave),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::AsyncMaster => "ASYNC_MASTER".into(),
            Self::SyncMaster => "SYNC_MASTER".into(),
            Self::Slave => "SLAVE".into(),
        }
    }
}

/// `metricsExporterType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsExporterType {
    /// Nobody sees metrics.
    Disable,
    /// Prometheus fetches them.
    Prom,
    /// Sent by OpenTelemetry's protocol.
    OtlpGrpc,
    /// Written into a log.
    Log,
}

impl SettingValue for MetricsExporterType {
    fn expected() -> String {
        "DISABLE, PROM, OTLP_GRPC or LOG".into()
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "DISABLE" => Some(Self::Disable),
            "PROM" => Some(Self::Prom),
            "OTLP_GRPC" => Some(Self::OtlpGrpc),
            "LOG" => Some(Self::Log),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Disable => "DISABLE".into(),
            Self::Prom => "PROM".into(),
            Self::OtlpGrpc => "OTLP_GRPC".into(),
            Self::Log => "LOG".into(),
        }
    }
}

/// `metricsLabel`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricsLabels(pub Vec<(String, String)>);

impl SettingValue for MetricsLabels {
    fn expected() -> String {
        format!("name:value, several joined by commas, each name once and none of {},", LABELS_TAKEN.join(", "))
    }

    fn parse(text: &str) -> Option<Self> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let labels: Vec<_> = pairs.map(label).collect::<Option<_>>()?;
        // Prometheus refuses all metrics when one has a label twice.
        let is_free = |at: usize, name: &str| {
            !LABELS_TAKEN.contains(&name) && labels[..at].iter().all(|(earlier, _)| earlier != name)
        };
        let all_free = labels.iter().enumerate().all(|(at, (name, _))| is_free(at, name));
        all_free.then_some(Self(labels))
    }

    fn show(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        pairs.join(",")
    }
}

/// A label as Prometheus takes it: letters, digits and underlines for a name, anything for a value.
fn label(pair: &str) -> Option<(String, String)> {
    let (name, value) = pair.split_once(':')?;
    let is_name = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let all = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_name(name) && all).then(|| (name.to_owned(), value.to_owned()))
}

settings! {
    /// What a configuration file says.
    pub struct Keys {
        /// Name of the cluster.
        cluster: String = "brokerClusterName" or "DefaultCluster".to_owned();
        /// Name of the broker, shared by a master and its slaves.
        broker_name: String = "brokerName" or "broker-a".to_owned();
        /// 0 for a master.
        broker_id: i64 = "brokerId" or 0;
        /// ASYNC_MASTER. Replication (SYNC_MASTER, SLAVE) is not served in this version.
        role: BrokerRole = "brokerRole" also ["rokerRole"] or BrokerRole::AsyncMaster;
        /// Name servers, host:port joined by semicolons. Empty: one runs inside the broker.
        name_servers: Option<String> = "namesrvAddr" or None;
        /// Port of the name server inside the broker.
        inner_name_server_port: u16 = "innerNamesrvPort" or 9876;
        /// Address that clients are told. Empty: the first one of this machine that others reach.
        advertised: Option<IpAddr> = "brokerIP1" or None;
        /// Address to listen on.
        bind: IpAddr = "bindAddress" or IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        /// Port for clients; clients of RocketMQ 4.4 also use the port two below.
        listen_port: u16 = "listenPort" or 10911;
        /// What clients may do here: 4 read, 2 write, 6 both.
        permission: i32 = "brokerPermission" or 6;
        /// Milliseconds between registrations with the name servers, 10000 to 60000.
        register_period_ms: u64 = "registerNameServerPeriod" or 30_000;
        /// Whether a send to an unknown topic creates it.
        auto_create_topic: bool = "autoCreateTopicEnable" or true;
        /// Queues of topics that sends create; a client may ask for fewer, and asks for 4.
        default_topic_queues: i32 = "defaultTopicQueueNums" or 8;
        /// Whether clients may create topics by the cluster's name.
        cluster_topic: bool = "clusterTopicEnable" or true;
        /// Whether clients may create topics by the broker's name.
        broker_topic: bool = "brokerTopicEnable" or true;
        /// Whether the topic for message traces exists from the start.
        trace_topic: bool = "traceTopicEnable" or false;
        /// Name of that topic.
        trace_topic_name: String = "msgTraceTopicName" or "RMQ_SYS_TRACE_TOPIC".to_owned();
        /// Whether an unknown consumer group is created when it appears.
        auto_create_group: bool = "autoCreateSubscriptionGroup" or true;
        /// Whether a group's members are told at once when one comes or goes.
        notify_changes: bool = "notifyConsumerIdsChangedEnable" or true;
        /// Whether consumers may filter by SQL92 and plugins. RocketMQ's default is false.
        property_filter: bool = "enablePropertyFilter" or true;
        /// Whether a pull that finds nothing waits for a message.
        long_polling: bool = "longPollingEnable" or true;
        /// How many milliseconds it waits if longPollingEnable is false.
        short_polling_ms: i64 = "shortPollingTimeMills" or 1_000;
        /// Pulls that wait at the same time, of all clients together; further ones are refused with SYSTEM_BUSY.
        held_pulls_max: usize = "maxHeldPulls" or 262_144;
        /// Whether lite pull consumers are served.
        lite_pull: bool = "litePullMessageEnable" or true;
        /// Messages in one answer to a pull at most.
        pull_count_max: usize = "maxTransferCountOnMessageInMemory" or 32;
        /// Bytes in one answer to a pull at most; a single larger message is sent all the same.
        pull_bytes_max: usize = "maxTransferBytesOnMessageInMemory" or 262_144;
        /// Milliseconds between writes of the consumer offsets.
        flush_offsets_ms: u64 = "flushConsumerOffsetInterval" or 5_000;
        /// Region that answers and messages carry.
        region: String = "regionId" or "DefaultRegion".to_owned();
        /// Whether clients with tracing switched on shall trace.
        trace_on: bool = "traceOn" or true;
        /// The data folder.
        root: Option<PathBuf> = "storePathRootDir" or None;
        /// Folder of the commit log, if not commitlog in the data folder.
        commit_log: Option<PathBuf> = "storePathCommitLog" or None;
        /// Size of a commit log file; all files of a data folder have the same.
        commit_log_file: u64 = "mappedFileSizeCommitLog" also ["mapedFileSizeCommitLog"] or 1 << 30;
        /// Size of a consume queue file, 20 bytes an entry.
        consume_queue_file: u64 = "mappedFileSizeConsumeQueue" also ["mapedFileSizeConsumeQueue"] or 6_000_000;
        /// Whether messages can be found by key.
        index: bool = "messageIndexEnable" or true;
        /// Hash slots of an index file.
        index_slots: u32 = "maxHashSlotNum" or 5_000_000;
        /// Entries of an index file.
        index_entries: u32 = "maxIndexNum" or 20_000_000;
        /// Largest body of a message, bytes.
        body_bytes_max: usize = "maxMessageSize" or 4_194_304;
        /// SYNC_FLUSH: a message is acknowledged when it is on the disk. ASYNC_FLUSH: when it has left the process.
        flush: FlushDiskType = "flushDiskType" or FlushDiskType(FlushMode::Async);
        /// Milliseconds between syncs with ASYNC_FLUSH.
        flush_interval_ms: u64 = "flushIntervalCommitLog" or 500;
        /// Pages of 4 KiB that must be unsynced for that.
        flush_pages_min: u64 = "flushCommitLogLeastPages" or 4;
        /// Milliseconds after which fewer are synced too.
        flush_thorough_ms: u64 = "flushCommitLogThoroughInterval" or 10_000;
        /// Milliseconds a sender waits for the disk with SYNC_FLUSH before it is told FLUSH_DISK_TIMEOUT.
        sync_flush_timeout_ms: u64 = "syncFlushTimeout" or 5_000;
        /// Whether a restart checks the bodies' checksums.
        check_crc: bool = "checkCRCOnRecover" or true;
        /// Hours for which messages are kept. A file of the log goes when all in it are older; the newest file stays.
        reserved_hours: u64 = "fileReservedTime" or 72;
        /// In which hours of the day, local time, that is done; several joined by semicolons.
        delete_when: DeleteWhen = "deleteWhen" or DeleteWhen::default();
        /// Bytes of the log that are kept at least; files beyond go at any hour, however young. 0: no limit.
        log_bytes_kept: u64 = "commitLogRetentionBytes" or 0;
        /// Percent of the disk used, 10 to 95; with more, messages beyond fileReservedTime go at any hour.
        disk_delete_above: u8 = "diskMaxUsedSpaceRatio" or 75;
        /// Percent used, 30 to 85; with more, the oldest files go, however young, until it is no more.
        disk_clean_above: u8 = "diskSpaceCleanForciblyRatio" or 85;
        /// Percent used, 35 to 90; with more, messages are refused until it is no more than diskSpaceCleanForciblyRatio.
        disk_refuse_above: u8 = "diskSpaceWarningLevelRatio" or 90;
        /// Whether messages younger than fileReservedTime may go when the disk is too full.
        clean_forcibly: bool = "cleanFileForciblyEnable" or true;
        /// Milliseconds between two looks at the disk.
        clean_interval_ms: u64 = "cleanResourceInterval" or 10_000;
        /// Milliseconds between two files that are deleted.
        delete_pause_ms: u64 = "deleteCommitLogFilesInterval" or 100;
        /// Files deleted at one look at most.
        delete_files_max: usize = "deleteFileBatchMax" or 10;
        /// PROM: metrics are shown to Prometheus. DISABLE: to nobody. OTLP_GRPC and LOG are not served in this version.
        metrics: MetricsExporterType = "metricsExporterType" or MetricsExporterType::Disable;
        /// Address to show them at. Empty: the one that clients are told.
        metrics_host: Option<IpAddr> = "metricsPromExporterHost" or None;
        /// Port to show them at, with path /metrics.
        metrics_port: u16 = "metricsPromExporterPort" or 5557;
        /// Labels for each metric, name:value joined by commas.
        metrics_labels: MetricsLabels = "metricsLabel" or MetricsLabels::default();
        /// Access control. Not served in this version: true is refused.
        acl: bool = "aclEnable" or false;
        /// Controller mode. Not served in this version: true is refused.
        controller: bool = "enableControllerMode" or false;
        /// The DLedger log. Not served in this version: true is refused.
        dledger: bool = "enableDLegerCommitLog" or false;
    }
    without effect {
        "storePathConsumeQueue", "storePathConsuQueue", "storePathIndex", "storeCheckpoint", "abortFile",
        "brokerIP2", "haListenPort", "rocketmqHome", "brokerConfigPath", "messageDelayLevel",
        "destroyMapedFileIntervalForcibly", "destroyMappedFileIntervalForcibly", "redeleteHangedFileInterval",
        "deleteConsumeQueueFilesInterval", "flushConsumeQueueLeastPages", "flushConsumeQueueThoroughInterval",
        "flushIntervalConsumeQueue", "flushCommitLogTimed", "sendMessageThreadPoolNums", "pullMessageThreadPoolNums",
        "queryMessageThreadPoolNums", "adminBrokerThreadPoolNums", "clientManageThreadPoolNums",
        "consumerManageThreadPoolNums", "sendThreadPoolQueueCapacity", "pullThreadPoolQueueCapacity",
        "serverWorkerThreads", "serverCallbackExecutorThreads", "serverSelectorThreads",
        "serverOnewaySemaphoreValue", "serverAsyncSemaphoreValue", "serverSocketSndBufSize",
        "serverSocketRcvBufSize", "serverPooledByteBufAllocatorEnable", "useEpollNativeSelector",
        "checkTransactionMessageEnable", "transactionCheckInterval", "transactionTimeOut", "transactionCheckMax",
        "enableMsgTrace", "warmMapedFileEnable", "transientStorePoolEnable", "transferMsgByHeap",
        "useReentrantLockWhenPutMessage", "waitTimeMillsInSendQueue", "osPageCacheBusyTimeOutMills",
        "brokerFastFailureEnable", "slaveReadEnable", "haMasterAddress", "inSyncReplicas", "totalReplicas",
        "accessMessageInMemoryMaxRatio", "maxTransferBytesOnMessageInDisk", "maxTransferCountOnMessageInDisk",
        "forceRegister", "compressedRegister", "timerWheelEnable", "enableConsumeQueueExt",
        "enableCalcFilterBitMap", "filterSupportRetry",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waspmq_settings::Settings as _;

    #[test]
    fn hours_are_read_and_shown_as_rocketmq_writes_them() {
        let shown = |text| DeleteWhen::parse(text).map(|when| when.show());
        assert_eq!(shown("04").as_deref(), Some("04"));
        assert_eq!(shown("16; 4").as_deref(), Some("04;16"));
        assert_eq!((shown("24"), shown("4,5"), shown("")), (None, None, None));
    }

    #[test]
    fn labels_have_names_that_prometheus_takes() {
        let shown = |text| MetricsLabels::parse(text).map(|labels| labels.show());
        assert_eq!(shown("zone:a, rack:1:2,").as_deref(), Some("zone:a,rack:1:2"));
        assert_eq!((shown("zone"), shown("1a:b"), shown("a-b:c"), shown(":c")), (None, None, None, None));
        assert_eq!((shown("zone:a,zone:b"), shown("zone:a,cluster:b")), (None, None));
    }

    #[test]
    fn the_shipped_file_has_every_setting_with_its_default() {
        let text = include_str!("../../../conf/broker.conf");
        for setting in Keys::TABLE.iter().filter(|setting| setting.has_effect) {
            let line = format!("#{}={}\n", setting.name, (setting.default)());
            assert!(text.contains(&line), "conf/broker.conf lacks {line}");
        }
    }
}
