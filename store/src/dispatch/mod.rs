//! The dispatcher: one thread that follows the commit log at its own pace and fills consume queues and index from it,
//! then tells the listeners. Woken by appends (and by syncs, where only what is on disk may be read) while it sleeps;
//! while busy it looks for itself, so that appends pay nothing. Idle it costs nothing.

mod batch;
mod lanes;
mod request;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    log: Arc<CommitLog>,
    checkpoint: Arc<Checkpoint>,
    position: AtomicI64,
    stop: AtomicBool,
    fault: Mutex<Option<AppendError>>,
}

impl Dispatcher {
    /// Starts the thread; it goes on where `dispatch` stands, and notes in the checkpoint how far it is.
    pub(crate) fn start(dispatch: Dispatch, checkpoint: Arc<Checkpoint>) -> Result<Self, OpenError> {
        checkpoint.begin_notes(dispatch.dispatched());
        let shared = Arc::new(Shared {
            log: Arc::clone(dispatch.log()),
            checkpoint,
            position: AtomicI64::new(dispatch.position().0),
            stop: AtomicBool::new(false),
            fault: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let name = "dispatch";
        let thread = thread::Builder::new().name(name.into()).spawn(move || theirs.run(dispatch));
        let thread = thread.map_err(|source: io::Error| OpenError::Thread { name, source })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Everything before this is in queues and index, and the listeners know of it.
    pub(crate) fn position(&self) -> PhysicalOffset {
        PhysicalOffset(self.shared.position.load(Ordering::Acquire))
    }

    /// Why the store should take no more messages: dispatch finds the disk full, or has been failing for half a minute.
    pub(crate) fn fault(&self) -> Option<AppendError> {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything before `offset` is dispatched. False if that has not happened in time.
    pub(crate) fn wait_for(&self, offset: PhysicalOffset, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.position() < offset {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Ends the thread after the batch at hand. Returns when it has ended.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.log.followers.dispatch.announce_and_wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
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
    fn run(&self, mut dispatch: Dispatch) {
        let mut failures = 0;
        let mut empty_polls = EMPTY_POLLS_MAX;
        let mut last_batch = Instant::now();
        let mut notes = 0;
        while !self.stop.load(Ordering::Acquire) {
            match dispatch.step() {
                Ok(0) => {
                    if empty_polls < EMPTY_POLLS_MAX {
                        empty_polls += 1;
                        thread::sleep(POLL);
                    } else {
                        self.sleep(&dispatch);
                    }
                }
                Ok(_) => {
                    self.position.store(dispatch.position().0, Ordering::Release);
                    self.checkpoint.note_dispatched(notes, dispatch.dispatched());
                    notes += 1;
                    self.recovered(&mut failures);
                    let now = Instant::now();
                    empty_polls = if now - last_batch < BUSY { 0 } else { EMPTY_POLLS_MAX };
                    last_batch = now;
                }
                Err(error) => {
                    self.failed(&error, &mut failures);
                    self.wait_to_retry();
                }
            }
        }
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
