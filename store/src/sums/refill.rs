//! Making the sums of a log anew, from the log. Called by `broker store repair`, while no broker runs.
//! Must hold: a sum that speaks against its record is kept, so that damage stays known; a file is replaced when its
//! new one is on the disk.

use std::path::PathBuf;
use std::sync::Arc;

use waspmq_protocol::message::record::RecordView;

use super::sum_file::{Cursor, SumFile};
use super::{Sums, sum_of};
use crate::error::{AtPath, StoreError};

/// What the new file of a file of the log is called until it is whole.
pub(super) const UNFINISHED: &str = "new";

/// Makes the files of a log anew, one after the other.
pub(crate) struct Refill {
    sums: Sums,
    at_hand: Option<AtHand>,
}

struct AtHand {
    start: u64,
    before: Option<Arc<SumFile>>,
    file: Arc<SumFile>,
    cursor: Cursor,
}

impl Refill {
    pub(crate) fn new(sums: Sums) -> Self {
        Self { sums, at_hand: None }
    }

    /// Notes the next good record of the log.
    pub(crate) fn add(&mut self, record: &RecordView<'_>) -> Result<(), StoreError> {
        let offset = record.physical_offset() as u64;
        let start = self.sums.start_of(offset);
        if self.at_hand.as_ref().is_none_or(|at_hand| at_hand.start != start) {
            self.finish_file()?;
            self.at_hand = Some(self.begin_file(start)?);
        }
        let Some(AtHand { before, cursor, .. }) = &mut self.at_hand else { return Ok(()) };
        let sum = before.as_ref().and_then(|before| before.sum_at(offset)).unwrap_or_else(|| sum_of(record));
        cursor.push(&*self.sums.storage, offset - start, sum)
    }

    /// Everything was noted.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.finish_file()?;
        self.sums.sync_names()
    }

    fn begin_file(&self, start: u64) -> Result<AtHand, StoreError> {
        let (sums, storage) = (&self.sums, &*self.sums.storage);
        let (dir, path) = (sums.dir(), sums.path(start).with_extension(UNFINISHED));
        let before = sums.file_for(start)?;
        storage.create_dir(&dir).at_path("creating the folder", &dir)?;
        if storage.file_bytes(&path).at_path("looking at", &path)?.is_some() {
            storage.remove(&path).at_path("deleting", &path)?;
        }
        let file = Arc::new(SumFile::create(storage, path, start, sums.log_file_bytes)?);
        Ok(AtHand { start, before, cursor: Cursor::new(Arc::clone(&file)), file })
    }

    fn finish_file(&mut self) -> Result<(), StoreError> {
        let Some(AtHand { start, file, mut cursor, .. }) = self.at_hand.take() else { return Ok(()) };
        cursor.publish();
        file.sync()?;
        let (from, to): (PathBuf, PathBuf) = (file.path().to_owned(), self.sums.path(start));
        self.sums.storage.rename(&from, &to).at_path("renaming", &from)
    }
}
