//! What is counted per plugin. Counts belong to the name and outlive its versions; sessions add theirs once, when they
//! end. Read by `PluginHost::plugins`.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::lock::locked;

/// Poison messages remembered per plugin.
const POISON_KEPT: usize = 16;

/// Counts of one plugin since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginCounts {
    /// Calls into the guest's `filter`.
    pub calls: u64,
    /// Verdicts asked for; those that needed no call included. A message asked by entry and by record counts twice.
    pub messages: u64,
    /// Messages kept.
    pub kept: u64,
    /// Messages dropped by the plugin's own verdict.
    pub dropped: u64,
    /// Messages without a verdict that were held back.
    pub held: u64,
    /// Messages without a verdict that were delivered, as `on_fault = "deliver"` says.
    pub delivered_by_policy: u64,
    /// Messages the plugin itself could not decide.
    pub errors: u64,
    /// Calls that trapped or gave an answer that makes no sense.
    pub traps: u64,
    /// Calls stopped for taking too long.
    pub timeouts: u64,
    /// Versions that went live.
    pub swaps: u64,
    /// Returns to an earlier version.
    pub rollbacks: u64,
    /// Log lines of the plugin that were not written, as there were too many.
    pub log_lines_dropped: u64,
    /// How long compiling took in all, ms. Code from the cache costs nothing.
    pub compile_ms: u64,
}

/// A message no plugin instance survived, or that it cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Topic of the message.
    pub topic: String,
    /// Its place in its queue.
    pub queue_offset: i64,
    /// Its place in the commit log.
    pub physical_offset: i64,
    /// What happened, with the guest's own words if it left any.
    pub reason: String,
}

/// The counters behind [`PluginCounts`], and the last poison messages.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) calls: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) traps: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) swaps: AtomicU64,
    pub(crate) rollbacks: AtomicU64,
    pub(crate) log_lines_dropped: AtomicU64,
    pub(crate) compile_ms: AtomicU64,
    poison: Mutex<VecDeque<Poison>>,
}

impl Metrics {
    pub(crate) fn counts(&self) -> PluginCounts {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        PluginCounts {
            calls: read(&self.calls),
            messages: read(&self.messages),
            kept: read(&self.kept),
            dropped: read(&self.dropped),
            held: read(&self.held),
            delivered_by_policy: read(&self.delivered),
            errors: read(&self.errors),
            traps: read(&self.traps),
            timeouts: read(&self.timeouts),
            swaps: read(&self.swaps),
            rollbacks: read(&self.rollbacks),
            log_lines_dropped: read(&self.log_lines_dropped),
            compile_ms: read(&self.compile_ms),
        }
    }

    pub(crate) fn add_poison(&self, poison: Poison) {
        let mut kept = locked(&self.poison);
        if kept.len() == POISON_KEPT {
            kept.pop_front();
        }
        kept.push_back(poison);
    }

    pub(crate) fn poison(&self) -> Vec<Poison> {
        locked(&self.poison).iter().cloned().collect()
    }
}

/// What one session counted, added to the plugin's counters at its end: counters are shared between threads, and
/// touching them per batch would cost as much as the batch.
#[derive(Default)]
pub(crate) struct SessionCounts {
    pub(crate) calls: u64,
    pub(crate) messages: u64,
    pub(crate) kept: u64,
    pub(crate) dropped: u64,
    pub(crate) held: u64,
    pub(crate) delivered: u64,
    pub(crate) errors: u64,
}

impl SessionCounts {
    pub(crate) fn flush(&mut self, metrics: &Metrics) {
        let counts = std::mem::take(self);
        let pairs = [
            (&metrics.calls, counts.calls),
            (&metrics.messages, counts.messages),
            (&metrics.kept, counts.kept),
            (&metrics.dropped, counts.dropped),
            (&metrics.held, counts.held),
            (&metrics.delivered, counts.delivered),
            (&metrics.errors, counts.errors),
        ];
        for (counter, count) in pairs {
            if count > 0 {
                counter.fetch_add(count, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_poison_messages_are_kept() {
        let metrics = Metrics::default();
        for n in 0..20 {
            metrics.add_poison(Poison {
                topic: "T".into(),
                queue_offset: n,
                physical_offset: n,
                reason: String::new(),
            });
        }
        let offsets: Vec<i64> = metrics.poison().iter().map(|poison| poison.queue_offset).collect();
        assert_eq!(offsets, (4..20).collect::<Vec<i64>>());
    }

    #[test]
    fn a_session_adds_what_it_counted_once() {
        let metrics = Metrics::default();
        let mut counts = SessionCounts { calls: 1, messages: 32, kept: 30, dropped: 2, ..Default::default() };
        counts.flush(&metrics);
        counts.flush(&metrics);
        let expected = PluginCounts { calls: 1, messages: 32, kept: 30, dropped: 2, ..Default::default() };
        assert_eq!(metrics.counts(), expected);
    }
}
