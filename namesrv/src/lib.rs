//! The nameserver: which brokers exist, which topics they have, and a small table of key-values. Used by the program
//! `namesrv` and, inside a broker that runs alone, by `broker`. Keeps nothing but the key-values over a restart:
//! brokers register again within 30 seconds. Knows routes, no messages.

pub mod cli;
mod config;
mod config_update;
mod error;
mod handler;
mod kv_config;
mod namesrv;
mod route_info;
mod server;

pub use config::{Keys, NamesrvConfig};
pub use error::NamesrvError;
pub use namesrv::Namesrv;
pub use server::NamesrvServer;
