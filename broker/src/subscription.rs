//! The settings of consumer groups (`subscriptionGroup.json`): may they consume, how often is a message retried.
//! A group is created by its first heartbeat or pull unless that is switched off.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use waspmq_protocol::body::data_version::DataVersion;
use waspmq_protocol::body::subscription_group::{SubscriptionGroupConfig, SubscriptionGroupTable};
use waspmq_protocol::name;
use waspmq_store::persist::PersistError;

use crate::table::TableFile;

/// All consumer groups.
pub struct SubscriptionTable {
    file: TableFile,
    auto_create: bool,
    groups: RwLock<HashMap<String, Arc<SubscriptionGroupConfig>>>,
    version: Mutex<DataVersion>,
}

impl SubscriptionTable {
    /// Reads the groups of an earlier run. `auto_create`: whether unknown groups are created when they appear.
    ///
    /// # Errors
    /// When neither the file nor its previous version can be read.
    pub fn load(path: PathBuf, auto_create: bool) -> Result<Self, PersistError> {
        let file = TableFile::new(path);
        let stored: SubscriptionGroupTable = file.load()?;
        let mut groups: HashMap<_, _> =
            stored.subscription_group_table.into_iter().map(|(name, group)| (name, Arc::new(group))).collect();
        for group in name::SYSTEM_GROUPS {
            groups.entry((*group).to_owned()).or_insert_with(|| Arc::new(SubscriptionGroupConfig::new(*group)));
        }
        Ok(Self { file, auto_create, groups: RwLock::new(groups), version: Mutex::new(stored.data_version) })
    }

    /// The group, if it exists.
    pub fn get(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).get(group).cloned()
    }

    /// The group, created if that is allowed and its name is valid.
    ///
    /// # Errors
    /// When the table cannot be persisted.
    pub fn get_or_create(&self, group: &str, now_ms: i64) -> Result<Option<Arc<SubscriptionGroupConfig>>, PersistError> {
        if let Some(known) = self.get(group) {
            return Ok(Some(known));
        }
        if !self.auto_create || name::check_group(group).is_err() {
            return Ok(None);
        }
        self.put(SubscriptionGroupConfig::new(group), now_ms)?;
        Ok(self.get(group))
    }

    /// Creates a group or changes its settings.
    ///
    /// # Errors
    /// When the table cannot be persisted; the change holds in memory.
    pub fn put(&self, group: SubscriptionGroupConfig, now_ms: i64) -> Result<(), PersistError> {
        {
            let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
            groups.insert(group.group_name.clone(), Arc::new(group));
        }
        self.persist_change(now_ms)
    }

    /// Removes a group. Returns whether it existed.
    ///
    /// # Errors
    /// When the table cannot be persisted.
    pub fn remove(&self, group: &str, now_ms: i64) -> Result<bool, PersistError> {
        let removed = self.groups.write().unwrap_or_else(PoisonError::into_inner).remove(group).is_some();
        if removed {
            self.persist_change(now_ms)?;
        }
        Ok(removed)
    }

    /// The whole table, as the file and GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201) have it.
    pub fn snapshot(&self) -> SubscriptionGroupTable {
        let data_version = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let subscription_group_table: BTreeMap<_, _> =
            groups.iter().map(|(name, group)| (name.clone(), group.as_ref().clone())).collect();
        SubscriptionGroupTable { subscription_group_table, data_version, ..SubscriptionGroupTable::default() }
    }

    fn persist_change(&self, now_ms: i64) -> Result<(), PersistError> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).advance(now_ms);
        self.file.save(|| self.snapshot())
    }
}
