//! Which generation serves: loading what the folder holds, preparing live subscriptions in it, swapping the set, taking
//! back what fails. Every change of what serves passes through `Life::swap`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::watch::{Listing, Stamp};
use super::{FileSeen, Life, Source};
use crate::binding::Entry;
use crate::generation::Generation;
use crate::host::StandardPlugin;
use crate::lock::locked;
use crate::refusal::{Failed, Refusal, Sha, Step};
use crate::shared::{PluginSet, Slot};
use crate::status::{Origin, PluginEvent};
use crate::subscription::Subscription;
use crate::verify::Verified;

impl Life {
    /// Loads the standard plugins, again when their entry changed. While a file goes by the same name, the entry is the
    /// file's, and the standard plugin serves what is left with the defaults.
    pub(super) fn load_standard(&mut self) {
        for plugin in self.standard {
            let entry =
                if self.file_of(plugin.name).is_some() { Entry::default() } else { self.bindings.entry(plugin.name) };
            if self.standard_entries.get(plugin.name) == Some(&entry) {
                continue;
            }
            self.standard_entries.insert(plugin.name.to_string(), entry.clone());
            if let Err(refusal) = self.install_standard(plugin, entry) {
                self.refused(Path::new(plugin.name), Some(plugin.name), refusal);
                let serves = self.slots.get(plugin.name).is_some_and(|slot| slot.standard.is_some());
                if !serves && let Err(refusal) = self.install_standard(plugin, Entry::default()) {
                    self.refused(Path::new(plugin.name), Some(plugin.name), refusal);
                }
            }
        }
    }

    fn install_standard(&mut self, plugin: &'static StandardPlugin, entry: Entry) -> Result<(), Refusal> {
        if !entry.enabled {
            tracing::warn!(
                plugin = plugin.name,
                "a standard plugin cannot be disabled, only overridden by a file of its name"
            );
        }
        let source = Source { origin: Origin::Standard, bytes: plugin.wasm, embedded: plugin.compiled };
        let refuse = |failed: Failed| failed.refuse(Path::new(plugin.name), &Sha::of(plugin.wasm));
        let verified = self.loader.verify(plugin.wasm).map_err(refuse)?;
        if verified.manifest.name != plugin.name {
            return Err(refuse(Failed::at(
                Step::Manifest,
                format_args!("it calls itself `{}`", verified.manifest.name),
            )));
        }
        let generation = self.loader.load(&source, verified, entry)?;
        let mut slot = self.slots.get(plugin.name).cloned().unwrap_or_default();
        let old = slot.standard.replace(Arc::clone(&generation));
        self.swap(plugin.name, slot, true).map_err(refuse)?;
        self.retired.extend(old);
        self.reports.good(Path::new(plugin.name));
        self.announce(&generation);
        Ok(())
    }

    /// Loads files that are new or changed, or whose entry changed.
    pub(super) fn load_files(&mut self, listing: &Listing) {
        for (path, stamp) in &listing.plugins {
            if self.needs_loading(path, *stamp) {
                self.load_file(path, *stamp, listing);
            }
        }
    }

    fn needs_loading(&self, path: &Path, stamp: Stamp) -> bool {
        let Some(seen) = self.files.get(path) else { return true };
        let key_now = |name: &String| seen.sha.map(|sha| Sha::of_pair(&sha, &self.bindings.entry(name).bytes()));
        seen.stamp != stamp || seen.again || seen.name.as_ref().is_some_and(|name| key_now(name) != seen.key)
    }

    fn load_file(&mut self, path: &Path, stamp: Stamp, listing: &Listing) {
        let mut seen = FileSeen { stamp, name: None, sha: None, key: None, again: false };
        let loaded = match std::fs::read(path) {
            Ok(bytes) => self.load_bytes(path, &bytes, &mut seen, listing),
            Err(error) => {
                seen.again = true;
                let reason = error.to_string();
                Err(Refusal { file: path.to_path_buf(), step: Step::Read, reason, sha256: String::new() })
            }
        };
        // A file that is no plugin any more is still the file of the plugin that serves from it.
        let name = seen.name.clone().or_else(|| self.served_from(path));
        // The subscription in the way may end.
        seen.again |= matches!(&loaded, Err(refusal) if refusal.step == Step::Prepare);
        self.files.insert(path.to_path_buf(), seen);
        match loaded {
            Ok(()) => self.reports.good(path),
            Err(refusal) => self.refused(path, name.as_deref(), refusal),
        }
    }

    fn load_bytes(&mut self, path: &Path, bytes: &[u8], seen: &mut FileSeen, listing: &Listing) -> Result<(), Refusal> {
        let sha = Sha::of(bytes);
        seen.sha = Some(sha);
        let refuse = |failed: Failed| failed.refuse(path, &sha);
        let verified = self.loader.verify(bytes).map_err(refuse)?;
        let name = verified.manifest.name.clone();
        seen.name = Some(name.clone());
        let entry = self.bindings.entry(&name);
        let key = Sha::of_pair(&sha, &entry.bytes());
        seen.key = Some(key);
        let other =
            self.file_of(&name).filter(|other| *other != path && listing.present.iter().any(|file| file == other));
        if let Some(other) = other {
            seen.again = true;
            let note = format!("the plugin `{name}` is already served from {}", other.display());
            return Err(refuse(Failed::at(Step::Binding, note)));
        }
        if self.bindings_unknown {
            seen.again = true;
            return Err(refuse(Failed::at(Step::Binding, "plugins.toml cannot be read, so its bindings are unknown")));
        }
        if !entry.enabled {
            tracing::info!(plugin = name, file = %path.display(), "plugin is disabled in plugins.toml");
            self.remove_file_plugin(&name);
            return Ok(());
        }
        let current = self.slots.get(&name).and_then(|slot| slot.file.as_ref());
        if current.is_some_and(|current| current.identity.key == key) && self.file_of(&name) == Some(path) {
            return Ok(());
        }
        if self.rejected.get(&name).is_some_and(|rejected| rejected.contains(&key)) {
            return Err(refuse(Failed::at(
                Step::Binding,
                "this version failed here and was taken back; change it or its entry",
            )));
        }
        let limit = self.limits.plugins_max;
        if current.is_none() && self.slots.len() >= limit && !self.slots.contains_key(&name) {
            seen.again = true;
            return Err(refuse(Failed::at(
                Step::Binding,
                format_args!("{limit} plugins are served already, the most there may be"),
            )));
        }
        self.install_file(path, bytes, verified, entry)
    }

    fn install_file(&mut self, path: &Path, bytes: &[u8], verified: Verified<'_>, entry: Entry) -> Result<(), Refusal> {
        let (name, sha) = (verified.manifest.name.clone(), verified.sha);
        let source = Source { origin: Origin::File(path.to_path_buf()), bytes, embedded: None };
        let generation = self.loader.load(&source, verified, entry)?;
        let mut slot = self.slots.get(&name).cloned().unwrap_or_default();
        let old = slot.file.replace(Arc::clone(&generation));
        if let Err(failed) = self.swap(&name, slot, true) {
            self.retired.push(generation);
            return Err(failed.refuse(path, &sha));
        }
        // Only a version that worked to the end is worth a return.
        let good = old.filter(|old| old.breaker.is_closed());
        if let Some(old) = good {
            self.retired.extend(self.previous.insert(name, old));
        }
        self.announce(&generation);
        Ok(())
    }

    /// Takes out plugins whose file is gone: an explicit act, unlike a broken file.
    pub(super) fn remove_missing(&mut self, listing: &Listing) {
        let present: HashSet<&PathBuf> = listing.present.iter().collect();
        self.files.retain(|path, _| present.contains(path));
        self.reports.keep_files(|path| present.contains(&path.to_path_buf()) || path.parent() == Some(Path::new("")));
        let names: Vec<String> = self.slots.keys().cloned().collect();
        for name in names {
            let gone = self.file_of(&name).is_some_and(|path| !present.contains(&path.to_path_buf()));
            if gone {
                self.remove_file_plugin(&name);
            }
        }
    }

    fn remove_file_plugin(&mut self, name: &str) {
        let mut slot = self.slots.get(name).cloned().unwrap_or_default();
        let Some(old) = slot.file.take() else { return };
        let standard = slot.standard.is_some();
        if self.swap(name, slot, false).is_ok() {
            self.retired.push(old);
            self.retired.extend(self.previous.remove(name));
            self.rejected.remove(name);
            self.reports.forget_trouble(name);
            tracing::info!(plugin = name, standard_serves = standard, "plugin removed");
            self.emit(PluginEvent::Removed { name: name.to_string() });
        }
    }

    /// Prepares every live subscription of `name` in what is to serve, then swaps. Strict: a subscription that is served
    /// now and refused by the new version stops the swap.
    fn swap(&mut self, name: &str, slot: Slot, strict: bool) -> Result<(), Failed> {
        // Nearly all of the work before the lock, so that new subscriptions do not wait for it.
        let subscriptions = self.shared.subscriptions_of(name);
        self.prepare_all(&subscriptions, name, &slot, strict)?;
        let shared = Arc::clone(&self.shared);
        let swapping = locked(&shared.swapping);
        let subscriptions = self.shared.subscriptions_of(name);
        self.prepare_all(&subscriptions, name, &slot, strict)?;
        let live: HashSet<u32> = subscriptions.iter().map(|subscription| subscription.handle()).collect();
        slot.generations().for_each(|generation| generation.retain(&live));
        if slot.is_empty() {
            self.slots.remove(name);
        } else {
            self.slots.insert(name.to_string(), slot);
        }
        let epoch = shared.set.load().epoch + 1;
        shared.set.store(Arc::new(PluginSet { epoch, slots: self.slots.clone() }));
        drop(swapping);
        Ok(())
    }

    fn prepare_all(&self, all: &[Arc<Subscription>], name: &str, slot: &Slot, strict: bool) -> Result<(), Failed> {
        for subscription in all {
            let (text, handle) = (&subscription.text, subscription.handle());
            let Some(target) = slot.resolve(&text.topic, &text.group) else { continue };
            let Err(fault) = target.prepare(&subscription.request) else { continue };
            let serving = self.slots.get(name).and_then(|slot| slot.resolve(&text.topic, &text.group));
            let served = serving.is_some_and(|generation| generation.decides(handle).is_some());
            if strict && served {
                return Err(Failed::at(
                    Step::Prepare,
                    format_args!(
                        "the subscription of group `{}` to topic `{}` (`{}`) is not accepted: {fault}",
                        text.group, text.topic, text.expression
                    ),
                ));
            }
            tracing::warn!(plugin = name, group = text.group, topic = text.topic, %fault, "subscription is held: its plugin does not accept it");
        }
        Ok(())
    }

    fn announce(&mut self, generation: &Arc<Generation>) {
        let identity = &generation.identity;
        let _ = generation.live_since.set(Instant::now());
        generation.metrics.swaps.fetch_add(1, Relaxed);
        self.reports.forget_trouble(&identity.name);
        let (name, version, sha256) = (&identity.name, &identity.version, identity.sha.short());
        tracing::info!(plugin = name, version, sha256, origin = %identity.origin, "plugin is live");
        let event =
            PluginEvent::Live { name: name.clone(), version: version.clone(), sha256, origin: identity.origin.clone() };
        self.emit(event);
    }

    /// A generation failed three times in a minute: what served before takes over, if there is anything.
    pub(super) fn breaker_opened(&mut self, name: &str, key: Sha, error: &str) {
        let Some(slot) = self.slots.get(name).cloned() else { return };
        let failed_file = slot.file.clone().filter(|file| file.identity.key == key);
        let Some(failed) = failed_file else {
            if slot.standard.as_ref().is_some_and(|standard| standard.identity.key == key) {
                self.quarantined(name, error);
            }
            return;
        };
        let back_to = self.previous.remove(name);
        if back_to.is_none() && slot.standard.is_none() {
            return self.quarantined(name, error);
        }
        let to = match back_to.as_ref().or(slot.standard.as_ref()) {
            Some(to) => format!("{} (sha256 {}, {})", to.identity.version, to.identity.sha.short(), to.identity.origin),
            None => String::new(),
        };
        if self.swap(name, Slot { file: back_to, standard: slot.standard }, false).is_err() {
            return;
        }
        let identity = &failed.identity;
        let note = format!(
            "version {} (sha256 {}) failed three times and was taken back, {to} serves: {error}",
            identity.version,
            identity.sha.short()
        );
        failed.metrics.rollbacks.fetch_add(1, Relaxed);
        tracing::error!(plugin = name, note, "plugin rolled back");
        self.rejected.entry(name.to_string()).or_default().insert(key);
        self.retired.push(failed);
        self.reports.trouble(name, note.clone());
        self.emit(PluginEvent::RolledBack { name: name.to_string(), error: note });
    }

    fn quarantined(&mut self, name: &str, error: &str) {
        let note = format!("it failed three times within a minute and pauses: {error}");
        tracing::error!(plugin = name, note, "plugin quarantined");
        self.reports.trouble(name, note.clone());
        self.emit(PluginEvent::Quarantined { name: name.to_string(), error: note });
    }

    pub(super) fn recovered(&mut self, name: &str, key: Sha) {
        let Some(slot) = self.slots.get(name) else { return };
        if slot.generations().any(|generation| generation.identity.key == key) {
            tracing::info!(plugin = name, "plugin works again");
            self.emit(PluginEvent::Recovered { name: name.to_string() });
        }
    }

    /// Says once why a file does not serve.
    pub(super) fn refused(&mut self, path: &Path, name: Option<&str>, refusal: Refusal) {
        let error = refusal.to_string();
        if self.reports.refused(path, name, refusal) {
            tracing::error!(error, "plugin refused, what served before goes on");
            self.emit(PluginEvent::Refused { file: path.to_path_buf(), error });
        }
    }

    pub(super) fn refused_bindings(&mut self, path: &Path, reason: String) {
        let refusal = Refusal { file: path.to_path_buf(), step: Step::Binding, reason, sha256: String::new() };
        let error = refusal.to_string();
        if self.reports.bindings_bad(error.clone()) {
            tracing::error!(error, "plugins.toml refused, the bindings before it stay");
            self.emit(PluginEvent::Refused { file: path.to_path_buf(), error });
        }
    }

    /// Frees versions that no session uses any more: unmapping code takes milliseconds, which no pull should pay.
    pub(super) fn free_retired(&mut self) {
        self.retired.retain(|generation| Arc::strong_count(generation) > 1);
    }
}
