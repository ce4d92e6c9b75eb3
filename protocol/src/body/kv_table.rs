//! A table of texts: the answers' bodies of GET_BROKER_RUNTIME_INFO, GET_KVLIST_BY_NAMESPACE and
//! REGISTER_BROKER.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Keys and values, all texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KvTable {
    /// The table.
    pub table: BTreeMap<String, String>,
}
