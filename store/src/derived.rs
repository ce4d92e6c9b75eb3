//! A thread that syncs what is derived from the log, consume queues and index, and then notes in the checkpoint how far
//! they are complete, so that a restart dispatches no more than a few seconds of messages again.
//! What must hold: the note is written after the sync. If a sync fails, nothing is noted any more: queues and index are
//! then rebuilt from the last note on at the next start, and nothing is lost.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    checkpoint::Checkpoint,
    clock::Clock,
    commit_log::CommitLog,
    consume_queue::ConsumeQueues,
    dispatch::Dispatcher,
    error::{AtPath, StoreError},
    index::Index,
    offsets::PhysicalOffset,
    storage::Storage,
};

/// How long to wait between two rounds (`flushIntervalConsumeQueue`).
const INTERVAL: Duration = Duration::from_secs(1);
/// A round that took long, as with very many queues or on a disk busy with the log, is not repeated before this many times
/// as long has passed, so that syncing stays a small part of what the disk does.
const REST: u32 = 10;
/// A rest is no longer than this, or than the round took: everything since the last round is dispatched again after a power cut.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// Syncs queues and index.
pub(crate) struct Derived {
    pub(crate) log: Arc<CommitLog>,
    pub(crate) queues: Arc<ConsumeQueues>,
    pub(crate) index: Option<Arc<Index>>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) checkpoint: Arc<Checkpoint>,
    state: Mutex<State>,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Synced and noted.
    synced: PhysicalOffset,
    /// The log's end at the last round, and the store time of its newest record then.
    mark: (PhysicalOffset, i64),
    failed: bool,
    /// What the next round must bring to the disk besides what this process wrote.
    inherited: Option<(Arc<dyn Storage>, PathBuf)>,
}

impl Derived {
    /// For a store that was just opened; nothing counts as synced yet.
    pub(crate) fn new(
        log: Arc<CommitLog>,
        queues: Arc<ConsumeQueues>,
        index: Option<Arc<Index>>,
        dispatcher: Arc<Dispatcher>,
        checkpoint: Arc<Checkpoint>,
    ) -> Self {
        let (state, stop) = (Mutex::default(), AtomicBool::new(false));
        Derived { log, queues, index, dispatcher, checkpoint, state, stop }
    }

    /// The store was closed properly at `end`, so there is nothing to do yet.
    pub(crate) fn all_synced(&self, end: PhysicalOffset) {
        self.state().synced = end;
    }

    /// Queues and index below `root` hold entries of a killed process that never were synced: the next round syncs
    /// everything there.
    pub(crate) fn sync_all_first(&self, storage: Arc<dyn Storage>, root: PathBuf) {
        self.state().inherited = Some((storage, root));
    }

    /// The thread's work, until [`stop`](Self::stop).
    pub(crate) fn run(&self, clock: &dyn Clock) {
        let sleeper = &self.log.followers.derived;
        let stopped = || self.stop.load(Ordering::Acquire);
        while !stopped() {
            if self.is_synced() {
                sleeper.sleep(None, || stopped() || !self.is_synced());
                continue;
            }
            let begun = clock.monotonic();
            if self.sync().is_err() {
                return;
            }
            let rest = rest_after(clock.monotonic().saturating_sub(begun));
            // Not at the sleeper: syncs of the log would wake it. `stop` is followed by an unpark.
            let until = clock.monotonic() + rest;
            while !stopped() && clock.monotonic() < until {
                std::thread::park_timeout(until.saturating_sub(clock.monotonic()));
            }
        }
    }

    /// Ends [`run`](Self::run); the caller unparks the thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.log.followers.derived.announce_and_wake();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread, if there is one, has something to do and has not ended.
    pub(crate) fn has_work(&self) -> bool {
        !self.is_synced() && !self.state().failed
    }

    fn is_synced(&self) -> bool {
        self.state().synced >= self.log.durable()
    }

    /// Syncs everything dispatched so far and notes it.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        let newest_ms = self.log.newest_ms();
        let now = (self.log.max_offset(), newest_ms);
        let dispatched = self.dispatcher.position();
        // Before the sync: what comes in meanwhile is not covered.
        let mark = self.index.as_ref().and_then(|index| index.mark());
        let synced = match &state.inherited {
            Some((storage, root)) => storage.sync_tree(root).at_path("syncing what is below", root),
            None => Ok(()),
        };
        let synced = synced.and_then(|()| self.sync_files());
        if synced.is_ok() {
            state.inherited = None;
        }
        if let Err(error) = &synced {
            state.failed = true;
            self.checkpoint.end_notes();
            tracing::error!(%error, "consume queues or index could not be synced; the next start will rebuild their ends");
        }
        if state.failed {
            return synced;
        }
        // The time of a mark counts once everything up to it is dispatched.
        let ms = [now, state.mark].into_iter().find(|(end, _)| *end <= dispatched).map_or(0, |(_, ms)| ms);
        state.mark = now;
        // Not more than the log itself has on the disk; nor may retention take it for more.
        let noted = dispatched.min(self.log.durable());
        self.checkpoint.derived_synced(noted, ms, mark);
        if let Err(error) = self.checkpoint.flush(None) {
            state.failed = true;
            self.checkpoint.end_notes();
            tracing::error!(%error, "the checkpoint could not be synced; the next start will look at more of the log");
            return Err(error);
        }
        state.synced = noted;
        Ok(())
    }

    /// Whether everything dispatched so far has been synced at some time, and no sync ever failed.
    pub(crate) fn is_whole(&self) -> bool {
        let state = self.state();
        !state.failed && state.synced >= self.dispatcher.position()
    }

    /// Everything before this is dispatched, and on the disk so, or will never be because a sync has failed.
    pub(crate) fn settled(&self) -> PhysicalOffset {
        let state = self.state();
        if state.failed { self.dispatcher.position() } else { state.synced }
    }

    fn sync_files(&self) -> Result<(), StoreError> {
        self.queues.flush(0)?;
        self.log.sums().sync()?;
        match &self.index {
            Some(index) => index.flush(true).map(drop),
            None => Ok(()),
        }
    }
}

/// How long to wait after a round that took this long.
fn rest_after(took: Duration) -> Duration {
    (took * REST).min(LONGEST_REST).max(INTERVAL).max(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sync_does_not_put_off_the_next_for_long() {
        let rest = |ms| rest_after(Duration::from_millis(ms)).as_millis();
        assert_eq!([rest(1), rest(150), rest(1500), rest(10_000)], [1000, 1500, 2000, 10_000]);
    }
}
