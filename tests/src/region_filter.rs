//! The plugin of `examples/plugins/region-filter`, copied elsewhere and built with `broker plugin build` as README says.
//! Called by whoever needs a plugin of a user's own, or two that differ.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::broker::{binary, clients_folder};

/// Copies the example to `dir`, replaces texts in it (what, by what) and builds it. Returns the `.wasm` file.
/// All builds share one target folder, so only the first compiles the SDK.
pub fn build(dir: &Path, changes: &[(&str, &str)]) -> Result<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _turn = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let repository = clients_folder().join("../..");
    let example = repository.join("examples/plugins/region-filter");
    fs::create_dir_all(dir.join("src"))?;
    let mut unmade = changes.to_vec();
    for file in ["Cargo.toml", "Cargo.lock", "src/lib.rs"] {
        let mut text = fs::read_to_string(example.join(file)).with_context(|| format!("{file} of the example"))?;
        for (from, to) in changes.iter().filter(|_| file != "Cargo.lock") {
            if text.contains(from) {
                text = text.replace(from, to);
                unmade.retain(|change| change.0 != *from);
            }
        }
        fs::write(dir.join(file), text)?;
    }
    ensure!(unmade.is_empty(), "the example reads otherwise now, there is no {unmade:?}");
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).context("the test binary is in no target folder")?;
    let mut command = Command::new(binary("broker")?);
    command.args(["plugin", "build"]).arg(dir).current_dir(&repository);
    command.env("CARGO_TARGET_DIR", target.join("tmp/plugins"));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(said.contains("a broker would take it"), "{said}");
    Ok(dir.join("region-filter.wasm"))
}
