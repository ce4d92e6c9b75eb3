//! Comparing consume queues with the log: each record's entry must be where the record says it is.
//! Called by `check` for every record, in the order of the log. Nothing is changed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use waspmq_protocol::message::flags;
use waspmq_protocol::message::record::RecordView;
use waspmq_protocol::name::SCHEDULE_TOPIC;

use crate::config::StoreConfig;
use crate::consume_queue::{ENTRY_BYTES, encode};
use crate::dispatch::{DelayLevels, Wanted};
use crate::error::{AtPath, StoreError};
use crate::mapped_file::MappedFile;
use crate::offsets::PhysicalOffset;
use crate::storage::Storage;

/// How many faults are told one by one.
const EXAMPLES_MAX: usize = 10;
/// How many queue files may be mapped at once.
const MAPPED_MAX: usize = 8192;

/// What the consume queues were found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCheck {
    /// Queues with messages in the log.
    pub queues: usize,
    /// Entries that are there and right.
    pub entries: u64,
    /// Messages at the log's end that were not dispatched yet.
    pub behind: u64,
    /// Messages before that without an entry.
    pub missing: u64,
    /// Entries that say something else than their record.
    pub wrong: u64,
    /// Queues whose entries go on behind their last message.
    pub surplus: u64,
    /// The first faults, in words.
    pub examples: Vec<String>,
}

/// One queue on disk.
struct QueueFiles {
    dir: PathBuf,
    /// Size of its files, bytes; 0 if it has none.
    file_bytes: u64,
    at_hand: Option<Arc<MappedFile>>,
    /// One past the newest message of the log.
    end: i64,
}

/// The comparison under way.
pub(super) struct QueueComparison {
    storage: Arc<dyn Storage>,
    root: PathBuf,
    delay_levels: DelayLevels,
    queues: HashMap<(String, i32), QueueFiles>,
    mapped: usize,
    /// Messages without an entry since the last that has one.
    run_without: (u64, Option<String>),
    found: QueueCheck,
}

impl QueueComparison {
    pub(super) fn new(config: &StoreConfig) -> Self {
        Self {
            storage: Arc::clone(&config.storage),
            root: config.root.join("consumequeue"),
            delay_levels: config.delay_levels.clone(),
            queues: HashMap::new(),
            mapped: 0,
            run_without: (0, None),
            found: QueueCheck::default(),
        }
    }

    pub(super) fn compare(&mut self, record: &RecordView<'_>) -> Result<(), StoreError> {
        if !flags::is_queued(record.sys_flag()) {
            return Ok(());
        }
        let levels = (record.topic() == SCHEDULE_TOPIC).then_some(&self.delay_levels);
        let tags_code = Wanted::read(record.properties()).tags_code(levels, record.store_timestamp());
        let expected = encode(PhysicalOffset(record.physical_offset()), record.len() as i32, tags_code);
        let name = (record.topic().to_owned(), record.queue_id());
        let offset = record.queue_offset();
        let entry = self.entry(&name, offset)?;
        let place = || format!("{} queue {} offset {offset} (log {})", name.0, name.1, record.physical_offset());
        match entry {
            Some(entry) if entry == expected => {
                self.found.entries += 1;
                let (missing, example) = std::mem::take(&mut self.run_without);
                self.found.missing += missing;
                example.into_iter().for_each(|example| self.example(example));
            }
            Some(entry) if entry != [0; ENTRY_BYTES] => {
                self.found.wrong += 1;
                self.example(format!("{}: the entry says {}", place(), hex(&entry)));
            }
            _ => {
                self.run_without.0 += 1;
                self.run_without.1.get_or_insert_with(|| format!("{}: no entry", place()));
            }
        }
        Ok(())
    }

    fn example(&mut self, text: String) {
        if self.found.examples.len() < EXAMPLES_MAX {
            self.found.examples.push(text);
        }
    }

    fn entry(&mut self, name: &(String, i32), offset: i64) -> Result<Option<[u8; ENTRY_BYTES]>, StoreError> {
        if !self.queues.contains_key(name) {
            let files = QueueFiles::find(&*self.storage, self.root.join(&name.0).join(name.1.to_string()))?;
            self.queues.insert(name.clone(), files);
        }
        if self.mapped >= MAPPED_MAX {
            self.queues.values_mut().for_each(|queue| queue.at_hand = None);
            self.mapped = 0;
        }
        let Some(queue) = self.queues.get_mut(name) else { return Ok(None) };
        queue.end = queue.end.max(offset + 1);
        let before = queue.at_hand.is_some();
        let entry = queue.entry(&*self.storage, offset);
        self.mapped += usize::from(!before && queue.at_hand.is_some());
        entry
    }

    pub(super) fn finish(mut self) -> Result<QueueCheck, StoreError> {
        self.found.behind = self.run_without.0;
        let mut queues = std::mem::take(&mut self.queues);
        for ((topic, id), queue) in &mut queues {
            if queue.entry(&*self.storage, queue.end)?.is_some_and(|entry| entry != [0; ENTRY_BYTES]) {
                self.found.surplus += 1;
                let end = queue.end;
                self.example(format!("{topic} queue {id}: entries go on behind its last message, {}", end - 1));
            }
        }
        self.found.queues = queues.len();
        Ok(self.found)
    }
}

impl QueueFiles {
    fn find(storage: &dyn Storage, dir: PathBuf) -> Result<Self, StoreError> {
        let files = storage.list(&dir).at_path("listing", &dir)?;
        let file_bytes = files.iter().find(|file| file.name.len() == 20).map_or(0, |file| file.bytes);
        Ok(Self { dir, file_bytes, at_hand: None, end: 0 })
    }

    fn entry(&mut self, storage: &dyn Storage, offset: i64) -> Result<Option<[u8; ENTRY_BYTES]>, StoreError> {
        let Ok(byte) = u64::try_from(offset.saturating_mul(ENTRY_BYTES as i64)) else { return Ok(None) };
        if self.file_bytes == 0 {
            return Ok(None);
        }
        let start = byte - byte % self.file_bytes;
        if self.at_hand.as_ref().is_none_or(|file| file.start() != start) {
            let path = self.dir.join(format!("{start:020}"));
            let bytes = storage.file_bytes(&path).at_path("looking at", &path)?;
            self.at_hand = match bytes {
                Some(bytes) if bytes == self.file_bytes => Some(MappedFile::open(storage, path, start, bytes, bytes)?),
                _ => None,
            };
        }
        let Some(file) = &self.at_hand else { return Ok(None) };
        let at = (byte - start) as usize;
        let slice = file.slice(at..at + ENTRY_BYTES);
        Ok(slice.and_then(|slice| slice.first_chunk().copied()))
    }
}

fn hex(entry: &[u8; ENTRY_BYTES]) -> String {
    entry.iter().map(|byte| format!("{byte:02x}")).collect()
}
