//! Builds the standard plugins for wasm32 and compiles them ahead with the engine that will run them, so that the
//! binary carries them and a first start waits for nothing.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// Name of the plugin, and the package that is built for it.
const STANDARD: [(&str, &str); 2] = [("tag-filter", "waspmq-tag-filter"), ("sql92-filter", "waspmq-sql92-filter")];

fn main() -> Result<(), Box<dyn Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Not all of `plugins`: a filter that a user drops into that folder is no reason to build the broker again.
    let sources = ["plugin-sdk", "plugins/tag-filter", "plugins/sql92-filter", "plugin-host/src", "Cargo.lock"];
    for source in sources {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    // The guests are the same for every profile of the broker, so they are kept beside the profiles.
    let target = out.ancestors().nth(4).ok_or("the output folder lies in no target folder")?;
    let built = waspmq_plugin_host::build_standard(&workspace, target, &STANDARD.map(|(_, package)| package))?;
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
