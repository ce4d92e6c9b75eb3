//! The plugin host: starts the engine, the ticker and the life cycle, and is what the broker holds. Everything else is
//! reached from here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::engine::running_engine;
use crate::generation::Surroundings;
use crate::life::{Life, LifeParts, LifeSender, Loader, Reports};
use crate::limits::HostLimits;
use crate::lock::locked;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::status::{PluginEvents, PluginStatus};
use crate::subscription::{self, FilterHandle, PrepareError, SubscriptionText};
use crate::ticker::Ticker;

/// Plugins for which slots are set aside; more than these share them.
const PLUGINS_EXPECTED: usize = 16;
/// Instances of one plugin beyond one per worker: preparing subscriptions, loading.
const INSTANCES_SPARE: usize = 2;
/// Bounds of the number of slots: each reserves 4 GiB of address space.
const SLOTS: (usize, usize) = (64, 1024);

/// A plugin inside the broker's program.
#[derive(Clone, Copy, Debug)]
pub struct StandardPlugin {
    /// Its name, as in its manifest.
    pub name: &'static str,
    /// The module.
    pub wasm: &'static [u8],
    /// What [`crate::precompile`] made of it at build time. Code of another machine or engine is passed over.
    pub compiled: Option<&'static [u8]>,
}

/// How to start.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Where `*.wasm`, `*.wat` and `plugins.toml` lie; `None`: only the standard plugins serve.
    pub folder: Option<PathBuf>,
    /// For compiled code; created with mode 0700, used by this broker alone.
    pub cache_folder: PathBuf,
    /// Inside the broker's program.
    pub standard: &'static [StandardPlugin],
    /// Threads that filter at once.
    pub workers: usize,
    /// Counts and periods.
    pub limits: HostLimits,
}

/// The plugin host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine cannot be set up.
    #[error("the WebAssembly engine cannot start: {0:#}")]
    Engine(wasmtime::Error),
    /// A thread cannot be started.
    #[error("the plugin host cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A standard plugin does not load: the broker would have no filter of that kind.
    #[error("standard plugin: {0}")]
    Standard(Refusal),
    /// The plugins folder is not there.
    #[error("the plugins folder {path} cannot be read: {source}; create it or start without one")]
    Folder {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Loads plugins, keeps them in line with their folder, and answers for them.
pub struct PluginHost {
    shared: Arc<Shared>,
    reports: Arc<Reports>,
    limits: Arc<HostLimits>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PluginHost {
    /// Starts. Standard plugins, and those the folder holds, serve when this returns.
    pub fn start(config: HostConfig, events: Arc<dyn PluginEvents>) -> Result<Arc<Self>, StartError> {
        if let Some(path) = &config.folder {
            std::fs::read_dir(path).map_err(|source| StartError::Folder { path: path.clone(), source })?;
        }
        let (life, receiver) = LifeSender::channel();
        let limits = Arc::new(config.limits);
        let loader = loader(&config.cache_folder, config.workers, &limits)?;
        let shared = Arc::new(Shared::new(life));
        let reports = Arc::new(Reports::default());
        let mut life = Life::new(LifeParts {
            shared: Arc::clone(&shared),
            loader,
            reports: Arc::clone(&reports),
            events,
            limits: Arc::clone(&limits),
            folder: config.folder,
            standard: config.standard,
        });
        life.first_load();
        for plugin in config.standard {
            let serves = shared.set.load().slots.get(plugin.name).is_some_and(|slot| slot.standard.is_some());
            if let Some(refusal) = reports.refusal_of(Path::new(plugin.name)).filter(|_| !serves) {
                return Err(StartError::Standard(refusal));
            }
        }
        let thread = Mutex::new(Some(life.spawn(receiver)?));
        Ok(Arc::new(Self { shared, reports, limits, thread }))
    }

    /// All plugins: those that serve, and files that do not and why.
    pub fn plugins(&self) -> Vec<PluginStatus> {
        self.reports.list(&self.shared.set.load(), self.limits.probation)
    }

    /// The filter of a subscription; the same one for the same text. Takes microseconds, or milliseconds while a plugin
    /// is being swapped.
    pub fn prepare(&self, text: SubscriptionText) -> Result<FilterHandle, PrepareError> {
        subscription::prepare(&self.shared, text)
    }

    /// Epoch of the plugin set in force; rises with every swap. Held verdicts of an older epoch may be outdated.
    pub fn plugin_epoch(&self) -> u64 {
        self.shared.set.load().epoch
    }

    /// Reads the folder now, without waiting for an event.
    pub fn rescan(&self) {
        self.shared.life.rescan();
    }

    /// Ends the background thread. Filters go on deciding with what is loaded.
    pub fn shutdown(&self) {
        let Some(thread) = locked(&self.thread).take() else { return };
        self.shared.life.stop();
        if thread.join().is_err() {
            tracing::error!("the plugin thread had panicked");
        }
    }
}

impl Drop for PluginHost {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn loader(cache_folder: &Path, workers: usize, limits: &Arc<HostLimits>) -> Result<Loader, StartError> {
    let instances_max = workers.max(1) + INSTANCES_SPARE;
    let slots = (instances_max * PLUGINS_EXPECTED * 2).clamp(SLOTS.0, SLOTS.1);
    let (engine, slots_had) = running_engine(slots as u32).map_err(StartError::Engine)?;
    if (slots_had as usize) < slots {
        tracing::warn!(slots_had, slots, "less address space than wanted for plugins; raise `ulimit -v`");
    }
    let ticker = Arc::new(Ticker::start(engine.clone())?);
    let around = Surroundings { ticker, limits: Arc::clone(limits), instances_max };
    Loader::new(engine, cache_folder, around).map_err(StartError::Engine)
}
