//! Small tables on disk (topics, groups, consumer offsets …): written whole, never half.
//! Called by broker and nameserver. A save goes to a temporary file that is synced and renamed into place; the
//! previous content stays as `NAME.bak`, which is read when `NAME` is missing, empty or damaged.
//! Must hold: a crash at any moment leaves the old or the new table readable, and a damaged file never replaces the good `.bak`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::storage::{DiskStorage, Storage};

/// Why a table could not be saved or loaded. Each message names the file and the step.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// A step of writing or reading failed in the operating system.
    #[error("cannot {step} {path}: {source}; check permissions and free space")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither the table nor its backup could be understood.
    #[error(
        "cannot read the table {path}: {reason}, and its backup {backup} is no help: {backup_reason}; restore one of them, or move both away to start empty"
    )]
    Damaged {
        /// The table.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Its backup.
        backup: PathBuf,
        /// What is wrong with that.
        backup_reason: String,
    },
}

/// Where a loaded table came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file itself.
    File,
    /// The `.bak` beside it; `reason` says what was wrong with the file. Some of the latest changes may be lost: tell the operator.
    Backup {
        /// What was wrong with the file itself.
        reason: String,
    },
}

/// Saves `content` as the table at `path`; what was there before becomes `PATH.bak`. When this returns, the new
/// content survives a power cut. Two saves of one path must not run at the same time.
///
/// # Errors
/// The step that failed; the table is then the old one, or (after a failed last sync) either.
pub fn save(path: &Path, content: &[u8]) -> Result<(), PersistError> {
    save_on(&DiskStorage, path, content)
}

fn save_on(storage: &dyn Storage, path: &Path, content: &[u8]) -> Result<(), PersistError> {
    let folder = folder_of(path);
    storage.create_dir(folder).map_err(|source| io_error("create the folder", folder, source))?;
    let temporary = with_suffix(path, ".tmp");
    storage.write(&temporary, content).map_err(|source| io_error("write", &temporary, source))?;
    let backup = with_suffix(path, ".bak");
    match storage.rename(path, &backup) {
        Ok(()) => {}
        // Nothing to keep: the first save, or a load moved a damaged file away and `.bak` is still the best there is.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(io_error("keep as .bak the file", path, source)),
    }
    storage.rename(&temporary, path).map_err(|source| io_error("rename into place", &temporary, source))?;
    storage.sync_dir(folder).map_err(|source| io_error("sync the folder", folder, source))
}

/// Loads the table at `path` with `decode`, or its `.bak` if the file is missing, empty or `decode` refuses it.
/// `None`: there is neither (a first start). A refused file is moved to `PATH.damaged`, so that it can be looked at
/// and the next [`save`] does not make it the backup.
///
/// # Errors
/// Reading failed for another reason than absence, or neither file can be decoded.
pub fn load<T, E: std::fmt::Display>(
    path: &Path,
    decode: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Option<(T, Origin)>, PersistError> {
    load_on(&DiskStorage, path, decode)
}

fn load_on<T, E: std::fmt::Display>(
    storage: &dyn Storage,
    path: &Path,
    decode: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Option<(T, Origin)>, PersistError> {
    let reason = match read(storage, path)? {
        Some(content) => match decode(&content) {
            Ok(table) => return Ok(Some((table, Origin::File))),
            Err(error) => error.to_string(),
        },
        None => "it is missing or empty".to_string(),
    };
    let backup = with_suffix(path, ".bak");
    let backup_reason = match read(storage, &backup)? {
        Some(content) => match decode(&content) {
            Ok(table) => {
                move_aside(storage, path)?;
                return Ok(Some((table, Origin::Backup { reason })));
            }
            Err(error) => error.to_string(),
        },
        // Missing both, or an empty file without backup: a table that never was saved.
        None if read(storage, path)?.is_none() => return Ok(None),
        None => "it is missing or empty".to_string(),
    };
    Err(PersistError::Damaged { path: path.to_path_buf(), reason, backup, backup_reason })
}

/// One table's file: keeps the last saved bytes' length and hash out of the caller's way by skipping saves that change nothing.
#[derive(Debug)]
pub struct PersistedTable {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    /// What the file holds as far as this process knows. Also serialises saves.
    last: Mutex<Option<Vec<u8>>>,
}

impl PersistedTable {
    /// The table stored at `path`; nothing is read or written yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(DiskStorage), path)
    }

    /// The same where files live elsewhere than on the disk.
    pub fn on(storage: Arc<dyn Storage>, path: impl Into<PathBuf>) -> Self {
        Self { storage, path: path.into(), last: Mutex::default() }
    }

    /// Where it is stored.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// [`save`], unless the content is what was saved last.
    ///
    /// # Errors
    /// As [`save`].
    pub fn save(&self, content: Vec<u8>) -> Result<(), PersistError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == Some(&content) {
            return Ok(());
        }
        // Forgotten first: after a failure nobody knows what the file holds, so the next save must write.
        *last = None;
        save_on(&*self.storage, &self.path, &content)?;
        *last = Some(content);
        Ok(())
    }

    /// [`load`] from this table's path.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load<T, E: std::fmt::Display>(
        &self,
        decode: impl Fn(&[u8]) -> Result<T, E>,
    ) -> Result<Option<(T, Origin)>, PersistError> {
        load_on(&*self.storage, &self.path, decode)
    }
}

fn read(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>, PersistError> {
    match storage.read(path) {
        Ok(content) if content.is_empty() => Ok(None),
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", path, source)),
    }
}

fn move_aside(storage: &dyn Storage, path: &Path) -> Result<(), PersistError> {
    let aside = with_suffix(path, ".damaged");
    match storage.rename(path, &aside) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(io_error("move aside the damaged file", path, source)),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn io_error(step: &'static str, path: &Path, source: io::Error) -> PersistError {
    PersistError::Io { step, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn text(content: &[u8]) -> Result<String, String> {
        let text = String::from_utf8(content.to_vec()).map_err(|error| error.to_string())?;
        if text.starts_with("ok") { Ok(text) } else { Err(format!("it starts with {text:?}")) }
    }

    fn table() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config/topics.json");
        (folder, path)
    }

    #[test]
    fn first_load_finds_nothing_and_a_save_comes_back() {
        let (_folder, path) = table();
        assert_eq!(load(&path, text).unwrap(), None);
        save(&path, b"ok 1").unwrap();
        assert_eq!(load(&path, text).unwrap(), Some(("ok 1".to_string(), Origin::File)));
        assert!(!with_suffix(&path, ".tmp").exists());
        assert!(!with_suffix(&path, ".bak").exists());
    }

    #[test]
    fn the_previous_content_is_kept_as_bak() {
        let (_folder, path) = table();
        save(&path, b"ok 1").unwrap();
        save(&path, b"ok 2").unwrap();
        assert_eq!(fs::read(with_suffix(&path, ".bak")).unwrap(), b"ok 1");
        fs::remove_file(&path).unwrap();
        let (value, origin) = load(&path, text).unwrap().unwrap();
        assert_eq!(value, "ok 1");
        assert_eq!(origin, Origin::Backup { reason: "it is missing or empty".to_string() });
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_never_becomes_the_backup() {
        let (_folder, path) = table();
        save(&path, b"ok 1").unwrap();
        save(&path, b"ok 2").unwrap();
        fs::write(&path, b"garbage").unwrap();
        assert_eq!(load(&path, text).unwrap().unwrap().0, "ok 1");
        assert_eq!(fs::read(with_suffix(&path, ".damaged")).unwrap(), b"garbage");
        save(&path, b"ok 3").unwrap();
        assert_eq!(fs::read(with_suffix(&path, ".bak")).unwrap(), b"ok 1");
        assert_eq!(load(&path, text).unwrap().unwrap(), ("ok 3".to_string(), Origin::File));
    }

    #[test]
    fn damage_without_a_good_backup_is_an_error_that_names_both_files() {
        let (_folder, path) = table();
        save(&path, b"garbage").unwrap();
        let message = load(&path, text).unwrap_err().to_string();
        assert!(message.contains("topics.json:") && message.contains("topics.json.bak"), "{message}");
        fs::write(with_suffix(&path, ".bak"), b"more garbage").unwrap();
        let message = load(&path, text).unwrap_err().to_string();
        assert!(message.contains("more garbage"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"garbage", "nothing is moved when nothing can be loaded");
    }

    #[test]
    fn an_empty_file_alone_counts_as_never_saved() {
        let (_folder, path) = table();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"").unwrap();
        assert_eq!(load(&path, text).unwrap(), None);
    }

    #[test]
    fn a_table_skips_saves_that_change_nothing() {
        let (_folder, path) = table();
        let table = PersistedTable::new(&path);
        table.save(b"ok 1".to_vec()).unwrap();
        table.save(b"ok 1".to_vec()).unwrap();
        assert!(!with_suffix(&path, ".bak").exists());
        table.save(b"ok 2".to_vec()).unwrap();
        assert_eq!(fs::read(with_suffix(&path, ".bak")).unwrap(), b"ok 1");
        assert_eq!(table.load(text).unwrap().unwrap().0, "ok 2");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let (folder, _) = table();
        let blocker = folder.path().join("config");
        fs::write(&blocker, b"a file").unwrap();
        let message = save(&blocker.join("topics.json"), b"ok").unwrap_err().to_string();
        assert!(message.contains("config"), "{message}");
    }
}
