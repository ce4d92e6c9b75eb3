//! Old files go, and a full disk takes no more messages: a thread that looks every ten seconds, and at once when some
//! file did not get its blocks. Follows the rules in `rules`; what the disk says is in `watch`.
//! Must hold: the file that is written stays, and so does what queues and index do not have yet; the log's files go
//! first and one by one, oldest first, then what queues and index hold of them.

mod rules;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

pub use self::{
    rules::{DiskLevel, HoursOfDay, RetentionRules},
    watch::DiskStatus,
};
use self::{
    rules::{Moment, Oldest, Reason},
    watch::DiskWatch,
};
use crate::{
    clock::Clock, commit_log::CommitLog, config::StoreConfig, consume_queue::ConsumeQueues, derived::Derived,
    dispatch::Dispatcher, error::StoreError, index::Index, offsets::PhysicalOffset,
};

/// How soon the disk is looked at again while messages are refused for it.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Deletes old files and watches the disk.
pub(crate) struct Retention {
    rules: RetentionRules,
    watch: DiskWatch,
    parts: RetentionParts,
    /// Queues and index hold nothing before this any more.
    followed: Mutex<PhysicalOffset>,
    stop: AtomicBool,
}

/// What retention looks at and deletes from.
pub(crate) struct RetentionParts {
    pub(crate) log: Arc<CommitLog>,
    pub(crate) queues: Arc<ConsumeQueues>,
    pub(crate) index: Option<Arc<Index>>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) derived: Arc<Derived>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What one look has deleted.
#[derive(Debug, Default)]
struct Deleted {
    files: usize,
    reason: Option<Reason>,
}

impl Retention {
    /// For a store that is being opened; the disk is looked at for the first time here.
    pub(crate) fn new(parts: RetentionParts, config: &StoreConfig) -> Self {
        let dirs = vec![config.commit_log_dir(), config.root.join("consumequeue")];
        let rules = config.retention.clone();
        let watch = DiskWatch::new(Arc::clone(&config.storage), dirs, rules.clone());
        watch.look(&parts.log, None);
        Retention { rules, watch, parts, followed: Mutex::default(), stop: AtomicBool::new(false) }
    }

    /// The thread's work, until [`stop`](Self::stop).
    pub(crate) fn run(&self) {
        while !self.stopped() {
            if let Err(error) = self.look() {
                tracing::error!(%error, "old messages could not be deleted; tried again at the next look");
            }
            let log = &self.parts.log;
            // Who waits for room shall not wait long.
            let pause =
                if self.disk().refused.is_some() { self.rules.every.min(REFUSED_PAUSE) } else { self.rules.every };
            log.followers.retention.sleep(Some(pause), || self.stopped() || log.look_wanted());
        }
    }

    /// Ends [`run`](Self::run).
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.parts.log.followers.retention.announce_and_wake();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// What the last look at the disk has shown.
    pub(crate) fn disk(&self) -> DiskStatus {
        self.watch.status()
    }

    /// Looks at the disk, then deletes what may go.
    pub(crate) fn look(&self) -> Result<(), StoreError> {
        let no_room = self.parts.log.begin_look();
        let level = self.watch_disk();
        let mut deleted = Deleted::default();
        let outcome = self.delete_files(Moment { no_room, level, ..self.now() }, &mut deleted);
        if let Deleted { files, reason: Some(reason) } = deleted {
            let from = self.parts.log.min_offset().0;
            tracing::info!(files, ?reason, from, "old files of the log are deleted; it begins later now");
        }
        // Also after a failure, and after a start: an earlier run may have come no further than the log.
        outcome.and(self.follow())
    }

    fn watch_disk(&self) -> DiskLevel {
        self.watch.look(&self.parts.log, self.parts.dispatcher.fault())
    }

    fn now(&self) -> Moment {
        let clock = &self.parts.clock;
        let (now_ms, local_hour) = (clock.now_ms(), clock.local_hour());
        Moment { now_ms, local_hour, level: DiskLevel::Roomy, no_room: false }
    }

    /// Deletes files of the log while the oldest one has a reason to go.
    fn delete_files(&self, mut now: Moment, deleted: &mut Deleted) -> Result<(), StoreError> {
        let log = &self.parts.log;
        while deleted.files < self.rules.files_max && !self.stopped() {
            let Some((end, oldest)) = self.oldest()? else { break };
            let Some(reason) = self.rules.reason(oldest, now) else { break };
            // Not before queues and index have it for certain: it could never be read, and a queue's next offset would
            // be forgotten with its last entry.
            if end > self.parts.derived.settled() {
                break;
            }
            if deleted.files > 0 && !self.rest() {
                break;
            }
            let files = log.delete_before(end)?;
            if files == 0 {
                // Not synced yet: at the next look.
                break;
            }
            deleted.files += files;
            deleted.reason = Some(reason);
            // No young file more than need be.
            now.level = self.watch_disk();
        }
        Ok(())
    }

    /// The oldest file, if the log goes on behind it, and where it ends.
    fn oldest(&self) -> Result<Option<(PhysicalOffset, Oldest)>, StoreError> {
        let log = &self.parts.log;
        let Some(end) = log.first_file_end() else { return Ok(None) };
        // Times in the log only rise, so the next record tells for the whole file, however large it is; unlike the
        // file's own time it is the same after a copy. That one serves where the next record cannot be read.
        let newest_ms = match log.store_time_at(end)? {
            Some(ms) => ms,
            None => {
                let written = log.first_file_written()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(written.as_millis()).unwrap_or(i64::MAX)
            }
        };
        Ok(Some((end, Oldest { newest_ms, bytes_behind: log.max_offset().bytes_since(end) })))
    }

    /// Lets a moment pass between two files; false if the store ends.
    fn rest(&self) -> bool {
        let clock = std::time::Instant::now();
        while let Some(left) = self.rules.pause.checked_sub(clock.elapsed()).filter(|left| !left.is_zero()) {
            if self.stopped() {
                return false;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
        !self.stopped()
    }

    /// Deletes what queues and index hold of what the log no longer has.
    fn follow(&self) -> Result<(), StoreError> {
        let min = self.parts.log.min_offset();
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if *followed < min {
            self.parts.log.sums().delete_before(min.0.max(0) as u64)?;
            self.parts.queues.delete_before(min)?;
            self.parts.index.as_ref().map_or(Ok(0), |index| index.delete_before(min))?;
            *followed = min;
        }
        Ok(())
    }

    /// See `MessageStore::delete_before`.
    pub(crate) fn delete_before(&self, offset: PhysicalOffset) -> Result<usize, StoreError> {
        let deleted = self.parts.log.delete_before(offset)?;
        self.follow()?;
        Ok(deleted)
    }
}
