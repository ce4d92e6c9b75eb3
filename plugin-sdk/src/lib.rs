//! Write WaspMQ plugins in Rust: a plain type, a trait, one macro. [`abi`] is the contract between a plugin and the
//! broker, used by both. The rest is for plugins: [`Filter`] is what you write, [`plugin!`] makes a plugin of it,
//! [`harness`] tests it natively. `unsafe` lives in `guest` alone; plugins need none.
//!
//! ```
//! use waspmq_plugin_sdk::{Filter, Message, NoConfig, Refuse, Subscription, Verdict, plugin};
//! use waspmq_plugin_sdk::harness::{Harness, message};
//!
//! struct Region;
//!
//! impl Filter for Region {
//!     type Config = NoConfig;
//!     type Prepared = String;
//!
//!     fn new(_: NoConfig) -> Result<Self, Refuse> {
//!         Ok(Self)
//!     }
//!
//!     fn prepare(&self, subscription: &Subscription<'_>) -> Result<String, Refuse> {
//!         Ok(subscription.expression.to_string())
//!     }
//!
//!     fn keep(&self, region: &String, message: &Message<'_>) -> Verdict {
//!         (message.prop("region") == Some(region)).into()
//!     }
//! }
//!
//! plugin!(Region, name = "region");
//!
//! let filter = Harness::<Region>::new(NoConfig {}).unwrap().subscribe("wasm:region(hz)").unwrap();
//! assert_eq!(filter.keep(&message().prop("region", "hz")), Verdict::Keep);
//! ```

pub mod abi;
mod filter;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
#[cfg(not(target_arch = "wasm32"))]
pub mod harness;
mod log;
mod message;
mod msgpack;
mod plugin;
mod runtime;

pub use abi::{Decides, LogLevel, Refuse};
pub use filter::{Config, EntryVerdict, Filter, NoConfig, Subscription, Verdict};
pub use log::log;
pub use message::{Entry, Message, tags_code};
pub use plugin::Plugin;
#[doc(hidden)]
pub use runtime::Runtime;
