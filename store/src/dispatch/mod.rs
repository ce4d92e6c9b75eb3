//! The dispatcher: one thread that follows the commit log at its own pace and fills consume queues and index from it,
//! then tells the listeners. Woken by appends (and by syncs, where only what is on disk may be read) while it sleeps;
//! while busy it looks for itself, so that appends pay nothing. Idle it costs nothing.

mod batch;
mod lanes;
mod request;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) use batch::{Dispatch, DispatchParts};
pub use request::DelayLevels;
pub(crate) use request::Wanted;

use crate::checkpoint::Checkpoint;
use crate::commit_log::CommitLog;
use crate::error::{AppendError, OpenError, StoreError};
use crate::offsets::PhysicalOffset;

/// Batches that follow each other this closely make the dispatcher look for itself instead of being woken.
const BUSY: Duration = Duration::from_micros(500);
/// How often it looks while busy.
const POLL: Duration = Duration::from_micros(150);
/// How often it looks without finding anything before it asks to be woken.
const EMPTY_POLLS_MAX: u32 = 4;
/// How long a failed batch waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a batch fails before the store must stop taking messages.
const FAILURES_MAX: u32 = 30;

/// The running dispatcher.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    worker: Mutex<Worker>,
}

/// Who does the work.
enum Worker {
    Thread(JoinHandle<()>),
    /// Whoever calls [`Dispatcher::step_by_hand`].
    Hand(Box<Turns>),
    Ended,
}

/// What goes on from batch to batch.
struct Turns {
    dispatch: Dispatch,
    notes: usize,
    failures: u32,
}

struct Shared {
    log: Arc<CommitLog>,
    checkpoint: Arc<Checkpoint>,
    stop: AtomicBool,
    fault: Mutex<Option<AppendError>>,
}

impl Dispatcher {
    /// Starts the thread; it goes on where `dispatch` stands, and notes in the checkpoint how far it is.
    pub(crate) fn start(dispatch: Dispatch, checkpoint: Arc<Checkpoint>) -> Result<Self, OpenError> {
        let (shared, turns) = Shared::begin(dispatch, checkpoint);
        let theirs = Arc::clone(&shared);
        let name = "dispatch";
        let thread = thread::Builder::new().name(name.into()).spawn(move || theirs.run(turns));
        let thread = thread.map_err(|source: io::Error| OpenError::Thread { name, source })?;
        Ok(Self { shared, worker: Mutex::new(Worker::Thread(thread)) })
    }

    /// The same without a thread: it works when it is told to.
    pub(crate) fn by_hand(dispatch: Dispatch, checkpoint: Arc<Checkpoint>) -> Self {
        let (shared, turns) = Shared::begin(dispatch, checkpoint);
        Self { shared, worker: Mutex::new(Worker::Hand(Box::new(turns))) }
    }

    /// Does one batch, if there is no thread for it. Answers whether there was one to do, and it was done.
    pub(crate) fn step_by_hand(&self) -> bool {
        // Not while a batch is being done: then it is asked from within.
        match self.worker.try_lock().as_deref_mut() {
            Ok(Worker::Hand(turns)) => self.shared.batch(turns).is_ok_and(|bytes| bytes > 0),
            _ => false,
        }
    }

    /// Everything before this is in queues and index, and the listeners know of it.
    pub(crate) fn position(&self) -> PhysicalOffset {
        self.shared.log.dispatched()
    }

    /// Why the store should take no more messages: dispatch finds the disk full, or has been failing for half a minute.
    pub(crate) fn fault(&self) -> Option<AppendError> {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything before `offset` is dispatched. False if that has not happened in time.
    pub(crate) fn wait_for(&self, offset: PhysicalOffset, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.position() < offset {
            if self.step_by_hand() {
                continue;
            }
            if Instant::now() >= deadline || self.is_by_hand() {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    fn worker(&self) -> MutexGuard<'_, Worker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_by_hand(&self) -> bool {
        matches!(*self.worker(), Worker::Hand(_))
    }

    /// Ends the thread after the batch at hand. Returns when it has ended.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.log.followers.dispatch.announce_and_wake();
        let worker = std::mem::replace(&mut *self.worker(), Worker::Ended);
        if let Worker::Thread(thread) = worker
            && thread.join().is_err()
        {
            tracing::error!("the dispatcher had panicked");
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn begin(dispatch: Dispatch, checkpoint: Arc<Checkpoint>) -> (Arc<Self>, Turns) {
        checkpoint.begin_notes(dispatch.dispatched());
        dispatch.log().note_dispatched(dispatch.position());
        let shared = Shared {
            log: Arc::clone(dispatch.log()),
            checkpoint,
            stop: AtomicBool::new(false),
            fault: Mutex::default(),
        };
        (Arc::new(shared), Turns { dispatch, notes: 0, failures: 0 })
    }

    fn run(&self, mut turns: Turns) {
        let mut empty_polls = EMPTY_POLLS_MAX;
        let mut last_batch = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            match self.batch(&mut turns) {
                Ok(0) => {
                    if empty_polls < EMPTY_POLLS_MAX {
                        empty_polls += 1;
                        thread::sleep(POLL);
                    } else {
                        self.sleep(&turns.dispatch);
                    }
                }
                Ok(_) => {
                    let now = Instant::now();
                    empty_polls = if now - last_batch < BUSY { 0 } else { EMPTY_POLLS_MAX };
                    last_batch = now;
                }
                Err(_) => self.wait_to_retry(),
            }
        }
    }

    /// Dispatches one batch and notes it. Returns how many bytes of the log that were.
    fn batch(&self, turns: &mut Turns) -> Result<u64, StoreError> {
        let done = turns.dispatch.step();
        match &done {
            Ok(0) => {}
            Ok(_) => {
                self.log.note_dispatched(turns.dispatch.position());
                self.checkpoint.note_dispatched(turns.notes, turns.dispatch.dispatched());
                turns.notes += 1;
                self.recovered(&mut turns.failures);
            }
            Err(error) => self.failed(error, &mut turns.failures),
        }
        done
    }

    /// Sleeps until there is something to dispatch.
    fn sleep(&self, dispatch: &Dispatch) {
        let news = || self.stop.load(Ordering::Acquire) || self.log.confirmed() > dispatch.position();
        self.log.followers.dispatch.sleep(None, news);
    }

    /// Lets [`RETRY`] pass, unless the end comes; appends do not make it shorter.
    fn wait_to_retry(&self) {
        let until = Instant::now() + RETRY;
        while Instant::now() < until && !self.stop.load(Ordering::Acquire) {
            thread::sleep(RETRY / 20);
        }
    }

    fn failed(&self, error: &StoreError, failures: &mut u32) {
        *failures += 1;
        if *failures == 1 {
            tracing::error!(%error, "messages cannot be made readable; trying again every second");
        }
        let reason = || format!("consume queues and index cannot be written: {error}").into();
        let fault = match *failures {
            // More messages would only make the backlog longer.
            1.. if error.is_disk_full() => AppendError::DiskFull { reason: reason() },
            FAILURES_MAX.. => AppendError::ReadOnly { reason: reason() },
            _ => return,
        };
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        self.log.ask_for_look();
    }

    fn recovered(&self, failures: &mut u32) {
        if *failures > 0 {
            tracing::info!(failures = *failures, "messages are made readable again");
            *failures = 0;
            if self.fault.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
                self.log.ask_for_look();
            }
        }
    }
}

#[cfg(test)]
mod tests;
