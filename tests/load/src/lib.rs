//! The load tool `mqbench`: sends, pulls, measures and verifies against any broker of RocketMQ's remoting protocol.
//! One thread and one blocking socket a connection; frames are built once and patched in place, answers are only scanned
//! for their code and number, so that the tool costs a fraction of what it measures. `main.rs` calls one `run` a
//! sub-command; nothing here is used by the broker.

pub mod answers;
pub mod args;
pub mod consume;
pub mod error;
pub mod frames;
pub mod latency;
pub mod null_server;
pub mod open_loop;
pub mod produce;
pub mod pull;
pub mod report;
pub mod tally;
pub mod target;
pub mod verify;
pub mod window;
