//! The figures of the store and of its disk.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use waspmq_store::clock::Clock;
use waspmq_store::{DiskLevel, DiskStatus, MessageStore, StoreStats};

/// RocketMQ tells its kinds of storage apart by these; WaspMQ has the one.
const MEDIUM: [(&str, &str); 2] = [("storage_type", "local"), ("storage_medium", "disk")];

/// Reads the store at every scrape.
pub struct StoreMetrics {
    /// What is shown.
    pub store: Arc<MessageStore>,
    /// For ages.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (stats, disk) = (self.store.stats(), self.store.disk());
        let mut series = Series { encoder: &mut encoder };
        self.as_rocketmq(&mut series, &stats, &disk)?;
        log(&mut series, &stats)?;
        disk_and_refusal(&mut series, &disk)
    }
}

impl StoreMetrics {
    fn as_rocketmq(&self, series: &mut Series<'_, '_>, stats: &StoreStats, disk: &DiskStatus) -> fmt::Result {
        let bytes = Some(Unit::Bytes);
        let help = "Bytes used of the file system that the store lies on";
        series.gauge("rocketmq_storage_size", help, bytes.as_ref(), &MEDIUM, disk.space.used)?;
        let unsynced = stats.max_offset.bytes_since(stats.durable);
        let help = "Bytes of the log that are not on the disk yet";
        series.gauge("rocketmq_storage_flush_behind", help, bytes.as_ref(), &MEDIUM, unsynced)?;
        let help = "Bytes of the log that are not in queues and index yet";
        let behind = stats.dispatch_behind_bytes;
        series.gauge("rocketmq_storage_dispatch_behind", help, bytes.as_ref(), &MEDIUM, behind)?;
        match self.store.earliest_store_time() {
            Ok(None) => Ok(()),
            Ok(Some(oldest_ms)) => {
                let age_ms = self.clock.now_ms().saturating_sub(oldest_ms).max(0);
                let (help, unit) = ("Age of the oldest message", Unit::Other("milliseconds".to_owned()));
                series.gauge("rocketmq_storage_message_reserve_time", help, Some(&unit), &MEDIUM, age_ms.unsigned_abs())
            }
            Err(error) => {
                tracing::warn!(%error, "the age of the oldest message cannot be shown");
                Ok(())
            }
        }
    }
}

fn log(series: &mut Series<'_, '_>, stats: &StoreStats) -> fmt::Result {
    let held = stats.max_offset.bytes_since(stats.min_offset);
    series.gauge("waspmq_store_log", "Bytes of the commit log", Some(&Unit::Bytes), &[], held)?;
    series.gauge("waspmq_store_messages", "Messages that can be read", None, &[], stats.messages)?;
    let help = "How many appends were slowed down because too much was waiting for the dispatcher";
    series.counter("waspmq_store_backlog_waits", help, stats.backlog_waits)?;
    let help = "How often a damaged message was asked for, and not served";
    series.counter("waspmq_store_damaged_reads", help, stats.damaged)
}

fn disk_and_refusal(series: &mut Series<'_, '_>, disk: &DiskStatus) -> fmt::Result {
    let help = "Bytes that may still be written to the file system that the store lies on";
    series.gauge("waspmq_disk_available", help, Some(&Unit::Bytes), &[], disk.space.available)?;
    let level = match disk.level {
        DiskLevel::Roomy => "roomy",
        DiskLevel::Scarce => "scarce",
        DiskLevel::Cleaning => "cleaning",
        DiskLevel::Full => "full",
    };
    let help = "How full the disk is: roomy; scarce (old messages go at any hour); cleaning (also young ones); full (messages are refused)";
    series.gauge("waspmq_disk_level", help, None, &[("level", level)], 1)?;
    let help = "1 while messages are refused, with the reason";
    match disk.refused.as_deref() {
        Some(reason) => series.gauge("waspmq_messages_refused", help, None, &[("reason", reason)], 1),
        None => series.gauge("waspmq_messages_refused", help, None, &[("reason", "")], 0),
    }
}

/// One series after the other.
struct Series<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
}

impl Series<'_, '_> {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        labels: &[(&str, &str)],
        value: u64,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }
}
