//! The key-values: namespaces of names and texts, in practice the order configuration of topics. Kept in one JSON file
//! that Java's nameserver reads and writes too. Changed by admins only; bounded in bytes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use waspmq_protocol::java_json::{self, JavaJsonError};
use waspmq_store::persist::{Origin, PersistError, PersistedTable};

/// Namespace of the order configuration: topic → `broker-a:4;broker-b:2`.
pub(crate) const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Bytes of all names and values together: a whole namespace is one answer, and goes to each broker that registers.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A put that would exceed the bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key-values would take more than {BYTES_MAX} bytes; delete some first")]
pub(crate) struct KvFull;

/// The key-values, in the form of their file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KvConfig {
    config_table: BTreeMap<String, BTreeMap<String, String>>,
}

impl KvConfig {
    /// Loads what an earlier run saved; empty on a first start.
    ///
    /// # Errors
    /// The file cannot be read, or neither it nor its backup is what it should be.
    pub(crate) fn load(path: PathBuf) -> Result<(Self, PersistedTable), PersistError> {
        let file = PersistedTable::new(path);
        let loaded = file.load(|bytes| -> Result<Self, JavaJsonError> { java_json::from_slice(bytes) })?;
        if let Some((_, Origin::Backup { reason })) = &loaded {
            let path = file.path().display();
            tracing::warn!(%path, reason, "key-values come from the backup; the latest change may be lost");
        }
        Ok((loaded.map_or_else(Self::default, |(loaded, _)| loaded), file))
    }

    /// Sets a value. A namespace is known from then on even when all its keys are deleted, as in Java.
    pub(crate) fn put(&mut self, namespace: &str, key: &str, value: &str) -> Result<(), KvFull> {
        let names = self.config_table.entry(namespace.to_owned()).or_default();
        names.insert(key.to_owned(), value.to_owned());
        if self.bytes() > BYTES_MAX { Err(KvFull) } else { Ok(()) }
    }

    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.config_table.get(namespace)?.get(key).map(String::as_str)
    }

    pub(crate) fn delete(&mut self, namespace: &str, key: &str) {
        if let Some(names) = self.config_table.get_mut(namespace) {
            names.remove(key);
        }
    }

    /// All of one namespace; `None` for one that was never used.
    pub(crate) fn list(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.config_table.get(namespace)
    }

    /// What the file shall hold.
    pub(crate) fn encode(&self) -> Vec<u8> {
        java_json::to_standard(self)
    }

    fn bytes(&self) -> usize {
        let table = self.config_table.iter();
        let entries = |names: &BTreeMap<String, String>| names.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        table.map(|(namespace, names)| namespace.len() + entries(names)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outlive_a_restart_in_javas_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvConfig.json");
        let (mut kv, file) = KvConfig::load(path.clone()).unwrap();
        kv.put(ORDER_TOPIC_CONFIG, "Orders", "broker-a:4").unwrap();
        kv.put("NS", "k", "v").unwrap();
        kv.delete("NS", "k");
        kv.delete("NS", "absent");
        kv.delete("absent", "k");
        let text = r#"{"configTable":{"NS":{},"ORDER_TOPIC_CONFIG":{"Orders":"broker-a:4"}}}"#;
        assert_eq!(String::from_utf8(kv.encode()).unwrap(), text);
        file.save(kv.encode()).unwrap();
        let (again, _) = KvConfig::load(path.clone()).unwrap();
        assert_eq!(again.get(ORDER_TOPIC_CONFIG, "Orders"), Some("broker-a:4"));
        assert_eq!((again.list("NS").map(BTreeMap::len), again.list("absent")), (Some(0), None));
        std::fs::write(&path, "{broken").unwrap();
        assert!(KvConfig::load(path).unwrap_err().to_string().contains("kvConfig.json"));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut kv = KvConfig::default();
        let large = "x".repeat(BYTES_MAX / 2);
        kv.put("n", "a", &large).unwrap();
        assert_eq!(kv.clone().put("n", "b", &large), Err(KvFull));
        kv.put("n", "a", "small").unwrap();
        kv.put("n", "b", &large).unwrap();
        kv.delete("n", "b");
        kv.put("n", "c", &large).unwrap();
    }
}
