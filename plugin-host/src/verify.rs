//! Reads a file's bytes as a plugin without running or compiling any of it: size, whole-file parse, manifest, ABI,
//! imports. Called by the loader for each new content and by `check_file`. What passes here is safe to compile.

use std::borrow::Cow;

use wasmtime::wasmparser::{
    BinaryReaderError, CompositeInnerType, ExternalKind, FuncType, Imports, Parser, Payload, SubType, TypeRef, ValType,
};
use wasmtime::{Engine, Module};
use waspmq_plugin_sdk::abi::{ABI_MAJOR, ABI_MINOR, MANIFEST_SECTION, Manifest, export, import};

use crate::limits::{FUNCTIONS_MAX, MEMORY_BYTES_CEILING};
use crate::refusal::{Failed, Sha, Step};

/// Hooks this broker serves.
const HOOKS: [&str; 1] = ["filter"];

/// A module that may be compiled.
pub(crate) struct Verified<'a> {
    /// The binary module, also when the file is text.
    pub(crate) wasm: Cow<'a, [u8]>,
    /// Of the file as it is.
    pub(crate) sha: Sha,
    pub(crate) manifest: Manifest,
}

/// Checks `file`, the bytes of a `.wasm` or `.wat`, of at most `bytes_max` bytes.
pub(crate) fn verify<'a>(engine: &Engine, file: &'a [u8], bytes_max: usize) -> Result<Verified<'a>, Failed> {
    let sha = Sha::of(file);
    if file.len() > bytes_max {
        return Err(Failed::at(
            Step::Read,
            format_args!("it has {} bytes, {bytes_max} are allowed (limits.module_mib in plugins.toml)", file.len()),
        ));
    }
    let wasm = binary(file)?;
    let outline = Outline::read(&wasm).map_err(|error| Failed::at(Step::Parse, parse_note(&error)))?;
    let manifest = outline.manifest()?;
    outline.check_abi(&manifest)?;
    outline.check_imports()?;
    outline.check_sizes()?;
    Module::validate(engine, &wasm).map_err(|error| Failed::at(Step::Parse, format_args!("{error:#}")))?;
    Ok(Verified { wasm, sha, manifest })
}

/// The module as a binary: text is translated.
fn binary(file: &[u8]) -> Result<Cow<'_, [u8]>, Failed> {
    let text = file.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'(' | b';'));
    match (file.starts_with(b"\0asm"), text) {
        (true, _) => Ok(Cow::Borrowed(file)),
        (_, true) => wat::parse_bytes(file).map_err(|error| Failed::at(Step::Parse, one_line(&error.to_string()))),
        _ if file.is_empty() => Err(Failed::at(Step::Parse, "it is empty")),
        _ => Err(Failed::at(Step::Parse, "it is neither WebAssembly (`\\0asm`) nor its text form (`(module`)")),
    }
}

/// An error of the text parser without its picture of the line: what, then line and column.
fn one_line(error: &str) -> String {
    let mut lines = error.lines().map(str::trim);
    let what = lines.next().unwrap_or_default();
    match lines.next().and_then(|place| place.strip_prefix("--> <anon>:")) {
        Some(place) => format!("{what}, at line {}", place.replacen(':', " column ", 1)),
        None => what.to_string(),
    }
}

fn parse_note(error: &BinaryReaderError) -> String {
    format!("it is no whole WebAssembly module: {error}; if it is still being copied, it is read again afterwards")
}

/// What the checks need of a module.
#[derive(Default)]
struct Outline<'a> {
    manifest: Option<&'a [u8]>,
    types: Vec<Option<FuncType>>,
    imports: Vec<(&'a str, &'a str, TypeRef)>,
    /// Type index of each function, imported ones first.
    functions: Vec<u32>,
    exports: Vec<(&'a str, ExternalKind, u32)>,
    memory_pages: Option<u64>,
}

impl<'a> Outline<'a> {
    /// Walks the whole file: a file cut short anywhere is an error here.
    fn read(wasm: &'a [u8]) -> Result<Self, BinaryReaderError> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                    outline.manifest = Some(section.data());
                }
                Payload::TypeSection(types) => {
                    for group in types {
                        let kind = |ty: &SubType| match &ty.composite_type.inner {
                            CompositeInnerType::Func(function) => Some(function.clone()),
                            _ => None,
                        };
                        outline.types.extend(group?.types().map(kind));
                    }
                }
                Payload::ImportSection(groups) => {
                    for group in groups {
                        outline.add_imports(group?)?;
                    }
                }
                Payload::FunctionSection(functions) => {
                    for function in functions {
                        outline.functions.push(function?);
                    }
                }
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        outline.memory_pages = Some(memory?.initial);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        outline.exports.push((export.name, export.kind, export.index));
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn add_imports(&mut self, group: Imports<'a>) -> Result<(), BinaryReaderError> {
        match group {
            Imports::Single(_, import) => self.add_import(import.module, import.name, import.ty),
            Imports::Compact1 { module, items } => {
                for item in items {
                    let item = item?;
                    self.add_import(module, item.name, item.ty);
                }
            }
            Imports::Compact2 { module, ty, names } => {
                for name in names {
                    self.add_import(module, name?, ty);
                }
            }
        }
        Ok(())
    }

    fn add_import(&mut self, module: &'a str, name: &'a str, ty: TypeRef) {
        if let TypeRef::Func(index) = ty {
            self.functions.push(index);
        }
        self.imports.push((module, name, ty));
    }

    fn manifest(&self) -> Result<Manifest, Failed> {
        let bytes = self.manifest.ok_or_else(|| {
            Failed::at(
                Step::Manifest,
                format_args!("it has no section `{MANIFEST_SECTION}`: build it with the plugin SDK's `plugin!` macro"),
            )
        })?;
        let manifest = Manifest::from_bytes(bytes).map_err(|error| Failed::at(Step::Manifest, error))?;
        if let Some(hook) = manifest.hooks.iter().find(|hook| !HOOKS.contains(&hook.as_str())) {
            let known = HOOKS.join(", ");
            return Err(Failed::at(
                Step::Manifest,
                format_args!("it serves the hook `{hook}`; this broker has: {known}"),
            ));
        }
        if manifest.hooks.is_empty() {
            return Err(Failed::at(Step::Manifest, "it serves no hook"));
        }
        Ok(manifest)
    }

    fn check_abi(&self, manifest: &Manifest) -> Result<(), Failed> {
        if (manifest.abi_major, manifest.abi_minor > ABI_MINOR) != (ABI_MAJOR, false) {
            let (major, minor) = (manifest.abi_major, manifest.abi_minor);
            let note =
                format!("built for ABI {major}.{minor}, this broker speaks {ABI_MAJOR}.0 to {ABI_MAJOR}.{ABI_MINOR}");
            return Err(Failed::at(Step::Abi, note));
        }
        use ValType::I32;
        self.check_function(export::MARKER, &[], &[])?;
        self.check_function(export::ARENAS, &[], &[I32])?;
        self.check_function(export::FILTER, &[I32], &[I32])?;
        self.check_function(export::CONTROL, &[I32, I32], &[I32])?;
        if self.export(export::PANIC).is_some() {
            self.check_function(export::PANIC, &[], &[I32])?;
        }
        match self.export(export::MEMORY) {
            Some((ExternalKind::Memory, _)) if self.memory_pages.is_some() => Ok(()),
            _ => Err(Failed::at(Step::Abi, "it must define one memory and export it as `memory`")),
        }
    }

    fn export(&self, name: &str) -> Option<(ExternalKind, u32)> {
        self.exports.iter().find(|export| export.0 == name).map(|export| (export.1, export.2))
    }

    fn check_function(&self, name: &str, params: &[ValType], results: &[ValType]) -> Result<(), Failed> {
        let ty = match self.export(name) {
            Some((ExternalKind::Func, index)) => self.function_type(index),
            _ => None,
        };
        match ty {
            Some(ty) if ty.params() == params && ty.results() == results => Ok(()),
            Some(_) => Err(Failed::at(
                Step::Abi,
                format_args!("its export `{name}` must be a function {params:?} -> {results:?}"),
            )),
            None => Err(Failed::at(Step::Abi, format_args!("it does not export the function `{name}`"))),
        }
    }

    fn function_type(&self, index: u32) -> Option<&FuncType> {
        let ty = *self.functions.get(index as usize)?;
        self.types.get(ty as usize)?.as_ref()
    }

    fn check_imports(&self) -> Result<(), Failed> {
        let log = [ValType::I32; 3];
        for (module, name, ty) in &self.imports {
            let ty = match ty {
                TypeRef::Func(index) => self.types.get(*index as usize).and_then(Option::as_ref),
                _ => None,
            };
            let known = *module == import::MODULE && *name == import::LOG;
            if !known || ty.is_none_or(|ty| ty.params() != log || !ty.results().is_empty()) {
                let offered = format!("`{}.{}` (i32, i32, i32)", import::MODULE, import::LOG);
                let note = format!("it imports `{module}.{name}`; a plugin may import only {offered}");
                return Err(Failed::at(Step::Imports, note));
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), Failed> {
        let functions = self.functions.len();
        if functions > FUNCTIONS_MAX as usize {
            let note = format!("it has {functions} functions, {FUNCTIONS_MAX} are allowed");
            return Err(Failed::at(Step::Parse, note));
        }
        let bytes = self.memory_pages.unwrap_or(0).saturating_mul(65_536);
        if bytes > MEMORY_BYTES_CEILING as u64 {
            let note = format!("its memory begins with {bytes} bytes, {MEMORY_BYTES_CEILING} are the ceiling");
            return Err(Failed::at(Step::Parse, note));
        }
        Ok(())
    }
}
