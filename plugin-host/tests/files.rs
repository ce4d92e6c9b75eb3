//! Files that are no plugins, or not good ones: what the check says about them.

#![allow(clippy::unwrap_used, reason = "tests may unwrap, also outside of their test functions")]

mod guest;

use std::path::Path;
use std::time::{Duration, Instant};

use guest::*;
use waspmq_plugin_host::{Step, check_file, precompile};

#[track_caller]
fn refused(bytes: &[u8], step: Step, part: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wasm");
    write(&path, bytes);
    let began = Instant::now();
    let refusal = check_file(&path).unwrap_err();
    assert_eq!(refusal.step, step, "{refusal}");
    assert!(refusal.to_string().contains(part), "{refusal}");
    assert!(refusal.to_string().contains("x.wasm"), "{refusal}");
    // The slowest of them uses its second of CPU time; on a busy machine wall time ends it after five.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_good_file_passes_as_binary_and_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let guest = guest("good").version("3.2.1");
    for (name, bytes) in [("x.wasm", guest.wasm()), ("x.wat", guest.wat().into_bytes())] {
        let path = folder.path().join(name);
        write(&path, &bytes);
        let checked = check_file(&path).unwrap();
        assert_eq!((checked.name.as_str(), checked.version.as_str()), ("good", "3.2.1"));
        assert_eq!((checked.bytes, checked.sha256.len()), (bytes.len(), 64));
    }
    assert!(precompile(&guest.wasm()).unwrap().len() > 1000);
    assert_eq!(check_file(Path::new("/nonexistent/x.wasm")).unwrap_err().step, Step::Read);
}

#[test]
fn what_is_no_module() {
    let whole = guest("g").wasm();
    refused(b"", Step::Parse, "it is empty");
    refused(
        b"(module (func $f\n  (nonsense)))",
        Step::Parse,
        "unknown operator or unexpected token, at line 2 column 4 (sha256",
    );
    refused(b"\0asm", Step::Parse, "no whole WebAssembly module");
    refused(b"garbage that is text", Step::Parse, "neither WebAssembly");
    refused(&[0xff; 100], Step::Parse, "");
    for cut in [9, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        write(&path, &whole[..cut]);
        assert!(check_file(&path).is_err(), "{cut} of {} bytes", whole.len());
    }
    let mut large = whole.clone();
    // A custom section of 17 MiB.
    large.extend_from_slice(&[0, 0x80, 0x80, 0xc0, 0x08, 1, b'x']);
    large.resize(large.len() + (17 << 20) - 2, 0);
    refused(&large, Step::Read, "16777216 are allowed");
}

#[test]
fn what_is_no_plugin() {
    refused(&wat::parse_str("(module)").unwrap(), Step::Manifest, "plugin!");
    refused(&guest("no good/name").wasm(), Step::Manifest, "no good/name");
    let mut other = guest("g");
    other.hooks = vec!["teleport".into()];
    refused(&other.wasm(), Step::Manifest, "`teleport`; this broker has: filter");
    let mut other = guest("g");
    other.abi_major = 2;
    refused(&other.wasm(), Step::Abi, "built for ABI 2.0, this broker speaks 1.0 to 1.0");
    let mut other = guest("g");
    other.marker = "wq_abi_9".into();
    refused(&other.wasm(), Step::Abi, "`wq_abi_1`");
    let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#;
    refused(&guest("g").extra(import).wasm(), Step::Imports, "wasi_snapshot_preview1.fd_write");
    refused(&guest("g").extra(r#"(import "wq" "log" (func (param i32)))"#).wasm(), Step::Imports, "wq.log");
    refused(&guest("g").extra(r#"(import "wq" "log" (global i32))"#).wasm(), Step::Imports, "wq.log");
    let filter = guest("g").wat().replace(
        r#"(func (export "filter") (param $len i32) (result i32)"#,
        r#"(func (export "filter") (param $len i32) (param i32) (result i32)"#,
    );
    refused(filter.as_bytes(), Step::Abi, "`filter` must be a function");
    refused(guest("g").wat().replace("(export \"memory\")", "").as_bytes(), Step::Abi, "memory");
}

#[test]
fn what_does_not_fit() {
    let functions = "(func)".repeat(20_001);
    refused(&guest("g").extra(&functions).wasm(), Step::Parse, "20000 are allowed");
    let mut other = guest("g");
    other.memory_pages = 65_536;
    refused(&other.wasm(), Step::Parse, "67108864 are the ceiling");
    other.memory_pages = 100;
    refused(&other.wasm(), Step::Instantiate, "");
    refused(&guest("g").extra("(table 10001 funcref)").wasm(), Step::Compile, "10001");
    let mut other = guest("g");
    other.arenas = [4096, 256 * 1024, 60 * 65_536, 8192];
    refused(&other.wasm(), Step::Instantiate, "arenas do not lie inside");
    let mut other = guest("g");
    other.arenas = [4096, 256 * 1024, 8192, 8192];
    refused(&other.wasm(), Step::Instantiate, "arenas do not lie inside");
    let table = guest("g").wat().replace("(result i32) (i32.const 16))", "(result i32) (i32.const -4))");
    refused(table.as_bytes(), Step::Instantiate, "arena table lies outside");
}

#[test]
fn what_misbehaves_before_it_serves() {
    let start = "(func $s (loop $l (br $l))) (start $s)";
    refused(&guest("g").extra(start).wasm(), Step::Instantiate, "");
    refused(&guest("g").extra("(func $s unreachable) (start $s)").wasm(), Step::Instantiate, "unreachable");
    refused(&guest("g").refuses(2).wasm(), Step::Configure, "no, no.");
    refused(&guest("g").refuses(8).wasm(), Step::SelfTest, "no, no.");
    // Reads eight bytes where a message without properties has none, as careless code does.
    let careless = "(if (i32.eqz (i32.load offset=60 (local.get $at))) (then unreachable)) (i32.const 1)";
    refused(&guest("g").verdict(careless).wasm(), Step::SelfTest, "no properties");
    let lie = format!("(i64.store (i32.const {}) (i64.const -1)) (i32.const 0)", guest("g").arenas[2]);
    refused(&guest("g").finish(&lie).wasm(), Step::SelfTest, "its answer makes no sense");
    let looping = "(loop $l (br $l)) (i32.const 1)";
    refused(&guest("g").verdict(looping).wasm(), Step::SelfTest, "10 ms");
}
