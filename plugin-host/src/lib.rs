//! Runs filter plugins: WebAssembly modules that decide which stored messages a consumer gets, and that can be replaced
//! while they serve.
//!
//! The broker starts a [`PluginHost`], turns each subscription into a [`FilterHandle`], and opens a [`FilterSession`] for
//! each pull. What a plugin may be is written in the plugin SDK's `abi`.

mod binding;
mod breaker;
mod check;
mod compiled;
mod engine;
mod generation;
mod host;
mod imports;
mod instance;
mod life;
mod limits;
mod lock;
mod metrics;
mod refusal;
mod scaffold;
mod session;
mod shared;
mod status;
mod subscription;
mod ticker;
mod tokens;
mod verify;

pub use check::{CheckedPlugin, check_file, precompile};
pub use host::{HostConfig, PluginHost, StandardPlugin, StartError};
pub use limits::HostLimits;
pub use metrics::{PluginCounts, Poison};
pub use refusal::{Refusal, Step};
pub use scaffold::{CrateError, SdkSource, build_crate, build_standard, new_crate, point_at_sdk};
pub use session::{Decision, EntryRef, FilterSession, RecordRef};
pub use status::{Origin, PluginEvent, PluginEvents, PluginState, PluginStatus};
pub use subscription::{FilterHandle, PrepareError, SubscriptionText};
