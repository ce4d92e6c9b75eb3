//! Whose data a data folder holds: `waspmq/identity.json` below it, written at the first start and compared at every
//! other. Topics, offsets and messages of one broker must not be served under the name of another.
//! Called by `broker` around the opening of the store. A folder without the file (a new one, or one that RocketMQ's own
//! broker wrote) is taken as it is.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use waspmq_store::persist::{self, PersistError};

use crate::config::Config;

/// Where it lies in the data folder.
const FILE: &str = "waspmq/identity.json";

/// A data folder that this broker must not serve.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It holds the data of a broker with another name.
    #[error(
        "the data folder {} holds the data of {found}, and this is {wanted}: set brokerName={} and \
         brokerClusterName={}, or choose another folder with --data, or, to take this one over for good, delete {} first",
        root.display(), found.broker_name, found.broker_cluster_name, root.join(FILE).display()
    )]
    AnotherBroker {
        /// The data folder.
        root: PathBuf,
        /// Who wrote the data.
        found: Box<Identity>,
        /// Who would serve it.
        wanted: Box<Identity>,
    },
    /// Nobody can tell whose data it holds.
    #[error(
        "{} does not say whose data is in this folder: {reason}; if the data is this broker's, delete the file, \
         otherwise choose another folder with --data",
        path.display()
    )]
    Unclear {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] PersistError),
}

/// What the file says, by the names that the settings have.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    broker_cluster_name: String,
    broker_name: String,
    broker_id: i64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {} of cluster {}", self.broker_name, self.broker_cluster_name)
    }
}

/// A data folder that was found to be this broker's, or nobody's.
#[derive(Debug)]
pub struct OwnFolder {
    path: PathBuf,
    /// What is still to be written.
    new: Option<Identity>,
}

impl OwnFolder {
    /// Looks whose data the folder holds; changes nothing.
    ///
    /// # Errors
    /// If it is another broker's, or nobody can tell.
    pub fn check(config: &Config) -> Result<Self, IdentityError> {
        let path = config.root.join(FILE);
        let wanted = Identity {
            broker_cluster_name: config.cluster.clone(),
            broker_name: config.broker_name.clone(),
            broker_id: config.broker_id,
        };
        let Some(found) = read(&path)? else { return Ok(Self { path, new: Some(wanted) }) };
        // The id may change: it says which copy of the same data a broker holds.
        if (&found.broker_cluster_name, &found.broker_name) != (&wanted.broker_cluster_name, &wanted.broker_name) {
            let (found, wanted) = (Box::new(found), Box::new(wanted));
            return Err(IdentityError::AnotherBroker { root: config.root.clone(), found, wanted });
        }
        Ok(Self { path, new: None })
    }

    /// Writes whose data it is from now on, if the folder does not say so yet. The folder's lock must be held.
    ///
    /// # Errors
    /// The step of writing that failed.
    pub fn claim(self) -> Result<(), IdentityError> {
        let Some(identity) = self.new else { return Ok(()) };
        let text = serde_json::to_string_pretty(&identity)
            .map_err(|error| IdentityError::Unclear { path: self.path.clone(), reason: error.to_string() })?;
        Ok(persist::save(&self.path, text.as_bytes())?)
    }
}

fn read(path: &Path) -> Result<Option<Identity>, IdentityError> {
    match persist::load(path, |bytes| serde_json::from_slice(bytes)) {
        Ok(found) => Ok(found.map(|(identity, _)| identity)),
        Err(PersistError::Damaged { path, reason, .. }) => Err(IdentityError::Unclear { path, reason }),
        Err(error) => Err(error.into()),
    }
}
