//! Consumer offsets: how far each group has come in each queue (`consumerOffset.json`).
//! Written by UPDATE_CONSUMER_OFFSET and by pulls that carry a commit, read by QUERY_CONSUMER_OFFSET.
//! Persisted by a background task when changed and at shutdown: after a crash a group may get again what it
//! confirmed in the last seconds, never less.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use waspmq_protocol::body::consumer_offsets::ConsumerOffsetTable;
use waspmq_protocol::body::data_version::DataVersion;
use waspmq_store::persist::PersistError;

use crate::table::TableFile;

/// RocketMQ advances the table's data version once in so many commits (`consumerOffsetUpdateVersionStep`).
const COMMITS_PER_VERSION: u64 = 500;

/// Group and topic to queue to the next offset that the group wants.
pub struct OffsetTable {
    file: TableFile,
    state: Mutex<State>,
}

struct State {
    /// Key `topic@group`, as in the file.
    offsets: BTreeMap<String, BTreeMap<i32, i64>>,
    version: DataVersion,
    commits: u64,
}

impl OffsetTable {
    /// Reads the table of an earlier run, or starts empty.
    ///
    /// # Errors
    /// When neither the file nor its previous version can be read.
    pub fn load(path: PathBuf) -> Result<Self, PersistError> {
        let file = TableFile::new(path);
        let stored: ConsumerOffsetTable = file.load()?;
        let version = stored.data_version.unwrap_or_default();
        let state = State { offsets: stored.offset_table, version, commits: 0 };
        Ok(Self { file, state: Mutex::new(state) })
    }

    /// Sets the offset. A smaller one than stored is taken too: that is how a group goes back.
    pub fn commit(&self, group: &str, topic: &str, queue_id: i32, offset: i64, now_ms: i64) {
        let mut state = self.lock();
        let key = key(group, topic);
        match state.offsets.get_mut(&key) {
            Some(queues) => {
                queues.insert(queue_id, offset);
            }
            None => {
                state.offsets.insert(key, BTreeMap::from([(queue_id, offset)]));
            }
        }
        state.commits += 1;
        if state.commits.is_multiple_of(COMMITS_PER_VERSION) {
            state.version.advance(now_ms);
        }
        self.file.note_change();
    }

    /// The stored offset, if the group ever committed one for this queue.
    pub fn offset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        self.lock().offsets.get(&key(group, topic))?.get(&queue_id).copied()
    }

    /// Forgets the offsets of a deleted topic.
    pub fn forget_topic(&self, topic: &str) {
        self.lock().offsets.retain(|key, _| key.rsplit_once('@').is_none_or(|(of, _)| of != topic));
        self.file.note_change();
    }

    /// Forgets the offsets of a deleted group.
    pub fn forget_group(&self, group: &str) {
        self.lock().offsets.retain(|key, _| key.rsplit_once('@').is_none_or(|(_, of)| of != group));
        self.file.note_change();
    }

    /// The whole table, as GET_ALL_CONSUMER_OFFSET (43) answers it.
    pub fn snapshot(&self) -> ConsumerOffsetTable {
        let state = self.lock();
        ConsumerOffsetTable { offset_table: state.offsets.clone(), data_version: Some(state.version) }
    }

    /// Writes the table if it changed since the last time.
    ///
    /// # Errors
    /// When the file cannot be written; the change is tried again next time.
    pub fn persist(&self) -> Result<(), PersistError> {
        self.file.save(|| self.snapshot())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(group: &str, topic: &str) -> String {
    format!("{topic}@{group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_survive_a_restart_and_may_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consumerOffset.json");
        let table = OffsetTable::load(path.clone()).unwrap();
        table.commit("CG", "Orders", 0, 5, 1);
        table.commit("CG", "Orders", 1, 7, 1);
        table.commit("CG", "Orders", 1, 3, 1);
        table.commit("CG2", "%RETRY%CG2", 0, 2, 1);
        table.persist().unwrap();
        let again = OffsetTable::load(path).unwrap();
        assert_eq!(again.offset("CG", "Orders", 0), Some(5));
        assert_eq!(again.offset("CG", "Orders", 1), Some(3));
        assert_eq!(again.offset("CG", "Orders", 2), None);
        assert_eq!(again.offset("CG2", "%RETRY%CG2", 0), Some(2));
        again.forget_group("CG");
        assert_eq!(again.offset("CG", "Orders", 0), None);
    }
}
