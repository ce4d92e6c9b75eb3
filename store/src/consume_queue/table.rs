//! All consume queues of the store: found on disk at start, made on demand, cut and corrected during recovery.
//! Called by the store for handles, by the dispatcher for writing, by recovery and retention. Must hold: a topic's
//! folder is read once, at open; a queue without messages has no files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::open_queues::OpenQueues;
use super::queue_files::{ConsumeQueue, Placement};
use crate::consume_queue::ENTRY_BYTES;
use crate::error::{AtPath, StoreError};
use crate::filter::QueueEntry;
use crate::names::Names;
use crate::offsets::PhysicalOffset;
use crate::queue::{Queue, QueueMap};
use crate::storage::Storage;

/// Threads that read folders at start: more do not help one disk.
const OPEN_THREADS_MAX: usize = 4;
/// For fewer topics it is not worth while to start one of them.
const TOPICS_PER_THREAD: usize = 16;
/// Up to so many queues are synced one by one.
const FLUSHED_ALONE_MAX: usize = 32;

/// In the sum of all bounds: a first offset too many must not make up for an end too few.
const FIRST_WEIGHT: i64 = 1_000_003;

/// The queues of the store and their files.
#[derive(Debug)]
pub(crate) struct ConsumeQueues {
    map: QueueMap,
    placement: Arc<Placement>,
    /// A topic's folder may have been made since the root folder was last synced.
    names: Names,
    /// Queues that were left out, as their files cannot be used, and why.
    damaged: Mutex<Vec<(String, i32, StoreError)>>,
}

impl ConsumeQueues {
    /// Opens what lies in `root`. `file_bytes` is rounded up to whole entries; at most `open_max` queues are mapped at
    /// once. Whatever is no folder, and folders not named by a number, belong to someone else and are left alone. Queues
    /// whose files are missing or have the wrong size are left out, see [`Self::remove_damaged`]; if every one of them has
    /// the wrong size, that is the error.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        root: PathBuf,
        file_bytes: u64,
        open_max: usize,
    ) -> Result<Self, StoreError> {
        let file_bytes = file_bytes.max(1).next_multiple_of(ENTRY_BYTES as u64);
        let open_queues = OpenQueues::new(open_max);
        let placement = Arc::new(Placement { storage, root, file_bytes, open_queues });
        let (map, damaged) = Default::default();
        let queues = Self { map, placement, names: Names::synced(), damaged };
        queues.scan()?;
        let some_usable = queues.all().iter().any(|queue| queue.files().is_some_and(|files| !files.is_new()));
        let has_wrong_size = |(_, _, error): &(_, _, StoreError)| matches!(error, StoreError::WrongFileSize { .. });
        let all_wrong = !some_usable && queues.damaged().iter().all(has_wrong_size);
        let first_wrong = if all_wrong { queues.damaged().pop() } else { None };
        // Every single file has another size: a broker with another setting, more likely than damage.
        first_wrong.map_or(Ok(queues), |(_, _, error)| Err(error))
    }

    fn damaged(&self) -> MutexGuard<'_, Vec<(String, i32, StoreError)>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Recovery: deletes the files of queues that cannot be used. Answers whether there were any: what the log has of them
    /// is to be dispatched again.
    pub(crate) fn remove_damaged(&self) -> Result<bool, StoreError> {
        let damaged = std::mem::take(&mut *self.damaged());
        for (topic, id, error) in &damaged {
            tracing::error!(topic, queue = id, %error, "a consume queue is damaged; it is made anew from the log");
            let dir = self.placement.root.join(topic);
            let queue = dir.join(id.to_string());
            self.placement.storage.remove_dir(&queue).at_path("deleting the folder", &queue)?;
            self.placement.storage.sync_dir(&dir).at_path("syncing the folder", &dir)?;
        }
        Ok(!damaged.is_empty())
    }

    /// Recovery: somebody has deleted files of queues. One that does not begin at 0, and of which the log has messages, may
    /// lack its first ones: it is made anew.
    pub(crate) fn clear_cut_off(&self, log_min: PhysicalOffset) -> Result<(), StoreError> {
        for queue in self.all() {
            let Some(files) = queue.files() else { continue };
            if files.first().0 > 0 && files.end_physical() > log_min {
                files.clear()?;
                queue.restart_at(files.end());
                // With a power cut a part of them would come back, and stand in the way of what is made anew.
                let dir = self.placement.root.join(&**queue.topic());
                self.placement.storage.sync_dir(&dir).at_path("syncing the folder", &dir)?;
            }
        }
        Ok(())
    }

    /// Opens every queue found, several topics at a time.
    fn scan(&self) -> Result<(), StoreError> {
        let root = &self.placement.root;
        let mut topics = self.placement.storage.list(root).at_path("listing", root)?;
        topics.retain(|entry| entry.is_dir);
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            while let Some(topic) = topics.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.scan_topic(&topic.name) {
                    next.store(topics.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        let useful = topics.len().div_ceil(TOPICS_PER_THREAD).min(OPEN_THREADS_MAX);
        let threads = if useful > 1 { thread::available_parallelism().map_or(1, usize::from).min(useful) } else { 1 };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn scan_topic(&self, topic: &str) -> Result<(), StoreError> {
        let dir = self.placement.root.join(topic);
        for entry in self.placement.storage.list(&dir).at_path("listing", &dir)? {
            let Some(id) = entry.name.parse::<i32>().ok().filter(|_| entry.is_dir) else { continue };
            match ConsumeQueue::open(&self.placement, topic, id) {
                Ok(files) => drop(self.queue(topic, id).attach(files)),
                Err(error) if error.is_wrong_file() => self.damaged().push((topic.to_owned(), id, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The queue; made if there is none. Its files come with its first message.
    pub(crate) fn queue(&self, topic: &str, id: i32) -> Arc<Queue> {
        self.map.find_or_insert(topic, id, |topic| Arc::new(Queue::new(topic, id)))
    }

    /// The queue, if anything was ever asked of it or stored in it.
    pub(crate) fn find(&self, topic: &str, id: i32) -> Option<Arc<Queue>> {
        self.map.find(topic, id)
    }

    /// Every queue.
    pub(crate) fn all(&self) -> Vec<Arc<Queue>> {
        self.map.all()
    }

    /// The names of all topics with a queue.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        self.map.topics()
    }

    /// The files of a queue, for writing into them.
    pub(crate) fn files_of(&self, queue: &Queue) -> Result<Arc<ConsumeQueue>, StoreError> {
        if let Some(files) = queue.files() {
            return Ok(Arc::clone(files));
        }
        let files = ConsumeQueue::open(&self.placement, queue.topic(), queue.id())?;
        // The topic's name first, then the note that it is to be synced: who syncs in between would miss it.
        let dir = self.placement.root.join(&**queue.topic());
        self.placement.storage.create_dir(&dir).at_path("creating the folder", &dir)?;
        self.names.add();
        Ok(queue.attach(files))
    }

    /// Up to where the log has surely been dispatched: the end of the last record any queue knows. `None` if no
    /// queue has an entry.
    pub(crate) fn dispatched_end(&self) -> Option<PhysicalOffset> {
        let ends = self.all().into_iter().filter_map(|queue| queue.files().map(|files| files.end_physical()));
        ends.max().filter(|end| end.0 > 0)
    }

    /// A sum over the bounds of all queues: another one than was noted means that queues are missing, or parts of them.
    pub(crate) fn bounds(&self) -> i64 {
        let bounds = |files: &Arc<ConsumeQueue>| files.end().0.wrapping_add(files.first().0.wrapping_mul(FIRST_WEIGHT));
        let all = self.all().into_iter().filter_map(|queue| queue.files().map(bounds));
        // What is noted is no negative number.
        all.fold(0, i64::wrapping_add) & i64::MAX
    }

    /// Recovery: cuts every queue back to the entries whose record starts before `log_end`. With `tails_suspect` (the
    /// store was not closed) whatever a power cut may have left behind the last entry is wiped too.
    pub(crate) fn truncate_to(&self, log_end: PhysicalOffset, tails_suspect: bool) -> Result<(), StoreError> {
        for queue in self.all() {
            let Some(files) = queue.files() else { continue };
            if files.truncate_to(log_end, tails_suspect)? {
                queue.restart_at(files.end());
            }
        }
        Ok(())
    }

    /// Recovery: cuts from every queue the newest entries that are not its own.
    pub(crate) fn cut_foreign(
        &self,
        is_own: impl Fn(&Queue, &QueueEntry) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for queue in self.all() {
            let Some(files) = queue.files() else { continue };
            if files.cut_back_to(|entry| is_own(&queue, entry))? {
                queue.restart_at(files.end());
            }
        }
        Ok(())
    }

    /// Recovery and retention: moves the first readable offset of every queue to the first record the log still
    /// holds.
    pub(crate) fn correct_min(&self, log_min: PhysicalOffset) -> Result<(), StoreError> {
        for queue in self.all() {
            if let Some(files) = queue.files() {
                queue.publish_min(files.min_for(log_min)?);
            }
        }
        Ok(())
    }

    /// Writes to disk every queue with at least `pages_min` pages (of 4 KiB) not written yet.
    pub(crate) fn flush(&self, pages_min: u64) -> Result<(), StoreError> {
        let queues = self.all();
        let files = queues.iter().filter_map(|queue| queue.files());
        let pending: Vec<_> = files.filter(|files| files.needs_flush(pages_min)).collect();
        if pending.len() > FLUSHED_ALONE_MAX {
            return self.flush_together(&pending);
        }
        pending.into_iter().try_for_each(|files| files.flush())?;
        // A queue's files sync their own folder and the topic's; the topic's name lies in the root.
        let root = &self.placement.root;
        self.names.sync(&*self.placement.storage, [Some(&**root), root.parent()].into_iter().flatten())
    }

    /// Each single sync waits for the disk two or three times; for many queues the whole file system is quicker.
    fn flush_together(&self, pending: &[&Arc<ConsumeQueue>]) -> Result<(), StoreError> {
        let names = self.names.take();
        let marks: Vec<_> = pending.iter().map(|files| files.begin_sync()).collect();
        let root = &self.placement.root;
        let synced = self.placement.storage.sync_tree(root);
        pending.iter().zip(marks).for_each(|(files, mark)| files.end_sync(mark, synced.is_ok()));
        if synced.is_err() && names {
            self.names.add();
        }
        synced.at_path("syncing what is below", root)
    }

    /// Retention: deletes the files whose records the log no longer holds, and corrects the first readable offsets.
    /// Returns how many files went.
    pub(crate) fn delete_before(&self, log_min: PhysicalOffset) -> Result<usize, StoreError> {
        let mut deleted = 0;
        for queue in self.all() {
            if let Some(files) = queue.files() {
                queue.publish_min(files.min_for(log_min)?);
                deleted += files.delete_before(log_min)?;
            }
        }
        Ok(deleted)
    }

    /// Makes the holders of a topic's queues see that they are gone; files stay until [`Self::remove_topic`].
    pub(crate) fn mark_deleted(&self, topic: &str) {
        self.map.mark_deleted(topic);
    }

    /// Forgets a topic and deletes its folder. The dispatcher must be past its last record.
    pub(crate) fn remove_topic(&self, topic: &str) -> Result<(), StoreError> {
        for queue in self.map.remove_topic(topic) {
            if let Some(files) = queue.files() {
                files.destroy()?;
            }
        }
        let dir = self.placement.root.join(topic);
        self.placement.storage.remove_dir(&dir).at_path("deleting the folder", &dir)?;
        let root = &self.placement.root;
        // What Java's broker, with `enableConsumeQueueExt`, has kept of them.
        let ext = root.with_file_name("consumequeue_ext").join(topic);
        self.placement.storage.remove_dir(&ext).at_path("deleting the folder", &ext)?;
        match self.placement.storage.sync_dir(root) {
            // No queue has got a message yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.at_path("syncing the folder", root),
        }
    }

    /// The log has no file: nothing that a queue knows exists any more.
    pub(crate) fn remove_all(&self) -> Result<(), StoreError> {
        self.topics().iter().try_for_each(|topic| self.remove_topic(topic))
    }

    /// How many queues may be mapped now.
    #[cfg(test)]
    pub(crate) fn mapped(&self) -> usize {
        self.placement.open_queues.count()
    }
}
