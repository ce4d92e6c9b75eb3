//! Swapping while two threads filter without pause: every message is decided once, by one version, and nothing waits.

mod guest;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use guest::*;
use waspmq_plugin_host::Decision::{self, Drop, Keep, NeedRecord};

/// Keeps messages whose flag is `kept`, drops all others.
fn keeper(kept: i32) -> Guest {
    let verdict = format!("(i32.eq (local.get $flag) (i32.const {kept}))");
    guest("g").version(&format!("{kept}.0.0")).verdict(&verdict)
}

#[test]
fn no_verdict_is_lost_torn_or_late() {
    let running = start_one(&keeper(0));
    let handle = running.subscribe("g");
    let versions = [keeper(1).wasm(), keeper(0).wasm()];
    let (stop, sessions, slowest_us) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let flags: Vec<i32> = (0..128).map(|n| n % 2).collect();
    let records = records(0, &flags);
    let expected =
        |kept: i32| -> Vec<Decision> { flags.iter().map(|flag| if *flag == kept { Keep } else { Drop }).collect() };
    let expected = [expected(0), expected(1)];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let began = Instant::now();
                    let mut session = handle.session();
                    let mut verdicts = vec![NeedRecord; records.len()];
                    // In pieces, so that a swap can fall between them.
                    for (records, verdicts) in records.chunks(32).zip(verdicts.chunks_mut(32)) {
                        session.by_records(records, verdicts);
                    }
                    drop(session);
                    slowest_us.fetch_max(began.elapsed().as_micros() as u64, Relaxed);
                    assert!(expected.contains(&verdicts), "all by one version: {verdicts:?}");
                    sessions.fetch_add(1, Relaxed);
                }
            });
        }
        for round in 0..20 {
            let [version, other] = [["1.0.0", "0.0.0"], ["0.0.0", "1.0.0"]][round % 2];
            running.put("plugin.wasm", &versions[round % 2]);
            let before = sessions.load(Relaxed);
            wait(&format!("{version} after {other}"), || running.status("g").unwrap().version == version);
            assert!(sessions.load(Relaxed) > before, "messages flow while a version is made ready");
        }
        stop.store(true, Relaxed);
    });
    let status = running.status("g").unwrap();
    assert_eq!((status.counts.held, status.counts.traps, status.counts.timeouts), (0, 0, 0));
    assert_eq!(status.counts.messages, sessions.load(Relaxed) * 128);
    assert_eq!(status.counts.kept, status.counts.messages / 2);
    assert_eq!(status.counts.swaps, 21);
    println!("{} sessions, slowest {:?}", sessions.load(Relaxed), Duration::from_micros(slowest_us.load(Relaxed)));
}

#[test]
fn subscriptions_that_come_and_go_during_swaps_are_served() {
    let running = start_one(&keeper(0));
    let versions = [keeper(1).wasm(), keeper(0).wasm()];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (running, stop) = (&running, &stop);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Relaxed) {
                        return;
                    }
                    let handle = running.host.prepare(text("g", &format!("{}", (n + thread) % 3))).unwrap();
                    let verdicts = ask(&handle, 0, &[0, 1]);
                    assert!(verdicts == [Keep, Drop] || verdicts == [Drop, Keep], "{verdicts:?}");
                }
            });
        }
        for round in 0..10 {
            running.put("plugin.wasm", &versions[round % 2]);
            running.wait_version("g", ["1.0.0", "0.0.0"][round % 2]);
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(running.status("g").unwrap().subscriptions, 0);
    assert_eq!(running.status("g").unwrap().counts.held, 0);
}
