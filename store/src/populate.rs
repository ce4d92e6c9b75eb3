//! A thread that makes the pages ahead of the log's end present in memory, and the next file, so that an append enters the
//! kernel for neither. Goes as far ahead as the load asks for, and sleeps when nothing is appended.
//! What must hold: it only ever helps. Without it, or when it fails, appends fault their pages in themselves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    clock::Clock,
    commit_log::CommitLog,
    config::{FlushMode, StoreConfig},
    error::StoreError,
    mapped_file::MappedFile,
    storage::Access,
};

/// Pages are populated in steps of this size, so that one call never holds up the process's other mappings for long.
const STEP_BYTES: u64 = 1 << 20;
/// Under little load a step is this small. Where memory is slow to come by, as in a virtual machine whose host has to provide
/// it, a megabyte takes milliseconds, in which the kernel lets nobody else have the core.
const GENTLE_STEP_BYTES: u64 = 64 << 10;
/// Little load, in bytes a second: below it there is time to populate page by page. Above, the kernel's own read-ahead makes
/// pages by the megabyte, several times cheaper each; unless senders wait for the disk, as such a page is written whole by
/// each sync, however little of it is new: fifteen times the bytes of the messages.
const LITTLE_LOAD: u64 = 128 << 20;
/// The pages ahead are to last this long at the present rate.
const AHEAD: Duration = Duration::from_millis(200);
/// The next file is made when this part of the last one is left, at the latest.
const FILE_LEFT: u64 = 8;

/// Populates ahead of one log's end.
#[derive(Debug)]
pub(crate) struct Populate {
    log: Arc<CommitLog>,
    ahead_bytes_max: u64,
    /// Pages are made one by one under any load.
    one_by_one: bool,
    stop: AtomicBool,
}

/// What the thread knows of the load.
struct Load {
    /// Everything below is populated, as far as this thread is concerned.
    populated: u64,
    wrote: u64,
    at: Duration,
    /// Bytes appended per second, falling slowly, rising at once.
    rate: u64,
    /// The file whose pages are made one by one at present.
    gentle_file: Option<Arc<MappedFile>>,
}

impl Populate {
    pub(crate) fn new(log: Arc<CommitLog>, config: &StoreConfig) -> Self {
        let one_by_one = config.flush == FlushMode::Sync;
        Populate { log, ahead_bytes_max: config.populate_ahead_bytes_max, one_by_one, stop: AtomicBool::new(false) }
    }

    /// The thread's work, until [`stop`](Self::stop).
    pub(crate) fn run(&self, clock: &dyn Clock) {
        let wrote = self.log.files().wrote();
        let mut load = Load { populated: wrote, wrote, at: clock.monotonic(), rate: 0, gentle_file: None };
        while !self.stop.load(Ordering::Acquire) {
            let ahead = self.ahead(&mut load, clock.monotonic());
            self.go_ahead(&mut load, ahead);
            self.log.set_populate_at(load.populated.saturating_sub(ahead / 2).max(load.wrote + 1));
            let news = || self.stop.load(Ordering::Acquire) || self.log.wants_population();
            self.log.followers.populate.sleep(None, news);
        }
    }

    /// Ends [`run`](Self::run).
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.log.followers.populate.announce_and_wake();
    }

    /// How far ahead to go, judged by what was appended since the last look.
    fn ahead(&self, load: &mut Load, now: Duration) -> u64 {
        let wrote = self.log.files().wrote();
        let micros = now.saturating_sub(load.at).as_micros().max(1);
        let rate = u128::from(wrote.saturating_sub(load.wrote)) * 1_000_000 / micros;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        load.rate = rate.max(load.rate - load.rate / 8);
        (load.wrote, load.at) = (wrote, now);
        let wanted = u128::from(load.rate) * AHEAD.as_millis() / 1000;
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        wanted.clamp(STEP_BYTES, self.ahead_bytes_max.max(STEP_BYTES))
    }

    fn go_ahead(&self, load: &mut Load, ahead: u64) {
        let file_bytes = self.log.files().file_bytes();
        // Small files, as in tests, are made when they are needed: there would be one for every few messages.
        if file_bytes >= 2 * STEP_BYTES {
            self.log.make_file_ahead((file_bytes / FILE_LEFT).max(2 * ahead).min(file_bytes));
        }
        load.populated = load.populated.max(load.wrote);
        while load.populated < load.wrote + ahead && !self.stop.load(Ordering::Acquire) {
            match self.populate_step(load) {
                Ok(Some(to)) => load.populated = to,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "pages ahead of the log's end were not populated");
                    break;
                }
            }
            // The log may have overtaken this thread.
            load.populated = load.populated.max(self.log.files().wrote());
        }
    }

    /// Populates the next step, up to the file's end at most. `None` if there is no such file.
    fn populate_step(&self, load: &mut Load) -> Result<Option<u64>, StoreError> {
        let from = load.populated;
        let Some(file) = self.log.files().file_for(from)? else { return Ok(None) };
        let gently = self.one_by_one || load.rate < LITTLE_LOAD;
        let step = load.expect(gently, &file);
        let to = (from / step * step + step).min(file.start() + file.bytes() as u64);
        file.populate((from - file.start()) as usize..(to - file.start()) as usize)?;
        if step == GENTLE_STEP_BYTES {
            // Whoever waits for this core goes first.
            thread::yield_now();
        }
        Ok(Some(to))
    }
}

impl Load {
    /// Tells the kernel how pages of the file will be made, and returns the size of a step.
    fn expect(&mut self, gently: bool, file: &Arc<MappedFile>) -> u64 {
        if !self.gentle_file.as_ref().is_some_and(|at_hand| gently && at_hand.start() == file.start()) {
            if let Some(before) = self.gentle_file.take() {
                before.expect_access(Access::Usual);
            }
            if gently {
                file.expect_access(Access::Random);
                self.gentle_file = Some(Arc::clone(file));
            }
        }
        if gently { GENTLE_STEP_BYTES } else { STEP_BYTES }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::storage::{Hint, MemoryStorage, Storage as _};

    const FILE_BYTES: u64 = 8 << 20;

    /// What the kernel is told when pages of a file are made ahead under these loads, in bytes a second.
    fn told(flush: FlushMode, rates: &[u64]) -> Vec<Hint> {
        let storage = Arc::new(MemoryStorage::new());
        storage.create_dir(Path::new("/store")).unwrap();
        let config = StoreConfig {
            storage: Arc::clone(&storage) as _,
            commit_log_file_bytes: FILE_BYTES,
            flush,
            ..StoreConfig::new("/store")
        };
        let log = Arc::new(CommitLog::open(&config).unwrap());
        log.start_appending().unwrap();
        assert!(log.make_file_ahead(1));
        let populate = Populate::new(log, &config);
        let mut load = Load { populated: 0, wrote: 0, at: Duration::ZERO, rate: 0, gentle_file: None };
        storage.take_hints();
        for (turn, rate) in rates.iter().enumerate() {
            load.rate = *rate;
            populate.go_ahead(&mut load, STEP_BYTES * (turn as u64 + 1));
        }
        storage.take_hints()
    }

    fn populated(from: u64, to: u64, step: u64) -> impl Iterator<Item = Hint> {
        (from..to).step_by(step as usize).map(move |at| Hint::Populate(at as usize..(at + step) as usize))
    }

    #[test]
    fn pages_are_made_one_by_one_under_little_load_and_by_the_megabyte_above() {
        let mut expected = vec![Hint::Expect(Access::Random)];
        expected.extend(populated(0, STEP_BYTES, GENTLE_STEP_BYTES));
        expected.push(Hint::Expect(Access::Usual));
        expected.extend(populated(STEP_BYTES, 2 * STEP_BYTES, STEP_BYTES));
        assert_eq!(told(FlushMode::Async, &[LITTLE_LOAD - 1, LITTLE_LOAD]), expected);
    }

    #[test]
    fn while_senders_wait_for_the_disk_they_are_made_one_by_one_under_any_load() {
        let mut expected = vec![Hint::Expect(Access::Random)];
        expected.extend(populated(0, 2 * STEP_BYTES, GENTLE_STEP_BYTES));
        assert_eq!(told(FlushMode::Sync, &[0, u64::MAX]), expected);
    }
}
