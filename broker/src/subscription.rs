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
    pub fn get_or_create(&self, group: &str, now_ms: i64) -> Option<Arc<SubscriptionGroupConfig>> {
        if let Some(known) = self.get(group) {
            return Some(known);
        }
        if !self.auto_create || name::check_group(group).is_err() {
            return None;
        }
        self.put(SubscriptionGroupConfig::new(group), now_ms);
        self.get(group)
    }

    /// Creates a group or changes its settings.
    pub fn put(&self, group: SubscriptionGroupConfig, now_ms: i64) {
        {
            let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
            groups.insert(group.group_name.clone(), Arc::new(group));
        }
        self.note_change(now_ms);
    }

    /// Removes a group. Returns whether it existed.
    pub fn remove(&self, group: &str, now_ms: i64) -> bool {
        let removed = self.groups.write().unwrap_or_else(PoisonError::into_inner).remove(group).is_some();
        if removed {
            self.note_change(now_ms);
        }
        removed
    }

    /// The whole table, as the file and GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201) have it.
    pub fn snapshot(&self) -> SubscriptionGroupTable {
        let data_version = *self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let subscription_group_table: BTreeMap<_, _> =
            groups.iter().map(|(name, group)| (name.clone(), group.as_ref().clone())).collect();
        SubscriptionGroupTable { subscription_group_table, data_version, ..SubscriptionGroupTable::default() }
    }

    /// Writes the table if it changed since the last time.
    ///
    /// # Errors
    /// When the file cannot be written; the change is tried again next time.
    pub fn persist(&self) -> Result<(), PersistError> {
        self.file.save(|| self.snapshot())
    }

    fn note_change(&self, now_ms: i64) {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).advance(now_ms);
        self.file.note_change();
    }
}
