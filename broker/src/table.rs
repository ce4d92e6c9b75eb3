//! A table of the broker as a file in Java's JSON: topics, groups, consumer offsets.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use waspmq_protocol::java_json;
use waspmq_store::persist::{Origin, PersistError, PersistedTable};

/// The file of one table.
pub struct TableFile {
    file: PersistedTable,
    /// The table in memory is newer than the file.
    changed: AtomicBool,
    /// Held from snapshot to rename, so that of two changes the later one is what the file holds.
    saving: Mutex<()>,
}

impl TableFile {
    /// The table's file; nothing is read or written yet.
    pub fn new(path: PathBuf) -> Self {
        Self { file: PersistedTable::new(path), changed: AtomicBool::new(false), saving: Mutex::default() }
    }

    /// What an earlier run saved, or an empty table.
    ///
    /// # Errors
    /// When neither the file nor its backup can be read.
    pub fn load<T: DeserializeOwned + Default>(&self) -> Result<T, PersistError> {
        match self.file.load(java_json::from_slice::<T>)? {
            None => Ok(T::default()),
            Some((table, Origin::File)) => Ok(table),
            Some((table, Origin::Backup { reason })) => {
                let path = self.file.path().display().to_string();
                tracing::error!(
                    path,
                    reason,
                    "a table was damaged; its backup is used, the latest changes may be lost"
                );
                Ok(table)
            }
        }
    }

    /// Notes a change; the next [`Self::save`] writes it. A disk that is slow to sync holds up nobody who sends.
    pub fn note_change(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Saves the table as it is when the turn comes, if it changed.
    ///
    /// # Errors
    /// When it cannot be written; the file then holds the table of an earlier time, and the next save tries again.
    pub fn save<T: Serialize>(&self, snapshot: impl FnOnce() -> T) -> Result<(), PersistError> {
        let _turn = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.file.save(java_json::to_vec(&snapshot())).inspect_err(|_| self.note_change())
    }
}
