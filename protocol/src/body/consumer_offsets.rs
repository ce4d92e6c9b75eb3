//! Offsets as tables: the answers' bodies of GET_ALL_CONSUMER_OFFSET, GET_ALL_DELAY_OFFSET and
//! QUERY_CORRECTION_OFFSET, and the persisted consumerOffset.json and delayOffset.json.

use super::data_version::DataVersion;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Committed offsets of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerOffsetTable {
    /// Version; absent before 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// `topic@group`, then queue, to offset.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// How far each delay level is delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DelayOffsetTable {
    /// Version; absent before 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// Delay level (from 1) to offset.
    pub offset_table: BTreeMap<i32, i64>,
}

/// Offsets after comparing groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CorrectionOffsets {
    /// Queue to offset.
    pub correction_offsets: BTreeMap<i32, i64>,
}
