//! All that a guest may call: `wq.log`. Every pointer is checked against the guest's memory, every line is cut, and lines
//! above a hundred a second are counted instead of written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use wasmtime::{Caller, Engine, Linker};
use waspmq_plugin_sdk::abi::{LOG_LINE_BYTES_MAX, LogLevel, import};

use crate::instance::Guest;
use crate::metrics::Metrics;

/// Lines a plugin may log in a second, all its instances together.
const LINES_PER_SECOND: u64 = 100;

/// Lets a plugin's lines through, up to a rate.
pub(crate) struct LogGate {
    plugin: String,
    began: Instant,
    /// Second since `began` in the upper half, lines in it in the lower.
    window: AtomicU64,
    metrics: Arc<Metrics>,
}

impl LogGate {
    pub(crate) fn new(plugin: &str, metrics: Arc<Metrics>) -> Self {
        Self { plugin: plugin.to_string(), began: Instant::now(), window: AtomicU64::new(0), metrics }
    }

    fn admits(&self) -> bool {
        let second = self.began.elapsed().as_secs() & 0xffff_ffff;
        let admitted = self.window.fetch_update(Relaxed, Relaxed, |window| match window >> 32 == second {
            true if window & 0xffff_ffff >= LINES_PER_SECOND => None,
            true => Some(window + 1),
            false => Some(second << 32 | 1),
        });
        if admitted.is_err() {
            self.metrics.log_lines_dropped.fetch_add(1, Relaxed);
        }
        admitted.is_ok()
    }

    fn write(&self, level: LogLevel, line: &[u8]) {
        // One line in the log, whatever the guest sends.
        let line = String::from_utf8_lossy(line).replace(|c: char| c.is_control(), " ");
        let plugin = self.plugin.as_str();
        match level {
            LogLevel::Error => tracing::error!(plugin, line, "plugin says"),
            LogLevel::Warn => tracing::warn!(plugin, line, "plugin says"),
            LogLevel::Info => tracing::info!(plugin, line, "plugin says"),
            LogLevel::Debug => tracing::debug!(plugin, line, "plugin says"),
        }
    }
}

/// The imports on offer.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(import::MODULE, import::LOG, log)?;
    Ok(linker)
}

fn log(caller: Caller<'_, Guest>, level: i32, at: i32, len: i32) {
    let guest = caller.data();
    let gate = Arc::clone(&guest.log);
    let Some(memory) = guest.memory else { return };
    if !gate.admits() {
        return;
    }
    let len = (len as u32 as usize).min(LOG_LINE_BYTES_MAX);
    let line = memory.data(&caller).get(at as u32 as usize..).and_then(|rest| rest.get(..len));
    gate.write(LogLevel::from_number(level), line.unwrap_or(b"(a log line outside the plugin's memory)"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_written() {
        let metrics = Arc::new(Metrics::default());
        let gate = LogGate::new("x", Arc::clone(&metrics));
        let admitted = (0..10_000).filter(|_| gate.admits()).count() as u64;
        // The loop may cross into another second.
        assert!((100..=300).contains(&admitted), "{admitted}");
        assert_eq!(metrics.counts().log_lines_dropped, 10_000 - admitted);
    }
}
