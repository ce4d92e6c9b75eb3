//! What becomes of plugins while the broker runs: new files, broken ones, removed ones, new bindings, versions that fail.

mod guest;

use std::time::{Duration, Instant};

use guest::*;
use waspmq_plugin_host::Decision::{CannotSay, Drop, Keep};
use waspmq_plugin_host::{HostConfig, HostLimits, Origin, PluginEvent, PluginHost, PluginState, StartError};

/// Keeps what `guest` drops.
fn opposite(name: &str) -> Guest {
    guest(name).verdict("(i32.ne (local.get $flag) (i32.const 0))").version("2.0.0")
}

#[test]
fn a_new_file_is_live_within_a_second() {
    let running = start_with(Vec::new(), &[], HostLimits::default());
    let error = running.host.prepare(text("g", "x")).map(|_| ()).unwrap_err();
    assert!(error.message.contains("no filter plugin `g`; it has: none"), "{error}");
    let bytes = guest("g").wasm();
    running.put("g.wasm", &bytes);
    let began = Instant::now();
    running.wait_version("g", "1.0.0");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(200), "it has to lie still first: {took:?}");
    println!("live {took:?} after the copy");
    // Twice the promise, for a machine that does other things.
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(ask(&running.subscribe("g"), 0, &[KEEP, DROP]), [Keep, Drop]);
    let status = running.status("g").unwrap();
    assert_eq!((status.state, status.counts.swaps), (PluginState::Probation, 1));
    assert_eq!(status.origin, Origin::File(running.folder().join("g.wasm")));
    assert_eq!(status.bindings, ["topics=* groups=*"]);
    assert_eq!(status.sha256.len(), 12);
}

#[test]
fn a_new_version_takes_over_live_subscriptions() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);
    let epoch = running.host.plugin_epoch();
    let mut pinned = handle.session();
    running.put("plugin.wasm", &opposite("g").wasm());
    running.wait_version("g", "2.0.0");
    assert_eq!(running.host.plugin_epoch(), epoch + 1);
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Drop, Keep]);
    let mut verdicts = [CannotSay; 2];
    pinned.by_records(&records(0, &[KEEP, DROP]), &mut verdicts);
    assert_eq!(verdicts, [Keep, Drop], "a session that began before stays with what it began with");
    assert_eq!(running.status("g").unwrap().subscriptions, 1);
}

#[test]
fn the_same_content_is_no_new_version() {
    let bytes = guest("g").wasm();
    let running = start(Vec::new(), &[("plugin.wasm", &bytes)]);
    let epoch = running.host.plugin_epoch();
    running.put("plugin.wasm", &bytes);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.host.plugin_epoch(), epoch);
    assert_eq!(running.status("g").unwrap().counts.swaps, 1);
}

#[test]
fn a_half_written_file_is_read_when_it_is_whole() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    let bytes = opposite("g").wasm();
    let half = bytes.len() / 2;
    running.put("plugin.wasm", &bytes[..half]);
    running.wait_error("g", "no whole WebAssembly module");
    assert_eq!(ask(&handle, 0, &[KEEP]), [Keep], "the version before serves");
    running.put("plugin.wasm", &bytes);
    running.wait_version("g", "2.0.0");
    assert_eq!(running.status("g").unwrap().last_error, None);
}

#[test]
fn a_file_that_grows_slowly_is_never_read_in_between() {
    let running = start(Vec::new(), &[]);
    let bytes = guest("g").wasm();
    for end in (0..bytes.len()).step_by(bytes.len() / 12) {
        running.put("g.wasm", &bytes[..end]);
        std::thread::sleep(Duration::from_millis(15));
    }
    running.put("g.wasm", &bytes);
    running.wait_version("g", "1.0.0");
}

#[test]
fn a_broken_file_leaves_the_old_one_and_is_named_once() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    let broken = guest("g").version("6.6.6").finish("unreachable").wasm();
    running.put("plugin.wasm", &broken);
    running.wait_error("g", "refused at self-test");
    for _ in 0..3 {
        running.host.rescan();
        std::thread::sleep(Duration::from_millis(100));
    }
    let refused = |event: &PluginEvent| matches!(event, PluginEvent::Refused { .. });
    assert_eq!(running.events().iter().filter(|event| refused(event)).count(), 1);
    let status = running.status("g").unwrap();
    let error = status.last_error.unwrap();
    assert!(error.contains("plugin.wasm") && error.contains("unreachable") && error.contains("(sha256 "), "{error}");
    assert_eq!((status.version.as_str(), status.counts.swaps), ("1.0.0", 1));
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);
    // Broken by broken does not evict it either.
    running.put("plugin.wasm", b"nonsense");
    running.wait_error("g", "neither WebAssembly");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);
}

#[test]
fn a_removed_plugin_holds_and_comes_back() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    running.remove("plugin.wasm");
    wait("gone", || running.status("g").is_none());
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [CannotSay; 2], "no plugin is neither match nor no match");
    assert_eq!(ask_entries(&handle, 0, &[KEEP, DROP]), [CannotSay; 2]);
    assert!(running.host.prepare(text("g", "x")).is_err());
    assert!(running.events().contains(&PluginEvent::Removed { name: "g".into() }));
    running.put("again.wasm", &opposite("g").wasm());
    running.wait_version("g", "2.0.0");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Drop, Keep], "the old handle serves again");
}

#[test]
fn a_renamed_file_goes_on() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    std::fs::rename(running.folder().join("plugin.wasm"), running.folder().join("other.wasm")).unwrap();
    let renamed = Origin::File(running.folder().join("other.wasm"));
    wait("renamed", || running.status("g").is_some_and(|status| status.origin == renamed));
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);
}

#[test]
fn two_files_of_one_name() {
    let running = start_one(&guest("g"));
    running.put("z-second.wasm", &opposite("g").wasm());
    running.wait_error("g", "already served from");
    assert_eq!(running.status("g").unwrap().version, "1.0.0");
    running.remove("plugin.wasm");
    running.wait_version("g", "2.0.0");
    wait("the error goes", || running.status("g").unwrap().last_error.is_none());
}

#[test]
fn a_file_overrides_the_standard_plugin_and_gives_way_again() {
    let running = start(vec![guest("tag-filter").version("0.1.0").standard()], &[]);
    let handle = running.subscribe("TAG");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);
    assert_eq!(running.status("tag-filter").unwrap().origin, Origin::Standard);
    running.put("tags.wasm", &opposite("tag-filter").wasm());
    running.wait_version("tag-filter", "2.0.0");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Drop, Keep]);
    assert_eq!(running.host.plugins().len(), 2, "the overridden one is listed, too");
    running.remove("tags.wasm");
    running.wait_version("tag-filter", "0.1.0");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);
}

#[test]
fn an_override_for_some_topics_leaves_the_others() {
    let bindings = b"[plugin.tag-filter]\ntopics = ['Orders']\n";
    let standard = vec![guest("tag-filter").version("0.1.0").standard()];
    let running = start(standard, &[("tags.wasm", &opposite("tag-filter").wasm()), ("plugins.toml", bindings)]);
    assert_eq!(ask(&running.subscribe("TAG"), 0, &[KEEP]), [Drop]);
    let mut other = text("TAG", "any");
    other.topic = "Bills".into();
    assert_eq!(ask(&running.host.prepare(other).unwrap(), 0, &[KEEP]), [Keep]);
}

#[test]
fn a_refused_subscription_stops_the_swap() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    let stricter = guest("g").version("2.0.0").refuses(3).wasm();
    running.put("plugin.wasm", &stricter);
    running.wait_error("g", "group `readers` to topic `Orders` (`any`) is not accepted: no, no.");
    assert_eq!(running.status("g").unwrap().version, "1.0.0");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);

    // Without that subscription it may come.
    drop(handle);
    assert_eq!(running.status("g").unwrap().subscriptions, 0);
    running.wait_version("g", "2.0.0");
    let error = running.host.prepare(text("g", "x")).map(|_| ()).unwrap_err();
    assert_eq!((error.message.as_str(), error.retry), ("no, no.", false));
}

#[test]
fn bindings_are_part_of_the_version() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    running.put("plugins.toml", b"[plugin.g]\ntopics = ['Bills*']\n");
    wait("bound", || running.status("g").is_some_and(|status| status.bindings == ["topics=Bills* groups=*"]));
    assert_eq!(ask(&handle, 0, &[KEEP]), [CannotSay], "it is not bound to this topic any more");
    let error = running.host.prepare(text("g", "x")).map(|_| ()).unwrap_err();
    assert!(error.message.contains("not bound to topic `Orders`"), "{error}");

    running.put("plugins.toml", b"[plugin.g]\ntopisc = ['*']\n");
    running.wait_error("g", "topisc");
    assert_eq!(running.status("g").unwrap().bindings, ["topics=Bills* groups=*"], "a broken file changes nothing");

    running.put("plugins.toml", b"[plugin.g]\nenabled = false\n");
    wait("disabled", || running.status("g").is_none());
    running.remove("plugins.toml");
    wait("back", || running.status("g").is_some());
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);
}

#[test]
fn broken_bindings_at_the_start_keep_files_waiting() {
    let standard = vec![guest("tag-filter").standard()];
    let running = start(standard, &[("g.wasm", &guest("g").wasm()), ("plugins.toml", b"[plugin")]);
    assert_eq!(ask(&running.subscribe("TAG"), 0, &[KEEP]), [Keep], "standard plugins serve");
    assert_eq!(running.status("g").unwrap().state, PluginState::Refused);
    running.put("plugins.toml", b"");
    wait("mended", || running.status("g").is_some_and(|status| status.state == PluginState::Probation));
}

#[test]
fn a_version_that_fails_is_taken_back() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    let bad = guest("g")
        .version("2.0.0")
        .verdict("(if (i32.eq (local.get $flag) (i32.const 9)) (then unreachable)) (i32.const 1)");
    running.put("plugin.wasm", &bad.wasm());
    running.wait_version("g", "2.0.0");
    for first in [0, 100, 200] {
        assert_eq!(ask(&handle, first, &[KEEP, 9]), [Keep, CannotSay]);
    }
    running.wait_version("g", "1.0.0");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP, 9]), [Keep, Drop, Drop], "at once, and decided by the old version");
    let status = running.status("g").unwrap();
    assert!(status.last_error.unwrap().contains("version 2.0.0"));
    assert_eq!(status.counts.rollbacks, 1);
    // The same file is not tried again.
    running.put("plugin.wasm", &bad.wasm());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.status("g").unwrap().version, "1.0.0");
    running.put("plugin.wasm", &opposite("g").version("3.0.0").wasm());
    running.wait_version("g", "3.0.0");
}

#[test]
fn a_failing_override_gives_way_to_the_standard_plugin() {
    let standard = vec![guest("tag-filter").version("0.1.0").standard()];
    let running = start(standard, &[("tags.wasm", &guest("tag-filter").wasm())]);
    let handle = running.subscribe("TAG");
    for first in [0, 100, 200] {
        ask(&handle, first, &[TRAP]);
    }
    running.wait_version("tag-filter", "0.1.0");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [Keep, Drop]);
}

#[test]
fn equal_texts_share_a_filter_and_the_last_drop_releases_it() {
    let running = start_one(&guest("g"));
    let (first, second) = (running.subscribe("g"), running.subscribe("g"));
    assert_eq!(running.status("g").unwrap().subscriptions, 1);
    let mut other = text("g", "any");
    other.group = "others".into();
    let third = running.host.prepare(other).unwrap();
    assert_eq!(running.status("g").unwrap().subscriptions, 2);
    let session = second.session();
    drop((first, second));
    assert_eq!(running.status("g").unwrap().subscriptions, 2, "a session is a holder as well");
    drop(session);
    assert_eq!(running.status("g").unwrap().subscriptions, 1);
    assert_eq!(ask(&third, 0, &[KEEP, DROP]), [Keep, Drop]);
}

#[test]
fn a_standard_plugin_that_does_not_load_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = |standard: Vec<_>, plugins| HostConfig {
        folder: plugins,
        cache_folder: folder.path().join("cache"),
        standard: standard.leak(),
        workers: 1,
        limits: HostLimits::default(),
    };
    let broken = vec![guest("tag-filter").refuses(2).standard()];
    let error = PluginHost::start(config(broken, None), std::sync::Arc::new(())).map(|_| ()).unwrap_err();
    assert!(matches!(&error, StartError::Standard(refusal) if refusal.reason.contains("no, no.")), "{error}");
    let alone = vec![guest("tag-filter").standard()];
    let host = PluginHost::start(config(alone, None), std::sync::Arc::new(())).unwrap();
    assert_eq!(ask(&host.prepare(text("TAG", "x")).unwrap(), 0, &[KEEP, DROP]), [Keep, Drop], "without a folder");
    let missing = Some(folder.path().join("missing"));
    let error = PluginHost::start(config(Vec::new(), missing), std::sync::Arc::new(())).map(|_| ()).unwrap_err();
    assert!(matches!(error, StartError::Folder { .. }), "{error}");
}
