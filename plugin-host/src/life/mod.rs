//! The life of plugins: one background thread that watches the folder, loads what changed, swaps, takes back what fails,
//! and frees what nobody uses any more. Any failing step leaves the old version serving.

mod load;
mod report;
mod self_test;
mod swap;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::RecommendedWatcher;

pub(crate) use load::{Loader, Source};
pub(crate) use report::Reports;

use crate::binding::{Entry, PluginsFile};
use crate::generation::Generation;
use crate::host::StandardPlugin;
use crate::limits::HostLimits;
use crate::refusal::Sha;
use crate::shared::{Shared, Slot};
use crate::status::{Origin, PluginEvent, PluginEvents};
use watch::{Scan, Stamp};

/// File with the bindings, in the plugins folder.
pub(crate) const BINDINGS_FILE: &str = "plugins.toml";
/// How often the folder is looked at while something in it is changing, or when there are no events.
const POLL: Duration = Duration::from_millis(50);
const POLL_WITHOUT_EVENTS: Duration = Duration::from_millis(400);
/// How often retired versions are looked at while there are some.
const JANITOR: Duration = Duration::from_millis(200);

/// News for the thread. All are hints: what is lost when the channel is full is found at the next rescan.
pub(crate) enum LifeEvent {
    /// Something in the folder has changed.
    Rescan,
    /// A generation has failed three times.
    BreakerOpened {
        name: String,
        key: Sha,
        error: String,
    },
    /// A quarantined generation works again.
    Recovered {
        name: String,
        key: Sha,
    },
    Stop,
}

/// The way to the thread.
#[derive(Clone)]
pub(crate) struct LifeSender(SyncSender<LifeEvent>);

impl LifeSender {
    pub(crate) fn channel() -> (Self, Receiver<LifeEvent>) {
        let (sender, receiver) = sync_channel(256);
        (Self(sender), receiver)
    }

    pub(crate) fn breaker_opened(&self, generation: &Generation, error: String) {
        let (name, key) = (generation.identity.name.clone(), generation.identity.key);
        let _ = self.0.try_send(LifeEvent::BreakerOpened { name, key, error });
    }

    pub(crate) fn recovered(&self, generation: &Generation) {
        let (name, key) = (generation.identity.name.clone(), generation.identity.key);
        let _ = self.0.try_send(LifeEvent::Recovered { name, key });
    }

    pub(crate) fn rescan(&self) {
        let _ = self.0.try_send(LifeEvent::Rescan);
    }

    pub(crate) fn stop(&self) {
        let _ = self.0.send(LifeEvent::Stop);
    }
}

/// What was last done with a file of the folder.
struct FileSeen {
    stamp: Stamp,
    /// The plugin's name, once a manifest was read.
    name: Option<String>,
    sha: Option<Sha>,
    /// Content and entry last tried; whatever came of it is not tried again.
    key: Option<Sha>,
    /// Refused for a reason outside the file: to be tried at every rescan.
    again: bool,
}

/// Everything the thread owns.
pub(crate) struct Life {
    shared: Arc<Shared>,
    loader: Loader,
    reports: Arc<Reports>,
    events: Arc<dyn PluginEvents>,
    limits: Arc<HostLimits>,
    folder: Option<PathBuf>,
    standard: &'static [StandardPlugin],
    scan: Scan,
    files: HashMap<PathBuf, FileSeen>,
    bindings: PluginsFile,
    bindings_stamp: Option<Stamp>,
    /// A broken `plugins.toml` and no good one before it: files wait, as nobody knows what they are bound to.
    bindings_unknown: bool,
    /// Entry each standard plugin was loaded with.
    standard_entries: BTreeMap<String, Entry>,
    slots: BTreeMap<String, Slot>,
    /// The file's version before the one that serves.
    previous: HashMap<String, Arc<Generation>>,
    /// Keys of versions that were taken back: not tried again while their file stays.
    rejected: HashMap<String, HashSet<Sha>>,
    /// Replaced versions that sessions may still use.
    retired: Vec<Arc<Generation>>,
}

/// What a `Life` is made from.
pub(crate) struct LifeParts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) loader: Loader,
    pub(crate) reports: Arc<Reports>,
    pub(crate) events: Arc<dyn PluginEvents>,
    pub(crate) limits: Arc<HostLimits>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) standard: &'static [StandardPlugin],
}

impl Life {
    pub(crate) fn new(parts: LifeParts) -> Self {
        Self {
            shared: parts.shared,
            loader: parts.loader,
            reports: parts.reports,
            events: parts.events,
            limits: parts.limits,
            folder: parts.folder,
            standard: parts.standard,
            scan: Scan::default(),
            files: HashMap::new(),
            bindings: PluginsFile::default(),
            bindings_stamp: None,
            bindings_unknown: false,
            standard_entries: BTreeMap::new(),
            slots: BTreeMap::new(),
            previous: HashMap::new(),
            rejected: HashMap::new(),
            retired: Vec::new(),
        }
    }

    /// Loads everything for the first time, on the caller's thread: after this the plugins serve. The folder is read
    /// without waiting for files to settle; one that is still being copied is read again when it is whole.
    pub(crate) fn first_load(&mut self) {
        self.rescan(Duration::ZERO);
    }

    /// Starts the thread. `notify` events and everything else arrive through `receiver`.
    pub(crate) fn spawn(mut self, receiver: Receiver<LifeEvent>) -> std::io::Result<JoinHandle<()>> {
        let sender = self.shared.life.clone();
        let watcher = self.folder.as_deref().and_then(|folder| watch::watch(folder, sender));
        self.loader.compile_in_background();
        std::thread::Builder::new().name("plugin-life".into()).spawn(move || self.run(&receiver, watcher))
    }

    fn run(&mut self, receiver: &Receiver<LifeEvent>, watcher: Option<RecommendedWatcher>) {
        let rescan = match (&self.folder, &watcher) {
            (Some(_), None) => POLL_WITHOUT_EVENTS.min(self.limits.rescan),
            _ => self.limits.rescan,
        };
        let mut wait = POLL;
        loop {
            match receiver.recv_timeout(wait) {
                Ok(LifeEvent::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(LifeEvent::BreakerOpened { name, key, error }) => self.breaker_opened(&name, key, &error),
                Ok(LifeEvent::Recovered { name, key }) => self.recovered(&name, key),
                Ok(LifeEvent::Rescan) | Err(RecvTimeoutError::Timeout) => {}
            }
            // A burst of events is one rescan.
            let settled = self.rescan(self.limits.settle);
            self.free_retired();
            wait = match (settled, self.retired.is_empty()) {
                (false, _) => POLL,
                (true, false) => JANITOR.min(rescan),
                (true, true) => rescan,
            };
        }
    }

    /// Brings what serves in line with the folder. False: something is still changing, look again soon.
    fn rescan(&mut self, settle: Duration) -> bool {
        let listing = match &self.folder {
            Some(folder) => self.scan.look(folder, settle, Instant::now()),
            None => watch::Listing::nothing(),
        };
        if !listing.unreadable {
            let bindings_settled = self.read_bindings(&listing);
            if bindings_settled {
                self.load_files(&listing);
                self.remove_missing(&listing);
                // Last: an entry is the file's as long as there is one.
                self.load_standard();
            }
        }
        listing.settled
    }

    /// Reads `plugins.toml` if it changed. False: it is being written.
    fn read_bindings(&mut self, listing: &watch::Listing) -> bool {
        if !listing.bindings_settled {
            return false;
        }
        if self.bindings_stamp == listing.bindings && !(listing.bindings.is_none() && self.bindings_unknown) {
            return true;
        }
        let Some(folder) = &self.folder else { return true };
        let path = folder.join(BINDINGS_FILE);
        self.bindings_stamp = listing.bindings;
        let parsed = match listing.bindings {
            None => Ok(PluginsFile::default()),
            Some(_) => std::fs::read_to_string(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| PluginsFile::parse(&text)),
        };
        match parsed {
            Ok(bindings) => {
                self.bindings = bindings;
                self.bindings_unknown = false;
                self.reports.bindings_good();
            }
            Err(reason) => {
                self.bindings_unknown |= self.slots.is_empty();
                self.refused_bindings(&path, reason);
            }
        }
        true
    }

    fn file_of(&self, name: &str) -> Option<&Path> {
        match &self.slots.get(name)?.file.as_ref()?.identity.origin {
            Origin::File(path) => Some(path),
            Origin::Standard => None,
        }
    }

    fn served_from(&self, path: &Path) -> Option<String> {
        self.slots.keys().find(|name| self.file_of(name) == Some(path)).cloned()
    }

    fn emit(&self, event: PluginEvent) {
        self.events.changed(&event);
    }
}
