//! What the host says about itself: the state of each plugin for listings, and events for whoever wants to act on a
//! change. Filled by the life cycle; nothing here decides anything.

use std::fmt;
use std::path::PathBuf;

use crate::metrics::{PluginCounts, Poison};

/// Where a plugin came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Inside the broker's own program.
    Standard,
    /// A file of the plugins folder.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("standard"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What a plugin is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// It serves, and is new: an earlier version returns by itself if this one fails.
    Probation,
    /// It serves.
    Live,
    /// It failed too often and is not asked for a while; its messages are held, or delivered if `on_fault` says so.
    Quarantined,
    /// The standard plugin, while a file of the same name serves the topics and groups it is bound to.
    Overridden,
    /// The file was refused and nothing serves under its name.
    Refused,
}

impl fmt::Display for PluginState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probation => "probation",
            Self::Live => "live",
            Self::Quarantined => "quarantined",
            Self::Overridden => "overridden",
            Self::Refused => "refused",
        })
    }
}

/// One line of the list of plugins.
#[derive(Clone, Debug)]
pub struct PluginStatus {
    /// Name of the plugin; of a file that could not be read that far, the file's name without its ending.
    pub name: String,
    /// The author's version; empty if unknown.
    pub version: String,
    /// Hooks it serves.
    pub hooks: Vec<String>,
    /// First 12 hex digits of the SHA-256 of the `.wasm` that serves; of the refused one if none does.
    pub sha256: String,
    /// Where it came from.
    pub origin: Origin,
    /// What it is doing.
    pub state: PluginState,
    /// Why its newest file or configuration does not serve, or why it was quarantined last.
    pub last_error: Option<String>,
    /// Topics and groups it is bound to, as `topics=… groups=…`.
    pub bindings: Vec<String>,
    /// Live subscriptions prepared in it.
    pub subscriptions: usize,
    /// What it has done so far.
    pub counts: PluginCounts,
    /// The last messages it could not survive.
    pub poison: Vec<Poison>,
}

/// Something changed. Each is in the log as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginEvent {
    /// A version serves from now on.
    Live {
        /// Name of the plugin.
        name: String,
        /// Its version.
        version: String,
        /// First 12 hex digits of its SHA-256.
        sha256: String,
        /// Where it came from.
        origin: Origin,
    },
    /// A file was refused; what served before goes on serving. Said once per content.
    Refused {
        /// The file.
        file: PathBuf,
        /// File, step, reason and hash in one sentence.
        error: String,
    },
    /// The file is gone and with it the plugin. Its subscriptions are held, or go to the standard plugin of that name.
    Removed {
        /// Name of the plugin.
        name: String,
    },
    /// A version failed three times and an earlier one took over.
    RolledBack {
        /// Name of the plugin.
        name: String,
        /// Why.
        error: String,
    },
    /// A version failed three times and there is no other: it is not asked for a while.
    Quarantined {
        /// Name of the plugin.
        name: String,
        /// Why.
        error: String,
    },
    /// A quarantined plugin answered a trial batch and serves again.
    Recovered {
        /// Name of the plugin.
        name: String,
    },
}

/// Receives events, on the host's own threads. Must return soon: the life of plugins waits for it.
pub trait PluginEvents: Send + Sync {
    /// One change.
    fn changed(&self, event: &PluginEvent);
}

/// For callers that read the list instead.
impl PluginEvents for () {
    fn changed(&self, _: &PluginEvent) {}
}
