//! Writing and building plugin crates: behind `broker plugin new`, `broker plugin build` and the broker's build script.
//! Runs cargo; nothing here is used while messages are served.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::check::{CheckedPlugin, check_file};
use crate::refusal::Refusal;

const MANIFEST: &str = include_str!("../template/manifest.toml");
const LIBRARY: &str = include_str!("../template/lib.rs");
const SDK: &str = "waspmq-plugin-sdk";
const TARGET: &str = "wasm32-unknown-unknown";
/// What every engine of the host can run and makes scanning bytes quicker.
const GUEST_FLAGS: &str = "-C target-feature=+simd128,+bulk-memory";
/// Small and fast code, in which a panic ends the call, whatever the crate's own profile says.
const PROFILE: [&str; 6] = [
    "profile.release.opt-level=3",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=\"debuginfo\"",
    "target.wasm32-unknown-unknown.rustflags=[\"-C\", \"target-feature=+simd128,+bulk-memory\"]",
];

/// Where a new crate finds the SDK.
#[derive(Clone, Debug)]
pub enum SdkSource {
    /// A copy of it on this machine.
    Path(PathBuf),
    /// A version of the registry.
    Version(String),
}

/// A plugin crate was not written or not built.
#[derive(Debug, thiserror::Error)]
pub enum CrateError {
    /// The name cannot be one of a plugin and of a crate.
    #[error("`{0}` is no plugin name: it must begin with a letter and have 1 to 64 letters, digits, `-` or `_`")]
    BadName(String),
    /// There is something already.
    #[error("{0} exists already and is not empty")]
    Exists(PathBuf),
    /// The file system says no.
    #[error("{path}: {source}")]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The SDK is not where it is looked for.
    #[error("the plugin SDK is not in {0}; name the folder of its source: --sdk DIR")]
    NoSdk(PathBuf),
    /// The compiler did not finish.
    #[error(
        "cargo could not build {0} (its own words stand above); if it misses the target: rustup target add {TARGET}"
    )]
    Cargo(PathBuf),
    /// The same for the standard plugins, whose build nobody watches.
    #[error("the standard plugins could not be built; if the target is missing: rustup target add {TARGET}\n{said}")]
    Standard {
        /// What cargo printed.
        said: String,
    },
    /// Nothing to check came out.
    #[error("the build of {0} made no .wasm file: Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`")]
    NoModule(PathBuf),
    /// It was built, but no broker would take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Writes a plugin of one screen into the new folder `dir`.
pub fn new_crate(dir: &Path, name: &str, sdk: &SdkSource) -> Result<(), CrateError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.len() > 64 || !name.chars().all(plain) {
        return Err(CrateError::BadName(name.to_string()));
    }
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CrateError::Io { path, source }
    };
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CrateError::Exists(dir.to_path_buf()));
    }
    let sdk = match sdk {
        SdkSource::Path(path) => {
            format!("{{ path = {} }}", toml_path(&sdk_folder(path)?))
        }
        SdkSource::Version(version) => toml::Value::from(version.as_str()).to_string(),
    };
    let manifest = MANIFEST.replace("\"new-filter\"", &format!("\"{name}\"")).replace("SDK\n", &format!("{sdk}\n"));
    let library = LIBRARY.replace("new-filter", name).replace("NewFilter", &type_name(name));
    let source = dir.join("src");
    fs::create_dir_all(&source).map_err(io(&source))?;
    for (path, text) in [
        (dir.join("Cargo.toml"), manifest.as_str()),
        (source.join("lib.rs"), &library),
        (dir.join(".gitignore"), "/target\n"),
    ] {
        fs::write(&path, text).map_err(io(&path))?;
    }
    Ok(())
}

/// The SDK's folder, whole, so that it holds wherever the crate lies.
fn sdk_folder(path: &Path) -> Result<PathBuf, CrateError> {
    let found = fs::canonicalize(path).ok().filter(|path| path.join("Cargo.toml").is_file());
    found.ok_or_else(|| CrateError::NoSdk(path.to_path_buf()))
}

fn toml_path(path: &Path) -> String {
    toml::Value::from(path.to_string_lossy().as_ref()).to_string()
}

/// A copied or moved crate may name the SDK by a path that leads nowhere now: then its `Cargo.toml` is pointed at `sdk`,
/// and that folder is returned. What leads somewhere is left alone.
pub fn point_at_sdk(dir: &Path, sdk: &Path) -> Result<Option<PathBuf>, CrateError> {
    let manifest = dir.join("Cargo.toml");
    let io = |source| CrateError::Io { path: manifest.clone(), source };
    let text = fs::read_to_string(&manifest).map_err(io)?;
    // What is no manifest is for cargo to explain.
    let table: toml::Table = text.parse().unwrap_or_default();
    let named = table.get("dependencies").and_then(|all| all.get(SDK)?.get("path")?.as_str());
    let Some(named) = named.filter(|path| !dir.join(path).join("Cargo.toml").is_file()) else { return Ok(None) };
    let sdk = sdk_folder(sdk)?;
    let pointed = text.replacen(&format!("\"{named}\""), &toml_path(&sdk), 1);
    fs::write(&manifest, pointed).map_err(io)?;
    Ok(Some(sdk))
}

/// `my-filter` gives `MyFilter`.
fn type_name(name: &str) -> String {
    let capital = |part: &str| {
        let (first, rest) = part.split_at_checked(1).unwrap_or((part, ""));
        first.to_ascii_uppercase() + rest
    };
    name.split(['-', '_']).map(capital).collect()
}

/// Builds the plugin crate in `dir` and takes the module through everything a broker checks. Cargo's progress and errors
/// go to standard error.
pub fn build_crate(dir: &Path) -> Result<CheckedPlugin, CrateError> {
    let manifest = dir.join("Cargo.toml");
    let manifest = fs::canonicalize(&manifest).map_err(|source| CrateError::Io { path: manifest, source })?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--release", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    command.arg("--manifest-path").arg(&manifest);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    let output = command
        .current_dir(dir)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| CrateError::Io { path: command.get_program().into(), source })?;
    if !output.status.success() {
        return Err(CrateError::Cargo(dir.to_path_buf()));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let module = messages.lines().find_map(|line| module_of(line, &manifest));
    Ok(check_file(&module.ok_or_else(|| CrateError::NoModule(dir.to_path_buf()))?)?)
}

/// Builds plugin crates of the repository in `workspace` and returns the folder of the modules. It lies in `target`, the
/// target folder of whoever asks: build scripts, tests and benchmarks find there what one of them has built.
pub fn build_standard(workspace: &Path, target: &Path, packages: &[&str]) -> Result<PathBuf, CrateError> {
    let target = target.join("plugins");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace).args(["build", "--profile", "plugin", "--target", TARGET, "--target-dir"]);
    command.arg(&target);
    for package in packages {
        command.args(["-p", package]);
    }
    // Flags and wrappers meant for the host's compiler (lints, coverage, sanitizers) are not for the guests.
    for name in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        command.env_remove(name);
    }
    command.env("RUSTFLAGS", GUEST_FLAGS);
    // Not inherited: what a build script prints on standard output is read by cargo.
    let output = command.output().map_err(|source| CrateError::Io { path: command.get_program().into(), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(CrateError::Standard { said });
    }
    Ok(target.join(TARGET).join("plugin"))
}

/// The `.wasm` in one of cargo's messages, if it is about the crate with this manifest.
fn module_of(message: &str, manifest: &Path) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if Path::new(message.get("manifest_path")?.as_str()?) != manifest {
        return None;
    }
    let mut files = message.get("filenames")?.as_array()?.iter().filter_map(|file| file.as_str());
    files.find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_crate_has_its_name_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("x");
        new_crate(&dir, "my-own_filter", &SdkSource::Version("0.1".into())).unwrap();
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let table: toml::Table = manifest.parse().unwrap();
        assert_eq!(table["package"]["name"].as_str(), Some("my-own_filter"));
        assert_eq!(table["dependencies"]["waspmq-plugin-sdk"].as_str(), Some("0.1"));
        let library = fs::read_to_string(dir.join("src/lib.rs")).unwrap();
        assert!(library.contains("plugin!(MyOwnFilter, name = \"my-own_filter\")"), "{library}");
        assert!(!library.contains("new-filter") && !library.contains("NewFilter"));
        assert!(matches!(new_crate(&dir, "x", &SdkSource::Version("1".into())), Err(CrateError::Exists(_))));
    }

    #[test]
    fn a_copied_crate_finds_the_sdk_again() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, sdk) = (folder.path().join("copy"), folder.path().join("sdk"));
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(&sdk).unwrap();
        fs::write(sdk.join("Cargo.toml"), "").unwrap();
        let manifest =
            "[package]\nname = \"x\" # kept\n[dependencies]\nwaspmq-plugin-sdk = { path = \"../../gone\" }\n";
        fs::write(dir.join("Cargo.toml"), manifest).unwrap();
        let error = point_at_sdk(&dir, &folder.path().join("nowhere")).unwrap_err();
        assert!(error.to_string().contains("nowhere; name the folder"), "{error}");
        let whole = fs::canonicalize(&sdk).unwrap();
        assert_eq!(point_at_sdk(&dir, &sdk).unwrap(), Some(whole.clone()));
        let pointed = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        assert_eq!(pointed, manifest.replace("../../gone", whole.to_str().unwrap()));
        assert_eq!(point_at_sdk(&dir, Path::new("/nowhere")).unwrap(), None, "it leads somewhere");
    }

    #[test]
    fn names_that_are_none() {
        for name in ["", "1st", "a b", "../x", "-x", &"x".repeat(65)] {
            let error = new_crate(Path::new("/nonexistent/x"), name, &SdkSource::Version("1".into())).unwrap_err();
            assert!(matches!(error, CrateError::BadName(_)), "{name}: {error}");
        }
    }
}
