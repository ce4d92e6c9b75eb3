//! Plugins outside a running broker: checking a file as the broker would, and compiling ahead. Called by
//! `broker plugin check` and `build`, and by build scripts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::binding::Entry;
use crate::engine::{compiling_engine, running_engine};
use crate::generation::Surroundings;
use crate::life::{Loader, Source};
use crate::limits::{HostLimits, MODULE_BYTES_CEILING};
use crate::refusal::{Failed, Refusal, Sha, Step};
use crate::status::Origin;
use crate::ticker::Ticker;
use crate::verify::verify;

/// A file that a broker would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPlugin {
    /// The file.
    pub file: PathBuf,
    /// Name of the plugin.
    pub name: String,
    /// The author's version.
    pub version: String,
    /// Hooks it serves.
    pub hooks: Vec<String>,
    /// Size of the file.
    pub bytes: usize,
    /// SHA-256 of the file, in full.
    pub sha256: String,
}

/// Takes a file through everything a broker does before it serves: parse, manifest, ABI, imports, compile, configure
/// (without configuration), self-test.
pub fn check_file(path: &Path) -> Result<CheckedPlugin, Refusal> {
    let unread = |error: std::io::Error| Refusal {
        file: path.to_path_buf(),
        step: Step::Read,
        reason: error.to_string(),
        sha256: String::new(),
    };
    let bytes = std::fs::read(path).map_err(unread)?;
    let sha = Sha::of(&bytes);
    let (engine, _) = running_engine(4).map_err(|error| Failed::at(Step::Instantiate, error).refuse(path, &sha))?;
    let ticker = Arc::new(Ticker::start(engine.clone()).map_err(unread)?);
    let around = Surroundings { ticker, limits: Arc::new(HostLimits::default()), instances_max: 2 };
    let loader = Loader::without_cache(engine, around)
        .map_err(|error| Failed::at(Step::Instantiate, error).refuse(path, &sha))?;
    let verified = loader.verify(&bytes).map_err(|failed| failed.refuse(path, &sha))?;
    let source = Source { origin: Origin::File(path.to_path_buf()), bytes: &bytes, embedded: None };
    // The largest module a configuration can allow passes: which one will apply is not known here.
    let mut entry = Entry::default();
    entry.limits.module_mib = Some((MODULE_BYTES_CEILING >> 20) as u32);
    let generation = loader.load(&source, verified, entry)?;
    let identity = &generation.identity;
    Ok(CheckedPlugin {
        file: path.to_path_buf(),
        name: identity.name.clone(),
        version: identity.version.clone(),
        hooks: identity.hooks.clone(),
        bytes: bytes.len(),
        sha256: sha.full(),
    })
}

/// Compiles a plugin for this machine, for `StandardPlugin::compiled`.
pub fn precompile(wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
    let refuse = |failed: Failed| failed.refuse(Path::new("standard plugin"), &Sha::of(wasm));
    let plain = |error: wasmtime::Error| refuse(Failed::at(Step::Compile, format_args!("{error:#}")));
    let engine = compiling_engine().map_err(plain)?;
    let verified = verify(&engine, wasm, MODULE_BYTES_CEILING).map_err(refuse)?;
    engine.precompile_module(&verified.wasm).map_err(plain)
}
