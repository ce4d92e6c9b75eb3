//! Write WaspMQ plugins in Rust. [`abi`] is the contract between a plugin and the broker.

pub mod abi;
