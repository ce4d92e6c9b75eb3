//! Plugins written with the SDK, built by cargo as a user would, in the engine under the broker's limits.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, also outside of their test functions")]

mod guest;

use std::path::{Path, PathBuf};

use guest::*;
use waspmq_plugin_host::Decision::{CannotSay, Drop, Keep, NeedRecord};
use waspmq_plugin_host::{SdkSource, StandardPlugin, build_crate, build_standard, check_file, new_crate};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// From the folder the broker's build script uses: in a run of all tests they are there already.
fn standard() -> Vec<StandardPlugin> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let built = build_standard(&repository(""), &target, &["waspmq-tag-filter", "waspmq-sql92-filter"]).unwrap();
    let plugin = |name: &'static str| {
        let file = built.join(format!("waspmq_{}.wasm", name.replace('-', "_")));
        assert_eq!(check_file(&file).unwrap().name, name);
        StandardPlugin { name, wasm: std::fs::read(&file).unwrap().leak(), compiled: None }
    };
    vec![plugin("tag-filter"), plugin("sql92-filter")]
}

#[test]
fn tags_and_sql() {
    let running = start(standard(), &[]);

    assert!(running.host.prepare(text("TAG", "*")).unwrap().session().keeps_all());
    let tags = running.host.prepare(text("TAG", "TagA || TagB")).unwrap();
    // Java's hash codes of TagA and TagC.
    assert_eq!(ask_entries(&tags, 0, &[2598919, 2598921, 0]), [Keep, Drop, Drop]);

    let sql = running.host.prepare(text("SQL92", "a > 5 AND region = 'hz'")).unwrap();
    assert_eq!(ask_entries(&sql, 0, &[1]), [NeedRecord]);
    let mut records = records(0, &[0; 5]);
    records[1].properties = b"a\x015\x02region\x01hz\x02";
    records[2].properties = b"region\x01hz\x02";
    records[3].properties = b"a\x01900\x02region\x01\xff\xfe\x02";
    records[4].properties = b"";
    let mut verdicts = [CannotSay; 5];
    sql.session().by_records(&records, &mut verdicts);
    assert_eq!(verdicts, [Keep, Drop, Drop, Drop, Drop]);

    let error = running.host.prepare(text("SQL92", "a > > 5")).map(|_| ()).unwrap_err();
    assert!(error.position.is_some() && !error.retry, "{error:?}");
    let error = running.host.prepare(text("SQL92", "wasm:nobody(x)")).map(|_| ()).unwrap_err();
    assert!(error.message.contains("`nobody`; it has: sql92-filter, tag-filter"), "{error}");
    let counts = running.status("sql92-filter").unwrap().counts;
    assert_eq!((counts.traps, counts.timeouts, counts.errors), (0, 0, 0));
}

#[test]
fn a_new_crate_builds_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("my-filter");
    new_crate(&dir, "my-filter", &SdkSource::Path(repository("plugin-sdk"))).unwrap();
    // Built where the last run has left the SDK, and with the versions of this workspace, which are on this machine.
    let target = toml::Value::from(concat!(env!("CARGO_TARGET_TMPDIR"), "/plugins"));
    std::fs::create_dir(dir.join(".cargo")).unwrap();
    std::fs::write(dir.join(".cargo/config.toml"), format!("build.target-dir = {target}\n")).unwrap();
    std::fs::copy(repository("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    let built = build_crate(&dir).unwrap();
    assert_eq!((built.name.as_str(), built.version.as_str()), ("my-filter", "0.1.0"));
    let running = start(Vec::new(), &[]);
    std::fs::copy(&built.file, running.folder().join("my_filter.wasm")).unwrap();
    running.wait_version("my-filter", "0.1.0");
    let handle = running.host.prepare(text("SQL92", "wasm:my-filter(hz)")).unwrap();
    assert_eq!(ask(&handle, 0, &[0]), [Keep], "records of these tests have region hz");
    let handle = running.host.prepare(text("SQL92", "wasm:my-filter(bj)")).unwrap();
    assert_eq!(ask(&handle, 0, &[0]), [Drop]);
    let error = running.host.prepare(text("SQL92", "wasm:my-filter()")).map(|_| ()).unwrap_err();
    assert!(error.message.starts_with("which region?"), "{error}");
}
