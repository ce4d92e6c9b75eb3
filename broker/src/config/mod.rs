//! What a broker is told to do: settings by name in `keys`, turned into checked values in `checked`. The parts of the
//! broker take checked values only.

mod checked;
mod keys;
mod retention;

pub use checked::{Config, ConfigError, NameServers, QUEUES_MAX, VIP_PORT_BELOW, notes};
pub use keys::Keys;
