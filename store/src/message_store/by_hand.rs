//! A store without threads: whoever opened it says when each of them would have worked, and for how long. So that a
//! simulation decides what happens when, and the same happens again when it is asked to; see `tests/sweep`.

use std::sync::Arc;

use super::MessageStore;
use crate::{
    clock::Clock,
    config::StoreConfig,
    dispatch::Dispatcher,
    error::{AppendError, OpenError},
    filter::ArrivalListener,
};

/// One turn of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The flushing thread brings the log to the disk, and tells who waits for that.
    SyncLog,
    /// The dispatcher fills queues and index from the next records.
    Dispatch,
    /// What the dispatcher has filled is brought to the disk, and noted.
    SyncDerived,
    /// Old files are looked for and deleted.
    Retention,
}

impl MessageStore {
    /// [`MessageStore::open`] without threads: nothing happens by itself but what [`MessageStore::work`] is told.
    ///
    /// # Errors
    /// As [`MessageStore::open`].
    pub fn open_by_hand(
        config: StoreConfig,
        listener: Arc<dyn ArrivalListener>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<MessageStore>, OpenError> {
        let by_hand = |dispatch, checkpoint| Ok(Dispatcher::by_hand(dispatch, checkpoint));
        Self::assemble(config, listener, clock, by_hand).map(Arc::new)
    }

    /// For a store opened by hand: lets one thread have one turn. Answers whether it found something to do, and did it.
    pub fn work(&self, work: Work) -> bool {
        match work {
            // After a failed sync the thread has ended.
            Work::SyncLog if matches!(self.log.refusal(), Some(AppendError::Poisoned { .. })) => false,
            Work::SyncLog => self.log.max_offset() > self.log.durable() && self.flush.flush_once().is_ok(),
            Work::Dispatch => self.dispatcher.step_by_hand(),
            Work::SyncDerived => self.derived.has_work() && self.derived.sync().is_ok(),
            Work::Retention => self.retention.look().is_ok(),
        }
    }
}
