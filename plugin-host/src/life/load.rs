//! From bytes to a generation: verify, compile or map, instantiate and configure, self-test. Nothing here changes what
//! serves. Called by the life cycle and, for `broker plugin check`, by `check_file`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::{Engine, Linker};

use super::self_test::self_test;
use crate::binding::Entry;
use crate::compiled::{Code, CodeCache};
use crate::generation::{Generation, Identity, LeaseError, Parts, Surroundings};
use crate::imports::linker;
use crate::instance::{Guest, Limit};
use crate::limits::{BATCH_WALL, MODULE_BYTES_CEILING};
use crate::lock::locked;
use crate::metrics::Metrics;
use crate::refusal::{Failed, Refusal, Sha, Step};
use crate::status::Origin;
use crate::verify::{Verified, verify};

/// Bytes that may become a plugin.
pub(crate) struct Source<'a> {
    pub(crate) origin: Origin,
    /// The file as it is, binary or text.
    pub(crate) bytes: &'a [u8],
    pub(crate) embedded: Option<&'static [u8]>,
}

impl Source<'_> {
    /// What messages call it.
    pub(crate) fn label(&self, name: &str) -> PathBuf {
        match &self.origin {
            Origin::Standard => Path::new(name).to_path_buf(),
            Origin::File(path) => path.clone(),
        }
    }
}

/// Makes generations.
pub(crate) struct Loader {
    engine: Engine,
    linker: Linker<Guest>,
    cache: CodeCache,
    around: Surroundings,
    /// Compiling takes a thread of low priority: messages are being served meanwhile.
    background: bool,
    /// Counters by name: they outlive versions.
    metrics: Mutex<HashMap<String, Arc<Metrics>>>,
}

impl Loader {
    pub(crate) fn new(engine: Engine, cache_folder: &Path, around: Surroundings) -> wasmtime::Result<Self> {
        let cache = CodeCache::open(cache_folder, &engine);
        Ok(Self { linker: linker(&engine)?, engine, cache, around, background: false, metrics: Mutex::default() })
    }

    pub(crate) fn without_cache(engine: Engine, around: Surroundings) -> wasmtime::Result<Self> {
        let cache = CodeCache::none(&engine);
        Ok(Self { linker: linker(&engine)?, engine, cache, around, background: false, metrics: Mutex::default() })
    }

    /// From now on others need the processor more.
    pub(super) fn compile_in_background(&mut self) {
        self.background = true;
    }

    pub(crate) fn metrics(&self, name: &str) -> Arc<Metrics> {
        Arc::clone(locked(&self.metrics).entry(name.to_string()).or_default())
    }

    /// Reads the file as far as it can be trusted without running it. The largest size any entry may allow; the entry's
    /// own limit is checked once the name, and so the entry, is known.
    pub(crate) fn verify<'a>(&self, bytes: &'a [u8]) -> Result<Verified<'a>, Failed> {
        verify(&self.engine, bytes, MODULE_BYTES_CEILING)
    }

    /// The generation, with one configured instance in its pool.
    pub(crate) fn load(
        &self,
        source: &Source<'_>,
        verified: Verified<'_>,
        entry: Entry,
    ) -> Result<Arc<Generation>, Refusal> {
        let (sha, name) = (verified.sha, verified.manifest.name.clone());
        self.try_load(source, verified, entry).map_err(|failed| failed.refuse(&source.label(&name), &sha))
    }

    fn try_load(&self, source: &Source<'_>, verified: Verified<'_>, entry: Entry) -> Result<Arc<Generation>, Failed> {
        let manifest = verified.manifest;
        let bytes_max = entry.limits.module_bytes();
        if source.bytes.len() > bytes_max {
            let bytes = source.bytes.len();
            let note = format!("it has {bytes} bytes, {bytes_max} are allowed (limits.module_mib in plugins.toml)");
            return Err(Failed::at(Step::Read, note));
        }
        let config = entry.config_bytes().map_err(|reason| Failed::at(Step::Binding, reason))?;
        let metrics = self.metrics(&manifest.name);
        let code = Code {
            name: &manifest.name,
            wasm: &verified.wasm,
            sha: verified.sha,
            embedded: source.embedded,
            background: self.background,
        };
        let (module, compiled_in) = self
            .cache
            .load(&self.engine, &code)
            .map_err(|error| Failed::at(Step::Compile, format_args!("{error:#}")))?;
        metrics.compile_ms.fetch_add(compiled_in.as_millis() as u64, Relaxed);
        let pre = self
            .linker
            .instantiate_pre(&module)
            .map_err(|error| Failed::at(Step::Instantiate, format_args!("{error:#}")))?;
        let identity = Identity {
            key: Sha::of_pair(&verified.sha, &entry.bytes()),
            sha: verified.sha,
            version: manifest.version,
            hooks: manifest.hooks,
            origin: source.origin.clone(),
            body_bytes_max: manifest.body_bytes_max,
            name: manifest.name,
            entry,
        };
        let limits = &identity.entry.limits;
        let memory_max = limits.memory_bytes(manifest.memory_bytes_max);
        let batch_limit = Limit { cpu: limits.batch_cpu(), wall: BATCH_WALL };
        let parts = Parts { identity, pre, config, memory_max, batch_limit, metrics };
        let generation = Generation::new(parts, self.around.clone());
        match generation.lease(Duration::ZERO) {
            Ok(lease) => drop(lease),
            Err(LeaseError::Config(refuse)) => return Err(Failed::at(Step::Configure, refuse)),
            Err(error) => return Err(Failed::at(Step::Instantiate, error)),
        }
        if source.origin != Origin::Standard {
            self_test(&generation)?;
        }
        Ok(generation)
    }
}
