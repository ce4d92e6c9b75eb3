//! The whole broker as one process, seen from outside: how it starts and why it refuses to, how it ends, what is left
//! after `kill -9`, what hostile clients get, and the recorded exchanges of real clients with Java's broker.
//! Needs nothing but the `broker` and `mqbench` binaries, which the harness has cargo build.
#![expect(clippy::unwrap_used, reason = "a test: what fails here shall fail loudly")]

mod asking;
mod far_readers;
mod good_client;
mod heartbeats;
mod hostile_bytes;
mod hostile_filters;
mod hostile_requests;
mod killing;
mod metrics;
mod recorded;
mod starting;
mod stopping;
mod store_tool;
