//! The nameserver without its sockets: its tables, its settings, its clock, and the periodic look for silent brokers.
//! Built by `server`, asked by `handler`. Locks are held for the time of one table operation, never over an await.

use crate::config::{Keys, NamesrvConfig};
use crate::error::NamesrvError;
use crate::kv_config::KvConfig;
use crate::route_info::RouteInfo;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;
use waspmq_store::clock::Clock;
use waspmq_store::persist::{self, PersistedTable};

/// What the handler answers from.
pub struct Namesrv {
    /// For work that goes on on another thread.
    this: Weak<Self>,
    clock: Arc<dyn Clock>,
    started: Duration,
    keys: RwLock<Keys>,
    routes: RwLock<RouteInfo>,
    kv: Mutex<KvConfig>,
    /// Serialises saves; each save takes the tables as they are then.
    files: Mutex<Files>,
}

/// Where tables are saved.
pub(crate) struct Files {
    kv: PersistedTable,
    config: PathBuf,
}

impl Namesrv {
    /// A nameserver that knows the key-values of earlier runs and no broker.
    ///
    /// # Errors
    /// Saved key-values or settings that cannot be read.
    pub fn new(config: NamesrvConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, NamesrvError> {
        let keys = config.with_stored()?.keys;
        let (kv, file) = KvConfig::load(keys.kv_config_path.clone())?;
        let files = Files { kv: file, config: keys.config_store_path.clone() };
        Ok(Arc::new_cyclic(|this| Self {
            this: this.clone(),
            started: clock.monotonic(),
            clock,
            keys: RwLock::new(keys),
            routes: RwLock::default(),
            kv: Mutex::new(kv),
            files: Mutex::new(files),
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

    /// The nameserver, for work that outlives a call.
    pub(crate) fn handle_to_self(&self) -> Arc<Self> {
        self.this.upgrade().expect("a method of it is running, so somebody holds it")
    }

    /// Time between two looks for silent brokers.
    pub(crate) fn scan_interval(&self) -> Duration {
        Duration::from_millis(self.keys().scan_not_active_broker_interval.max(10))
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

    pub(crate) fn keys_mut(&self) -> RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn routes(&self) -> RwLockReadGuard<'_, RouteInfo> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn routes_mut(&self) -> RwLockWriteGuard<'_, RouteInfo> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kv(&self) -> MutexGuard<'_, KvConfig> {
        self.kv.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves the key-values; what another save wrote meanwhile is in it.
    pub(crate) fn save_kv(&self) -> Result<(), String> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let content = self.kv().encode();
        files.kv.save(content).map_err(|error| error.to_string())
    }

    /// Saves the settings.
    pub(crate) fn save_keys(&self) -> Result<(), String> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let content = waspmq_settings::dump(&*self.keys());
        persist::save(&files.config, content.as_bytes()).map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for Namesrv {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Namesrv").field("keys", &*self.keys()).finish_non_exhaustive()
    }
}
