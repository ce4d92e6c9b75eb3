//! The index files' own consistency: headers, slots, chains. Called by `check`. Nothing is changed.

use crate::config::StoreConfig;
use crate::error::{AtPath, StoreError};
use crate::index::IndexFile;
use crate::offsets::PhysicalOffset;

/// What the index was found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexCheck {
    /// Its files.
    pub files: usize,
    /// Keys in them.
    pub keys: u64,
    /// What is wrong, a line a file.
    pub problems: Vec<String>,
}

pub(super) fn check(config: &StoreConfig, log_end: PhysicalOffset) -> Result<IndexCheck, StoreError> {
    let dir = config.root.join("index");
    let mut found = IndexCheck::default();
    for entry in config.storage.list(&dir).at_path("listing", &dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir || entry.name.parse::<u64>().is_err() {
            continue;
        }
        found.files += 1;
        if entry.bytes != config.index_shape.file_bytes() {
            let (path, expected) = (path.display(), config.index_shape.file_bytes());
            found.problems.push(format!("{path} has {} bytes instead of {expected}", entry.bytes));
            continue;
        }
        let file = IndexFile::open(&*config.storage, path.clone(), config.index_shape)?;
        found.keys += u64::from(file.entry_count() - 1);
        if let Some(problem) = problem_of(&file, log_end) {
            found.problems.push(format!("{}: {problem}", path.display()));
        }
    }
    Ok(found)
}

fn problem_of(file: &IndexFile, log_end: PhysicalOffset) -> Option<String> {
    let count = file.entry_count();
    for number in 1..count {
        let previous = file.previous_of(number);
        if previous < 0 || previous as u32 >= number {
            return Some(format!("entry {number} leads to {previous}, which is no older entry"));
        }
        let offset = file.physical_of(number);
        if offset >= log_end {
            return Some(format!("entry {number} speaks of offset {}, behind the log's end {}", offset.0, log_end.0));
        }
    }
    let wrong = file.slots().map(|slot| file.slot(slot)).find(|newest| *newest < 0 || *newest as u32 >= count);
    wrong.map(|newest| format!("a slot leads to entry {newest}, but there are {}", count - 1))
}
