//! The nameserver without its sockets: its tables, its settings, its clock, and the periodic look for silent brokers.
//! Built by `server`, asked by `handler`. Locks of tables are held for one table operation, never over a write to disk;
//! what is kept on disk is written first and holds then.

use crate::config::{Keys, NamesrvConfig, read_file};
use crate::config_update::{self, UpdateError};
use crate::error::NamesrvError;
use crate::handler::CHANGES_MAX;
use crate::kv_config::{KvConfig, KvFull};
use crate::route_info::RouteInfo;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use waspmq_store::clock::Clock;
use waspmq_store::persist::{self, PersistError, PersistedTable};

/// What the handler answers from.
pub struct Namesrv {
    clock: Arc<dyn Clock>,
    started: Duration,
    keys: RwLock<Keys>,
    routes: RwLock<RouteInfo>,
    kv: RwLock<KvConfig>,
    /// Held from reading what is to be changed until the change holds.
    files: Mutex<Files>,
    change_permits: Arc<Semaphore>,
    /// Changes outlive the call that asks for them.
    this: Weak<Self>,
}

/// Where changes are kept.
struct Files {
    kv: PersistedTable,
    config: PathBuf,
}

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The key-values are full.
    #[error(transparent)]
    Kv(#[from] KvFull),
    /// The settings asked for.
    #[error(transparent)]
    Settings(#[from] UpdateError),
    /// It cannot be written.
    #[error("nothing was changed: {0}")]
    NotSaved(#[from] PersistError),
    /// What is to be changed cannot be read.
    #[error("nothing was changed: cannot read {path}: {source}")]
    NotRead {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Namesrv {
    /// A nameserver that knows the key-values and changed settings of earlier runs, and no broker.
    ///
    /// # Errors
    /// Saved key-values or settings that cannot be read.
    pub fn new(config: NamesrvConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, NamesrvError> {
        let NamesrvConfig { listen, mut keys } = config;
        (keys.bind_address, keys.listen_port) = (listen.ip(), listen.port());
        let path = keys.config_store_path.clone();
        if path.exists() {
            keys = config_update::apply_stored(&keys, read_file(&path)?)
                .map_err(|source| NamesrvError::StoredValue { path: path.clone(), source })?;
        }
        let (kv, file) = KvConfig::load(keys.kv_config_path.clone())?;
        Ok(Arc::new_cyclic(|this| Self {
            started: clock.monotonic(),
            clock,
            keys: RwLock::new(keys),
            routes: RwLock::default(),
            kv: RwLock::new(kv),
            files: Mutex::new(Files { kv: file, config: path }),
            change_permits: Arc::new(Semaphore::new(CHANGES_MAX)),
            this: this.clone(),
        }))
    }

    /// Forgets brokers that were silent for too long; returns how many.
    pub fn forget_silent_brokers(&self) -> usize {
        let gone = self.routes_mut().expire(self.now());
        for broker in &gone {
            tracing::warn!(cluster = broker.cluster, address = broker.addr, "broker forgotten after silence");
        }
        gone.len()
    }

    pub(crate) fn handle_to_self(&self) -> Arc<Self> {
        self.this.upgrade().expect("a method of it is running, so somebody holds it")
    }

    /// Each change that waits for the disk holds one.
    pub(crate) fn change_permits(&self) -> Arc<Semaphore> {
        self.change_permits.clone()
    }

    /// Time between two looks for silent brokers.
    pub(crate) fn scan_interval(&self) -> Duration {
        Duration::from_millis(self.keys().scan_not_active_broker_interval.max(10))
    }

    /// Silence after which a connection is closed.
    pub(crate) fn idle_timeout(&self) -> Duration {
        let seconds = self.keys().server_channel_max_idle_time_seconds;
        // A hundred years are never, and still a time that can be added to now.
        Duration::from_secs(if seconds == 0 { 100 * 365 * 86_400 } else { u64::from(seconds) })
    }

    /// Whether routes are still refused after the start.
    pub(crate) fn is_warming_up(&self) -> bool {
        let keys = self.keys();
        let wait = Duration::from_secs(keys.wait_seconds_for_service);
        keys.need_wait_for_service && self.now().saturating_sub(self.started) < wait
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn routes(&self) -> RwLockReadGuard<'_, RouteInfo> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn routes_mut(&self) -> RwLockWriteGuard<'_, RouteInfo> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kv(&self) -> RwLockReadGuard<'_, KvConfig> {
        self.kv.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the key-values and saves them. After an error they are as before.
    pub(crate) fn change_kv(
        &self,
        change: impl FnOnce(&mut KvConfig) -> Result<(), KvFull>,
    ) -> Result<(), ChangeError> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.kv().clone();
        change(&mut changed)?;
        files.kv.save(changed.encode())?;
        *self.kv.write().unwrap_or_else(PoisonError::into_inner) = changed;
        Ok(())
    }

    /// Changes settings by the properties in `body`, in their file too. After an error they are as before.
    pub(crate) fn change_keys(&self, body: &[u8]) -> Result<(), ChangeError> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys().clone();
        let changes = config_update::read(&keys, body)?;
        let changed = config_update::apply(&keys, &changes).map_err(UpdateError::from)?;
        if changes.is_empty() {
            return Ok(());
        }
        let path = &files.config;
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ChangeError::NotRead { path: path.clone(), source }),
        };
        persist::save(path, config_update::edit(&text, &changes).as_bytes())?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = changed;
        for change in changes {
            tracing::info!(name = change.name, value = change.value, "setting changed over the network");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Namesrv {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Namesrv").field("keys", &*self.keys()).finish_non_exhaustive()
    }
}
