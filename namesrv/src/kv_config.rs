//! The key-values: namespaces of names and texts, in practice the order configuration of topics. Kept in one JSON file
//! that Java's nameserver reads and writes too. Changed by admins only; bounded in bytes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use waspmq_protocol::java_json::{self, JavaJsonError};
use waspmq_store::persist::{Origin, PersistError, PersistedTable};

/// Namespace of the order configuration: topic → `broker-a:4;broker-b:2`.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Bytes of all names and values together.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why the saved key-values cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KvConfigError {
    /// The file cannot be read, or neither it nor its backup is what it should be.
    #[error(transparent)]
    Unreadable(#[from] PersistError),
}

/// A put that would exceed the bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key-values would take more than {BYTES_MAX} bytes; delete some first")]
pub(crate) struct KvFull;

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    config_table: BTreeMap<String, BTreeMap<String, String>>,
}

/// The key-values and their file.
#[derive(Debug)]
pub(crate) struct KvConfig {
    content: Content,
    bytes: usize,
}

impl KvConfig {
    /// Loads what an earlier run saved; empty on a first start.
    ///
    /// # Errors
    /// See [`KvConfigError`].
    pub(crate) fn load(path: PathBuf) -> Result<(Self, PersistedTable), KvConfigError> {
        let file = PersistedTable::new(path);
        let loaded = file.load(|bytes| -> Result<Content, JavaJsonError> { java_json::from_slice(bytes) })?;
        if let Some((_, Origin::Backup { reason })) = &loaded {
            tracing::warn!(path = %file.path().display(), reason, "key-values come from the backup; the latest change may be lost");
        }
        let content = loaded.map_or_else(Content::default, |(content, _)| content);
        let bytes = content.config_table.values().flatten().map(|(key, value)| key.len() + value.len()).sum();
        Ok((Self { content, bytes }, file))
    }

    /// Sets a value. A name is known from then on even when all its keys are deleted, as in Java.
    pub(crate) fn put(&mut self, namespace: &str, key: &str, value: &str) -> Result<(), KvFull> {
        let before = self.get(namespace, key).map_or(0, |old| key.len() + old.len());
        let namespace_bytes = if self.content.config_table.contains_key(namespace) { 0 } else { namespace.len() };
        let bytes = self.bytes - before + key.len() + value.len() + namespace_bytes;
        if bytes > BYTES_MAX {
            return Err(KvFull);
        }
        self.bytes = bytes;
        let names = self.content.config_table.entry(namespace.to_owned()).or_default();
        names.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.content.config_table.get(namespace)?.get(key).map(String::as_str)
    }

    pub(crate) fn delete(&mut self, namespace: &str, key: &str) {
        let removed = self.content.config_table.get_mut(namespace).and_then(|names| names.remove(key));
        self.bytes -= removed.map_or(0, |value| key.len() + value.len());
    }

    /// All of one namespace; `None` for one that was never used.
    pub(crate) fn list(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.content.config_table.get(namespace)
    }

    /// What the file shall hold.
    pub(crate) fn encode(&self) -> Vec<u8> {
        java_json::to_standard(&self.content)
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
        assert_eq!(
            String::from_utf8(kv.encode()).unwrap(),
            r#"{"configTable":{"NS":{},"ORDER_TOPIC_CONFIG":{"Orders":"broker-a:4"}}}"#
        );
        file.save(kv.encode()).unwrap();
        let (again, _) = KvConfig::load(path.clone()).unwrap();
        assert_eq!(again.get(ORDER_TOPIC_CONFIG, "Orders"), Some("broker-a:4"));
        assert_eq!((again.list("NS").map(BTreeMap::len), again.list("absent")), (Some(0), None));
        std::fs::write(&path, "{broken").unwrap();
        assert!(KvConfig::load(path).unwrap_err().to_string().contains("kvConfig.json"));
    }

    #[test]
    fn the_table_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kv, _) = KvConfig::load(folder.path().join("kv.json")).unwrap();
        let large = "x".repeat(BYTES_MAX / 2);
        kv.put("n", "a", &large).unwrap();
        assert_eq!(kv.put("n", "b", &large), Err(KvFull));
        kv.put("n", "a", "small").unwrap();
        kv.put("n", "b", &large).unwrap();
        kv.delete("n", "b");
        kv.put("n", "c", &large).unwrap();
    }
}
