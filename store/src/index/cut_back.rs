//! Taking back the newest keys of an index file after the machine or the process stopped: those that were not synced
//! may be there in part. Called when the index is opened. Must hold: afterwards every chain leads through whole entries
//! only, and no key from before the mark is lost.

use super::index_file::IndexFile;
use crate::error::StoreError;
use crate::storage::Storage;

/// Up to where the index is known to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexMark {
    /// The newest file's name, as a number.
    pub(crate) name: u64,
    /// Its next entry's number then.
    pub(crate) entries: u32,
}

/// What of an index may be believed when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// All of it: it was closed.
    All,
    /// What was there at the mark.
    Mark(IndexMark),
    /// Files whose newest key was stored up to this time, ms.
    Until(i64),
}

impl Trust {
    /// Whether a file found may stay; the newest keys of one that was being written are taken back first.
    pub(super) fn keep(self, file: &IndexFile, storage: &dyn Storage) -> Result<bool, StoreError> {
        match self {
            Trust::All => {}
            // One without keys may have lost its header.
            Trust::Until(ms) => return Ok(file.entry_count() > 1 && file.end_timestamp() <= ms),
            Trust::Mark(mark) if file.name() < Some(mark.name) => {}
            Trust::Mark(mark) if file.name() == Some(mark.name) => file.cut_back(storage, mark.entries)?,
            Trust::Mark(_) => return Ok(false),
        }
        Ok(true)
    }
}

impl IndexFile {
    /// Drops the entries from number `keep` on.
    pub(super) fn cut_back(&self, storage: &dyn Storage, keep: u32) -> Result<(), StoreError> {
        let count = self.entry_count();
        let keep = keep.clamp(1, count);
        self.reserve_slots(storage)?;
        // Newest first, so that each slot ends at its newest entry that stays. An entry that says it is the first of its
        // slot may also be one whose end was lost, so it proves nothing.
        let mut certain = true;
        for number in (keep..count).rev() {
            let slot = self.slot_at(self.hash_of(number));
            if self.slot(slot) == number as i32 {
                let previous = self.previous_of(number);
                certain &=
                    (1..number as i32).contains(&previous) && self.slot_at(self.hash_of(previous as u32)) == slot;
                self.set_slot(slot, previous);
            }
        }
        if !certain || !self.slots_lead_below(keep) {
            self.lead_all_slots(keep);
        }
        self.end_with(keep);
        Ok(())
    }

    /// Leads every slot to its newest entry below `keep`. Reads all of them, which takes some tenths of a second for a
    /// full file.
    fn lead_all_slots(&self, keep: u32) {
        self.slots().for_each(|slot| self.set_slot(slot, 0));
        (1..keep).for_each(|number| self.set_slot(self.slot_at(self.hash_of(number)), number as i32));
    }

    fn slots_lead_below(&self, keep: u32) -> bool {
        self.slots().all(|slot| (0..keep as i32).contains(&self.slot(slot)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::index::{IndexShape, KeyEntry, Lookup};
    use crate::offsets::PhysicalOffset;
    use crate::storage::MemoryStorage;

    const SHAPE: IndexShape = IndexShape { slots: 5, entries: 200 };

    fn key(number: usize, hash: i32) -> KeyEntry {
        let at = number as i64;
        KeyEntry { hash, physical_offset: PhysicalOffset(at * 100), store_timestamp: 1_700_000_000_000 + at * 10 }
    }

    fn found(file: &IndexFile, hash: i32) -> Vec<i64> {
        let mut found = Vec::new();
        file.find(Lookup { hash, begin_ms: 0, end_ms: i64::MAX }, &mut |offset| {
            found.push(offset.0);
            true
        });
        found
    }

    proptest! {
        #[test]
        fn what_was_synced_is_found_after_a_power_cut_and_nothing_else(
            hashes in proptest::collection::vec(0..12, 1..150),
            synced in 0.0..1.0,
            seed: u64,
        ) {
            let storage = MemoryStorage::new();
            let dir = PathBuf::from("/index");
            storage.create_dir(&dir).unwrap();
            let file = IndexFile::create(&storage, dir.join("1"), SHAPE, (PhysicalOffset(0), 0)).unwrap();
            storage.sync_dir(&dir).unwrap();
            let synced = (hashes.len() as f64 * synced) as usize;
            let keys: Vec<_> = hashes.iter().enumerate().map(|(at, hash)| key(at, *hash)).collect();
            file.put(&storage, &keys[..synced]).unwrap();
            let mark = file.entry_count();
            file.sync().unwrap();
            file.put(&storage, &keys[synced..]).unwrap();

            let after = storage.power_cut(seed);
            let file = IndexFile::open(&after, dir.join("1"), SHAPE).unwrap();
            file.cut_back(&after, mark).unwrap();
            for hash in 0..12 {
                let expected = |upto: usize| -> Vec<i64> {
                    keys[..upto].iter().rev().filter(|key| key.hash == hash).map(|key| key.physical_offset.0).collect()
                };
                prop_assert_eq!(found(&file, hash), expected(synced));
            }
            file.put(&after, &keys[synced..]).unwrap();
            let all = (0..12).map(|hash| found(&file, hash).len()).sum::<usize>();
            prop_assert_eq!(all, keys.len());
        }
    }
}
