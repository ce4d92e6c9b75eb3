//! A file's name is on the disk only once its folder is synced; what has none is not there after a power cut. This
//! remembers whether names were added since.
//! Must hold: after a sync that failed the names count as new, so that the next one tries again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{AtPath, StoreError};
use crate::storage::Storage;

/// The names in some folders, and whether they may not be on the disk yet.
#[derive(Debug)]
pub(crate) struct Names {
    new: AtomicBool,
}

impl Names {
    /// Names that are on the disk.
    pub(crate) fn synced() -> Self {
        Self { new: AtomicBool::new(false) }
    }

    /// Names that an earlier process may have added.
    pub(crate) fn inherited() -> Self {
        Self { new: AtomicBool::new(true) }
    }

    /// A name was added.
    pub(crate) fn add(&self) {
        self.new.store(true, Ordering::Release);
    }

    /// Whether there are new names; they count as synced from now on. For who syncs them by other means, and
    /// [adds](Self::add) them again if that fails.
    pub(crate) fn take(&self) -> bool {
        self.new.swap(false, Ordering::AcqRel)
    }

    /// Syncs `dirs` if there are new names.
    pub(crate) fn sync<'a>(
        &self,
        storage: &dyn Storage,
        dirs: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), StoreError> {
        if !self.take() {
            return Ok(());
        }
        sync_dirs(storage, dirs).inspect_err(|_| self.add())
    }
}

/// Syncs folders. One that is not there has no names.
pub(crate) fn sync_dirs<'a>(storage: &dyn Storage, dirs: impl IntoIterator<Item = &'a Path>) -> Result<(), StoreError> {
    for dir in dirs {
        match storage.sync_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.at_path("syncing the folder", dir)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn names_are_synced_once_and_again_if_that_failed() {
        let storage = MemoryStorage::new();
        let dirs = [Path::new("/store"), Path::new("/store/nobody made this")];
        storage.create_dir(dirs[0]).unwrap();
        let names = Names::synced();
        let operations = |names: &Names| {
            let before = storage.operations();
            (names.sync(&storage, dirs).is_ok(), storage.operations() > before)
        };
        assert_eq!(operations(&names), (true, false), "nothing is new");
        names.add();
        storage.fail_syncs(true);
        assert_eq!(operations(&names), (false, true));
        storage.fail_syncs(false);
        assert_eq!(operations(&names), (true, true), "what failed is tried again");
        assert_eq!(operations(&names), (true, false));
    }
}
