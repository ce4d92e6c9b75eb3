//! The store's settings, with RocketMQ's defaults. Made by the broker from its configuration file, checked by
//! `MessageStore::open`. Sizes in bytes; times as `Duration`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{
    dispatch::DelayLevels,
    index::IndexShape,
    retention::RetentionRules,
    storage::{DiskStorage, Storage},
    watch::Watch,
};

/// When a message counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// Once it is in the page cache: survives the end of the process, not of the machine. Synced every
    /// [`StoreConfig::flush_interval`].
    Async,
    /// Once it is on the disk: who asks with `when_durable` is answered after a sync, and readers see only what is
    /// synced.
    Sync,
}

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data folder (`storePathRootDir`).
    pub root: PathBuf,
    /// The commit log's folder, if it is not `commitlog` in the data folder (`storePathCommitLog`).
    pub commit_log_dir: Option<PathBuf>,
    /// Where files live. Tests put them in memory.
    pub storage: Arc<dyn Storage>,
    /// The address clients reach this broker at; stored in every record and part of every offset message id.
    pub store_host: SocketAddr,
    /// Size of every commit log file (`mappedFileSizeCommitLog`). Must be what existing files have.
    pub commit_log_file_bytes: u64,
    /// Size of every consume queue file (`mappedFileSizeConsumeQueue`); rounded up to whole entries of 20 bytes.
    pub consume_queue_file_bytes: u64,
    /// Whether messages can be found by key (`messageIndexEnable`).
    pub index_enable: bool,
    /// How many slots and entries every index file has.
    pub index_shape: IndexShape,
    /// Durations of the delay levels (`messageDelayLevel`): queues of delayed messages carry the time they are due.
    pub delay_levels: DelayLevels,
    /// Longest body of a message (`maxMessageSize`); a whole record may be 64 KiB longer.
    pub body_bytes_max: usize,
    /// When a message counts as stored (`flushDiskType`).
    pub flush: FlushMode,
    /// How often the log is synced when nobody waits for it (`flushIntervalCommitLog`).
    pub flush_interval: Duration,
    /// How many pages of 4 KiB must be dirty for that (`flushCommitLogLeastPages`).
    pub flush_pages_min: u64,
    /// After how long it is synced however little there is (`flushCommitLogThoroughInterval`).
    pub flush_thorough_interval: Duration,
    /// How much of the log ahead of the writer may be made present in memory under full load.
    pub populate_ahead_bytes_max: u64,
    /// How much of the log may be waiting for the dispatcher before appends are slowed down to its pace. It is dispatched
    /// again after a kill: a second or two of messages of 100 bytes, a tenth of that if they have 1 KiB.
    pub backlog_bytes_max: u64,
    /// What memory this machine has: a log that grows beyond it gives back what lies behind. 0: not known, and nothing is
    /// given back before the kernel asks for it.
    pub memory_bytes: u64,
    /// Told how far a long restart is.
    pub watch: Option<Watch>,
    /// Whether a restart checks the bodies' checksums (`checkCRCOnRecover`).
    pub check_crc_on_recovery: bool,
    /// When old files are deleted, and when a full disk takes no more messages.
    pub retention: RetentionRules,
}

impl StoreConfig {
    /// RocketMQ's defaults, in the data folder `root` on disk.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        StoreConfig {
            root: root.into(),
            commit_log_dir: None,
            storage: Arc::new(DiskStorage),
            store_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 10911)),
            commit_log_file_bytes: 1 << 30,
            consume_queue_file_bytes: 6_000_000,
            index_enable: true,
            index_shape: IndexShape::default(),
            delay_levels: DelayLevels::default(),
            body_bytes_max: 4 << 20,
            flush: FlushMode::Async,
            flush_interval: Duration::from_millis(500),
            flush_pages_min: 4,
            flush_thorough_interval: Duration::from_secs(10),
            populate_ahead_bytes_max: 96 << 20,
            backlog_bytes_max: 512 << 20,
            memory_bytes: 0,
            watch: None,
            check_crc_on_recovery: true,
            retention: RetentionRules::default(),
        }
    }

    /// Where the commit log lies.
    pub fn commit_log_dir(&self) -> PathBuf {
        self.commit_log_dir.clone().unwrap_or_else(|| self.root.join("commitlog"))
    }

    /// What is wrong with these settings, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.commit_log_file_bytes < 1024 || self.commit_log_file_bytes > i64::from(i32::MAX) as u64 {
            // The filler at a file's end states its length in 31 bits.
            return Err(format!(
                "mappedFileSizeCommitLog is {}, but must lie between 1024 and {}",
                self.commit_log_file_bytes,
                i32::MAX
            ));
        }
        if self.consume_queue_file_bytes == 0 || self.index_shape.slots == 0 || self.index_shape.entries < 2 {
            return Err("mappedFileSizeConsumeQueue and maxHashSlotNum must not be 0, maxIndexNum not below 2".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_a_file_size_beyond_31_bits_is_not() {
        let mut config = StoreConfig::new("/data");
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.commit_log_dir(), PathBuf::from("/data/commitlog"));
        config.commit_log_file_bytes = 1 << 31;
        assert!(config.check().unwrap_err().contains("mappedFileSizeCommitLog is 2147483648"));
    }
}
