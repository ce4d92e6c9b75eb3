//! Compiled code: from the cache folder, from the broker's own program, or from the compiler, in that order. Called by the
//! loader, one module at a time. A cached file is mapped, never rewritten: its name holds the digest of its content,
//! which is checked before the file becomes code. The folder is the broker's own (0700); nothing is ever loaded from the
//! plugins folder but WebAssembly.
#![expect(unsafe_code, reason = "compiled code can only be loaded by an unsafe function; all such calls stand here")]

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wasmtime::{Engine, Module};

use crate::engine::compatibility;
use crate::refusal::Sha;

/// Compiled files kept per plugin name: the live one and two to return to.
const KEPT_PER_PLUGIN: usize = 3;

/// Folder of compiled code.
pub(crate) struct CodeCache {
    /// `None`: the folder cannot be used, and everything is compiled or loaded into plain memory.
    folder: Option<PathBuf>,
    compatibility: String,
}

/// What is to become a module.
pub(crate) struct Code<'a> {
    pub(crate) name: &'a str,
    pub(crate) wasm: &'a [u8],
    pub(crate) sha: Sha,
    /// Compiled at build time, in the broker's own program.
    pub(crate) embedded: Option<&'static [u8]>,
    /// Compile at low priority.
    pub(crate) background: bool,
}

impl CodeCache {
    /// Opens or creates the folder. One that others may write to, or that belongs to somebody else, is not used.
    pub(crate) fn open(folder: &Path, engine: &Engine) -> Self {
        let compatibility = compatibility(engine);
        match own_folder(folder) {
            Ok(()) => Self { folder: Some(folder.to_path_buf()), compatibility },
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "compiled plugins are not cached");
                Self { folder: None, compatibility }
            }
        }
    }

    /// No folder at all: for a single check.
    pub(crate) fn none(engine: &Engine) -> Self {
        Self { folder: None, compatibility: compatibility(engine) }
    }

    /// The module, and how long the compiler ran for it.
    pub(crate) fn load(&self, engine: &Engine, code: &Code<'_>) -> wasmtime::Result<(Module, Duration)> {
        if let Some(module) = self.cached(engine, code) {
            return Ok((module, Duration::ZERO));
        }
        if let Some(module) = code.embedded.and_then(|compiled| self.embedded(engine, code, compiled)) {
            return Ok((module, Duration::ZERO));
        }
        let began = Instant::now();
        let compiled =
            if code.background { compile_nicely(engine, code.wasm) } else { engine.precompile_module(code.wasm) }?;
        let took = began.elapsed();
        self.store(code, &compiled, true);
        let module = match self.cached(engine, code) {
            Some(module) => module,
            // SAFETY: the bytes come from `precompile_module` of this engine, three lines above, unchanged.
            None => unsafe { Module::deserialize(engine, &compiled) }?,
        };
        Ok((module, took))
    }

    /// Looks for a file of this content for this engine; checks the digest in its name, then maps it.
    fn cached(&self, engine: &Engine, code: &Code<'_>) -> Option<Module> {
        let folder = self.folder.as_ref()?;
        let prefix = self.prefix(code);
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".cwasm")) else {
                continue;
            };
            let path = entry.path();
            match map(engine, &path, digest) {
                Ok(module) => return Some(module),
                Err(error) => {
                    tracing::warn!(file = %path.display(), error = %format_args!("{error:#}"), "cached plugin code is not usable, removed");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        None
    }

    fn embedded(&self, engine: &Engine, code: &Code<'_>, compiled: &'static [u8]) -> Option<Module> {
        // Without fsync: a torn file is found by its digest, and written again from these bytes.
        self.store(code, compiled, false);
        if let Some(module) = self.cached(engine, code) {
            return Some(module);
        }
        // SAFETY: the bytes were made by `precompile` in the broker's build and are part of its program; code of other
        // versions or settings of the engine is refused by `deserialize` itself.
        unsafe { Module::deserialize(engine, compiled) }.ok()
    }

    /// Writes under a temporary name, then renames: a reader finds a whole file or none.
    fn store(&self, code: &Code<'_>, compiled: &[u8], durable: bool) {
        let Some(folder) = &self.folder else { return };
        let path = folder.join(format!("{}{}.cwasm", self.prefix(code), Sha::of(compiled).full()));
        if let Err(error) = write_whole(folder, &path, compiled, durable) {
            tracing::warn!(file = %path.display(), %error, "compiled plugin could not be cached");
        }
        self.forget_old(code.name);
    }

    fn prefix(&self, code: &Code<'_>) -> String {
        // A dot cannot be part of a plugin's name, so that no name is the beginning of another's files.
        format!("{}.{}.{}.", code.name, &code.sha.full()[..32], self.compatibility)
    }

    fn forget_old(&self, name: &str) {
        let Some(files) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        let own = format!("{name}.");
        let mut found: Vec<_> = files
            .flatten()
            .filter(|file| file.file_name().to_str().is_some_and(|file| file.starts_with(&own)))
            .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
            .collect();
        found.sort();
        let surplus = found.len().saturating_sub(KEPT_PER_PLUGIN);
        for (_, path) in &found[..surplus] {
            // A module that is mapped from it goes on: the content lives until it is unmapped.
            let _ = fs::remove_file(path);
        }
    }
}

/// Compiles on a thread that gives way to those who serve messages. A thread of its own, as niceness cannot be taken back,
/// and whoever waits here may hold what others need.
fn compile_nicely(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
    const NICE: i32 = 19;
    let compile = || {
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
            tracing::debug!(%error, "plugins compile at normal priority");
        }
        engine.precompile_module(wasm)
    };
    std::thread::scope(|scope| match scope.spawn(compile).join() {
        Ok(compiled) => compiled,
        Err(_) => Err(wasmtime::Error::msg("the compiler panicked")),
    })
}

fn own_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::metadata(folder)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("the folder belongs to another user"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn write_whole(folder: &Path, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        if durable { file.sync_all() } else { Ok(()) }
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    } else if durable {
        File::open(folder)?.sync_all()?;
    }
    renamed
}

fn map(engine: &Engine, path: &Path, digest: &str) -> wasmtime::Result<Module> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if Sha::of(&bytes).full() != digest {
        return Err(wasmtime::Error::msg("its content is not what was written"));
    }
    // SAFETY: the digest in the name is that of what `precompile_module` returned, and the content has just matched it.
    // The folder is writable for this process alone, and no file in it is changed after its rename: the mapping of the
    // file opened above stays as checked.
    unsafe { Module::deserialize_open_file(engine, file) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::compiling_engine;

    const WASM: &str = r#"(module (func (export "f") (result i32) i32.const 7))"#;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn compiled_once_then_mapped_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("cache");
        let engine = compiling_engine().unwrap();
        let cache = CodeCache::open(&folder, &engine);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let wasm = wat::parse_str(WASM).unwrap();
        let code = Code { name: "x", wasm: &wasm, sha: Sha::of(&wasm), embedded: None, background: true };
        assert!(cache.load(&engine, &code).unwrap().1 > Duration::ZERO);
        assert_eq!(cache.load(&engine, &code).unwrap().1, Duration::ZERO);

        let [file] = &files(&folder)[..] else { panic!("one file expected") };
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(file).unwrap();
        fs::write(file, &bytes).unwrap();
        assert!(cache.load(&engine, &code).unwrap().1 > Duration::ZERO, "a damaged file is compiled anew");
        assert_eq!(cache.load(&engine, &code).unwrap().1, Duration::ZERO);
    }

    #[test]
    fn embedded_code_is_cached_and_foreign_code_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let engine = compiling_engine().unwrap();
        let cache = CodeCache::open(folder.path(), &engine);
        let wasm = wat::parse_str(WASM).unwrap();
        let compiled: &'static [u8] = engine.precompile_module(&wasm).unwrap().leak();
        let code = Code { name: "x", wasm: &wasm, sha: Sha::of(&wasm), embedded: Some(compiled), background: false };
        assert_eq!(cache.load(&engine, &code).unwrap().1, Duration::ZERO);
        assert_eq!(files(folder.path()).len(), 1);

        let other = Code { name: "y", embedded: Some(b"not compiled code"), ..code };
        assert!(cache.load(&engine, &other).unwrap().1 > Duration::ZERO);
    }

    #[test]
    fn works_without_a_usable_folder() {
        let engine = compiling_engine().unwrap();
        let cache = CodeCache::open(Path::new("/proc/nowhere"), &engine);
        let wasm = wat::parse_str(WASM).unwrap();
        assert!(
            cache
                .load(&engine, &Code { name: "x", wasm: &wasm, sha: Sha::of(&wasm), embedded: None, background: false })
                .is_ok()
        );
    }

    #[test]
    fn only_three_versions_stay() {
        let folder = tempfile::tempdir().unwrap();
        let engine = compiling_engine().unwrap();
        let cache = CodeCache::open(folder.path(), &engine);
        for version in 0..5 {
            let wasm = wat::parse_str(format!("(module (func (result i32) i32.const {version}))")).unwrap();
            for name in ["x", "x-y"] {
                cache
                    .load(&engine, &Code { name, wasm: &wasm, sha: Sha::of(&wasm), embedded: None, background: false })
                    .unwrap();
            }
        }
        assert_eq!(files(folder.path()).len(), 6, "three of each name");
    }
}
