//! What lies in the plugins folder, and since when it has not changed. Events of the file system are hints only: the
//! listing decides, and a file counts once size, time and inode have stayed the same for the settle time.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::{BINDINGS_FILE, LifeSender};

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    modified_ns: i128,
    inode: u64,
}

/// The folder at one moment.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Plugins that lie still, in the order of their names.
    pub(super) plugins: Vec<(PathBuf, Stamp)>,
    /// Plugins there are, whether they lie still or not, and those gone so recently that they may come back.
    pub(super) present: Vec<PathBuf>,
    pub(super) bindings: Option<Stamp>,
    pub(super) bindings_settled: bool,
    /// Everything lies still.
    pub(super) settled: bool,
    /// The folder could not be read: that says nothing about its files.
    pub(super) unreadable: bool,
}

impl Listing {
    /// Without a folder there is nothing to wait for.
    pub(super) fn nothing() -> Self {
        Self { bindings_settled: true, settled: true, ..Self::default() }
    }
}

/// Remembers the folder from one look to the next.
#[derive(Default)]
pub(super) struct Scan {
    seen: HashMap<PathBuf, (Option<Stamp>, Instant)>,
    failing: bool,
}

impl Scan {
    pub(super) fn look(&mut self, folder: &Path, settle: Duration, now: Instant) -> Listing {
        let found = match list(folder) {
            Ok(found) => found,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(folder = %folder.display(), %error, "the plugins folder cannot be read");
                }
                return Listing { unreadable: true, ..Listing::nothing() };
            }
        };
        self.failing = false;
        for path in self.seen.keys().cloned().collect::<Vec<_>>() {
            if !found.contains_key(&path) {
                self.note(path, None, now);
            }
        }
        for (path, stamp) in found {
            self.note(path, Some(stamp), now);
        }
        self.listing(settle, now)
    }

    fn note(&mut self, path: PathBuf, stamp: Option<Stamp>, now: Instant) {
        let entry = self.seen.entry(path).or_insert((stamp, now));
        if entry.0 != stamp {
            *entry = (stamp, now);
        }
    }

    fn listing(&mut self, settle: Duration, now: Instant) -> Listing {
        let mut listing = Listing::nothing();
        self.seen.retain(|path, (stamp, since)| {
            let still = now.duration_since(*since) >= settle;
            listing.settled &= still;
            if path.file_name().is_some_and(|name| name == BINDINGS_FILE) {
                listing.bindings = *stamp;
                listing.bindings_settled = still;
            } else if let Some(stamp) = stamp {
                listing.present.push(path.clone());
                if still {
                    listing.plugins.push((path.clone(), *stamp));
                }
            } else if !still {
                listing.present.push(path.clone());
            }
            stamp.is_some() || !still
        });
        listing.plugins.sort_by(|a, b| a.0.cmp(&b.0));
        listing
    }
}

/// Files of the folder that matter; sub-folders, hidden and temporary names do not.
fn list(folder: &Path) -> std::io::Result<HashMap<PathBuf, Stamp>> {
    let mut found = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name != BINDINGS_FILE && !is_plugin_name(name) {
            continue;
        }
        // Through links, as container platforms swap links. Gone again in the meantime: not there.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_file() {
            let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            found.insert(path, Stamp { bytes: metadata.len(), modified_ns, inode: metadata.ino() });
        }
    }
    Ok(found)
}

fn is_plugin_name(name: &str) -> bool {
    let hidden = name.starts_with(['.', '#', '~']);
    let temporary = [".tmp.", ".part.", ".swp."].iter().any(|mark| name.contains(mark));
    !hidden && !temporary && (name.ends_with(".wasm") || name.ends_with(".wat"))
}

/// Sends a hint for each change in the folder. `None`: no events here, the caller polls.
pub(super) fn watch(folder: &Path, life: LifeSender) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| match event {
        // Reading a file is an event as well, and the rescan reads.
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        Ok(_) | Err(_) => life.rescan(),
    };
    let watching = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watching {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "no events for the plugins folder, it is polled instead");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_millis(250);

    fn names(paths: &[PathBuf]) -> Vec<String> {
        let mut names: Vec<_> =
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_counts_once_it_lies_still() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        let mut scan = Scan::default();
        let start = Instant::now();
        fs::write(&path, "1").unwrap();
        let look = |scan: &mut Scan, ms| scan.look(folder.path(), SETTLE, start + Duration::from_millis(ms));
        assert!(look(&mut scan, 0).plugins.is_empty());
        fs::write(&path, "12").unwrap();
        assert!(look(&mut scan, 200).plugins.is_empty());
        let listing = look(&mut scan, 300);
        assert!(listing.plugins.is_empty() && !listing.settled, "changed 100 ms ago");
        assert_eq!(look(&mut scan, 450).plugins.len(), 1);

        fs::remove_file(&path).unwrap();
        let listing = look(&mut scan, 500);
        assert_eq!(names(&listing.present), ["x.wasm"], "editors delete before they write");
        assert!(!listing.settled);
        let listing = look(&mut scan, 800);
        assert!(listing.present.is_empty() && listing.settled);
    }

    #[test]
    fn only_plugins_count() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["a.wasm", "b.wat", ".c.wasm", "#d.wasm", "e.tmp.wasm", "f.wasm~", "g.wasm.part", "h.txt", "plugins.toml"]
        {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join("i.wasm")).unwrap();
        std::os::unix::fs::symlink("a.wasm", folder.path().join("j.wasm")).unwrap();
        std::os::unix::fs::symlink("missing", folder.path().join("k.wasm")).unwrap();
        let listing = Scan::default().look(folder.path(), Duration::ZERO, Instant::now());
        assert_eq!(names(&listing.present), ["a.wasm", "b.wat", "j.wasm"]);
        assert!(listing.bindings.is_some() && listing.settled);
    }

    #[test]
    fn an_unreadable_folder_says_nothing() {
        let listing = Scan::default().look(Path::new("/nonexistent-folder"), SETTLE, Instant::now());
        assert!(listing.unreadable && listing.present.is_empty());
    }
}
