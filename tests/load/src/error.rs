//! What can keep the tool from doing its work, in words that say what to do.

use std::io;
use std::path::PathBuf;

use waspmq_protocol::ResponseCode;
use waspmq_remoting::RequestError;

/// Why a run did not happen or did not end.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A call to broker or nameserver failed.
    #[error("{what}: {source}")]
    Call {
        /// What was asked.
        what: String,
        /// Why it failed.
        source: RequestError,
    },
    /// Broker or nameserver said no.
    #[error("{what}: refused with {code}: {remark}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its answer.
        code: ResponseCode,
        /// Its reason.
        remark: String,
    },
    /// An answer that makes no sense.
    #[error("{what}: the answer cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The nameserver knows no broker with the topic.
    #[error("the nameserver knows no master broker that has topic {topic}; is a broker registered there?")]
    NoBroker {
        /// The topic.
        topic: String,
    },
    /// A socket failed where the run cannot go on.
    #[error("{address}: {source}")]
    Socket {
        /// Whom we talked to.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The journal is not one of this tool.
    #[error("{path}, line {line}: {reason}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The runtime for set-up calls cannot be started.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// Arguments that contradict one another.
    #[error("{0}")]
    Arguments(String),
}
