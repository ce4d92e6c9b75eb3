//! Where downloads and compiled drivers stay between runs: `${XDG_CACHE_HOME:-~/.cache}/waspmq-tests`.
//! Each entry is a folder named after what it was made from, and it appears under that name only when it is whole.
//! Deleting the folder costs one download and nothing else.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Why something cannot be had here.
pub enum Unready {
    /// Something that a machine may lack: a tool, or the network. Its tests are skipped, unless they are required.
    Missing(String),
    /// A defect of the suite itself, such as a driver that does not compile.
    Broken(anyhow::Error),
}

/// What a test that needs something of the kind has come to. Where it is missing the test says so and passes, unless
/// `WASPMQ_REQUIRE_CLIENTS` is 1.
///
/// # Errors
/// Why the test failed.
pub fn verdict(test: &str, result: Result<(), Unready>) -> Result<(), String> {
    let required = std::env::var("WASPMQ_REQUIRE_CLIENTS").is_ok_and(|value| value == "1");
    match result {
        Ok(()) => Ok(()),
        Err(Unready::Missing(what)) if required => Err(format!("required by WASPMQ_REQUIRE_CLIENTS: {what}")),
        Err(Unready::Missing(what)) => {
            println!("SKIPPED {test}: {}", what.lines().next().unwrap_or_default());
            Ok(())
        }
        Err(Unready::Broken(error)) => Err(format!("{error:#}")),
    }
}

impl From<anyhow::Error> for Unready {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

/// The cache folder itself, made if it is missing.
pub fn root() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    let root = base.join("waspmq-tests");
    fs::create_dir_all(&root).with_context(|| format!("cannot make the cache folder {}", root.display()))?;
    Ok(root)
}

/// The cached folder `name`, made by `make` (which gets an empty folder to fill) if it is not there yet.
/// Processes that want the same entry wait for one another.
pub fn entry(name: &str, make: impl FnOnce(&Path) -> Result<(), Unready>) -> Result<PathBuf, Unready> {
    let root = root()?;
    let whole = root.join(name);
    if whole.is_dir() {
        return Ok(whole);
    }
    let lock = File::create(root.join(format!("{name}.lock"))).context("cannot make the lock file")?;
    lock.lock().context("cannot lock the cache")?;
    if whole.is_dir() {
        return Ok(whole);
    }
    let half = root.join(format!("{name}.half"));
    let _ = fs::remove_dir_all(&half);
    fs::create_dir(&half).with_context(|| format!("cannot make {}", half.display()))?;
    make(&half)?;
    fs::rename(&half, &whole).with_context(|| format!("cannot finish {}", whole.display()))?;
    Ok(whole)
}

/// A short name for the content of `files`: it changes when any of them does.
pub fn fingerprint(files: &[PathBuf]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.file_name().hash(&mut hasher);
        fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// The files directly in `folder` whose names end in `.extension`, in order of name.
pub fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|end| end == extension))
        .collect();
    found.sort();
    Ok(found)
}
