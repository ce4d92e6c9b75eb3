//! Why a file or a configuration does not become a plugin: which file, at which step, for what reason, which content.
//! Made by the loader, shown in log, list and `broker plugin check`.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where loading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The file could not be read, or is too large.
    Read,
    /// Not a WebAssembly module, or not all of one.
    Parse,
    /// No manifest, or one that makes no sense.
    Manifest,
    /// Built for another version of the ABI, or lacks an export.
    Abi,
    /// Wants something the broker does not offer.
    Imports,
    /// `plugins.toml`.
    Binding,
    /// Could not be compiled.
    Compile,
    /// An instance could not be made.
    Instantiate,
    /// The plugin refused its configuration.
    Configure,
    /// It failed on made-up messages.
    SelfTest,
    /// It refused a subscription that consumers hold.
    Prepare,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Parse => "parse",
            Self::Manifest => "manifest",
            Self::Abi => "abi",
            Self::Imports => "imports",
            Self::Binding => "binding",
            Self::Compile => "compile",
            Self::Instantiate => "instantiate",
            Self::Configure => "configure",
            Self::SelfTest => "self-test",
            Self::Prepare => "prepare",
        })
    }
}

/// A file that is no plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} refused at {step}: {reason}{}", .file.display(), hash_note(.sha256))]
pub struct Refusal {
    /// The file, or the name of a standard plugin.
    pub file: PathBuf,
    /// Where loading stopped.
    pub step: Step,
    /// What is wrong, and what to do.
    pub reason: String,
    /// First 12 hex digits of the content's SHA-256; empty if it could not be read.
    pub sha256: String,
}

fn hash_note(sha256: &str) -> String {
    if sha256.is_empty() { String::new() } else { format!(" (sha256 {sha256})") }
}

/// A failed step, before file and hash are known. `Source::refuse` adds them.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) step: Step,
    pub(crate) reason: String,
}

impl Failed {
    pub(crate) fn at(step: Step, reason: impl fmt::Display) -> Self {
        Self { step, reason: reason.to_string() }
    }

    pub(crate) fn refuse(self, file: &Path, sha256: &Sha) -> Refusal {
        Refusal { file: file.to_path_buf(), step: self.step, reason: self.reason, sha256: sha256.short() }
    }
}

/// SHA-256 of some content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sha(pub(crate) [u8; 32]);

impl Sha {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of two parts, neither of which can pass for a piece of the other.
    pub(crate) fn of_pair(first: &Self, second: &[u8]) -> Self {
        Self(Sha256::new().chain_update(first.0).chain_update(second).finalize().into())
    }

    pub(crate) fn full(&self) -> String {
        hex::encode(self.0)
    }

    /// First 12 digits: for people.
    pub(crate) fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}
