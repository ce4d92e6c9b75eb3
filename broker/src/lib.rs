//! The broker: takes messages from producers, keeps them in the store, gives them to consumers, and lets plugins
//! decide what each consumer wants. [`Broker`] is the whole; [`cli`] is what a user types.

pub mod cli;
pub mod config;
pub mod store_tool;

mod address;
mod background;
mod broker;
mod consumers;
mod data_identity;
mod filter;
mod long_polling;
mod member;
mod memory;
mod metrics;
mod notify;
mod offset;
mod own_topics;
mod processor;
mod producers;
mod queue_locks;
mod register;
mod standard_plugins;
mod start_page;
mod subscription;
mod table;
mod tasks;
mod topic;
mod unique_id;

pub use background::BLOCKING_THREADS_MAX;
pub use broker::{Broker, StartError, StartReport};
pub use start_page::StartPage;
