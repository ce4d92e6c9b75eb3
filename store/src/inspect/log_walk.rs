//! All files of a commit log, one after another, whatever state they are in. Called by `check` and `dump`.
//! What must hold: every readable record is shown, also behind damage of any length, and nothing twice.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use waspmq_protocol::message::record::{LogEntry, RecordView};

use crate::commit_log::{Fence, find_record, next_entry};
use crate::config::StoreConfig;
use crate::error::{AtPath, StoreError};
use crate::mapped_file::MappedFile;
use crate::offsets::PhysicalOffset;
use crate::storage::Storage;

/// Pages are asked for in pieces of this size, so that a bad one is an error and not a signal.
const STEP_BYTES: usize = 4 << 20;

/// What the walk comes by.
pub(super) enum Found<'a> {
    /// A good record: its body has its checksum, and it says that it belongs here.
    Record(&'a RecordView<'a>),
    /// A part without one, between good records.
    Damage(Fence),
    /// Something behind the last good record.
    Torn { bytes: u64 },
}

type Each<'e> = dyn FnMut(Found<'_>, u64) -> ControlFlow<()> + 'e;

/// The files, oldest first.
pub(super) struct LogWalk {
    storage: Arc<dyn Storage>,
    files: Vec<LogFile>,
    problems: Vec<String>,
    from: u64,
}

struct LogFile {
    path: PathBuf,
    start: u64,
    bytes: u64,
}

/// Where the way was lost: not yet known whether good records follow.
struct Lost {
    from: u64,
    reason: String,
    /// Bytes up to the last one that is not zero.
    written: u64,
}

impl LogWalk {
    pub(super) fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let dir = config.commit_log_dir();
        let mut files: Vec<LogFile> = Vec::new();
        let mut problems = Vec::new();
        for entry in config.storage.list(&dir).at_path("listing", &dir)? {
            let path = dir.join(&entry.name);
            match entry.name.parse() {
                Ok(start) if entry.name.len() == 20 && !entry.is_dir => {
                    if let Some(last) = files.last()
                        && last.start + last.bytes != start
                    {
                        let (end, path) = (last.start + last.bytes, path.display());
                        problems.push(format!("{path} begins at {start}, but the file before it ends at {end}"));
                    }
                    if entry.bytes > 0 {
                        files.push(LogFile { path, start, bytes: entry.bytes });
                    }
                }
                _ => problems.push(format!("{} is not named by an offset of 20 digits", path.display())),
            }
        }
        Ok(Self { storage: Arc::clone(&config.storage), files, problems, from: 0 })
    }

    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    pub(super) fn begin(&self) -> PhysicalOffset {
        PhysicalOffset(self.files.first().map_or(0, |file| file.start) as i64)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }

    /// Leaves out the files that end before `offset`.
    pub(super) fn start_at(&mut self, offset: PhysicalOffset) {
        self.from = u64::try_from(offset.0).unwrap_or(0);
    }

    /// Shows everything, with the bytes of the log that are behind.
    pub(super) fn each(&self, each: &mut Each<'_>) -> Result<(), crate::error::OpenError> {
        let mut lost = None;
        let mut done = 0;
        for file in self.files.iter().filter(|file| file.start + file.bytes > self.from) {
            if self.walk_file(file, done, &mut lost, each)?.is_break() {
                return Ok(());
            }
            done += file.bytes;
        }
        if let Some(Lost { written: bytes @ 1.., .. }) = lost {
            let _ = each(Found::Torn { bytes }, done);
        }
        Ok(())
    }

    /// Whether the record at `offset`, if one begins there, is what is looked for.
    pub(super) fn holds(&self, offset: u64, wanted: impl Fn(&RecordView<'_>) -> bool) -> Result<bool, StoreError> {
        let within = |file: &&LogFile| (file.start..file.start + file.bytes).contains(&offset);
        let Some(file) = self.files.iter().find(within) else { return Ok(false) };
        let mapped = MappedFile::open(&*self.storage, file.path.clone(), file.start, file.bytes, file.bytes)?;
        let Some(bytes) = mapped.slice((offset - file.start) as usize..mapped.bytes()) else { return Ok(false) };
        bytes.part(0..bytes.len().min(STEP_BYTES)).read_ahead()?;
        Ok(matches!(next_entry(&bytes, offset, false), Ok(LogEntry::Record(record)) if wanted(&record)))
    }

    fn walk_file(
        &self,
        file: &LogFile,
        done: u64,
        lost: &mut Option<Lost>,
        each: &mut Each<'_>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mapped = MappedFile::open(&*self.storage, file.path.clone(), file.start, file.bytes, file.bytes)?;
        let Some(bytes) = mapped.slice(0..mapped.bytes()) else { return Ok(ControlFlow::Continue(())) };
        let mut at = 0;
        let mut read = 0;
        while at < bytes.len() {
            if at + STEP_BYTES > read && read < bytes.len() {
                let to = (at + 2 * STEP_BYTES).min(bytes.len());
                bytes.part(read..to).read_ahead()?;
                read = to;
            }
            match next_entry(&bytes[at..], file.start + at as u64, true) {
                Ok(LogEntry::Record(record)) => {
                    let here = file.start + at as u64;
                    if let Some(lost) = lost.take() {
                        let (from, to) = (PhysicalOffset(lost.from as i64), PhysicalOffset(here as i64));
                        if each(Found::Damage(Fence { from, to, reason: lost.reason }), done).is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                    if each(Found::Record(&record), done + at as u64).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    at += record.len();
                }
                Ok(LogEntry::Blank { .. }) => break,
                Err(reason) => {
                    bytes.part(at..bytes.len()).read_ahead()?;
                    read = bytes.len();
                    let written = written_bytes(&bytes[at..]);
                    let from = file.start + at as u64;
                    lost.get_or_insert_with(|| Lost { from, reason: reason.to_string(), written });
                    match find_record(&bytes, file.start, at + 1) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
            }
        }
        mapped.release(0..bytes.len());
        Ok(ControlFlow::Continue(()))
    }
}

/// Bytes up to the last one that is not zero.
fn written_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}
