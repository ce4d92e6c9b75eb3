//! Log lines from a plugin: to the broker's log inside it, to the harness natively. For rare events; the broker cuts
//! lines at 1 KiB and passes on a hundred a second.

use crate::abi::LogLevel;

/// Writes a line to the broker's log.
#[cfg(target_arch = "wasm32")]
pub fn log(level: LogLevel, text: &str) {
    crate::guest::log_line(level, text);
}

/// Keeps a line for [`crate::harness::Harness::log_lines`] of this thread.
#[cfg(not(target_arch = "wasm32"))]
pub fn log(level: LogLevel, text: &str) {
    LINES.with_borrow_mut(|lines| lines.push((level, text.to_string())));
}

#[cfg(not(target_arch = "wasm32"))]
thread_local! {
    static LINES: std::cell::RefCell<Vec<(LogLevel, String)>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn take_lines() -> Vec<(LogLevel, String)> {
    LINES.take()
}
