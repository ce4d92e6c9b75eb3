//! What went wrong with which file, kept until it goes well again; and the list of plugins made from it and from what
//! serves. Written by the life cycle, read by `PluginHost::plugins`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::generation::Generation;
use crate::lock::locked;
use crate::metrics::PluginCounts;
use crate::refusal::Refusal;
use crate::shared::{PluginSet, Slot};
use crate::status::{Origin, PluginState, PluginStatus};

#[derive(Default)]
pub(crate) struct Reports {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Refused files; standard plugins under their name.
    files: BTreeMap<PathBuf, FileReport>,
    /// What happened to plugins while they served.
    trouble: BTreeMap<String, String>,
    bindings: Option<String>,
}

struct FileReport {
    name: String,
    refusal: Refusal,
}

impl Reports {
    /// True: this has not been said before.
    pub(super) fn refused(&self, path: &Path, name: Option<&str>, refusal: Refusal) -> bool {
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.map_or_else(stem, str::to_string);
        let mut inner = locked(&self.inner);
        let known = inner.files.get(path).is_some_and(|report| report.refusal == refusal);
        inner.files.insert(path.to_path_buf(), FileReport { name, refusal });
        !known
    }

    pub(super) fn good(&self, path: &Path) {
        locked(&self.inner).files.remove(path);
    }

    pub(super) fn keep_files(&self, keep: impl Fn(&Path) -> bool) {
        locked(&self.inner).files.retain(|path, _| keep(path));
    }

    pub(super) fn trouble(&self, name: &str, note: String) {
        locked(&self.inner).trouble.insert(name.to_string(), note);
    }

    pub(super) fn forget_trouble(&self, name: &str) {
        locked(&self.inner).trouble.remove(name);
    }

    pub(super) fn bindings_bad(&self, error: String) -> bool {
        locked(&self.inner).bindings.replace(error.clone()) != Some(error)
    }

    pub(super) fn bindings_good(&self) {
        locked(&self.inner).bindings = None;
    }

    /// A standard plugin that did not load.
    pub(crate) fn refusal_of(&self, path: &Path) -> Option<Refusal> {
        locked(&self.inner).files.get(path).map(|report| report.refusal.clone())
    }

    pub(crate) fn list(&self, set: &PluginSet, probation: Duration) -> Vec<PluginStatus> {
        let inner = locked(&self.inner);
        let mut list = Vec::new();
        for (name, slot) in &set.slots {
            for generation in slot.generations() {
                list.push(status(generation, slot, probation, inner.error_of(name)));
            }
        }
        for (path, report) in &inner.files {
            if !set.slots.contains_key(&report.name) {
                list.push(refused_status(path, report));
            }
        }
        list
    }
}

impl Inner {
    fn error_of(&self, name: &str) -> Option<String> {
        let refused = self.files.values().find(|report| report.name == name).map(|report| report.refusal.to_string());
        refused.or_else(|| self.trouble.get(name).cloned()).or_else(|| self.bindings.clone())
    }
}

fn status(generation: &Arc<Generation>, slot: &Slot, probation: Duration, error: Option<String>) -> PluginStatus {
    let identity = &generation.identity;
    let overridden = identity.origin == Origin::Standard && slot.file.is_some();
    let new = generation.live_since.get().is_some_and(|since| since.elapsed() < probation);
    let state = match () {
        () if overridden => PluginState::Overridden,
        () if !generation.breaker.is_closed() => PluginState::Quarantined,
        () if new && identity.origin != Origin::Standard => PluginState::Probation,
        () => PluginState::Live,
    };
    PluginStatus {
        name: identity.name.clone(),
        version: identity.version.clone(),
        hooks: identity.hooks.clone(),
        sha256: identity.sha.short(),
        origin: identity.origin.clone(),
        state,
        last_error: error.filter(|_| !overridden),
        bindings: vec![identity.entry.binding_text()],
        subscriptions: generation.subscriptions(),
        counts: generation.metrics.counts(),
        poison: generation.metrics.poison(),
    }
}

fn refused_status(path: &Path, report: &FileReport) -> PluginStatus {
    PluginStatus {
        name: report.name.clone(),
        version: String::new(),
        hooks: Vec::new(),
        sha256: report.refusal.sha256.clone(),
        origin: Origin::File(path.to_path_buf()),
        state: PluginState::Refused,
        last_error: Some(report.refusal.to_string()),
        bindings: Vec::new(),
        subscriptions: 0,
        counts: PluginCounts::default(),
        poison: Vec::new(),
    }
}
