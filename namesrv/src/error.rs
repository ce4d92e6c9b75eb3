//! Why a nameserver cannot start: one sentence for the operator each, naming the file or address.

use crate::kv_config;
use std::io;
use std::path::PathBuf;
use waspmq_remoting::BindError;
use waspmq_settings::{PropertiesError, ValueError};

/// Why a nameserver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NamesrvError {
    /// The address is taken or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The configuration file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    ConfigUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The configuration file is no properties file.
    #[error("the configuration {path} is no properties file: {source}")]
    ConfigText {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: PropertiesError,
    },
    /// A value in the configuration file is not usable.
    #[error("the configuration {path}: {source}")]
    ConfigValue {
        /// The file.
        path: PathBuf,
        /// Which value, and what is expected.
        source: ValueError,
    },
    /// The key-values saved earlier cannot be read.
    #[error(transparent)]
    KvConfig(#[from] kv_config::KvConfigError),
}
