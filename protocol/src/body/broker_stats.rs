//! The answer's body of VIEW_BROKER_STATS_DATA: one counter over a minute, an hour and a day.

use serde::{Deserialize, Serialize};

/// One counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerStatsData {
    /// Last day.
    pub stats_day: StatsItem,
    /// Last hour.
    pub stats_hour: StatsItem,
    /// Last minute.
    pub stats_minute: StatsItem,
}

/// A counter over one span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsItem {
    /// Average per event.
    pub avgpt: f64,
    /// Sum.
    pub sum: i64,
    /// Sum per second.
    pub tps: f64,
}
