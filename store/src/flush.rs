//! Bringing the log to the disk: one thread syncs, every so often or as soon as somebody waits, and one sync serves all
//! who wait (group commit). Called through `MessageStore::when_durable`.
//! What must hold: a waiter is told "durable" only after a sync that covers its offset returned without error; after a
//! failed sync nobody is told so again, nothing is synced again, and the log takes no more messages.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    checkpoint::Checkpoint,
    clock::Clock,
    commit_log::CommitLog,
    config::{FlushMode, StoreConfig},
    error::{AppendError, StoreError},
    offsets::PhysicalOffset,
    storage::PAGE_BYTES,
};

/// What became of a wait for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The offset is on the disk.
    Durable,
    /// It was not by the deadline. It may get there yet.
    TimedOut,
    /// It never will be: a sync failed, for this reason, or the store was closed.
    Failed {
        /// Why.
        reason: Arc<str>,
    },
}

/// Told once, on the flushing thread or on the caller's.
pub(crate) type OnDurable = Box<dyn FnOnce(Durability) + Send>;

struct Waiter {
    offset: PhysicalOffset,
    deadline: Duration,
    done: OnDurable,
}

/// Waiters in the order of their offsets, which is nearly the order of their arrival.
#[derive(Default)]
struct Waiters {
    queue: VecDeque<Waiter>,
    closed: Option<Arc<str>>,
    /// When the thread that watches deadlines will look by itself.
    alarm: Option<Duration>,
}

/// The flushing thread's state.
pub(crate) struct Flush {
    log: Arc<CommitLog>,
    checkpoint: Arc<Checkpoint>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    waiters: Mutex<Waiters>,
    waiting: AtomicUsize,
    /// Wakes the thread that watches deadlines.
    deadlines: Condvar,
    stop: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    mode: FlushMode,
    interval: Duration,
    bytes_min: u64,
    thorough_interval: Duration,
}

impl fmt::Debug for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flush").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Flush {
    pub(crate) fn new(
        log: Arc<CommitLog>,
        checkpoint: Arc<Checkpoint>,
        clock: Arc<dyn Clock>,
        config: &StoreConfig,
    ) -> Self {
        let settings = Settings {
            mode: config.flush,
            interval: config.flush_interval,
            bytes_min: config.flush_pages_min * PAGE_BYTES,
            thorough_interval: config.flush_thorough_interval,
        };
        Flush {
            log,
            checkpoint,
            clock,
            settings,
            waiters: Mutex::default(),
            waiting: AtomicUsize::new(0),
            deadlines: Condvar::new(),
            stop: AtomicBool::new(false),
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See `MessageStore::when_durable`.
    pub(crate) fn when_durable(&self, offset: PhysicalOffset, deadline: Duration, done: OnDurable) {
        if self.log.durable() >= offset {
            return done(Durability::Durable);
        }
        let mut waiters = self.waiters();
        if let Some(reason) = waiters.closed.clone() {
            drop(waiters);
            return done(Durability::Failed { reason });
        }
        let behind = waiters.queue.iter().rev().take_while(|waiter| waiter.offset > offset).count();
        let at = waiters.queue.len() - behind;
        waiters.queue.insert(at, Waiter { offset, deadline, done });
        self.waiting.store(waiters.queue.len(), Ordering::Release);
        let alarm_too_late = waiters.alarm.is_none_or(|alarm| deadline < alarm);
        drop(waiters);
        if alarm_too_late {
            self.deadlines.notify_one();
        }
        self.log.followers.sync.announce_and_wake();
    }

    /// The flushing thread's work, until [`stop`](Self::stop).
    pub(crate) fn run(&self) {
        let mut flushed_at = self.clock.monotonic();
        while !self.stop.load(Ordering::Acquire) {
            let now = self.clock.monotonic();
            if !self.is_due(now.saturating_sub(flushed_at)) {
                self.sleep(now.saturating_sub(flushed_at));
                continue;
            }
            flushed_at = now;
            if self.flush_once().is_err() {
                return;
            }
        }
    }

    /// Ends [`run`](Self::run) and the watch over deadlines; waits that are open are answered first if a last sync
    /// succeeds, else told that the store was closed.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.log.followers.flush.announce_and_wake();
        self.log.followers.sync.announce_and_wake();
        // Whoever watches deadlines looks at `stop` under this lock, so it does not miss the notice.
        drop(self.waiters());
        self.deadlines.notify_all();
    }

    fn dirty_bytes(&self) -> u64 {
        self.log.max_offset().bytes_since(self.log.durable())
    }

    /// Whether to sync now, `since` the last time.
    fn is_due(&self, since: Duration) -> bool {
        let dirty = self.dirty_bytes();
        if dirty == 0 {
            return false;
        }
        self.is_urgent()
            || (since >= self.settings.interval && dirty >= self.settings.bytes_min)
            || since >= self.settings.thorough_interval
    }

    /// Sleeps until there may be something to do. Without anything dirty: until something is appended.
    fn sleep(&self, since: Duration) {
        let stopped = || self.stop.load(Ordering::Acquire);
        let flush = &self.log.followers.flush;
        if self.dirty_bytes() == 0 {
            flush.sleep(None, || stopped() || self.dirty_bytes() > 0);
            return;
        }
        let left = self.settings.interval.saturating_sub(since);
        let pause = if left.is_zero() { self.settings.interval } else { left };
        let sync = &self.log.followers.sync;
        sync.sleep(Some(pause), || stopped() || self.is_urgent());
    }

    /// Whether somebody waits.
    fn is_urgent(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 || self.log.sync_wanted()
    }

    /// Syncs everything appended so far and tells who waited for it.
    pub(crate) fn flush_once(&self) -> Result<PhysicalOffset, StoreError> {
        // In this order: neither the wish to sync nor the newest record's time may be ahead of what is synced.
        self.log.forget_sync_wanted();
        let newest_ms = self.log.newest_ms();
        self.log.release_unsynced();
        match self.log.files().flush(self.log.max_offset().0 as u64) {
            Ok(flushed) => {
                let flushed = PhysicalOffset(flushed as i64);
                self.checkpoint.log_synced(flushed, newest_ms);
                // Senders first: the dispatcher may be given the core that is to answer them.
                self.tell_durable(flushed);
                if self.settings.mode == FlushMode::Sync {
                    self.log.followers.dispatch.announce_and_wake();
                }
                self.log.followers.derived.announce_and_wake();
                self.log.release_synced();
                self.log.give_back(self.clock.monotonic());
                Ok(flushed)
            }
            Err(error) => {
                self.poison(&error);
                Err(error)
            }
        }
    }

    fn tell_durable(&self, flushed: PhysicalOffset) {
        let mut waiters = self.waiters();
        let covered = waiters.queue.partition_point(|waiter| waiter.offset <= flushed);
        let told: Vec<_> = waiters.queue.drain(..covered).collect();
        self.waiting.store(waiters.queue.len(), Ordering::Release);
        drop(waiters);
        for waiter in told {
            (waiter.done)(Durability::Durable);
        }
    }

    /// A sync failed: the kernel may have dropped the pages and will not say so twice.
    fn poison(&self, error: &StoreError) {
        tracing::error!(%error, "the log could not be synced; it takes no more messages until a restart");
        let reason: Arc<str> = error.to_string().into();
        self.checkpoint.end_notes();
        self.log.refuse(Some(AppendError::Poisoned { reason: Arc::clone(&reason) }));
        self.close(reason);
    }

    /// Tells everyone who waits, now or later, that it was in vain.
    pub(crate) fn close(&self, reason: Arc<str>) {
        let mut waiters = self.waiters();
        let told = std::mem::take(&mut waiters.queue);
        waiters.closed = Some(Arc::clone(&reason));
        self.waiting.store(0, Ordering::Release);
        drop(waiters);
        for waiter in told {
            (waiter.done)(Durability::Failed { reason: Arc::clone(&reason) });
        }
    }

    /// The work of the thread that watches deadlines: it answers while the flushing thread hangs in a slow sync.
    pub(crate) fn run_deadlines(&self) {
        let mut waiters = self.waiters();
        while !self.stop.load(Ordering::Acquire) {
            let now = self.clock.monotonic();
            if waiters.queue.iter().any(|waiter| waiter.deadline <= now) {
                let (late, rest) = waiters.queue.drain(..).partition(|waiter| waiter.deadline <= now);
                waiters.queue = rest;
                self.waiting.store(waiters.queue.len(), Ordering::Release);
                drop(waiters);
                let late: VecDeque<Waiter> = late;
                late.into_iter().for_each(|waiter| (waiter.done)(Durability::TimedOut));
                waiters = self.waiters();
                continue;
            }
            waiters.alarm = waiters.queue.iter().map(|waiter| waiter.deadline).min();
            waiters = match waiters.alarm {
                None => self.deadlines.wait(waiters).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_sub(now).max(Duration::from_millis(1));
                    self.deadlines.wait_timeout(waiters, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc, thread};

    use super::*;
    use crate::{
        clock::SettableClock,
        commit_log::{Append, Item, Items},
        queue::Queue,
        storage::{MemoryStorage, Storage},
    };

    struct Rig {
        storage: Arc<MemoryStorage>,
        log: Arc<CommitLog>,
        clock: Arc<SettableClock>,
        flush: Arc<Flush>,
        queue: Arc<Queue>,
    }

    impl Rig {
        fn new() -> Self {
            let storage = Arc::new(MemoryStorage::new());
            storage.create_dir(Path::new("/store")).unwrap();
            let config = StoreConfig {
                storage: Arc::clone(&storage) as _,
                commit_log_file_bytes: 1 << 20,
                flush: FlushMode::Sync,
                ..StoreConfig::new("/store")
            };
            let log = Arc::new(CommitLog::open(&config).unwrap());
            log.start_appending().unwrap();
            let checkpoint = Arc::new(Checkpoint::open(&*storage, Path::new("/store")).unwrap());
            let clock = Arc::new(SettableClock::new(1_700_000_000_000));
            let flush = Flush::new(Arc::clone(&log), checkpoint, Arc::clone(&clock) as _, &config);
            Rig { storage, log, clock, flush: Arc::new(flush), queue: Arc::new(Queue::new("T".into(), 0)) }
        }

        fn append(&self) -> PhysicalOffset {
            let message = Append {
                queue: &self.queue,
                born_host: "10.0.0.1:1".parse().unwrap(),
                items: Items::One(Item { flag: 0, body: b"body", properties: b"" }),
                sys_flag: 0,
                born_timestamp: 0,
                reconsume_times: 0,
                prepared_transaction_offset: 0,
                wait_durable: true,
            };
            let mut out = Vec::new();
            self.log.append(&[message], &*self.clock, &mut out);
            out.pop().unwrap().unwrap().end
        }

        /// Waits for `offset` until `deadline`; the answers come in the order they are given, each with its number.
        fn wait(
            &self,
            number: u32,
            offset: PhysicalOffset,
            deadline: Duration,
            told: &mpsc::Sender<(u32, Durability)>,
        ) {
            let told = told.clone();
            self.flush.when_durable(
                offset,
                deadline,
                Box::new(move |durability| told.send((number, durability)).unwrap()),
            );
        }
    }

    const LATER: Duration = Duration::from_secs(1000);

    #[test]
    fn one_sync_answers_everyone_it_covers_in_order_of_their_offsets() {
        let rig = Rig::new();
        let (told, tell) = mpsc::channel();
        let (first, second) = (rig.append(), rig.append());
        rig.wait(2, second, LATER, &told);
        rig.wait(1, first, LATER, &told);
        rig.wait(4, PhysicalOffset(second.0 + 1), LATER, &told);
        rig.wait(3, second, LATER, &told);
        assert!(tell.try_recv().is_err());
        rig.flush.flush_once().unwrap();
        let answers: Vec<_> = tell.try_iter().collect();
        assert_eq!(answers, [(1, Durability::Durable), (2, Durability::Durable), (3, Durability::Durable)]);
        rig.wait(5, first, Duration::ZERO, &told);
        assert_eq!(tell.try_recv(), Ok((5, Durability::Durable)), "what is durable needs no wait");
    }

    #[test]
    fn a_deadline_is_kept_while_the_disk_hangs() {
        let rig = Rig::new();
        let (told, tell) = mpsc::channel();
        let flush = Arc::clone(&rig.flush);
        // Nothing is ever flushed: the flushing thread is not there.
        let watch = thread::spawn(move || flush.run_deadlines());
        let end = rig.append();
        rig.wait(1, end, LATER, &told);
        rig.wait(2, end, Duration::from_millis(5), &told);
        rig.clock.advance(Duration::from_millis(6));
        assert_eq!(tell.recv_timeout(Duration::from_secs(20)), Ok((2, Durability::TimedOut)));
        rig.flush.flush_once().unwrap();
        assert_eq!(tell.recv_timeout(Duration::from_secs(20)), Ok((1, Durability::Durable)));
        rig.flush.stop();
        watch.join().unwrap();
    }

    #[test]
    fn after_a_failed_sync_nobody_is_told_that_anything_is_durable() {
        let rig = Rig::new();
        let (told, tell) = mpsc::channel();
        let end = rig.append();
        rig.wait(1, end, LATER, &told);
        rig.storage.fail_syncs(true);
        rig.flush.flush_once().unwrap_err();
        assert!(matches!(tell.try_recv(), Ok((1, Durability::Failed { .. }))));
        rig.storage.fail_syncs(false);
        rig.wait(2, end, LATER, &told);
        assert!(matches!(tell.try_recv(), Ok((2, Durability::Failed { .. }))));
        assert!(matches!(rig.log.refusal(), Some(AppendError::Poisoned { .. })));
    }

    #[test]
    fn an_idle_thread_sleeps_and_an_append_that_waits_wakes_it() {
        let rig = Rig::new();
        let flush = Arc::clone(&rig.flush);
        let thread = thread::spawn(move || flush.run());
        let (told, tell) = mpsc::channel();
        for number in 0..200 {
            rig.wait(number, rig.append(), LATER, &told);
            assert_eq!(tell.recv_timeout(Duration::from_secs(20)), Ok((number, Durability::Durable)));
        }
        rig.flush.stop();
        thread.join().unwrap();
    }
}
