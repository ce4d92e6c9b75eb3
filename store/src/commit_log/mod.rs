//! The commit log: every message of every queue, one behind the other, in files of one size.
//! Written by `append` (many callers, one short lock), read by dispatch, pulls and look-ups, put in order after a
//! restart by `recovery`. What must hold: readers see whole records below `max_offset` only; nothing is appended after a
//! sync has failed; a record never crosses a file's end.

mod append;
mod backlog;
mod earlier_life;
mod page_cache;
mod read;
mod recently_read;
mod recovery;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use waspmq_protocol::message::record::RecordView;

use self::append::Appender;
pub use self::append::{Append, Appended, Item, Items};
use self::backlog::Backlog;
use self::page_cache::PageCache;
pub(crate) use self::recently_read::Part;
use self::recently_read::RecentlyRead;
pub use self::recovery::Fence;
pub(crate) use self::recovery::{Start, Tail, find_record, next_entry};
use crate::{
    clock::Clock,
    config::{FlushMode, StoreConfig},
    error::{AppendError, StoreError},
    mapped_file::MappedFile,
    mapped_file_queue::MappedFileQueue,
    offsets::PhysicalOffset,
    sleeper::Sleeper,
    storage::{Blocks, PAGE_BYTES},
    sums::Sums,
};

/// How long a file that could not be made is not tried again: making one on a full disk takes long.
const RETRY_FILE: Duration = Duration::from_secs(1);

/// This much behind what is synced stays mapped; older parts are mapped again when they are read.
const RESIDENT_BYTES: u64 = 32 << 20;
/// Pages are given back in pieces of this size: a huge page, so that none is split.
const RELEASE_BYTES: u64 = 2 << 20;
/// With this much to sync, it is worth taking the pages out of the page table first.
const RELEASE_UNSYNCED_BYTES: u64 = 32 << 10;
/// With more than this to sync, unless senders wait for the disk, `populate` has made pages by the megabyte: splitting one
/// costs the next appends their page faults. Else it has made them one by one.
const LITTLE_UNSYNCED_BYTES: u64 = 8 << 20;

/// The log. One per store.
#[derive(Debug)]
pub(crate) struct CommitLog {
    files: MappedFileQueue,
    appender: Mutex<Appender>,
    /// Why appends are refused, if they are; `refusing` spares the look.
    refusal: RwLock<Option<AppendError>>,
    refusing: AtomicBool,
    /// One file is made at a time, ahead of need or in need.
    making_file: Mutex<Unavailable>,
    settings: LogSettings,
    /// Store time, ms, of the newest record.
    newest_ms: AtomicI64,
    /// Pages below were given back to the page cache.
    released: AtomicU64,
    /// Where the log ended when it was opened.
    opened_at: AtomicU64,
    /// In [`FlushMode::Sync`]: somebody waits for what was appended.
    sync_wanted: AtomicBool,
    /// Beyond this offset the populate thread wants to be woken.
    populate_at: AtomicU64,
    backlog: Backlog,
    recently_read: RecentlyRead,
    page_cache: PageCache,
    /// What is known of the records besides their own checksums.
    sums: Arc<Sums>,
    /// How often a damaged message was not served.
    damaged: AtomicU64,
    /// Somebody asks for a look at the disk.
    look_wanted: AtomicBool,
    /// Threads that follow the log.
    pub(crate) followers: Followers,
}

/// Who is told that the log has grown.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    /// Makes pages present ahead of the log's end.
    pub(crate) populate: Sleeper,
    /// Syncs the log: asleep here while nothing is dirty.
    pub(crate) flush: Sleeper,
    /// The same thread, asleep here until somebody waits for the disk.
    pub(crate) sync: Sleeper,
    /// Builds queues and index.
    pub(crate) dispatch: Sleeper,
    /// Syncs queues and index; woken when the log was synced.
    pub(crate) derived: Sleeper,
    /// Watches the disk; woken when a file did not get its blocks.
    pub(crate) retention: Sleeper,
}

#[derive(Debug)]
struct LogSettings {
    store_host: std::net::SocketAddr,
    body_bytes_max: AtomicUsize,
    flush: FlushMode,
    check_crc_on_recovery: bool,
}

/// The last failure to make a file, and when (on the monotonic clock) to try again.
#[derive(Debug, Default)]
struct Unavailable {
    retry_at: Duration,
    error: Option<AppendError>,
    /// The log of events says already that files cannot be made ahead.
    told: bool,
}

impl CommitLog {
    /// Opens the files. Nothing may be appended before [`CommitLog::start_appending`].
    pub(crate) fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let storage = Arc::clone(&config.storage);
        let sums = Sums::open(Arc::clone(&storage), &config.root, config.commit_log_file_bytes)?;
        let files = MappedFileQueue::open(storage, config.commit_log_dir(), config.commit_log_file_bytes)?;
        Ok(CommitLog {
            files: files.with_blocks(Blocks::Reserved),
            appender: Mutex::default(),
            refusal: RwLock::default(),
            refusing: AtomicBool::new(false),
            making_file: Mutex::default(),
            settings: LogSettings {
                store_host: config.store_host,
                body_bytes_max: AtomicUsize::new(config.body_bytes_max),
                flush: config.flush,
                check_crc_on_recovery: config.check_crc_on_recovery,
            },
            newest_ms: AtomicI64::new(0),
            released: AtomicU64::new(0),
            opened_at: AtomicU64::new(0),
            sync_wanted: AtomicBool::new(false),
            populate_at: AtomicU64::new(0),
            backlog: Backlog::new(config.backlog_bytes_max),
            recently_read: RecentlyRead::default(),
            page_cache: PageCache::new(config.memory_bytes),
            sums: Arc::new(sums),
            damaged: AtomicU64::new(0),
            look_wanted: AtomicBool::new(false),
            followers: Followers::default(),
        })
    }

    /// The row of files, for flushing, populating and deletion.
    pub(crate) fn files(&self) -> &MappedFileQueue {
        &self.files
    }

    /// What is known of the records besides their own checksums.
    pub(crate) fn sums(&self) -> &Arc<Sums> {
        &self.sums
    }

    /// How often a damaged message was not served.
    pub(crate) fn damaged_reads(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Offset of the oldest byte still held.
    pub(crate) fn min_offset(&self) -> PhysicalOffset {
        physical(self.files.min_offset())
    }

    /// One past the newest record.
    pub(crate) fn max_offset(&self) -> PhysicalOffset {
        physical(self.files.wrote())
    }

    /// One past the newest byte known to be on the disk.
    pub(crate) fn durable(&self) -> PhysicalOffset {
        physical(self.files.flushed())
    }

    /// How far the log may be shown to readers: what a power cut cannot take back in [`FlushMode::Sync`], everything
    /// in [`FlushMode::Async`].
    pub(crate) fn confirmed(&self) -> PhysicalOffset {
        match self.settings.flush {
            FlushMode::Sync => self.durable(),
            FlushMode::Async => self.max_offset(),
        }
    }

    /// Everything before this is in queues and index, and the listeners know of it.
    pub(crate) fn dispatched(&self) -> PhysicalOffset {
        self.backlog.dispatched()
    }

    /// Called by the dispatcher alone.
    pub(crate) fn note_dispatched(&self, position: PhysicalOffset) {
        self.backlog.note_dispatched(position);
    }

    /// How many appends have waited for the dispatcher.
    pub(crate) fn backlog_waits(&self) -> u64 {
        self.backlog.waits()
    }

    /// Store time of the newest record, ms; 0 if nothing was stored yet.
    pub(crate) fn newest_ms(&self) -> i64 {
        self.newest_ms.load(Ordering::Acquire)
    }

    /// Limits bodies from now on; a running broker's setting may change.
    pub(crate) fn set_body_bytes_max(&self, bytes: usize) {
        self.settings.body_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Refuses appends for `reason` until further notice, or takes them again. A poisoned log stays poisoned, and one
    /// that is being closed stays so, unless it is poisoned meanwhile.
    pub(crate) fn refuse(&self, reason: Option<AppendError>) {
        let mut refusal = self.refusal.write().unwrap_or_else(PoisonError::into_inner);
        let stays = match *refusal {
            Some(AppendError::Poisoned { .. }) => true,
            Some(AppendError::ShuttingDown) => !matches!(reason, Some(AppendError::Poisoned { .. })),
            _ => false,
        };
        if !stays {
            self.refusing.store(reason.is_some(), Ordering::Release);
            *refusal = reason;
        }
    }

    /// Why appends are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<AppendError> {
        if !self.refusing.load(Ordering::Acquire) {
            return None;
        }
        self.refusal.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file for the byte at `at`, which is where the log ends: the one made ahead, or a new one.
    fn next_file(&self, at: u64, clock: &dyn Clock) -> Result<Arc<MappedFile>, AppendError> {
        let mut unavailable = self.making_file.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.monotonic();
        if let Some(error) = &unavailable.error
            && now < unavailable.retry_at
        {
            return Err(error.clone());
        }
        let made = self.files.file_to_write(at).map_err(append_error);
        let told = unavailable.told && made.is_err();
        *unavailable = Unavailable { retry_at: now + RETRY_FILE, error: made.as_ref().err().cloned(), told };
        if matches!(made, Err(AppendError::DiskFull { .. })) {
            self.ask_for_look();
        }
        made
    }

    /// Makes the file behind the last one if the log is closer to its end than `ahead_bytes`. Returns whether there is
    /// such a file now.
    pub(crate) fn make_file_ahead(&self, ahead_bytes: u64) -> bool {
        let mut unavailable = self.making_file.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.end_offset() >= self.files.wrote() + ahead_bytes {
            return true;
        }
        match self.files.add_file() {
            Ok(_) => {
                unavailable.told = false;
                true
            }
            Err(error) => {
                // Not an error yet: the log still has room, and the append that needs the file tries again.
                if !std::mem::replace(&mut unavailable.told, true) {
                    tracing::warn!(%error, "the next file of the log could not be made ahead of need");
                }
                if error.is_disk_full() {
                    self.ask_for_look();
                }
                false
            }
        }
    }

    /// Whether somebody has appended what must be synced at once.
    pub(crate) fn sync_wanted(&self) -> bool {
        self.sync_wanted.load(Ordering::Acquire)
    }

    /// What was wanted so far is about to be synced.
    pub(crate) fn forget_sync_wanted(&self) {
        self.sync_wanted.store(false, Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Gives what was synced back to the page cache, but for the last part, which is read most: a broker's own memory
    /// stays small however much it stores.
    pub(crate) fn release_synced(&self) {
        self.release_below(self.files.flushed().saturating_sub(RESIDENT_BYTES), RELEASE_BYTES);
    }

    /// Gives the page cache's part back that is not worth its place `now`, on the monotonic clock.
    pub(crate) fn give_back(&self, now: Duration) {
        // What the dispatcher has still to read is worth more than anything.
        let done_with = self.files.flushed().min(u64::try_from(self.dispatched().0).unwrap_or(0));
        if let Some(range) = self.page_cache.no_longer_worth(done_with, now, RELEASE_BYTES) {
            self.files.give_back(range);
        }
    }

    /// Takes what is about to be synced out of the process's page table, if it is much. To write a page that is mapped,
    /// the kernel first interrupts every core that runs this process, page by page; one call here does it for all.
    pub(crate) fn release_unsynced(&self) {
        let wrote = self.files.wrote();
        match wrote.saturating_sub(self.files.flushed()) {
            LITTLE_UNSYNCED_BYTES.. if self.settings.flush != FlushMode::Sync => {
                self.release_below(wrote, RELEASE_BYTES)
            }
            RELEASE_UNSYNCED_BYTES.. => self.release_below(wrote, PAGE_BYTES),
            _ => {}
        }
    }

    fn release_below(&self, offset: u64, step: u64) {
        let upto = offset / step * step;
        let from = self.released.fetch_max(upto, Ordering::Relaxed);
        if from < upto {
            self.files.release(from..upto);
        }
    }

    /// Deletes the files that end at or before `offset`, never the last; returns how many.
    pub(crate) fn delete_before(&self, offset: PhysicalOffset) -> Result<usize, StoreError> {
        // Files made ahead count too: the one that is written must stay.
        let written = offset.0.max(0) as u64;
        self.files.delete_before(written.min(self.files.flushed()))
    }

    /// Where the oldest file ends, if the log goes on behind it.
    pub(crate) fn first_file_end(&self) -> Option<PhysicalOffset> {
        let end = self.files.min_offset() + self.files.file_bytes();
        (self.files.wrote() > end).then(|| physical(end))
    }

    /// When the oldest file was last written, as the storage sees it.
    pub(crate) fn first_file_written(&self) -> Result<SystemTime, StoreError> {
        self.files.first_modified()
    }

    /// Store time, ms, of the record that begins at `offset`, if one does.
    pub(crate) fn store_time_at(&self, offset: PhysicalOffset) -> Result<Option<i64>, StoreError> {
        let Some(bytes) = self.record_at(offset)? else { return Ok(None) };
        let whole = self.is_unharmed(offset.0 as u64, &bytes, Part::Head, self.reading_now());
        Ok(RecordView::parse(&bytes, false).ok().filter(|_| whole).map(|record| record.store_timestamp()))
    }

    /// A file did not get its blocks, or gets them again: the disk is to be looked at now.
    pub(crate) fn ask_for_look(&self) {
        self.look_wanted.store(true, Ordering::Release);
        self.followers.retention.announce_and_wake();
    }

    /// Whether somebody has asked for a look at the disk.
    pub(crate) fn look_wanted(&self) -> bool {
        self.look_wanted.load(Ordering::Acquire)
    }

    /// As [`CommitLog::look_wanted`], and forgets it: the look begins.
    pub(crate) fn begin_look(&self) -> bool {
        self.look_wanted.swap(false, Ordering::AcqRel)
    }

    /// From which offset on the populate thread is to be woken.
    pub(crate) fn set_populate_at(&self, offset: u64) {
        self.populate_at.store(offset, Ordering::Relaxed);
    }

    /// Whether the log has grown to where the populate thread wants to be woken.
    pub(crate) fn wants_population(&self) -> bool {
        self.files.wrote() >= self.populate_at.load(Ordering::Relaxed)
    }
}

/// Offsets of this crate's files as the protocol's signed type.
pub(crate) fn physical(offset: u64) -> PhysicalOffset {
    PhysicalOffset(offset as i64)
}

fn append_error(error: StoreError) -> AppendError {
    if error.is_disk_full() {
        return AppendError::DiskFull { reason: error.to_string().into() };
    }
    AppendError::FileUnavailable { source: Arc::new(error) }
}
