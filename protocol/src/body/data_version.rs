//! The version of a table: topics, groups, offsets. Part of many bodies and of the persisted tables; the
//! answer's and the request's body of QUERY_DATA_VERSION.

use serde::{Deserialize, Serialize};

/// Compared for equality only, all three parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVersion {
    /// Number of changes.
    pub counter: i64,
    /// Version of the controller's state machine; 0 without one, absent from 4.x.
    pub state_version: i64,
    /// Time of the last change, ms.
    pub timestamp: i64,
}

impl DataVersion {
    /// The version of a new table.
    pub const fn new(now_ms: i64) -> Self {
        Self { counter: 0, state_version: 0, timestamp: now_ms }
    }

    /// Counts one change.
    pub fn advance(&mut self, now_ms: i64) {
        self.counter = self.counter.wrapping_add(1);
        self.timestamp = now_ms;
    }
}
