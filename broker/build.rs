//! Builds the standard plugins for wasm32 and compiles them ahead with the engine that will run them, so that the
//! binary carries them and a first start waits for nothing.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the plugin, and the package that is built for it.
const STANDARD: [(&str, &str); 2] = [("tag-filter", "waspmq-tag-filter"), ("sql92-filter", "waspmq-sql92-filter")];

/// What every engine of the host can run and makes scanning bytes quicker.
const GUEST_FLAGS: &str = "-C target-feature=+simd128,+bulk-memory";

const TARGET: &str = "wasm32-unknown-unknown";

fn main() -> Result<(), Box<dyn Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for source in ["plugin-sdk", "plugins", "plugin-host/src", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let built = build(&workspace, &out)?;
    let mut table = String::from("&[\n");
    for (name, package) in STANDARD {
        let module = fs::read(built.join(format!("{}.wasm", package.replace('-', "_"))))?;
        let compiled = waspmq_plugin_host::precompile(&module).map_err(|error| format!("{name}: {error}"))?;
        let [wasm_path, compiled_path] = [out.join(format!("{name}.wasm")), out.join(format!("{name}.cwasm"))];
        fs::write(&wasm_path, module)?;
        fs::write(&compiled_path, compiled)?;
        writeln!(
            table,
            "    waspmq_plugin_host::StandardPlugin {{ name: {name:?}, wasm: include_bytes!({wasm_path:?}), compiled: Some(include_bytes!({compiled_path:?})) }},"
        )?;
    }
    table.push(']');
    fs::write(out.join("standard_plugins.rs"), table)?;
    Ok(())
}

/// Runs cargo for the guests and returns the folder of the modules. They are the same for every profile of the
/// broker, so they are kept beside the profiles.
fn build(workspace: &Path, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target_dir = out.ancestors().nth(4).ok_or("the output folder lies in no target folder")?.join("plugins");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo.current_dir(workspace).args(["build", "--profile", "plugin", "--target", TARGET, "--target-dir"]);
    cargo.arg(&target_dir);
    for (_, package) in STANDARD {
        cargo.args(["-p", package]);
    }
    // Flags and wrappers meant for the host's compiler (lints, coverage, sanitizers) are not for the guests.
    for name in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(name);
    }
    cargo.env("RUSTFLAGS", GUEST_FLAGS);
    let ended = cargo.output()?;
    if !ended.status.success() {
        return Err(format!(
            "the standard plugins could not be built; if the target is missing: rustup target add {TARGET}\n{}",
            String::from_utf8_lossy(&ended.stderr)
        )
        .into());
    }
    Ok(target_dir.join(TARGET).join("plugin"))
}
