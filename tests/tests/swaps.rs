//! Replacing a plugin again and again while producers send at full speed and a consumer reads through it: nothing is lost
//! or doubled, no swap fails, and it is told how long an acknowledgement took at most around the swaps and between them.
//! 5 swaps; `WASPMQ_SWAPS=100` makes it 100 (see BENCHMARKS.md, which has the command).
#![expect(clippy::unwrap_used, reason = "a test: what fails here shall fail loudly")]

use std::fs;
use std::ops::Range;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use waspmq_tests::broker::{BrokerUnderTest, Maker, maker};
use waspmq_tests::region_filter;
use waspmq_tests::standalone::mqbench;

/// Between two swaps, so that there is time to compare with.
const PAUSE: Duration = Duration::from_millis(400);
/// So much time after a swap counts as "around" it.
const AFTER_MS: u64 = 100;
/// An acknowledgement that takes longer was stalled.
const STALLED_US: u64 = 20_000;
/// Announced is "within a second"; a busy machine gets more.
const LIVE_WITHIN: Duration = Duration::from_secs(30);

const LIVE: &str = "plugin is live plugin=\"region-filter\"";

#[test]
fn full_load_does_not_notice_swaps() {
    if maker() != Maker::WaspMq {
        return;
    }
    let swaps = std::env::var("WASPMQ_SWAPS").map_or(5, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let version = |number| [("version = \"0.1.0\"", ["version = \"0.1.1\"", "version = \"0.1.2\""][number])];
    let builds =
        [0, 1].map(|number| region_filter::build(&folder.path().join(format!("v{number}")), &version(number)).unwrap());
    assert_ne!(fs::read(&builds[0]).unwrap(), fs::read(&builds[1]).unwrap(), "the same verdicts from other bytes");

    let broker = BrokerUnderTest::start_with_plugins("swaps").unwrap();
    let file = broker.plugins().unwrap().join("region-filter.wasm");
    let swap = |round: usize| {
        fs::copy(&builds[round % 2], &file).unwrap();
        let began = Instant::now();
        while broker.said().matches(LIVE).count() <= round {
            assert!(began.elapsed() < LIVE_WITHIN, "swap {round} does not come:\n{}", broker.said());
            std::thread::sleep(Duration::from_millis(5));
        }
        began.elapsed()
    };
    swap(0);

    let journal = folder.path().join("journal").display().to_string();
    let mut arguments = vec!["--json", "verify", "filtered", "--broker"];
    let address = broker.address();
    arguments.extend([
        address.as_str(),
        "--journal",
        &journal,
        "-c",
        "2",
        "--size",
        "128",
        "-d",
        "3600",
        "--until-eof",
    ]);
    arguments.extend(["--property", "region=4", "--keeps", "1"]);
    arguments.extend(["--expression-type", "SQL92", "-e", "wasm:region-filter(1)"]);
    let mut load = mqbench(&arguments).unwrap().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(2 * PAUSE);
    let mut windows = Vec::new();
    let mut took = Vec::new();
    for round in 1..=swaps {
        let from = unix_ms();
        took.push(swap(round));
        windows.push(from..unix_ms() + AFTER_MS);
        std::thread::sleep(PAUSE);
    }
    drop(load.stdin.take());
    let output = load.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let short = |part: &str| report[part].to_string();
    assert!(output.status.success(), "stored: {}\nfilter: {}", short("stored"), short("filter"));
    let said = broker.said();
    assert!(!said.contains("ERROR") && !said.contains("WARN"), "{said}");
    assert_eq!(said.matches(LIVE).count(), swaps + 1);
    assert_eq!(report["send"]["errors"], serde_json::json!({}));

    took.sort();
    println!(
        "{swaps} swaps; from copy to live: median {:.0?}, longest {:.0?}",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    tell(&report, &windows);
    broker.finish().unwrap();
}

/// What the load saw, and its longest waits around the swaps and between them.
fn tell(report: &Value, windows: &[Range<u64>]) {
    println!(
        "{:.0} sends/s: {} acknowledged, {} of {} kept messages received, none lost or doubled",
        report["send"]["messages_per_second"].as_f64().unwrap(),
        report["stored"]["acknowledged"],
        report["filter"]["received"],
        report["filter"]["wanted"],
    );
    let slowest: Vec<(u64, u64)> = serde_json::from_value(report["slowest_acks"].clone()).unwrap();
    let near = |at: u64| windows.iter().any(|window| window.contains(&at));
    for (place, around) in [("around the swaps", true), ("between them", false)] {
        let mut waits: Vec<u64> = slowest.iter().filter(|(at, _)| near(*at) == around).map(|(_, us)| *us).collect();
        waits.sort_unstable();
        let part = |of_thousand: usize| waits[(waits.len() - 1) * of_thousand / 1000] as f64 / 1000.0;
        println!(
            "longest wait for an acknowledgement in 10 ms, {place}: median {:.1} ms, 90 % {:.1} ms, 99 % {:.1} ms, most {:.1} ms; \
             over 20 ms: {} of {}",
            part(500),
            part(900),
            part(990),
            part(1000),
            waits.iter().filter(|us| **us > STALLED_US).count(),
            waits.len(),
        );
    }
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
