//! What a store tells of the pages it will or will not need: changes nothing that is stored, and is kept for whoever asks.

use std::{ops::Range, path::PathBuf, sync::Mutex};

use super::{MemoryStorage, lock};
use crate::storage::Access;

/// One thing told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// These bytes of a mapped file are to be made present.
    Populate(Range<usize>),
    /// This is how its pages will be touched.
    Expect(Access),
    /// These bytes of it are not needed in the page table.
    Release(Range<usize>),
    /// These bytes of the file are not needed in memory.
    GiveBack(PathBuf, Range<u64>),
}

/// All that was told, once somebody has asked for it.
#[derive(Debug, Default)]
pub(super) struct Hints(Mutex<Option<Vec<Hint>>>);

impl Hints {
    pub(super) fn note(&self, hint: impl FnOnce() -> Hint) {
        if let Some(hints) = &mut *lock(&self.0) {
            hints.push(hint());
        }
    }
}

impl MemoryStorage {
    /// What was told since the last call; nothing is kept before the first one.
    pub fn take_hints(&self) -> Vec<Hint> {
        lock(&self.shared.hints.0).replace(Vec::new()).unwrap_or_default()
    }
}
