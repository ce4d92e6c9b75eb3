//! Looking at a store that no broker has open: what is there, what is damaged, and making anew what can be made anew.
//! Called by `broker store …`. Must hold: [`check`] and [`dump`] change nothing, and go on behind damage.

mod index;
mod log_walk;
mod queues;
mod sums;

use std::any::Any;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use waspmq_protocol::message::record::RecordView;

pub use self::index::IndexCheck;
pub use self::queues::QueueCheck;
pub use self::sums::SumCheck;

use self::log_walk::{Found, LogWalk};
use self::queues::QueueComparison;
use self::sums::SumComparison;
use crate::clock::SystemClock;
use crate::commit_log::Fence;
use crate::config::StoreConfig;
use crate::error::{AtPath, OpenError};
use crate::filter::NoListener;
use crate::message_store::{self, MessageStore};
use crate::offsets::PhysicalOffset;
use crate::recovery::OpenReport;
use crate::watch::Watch;

/// What the log was found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCheck {
    /// Its files.
    pub files: usize,
    /// Oldest byte.
    pub begin: PhysicalOffset,
    /// One past the last good record.
    pub end: PhysicalOffset,
    /// Good records.
    pub records: u64,
    /// Store time of the first of them, ms.
    pub oldest_ms: i64,
    /// Store time of the last of them, ms.
    pub newest_ms: i64,
    /// Records that are not what was stored, and parts that hold no readable record, with good records behind them.
    pub damages: Vec<Fence>,
    /// Bytes of a half-written record behind the end; the next start cuts them off.
    pub torn_bytes: u64,
    /// What is wrong with the row of files itself.
    pub problems: Vec<String>,
}

/// What a store was found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCheck {
    /// Whether the last broker closed it.
    pub closed: bool,
    /// The messages.
    pub log: LogCheck,
    /// What vouches for their headers, topics and properties.
    pub sums: SumCheck,
    /// Where they are found by queue.
    pub queues: QueueCheck,
    /// Where they are found by key.
    pub index: IndexCheck,
}

impl StoreCheck {
    /// Whether nothing is lost: no damage in the log, no file missing.
    pub fn log_is_whole(&self) -> bool {
        self.log.damages.is_empty() && self.log.problems.is_empty()
    }

    /// Whether queues, index and sums say what the log says. What a killed broker had not dispatched yet is no fault: the next
    /// start does that.
    pub fn derived_is_whole(&self) -> bool {
        let behind = if self.closed { self.queues.behind } else { 0 };
        self.queues.missing + self.queues.wrong + self.queues.surplus + behind == 0
            && self.index.problems.is_empty()
            && self.sums.problems.is_empty()
    }
}

/// Reads everything in the store and compares it. Nothing is changed.
///
/// # Errors
/// If a broker has it open, or a file cannot be read.
pub fn check(config: &StoreConfig, watch: &Watch) -> Result<StoreCheck, OpenError> {
    let _lock = lock_found(config)?;
    let abort = config.root.join("abort");
    let closed = config.storage.file_bytes(&abort).at_path("looking at", &abort)?.is_none();
    let walk = LogWalk::open(config)?;
    let mut log =
        LogCheck { files: walk.files(), begin: walk.begin(), problems: walk.problems(), ..LogCheck::default() };
    let mut comparison = QueueComparison::new(config);
    let mut sums = SumComparison::new(config, &walk)?;
    let total = walk.bytes();
    let mut fault = None;
    walk.each(&mut |found, done| {
        match found {
            Found::Record(record) => {
                if let Some(damage) = sums.damage(record) {
                    log.damages.push(damage);
                    return ControlFlow::Continue(());
                }
                log.records += 1;
                log.newest_ms = record.store_timestamp();
                if log.records == 1 {
                    log.oldest_ms = log.newest_ms;
                }
                log.end = PhysicalOffset(record.physical_offset()).plus(record.len());
                if let Err(error) = comparison.compare(record) {
                    fault = Some(error);
                    return ControlFlow::Break(());
                }
                if log.records.is_multiple_of(65_536) {
                    watch.tell(done, total);
                }
            }
            Found::Damage(damage) => log.damages.push(damage),
            Found::Torn { bytes } => log.torn_bytes = bytes,
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = fault {
        return Err(error.into());
    }
    watch.tell(total, total);
    let queues = comparison.finish()?;
    let index = index::check(config, log.end)?;
    Ok(StoreCheck { closed, log, sums: sums.finish(), queues, index })
}

/// Shows every readable record from `from` on, in the order of the log, until `each` breaks. Nothing is changed.
///
/// # Errors
/// If a broker has the store open, or a file cannot be read.
pub fn dump(
    config: &StoreConfig,
    from: PhysicalOffset,
    each: &mut dyn FnMut(&RecordView<'_>) -> ControlFlow<()>,
) -> Result<(), OpenError> {
    let _lock = lock_found(config)?;
    let mut walk = LogWalk::open(config)?;
    walk.start_at(from);
    walk.each(&mut |found, _| match found {
        Found::Record(record) if record.physical_offset() >= from.0 => each(record),
        _ => ControlFlow::Continue(()),
    })
}

/// Makes queues, index and sums anew from the log, cuts off a half-written end, and closes the store. What the sums say
/// of damaged records stays said.
///
/// # Errors
/// As `MessageStore::open`.
pub fn rebuild(config: &StoreConfig, watch: Watch) -> Result<OpenReport, OpenError> {
    let (storage, root) = (&*config.storage, &*config.root);
    let lock = message_store::take_lock(storage, root)?;
    for derived in ["consumequeue", "index"].map(|name| root.join(name)) {
        storage.remove_dir(&derived).at_path("deleting", &derived)?;
    }
    storage.sync_dir(root).at_path("syncing the folder", root)?;
    drop(lock);
    let config = StoreConfig { watch: Some(watch), ..config.clone() };
    let store = MessageStore::open(config.clone(), Arc::new(NoListener), Arc::new(SystemClock::new()))?;
    let report = store.open_report().clone();
    store.shutdown();
    drop(store);
    sums::refill(&config)?;
    Ok(report)
}

/// Keeps brokers out while the store is looked at. A copy without a lock file is nobody's.
fn lock_found(config: &StoreConfig) -> Result<Option<Box<dyn Any + Send + Sync>>, OpenError> {
    let path: &Path = &config.root.join("lock");
    match config.storage.file_bytes(path).at_path("looking at", path)? {
        Some(_) => message_store::take_lock(&*config.storage, &config.root).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
