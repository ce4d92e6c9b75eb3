//! Why a nameserver cannot start: one sentence for the operator each, naming the file or address.

use std::io;
use std::path::PathBuf;
use waspmq_remoting::BindError;
use waspmq_settings::{PropertiesError, ValueError};
use waspmq_store::persist::PersistError;

/// Why a nameserver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NamesrvError {
    /// The address is taken or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A configuration file cannot be read.
    #[error("the configuration file {path} cannot be read: {source}")]
    ConfigUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A configuration file is no properties file.
    #[error("the configuration file {path} cannot be understood: {source}")]
    ConfigText {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        source: PropertiesError,
    },
    /// A value in the file of changed settings cannot be used.
    #[error("in the file {path}, which keeps settings changed over the network: {source}")]
    StoredValue {
        /// The file.
        path: PathBuf,
        /// Which value, and what is expected.
        source: ValueError,
    },
    /// A value in the configuration file or an option cannot be used.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// An option `--set` without a value.
    #[error("--set {text}: KEY=VALUE is expected")]
    Set {
        /// What was given.
        text: String,
    },
    /// The key-values saved earlier cannot be read.
    #[error(transparent)]
    KvConfig(#[from] PersistError),
}
