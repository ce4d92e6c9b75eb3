//! Plugins that trap, loop, lie, or take too much: what their messages and their neighbours get.

mod guest;

use std::time::{Duration, Instant};

use guest::*;
use waspmq_plugin_host::Decision::{self, CannotSay, Drop, Keep, NeedRecord};
use waspmq_plugin_host::{PluginEvent, PluginState};

#[test]
fn keep_and_drop_and_cannot_say() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    assert_eq!(ask(&handle, 0, &[KEEP, DROP, ERROR, KEEP]), [Keep, Drop, CannotSay, Keep]);
    assert_eq!(ask(&handle, 0, &[]), []);
    let many: Vec<i32> = (0..100).map(|n| n % 2).collect();
    let verdicts = ask(&handle, 0, &many);
    assert!(verdicts.iter().enumerate().all(|(n, verdict)| *verdict == [Keep, Drop][n % 2]), "{verdicts:?}");
    let counts = running.status("g").unwrap().counts;
    assert_eq!((counts.messages, counts.kept, counts.dropped, counts.held, counts.errors), (104, 52, 51, 1, 1));
    assert_eq!(counts.calls, 1 + 4, "batches of 32");
}

#[test]
fn stages_follow_what_the_plugin_needs() {
    let check = |decides: &'static str, entries: [Decision; 3], records: [Decision; 3]| {
        let running = start_one(&guest("g").decides(decides));
        let handle = running.subscribe("g");
        assert_eq!(handle.session().keeps_all(), decides == "all");
        assert_eq!(ask_entries(&handle, 0, &[KEEP, DROP, ERROR]), entries, "{decides}");
        assert_eq!(ask(&handle, 0, &[KEEP, DROP, ERROR]), records, "{decides}");
    };
    check("all", [Keep; 3], [Keep; 3]);
    check("entries", [Keep, Drop, CannotSay], [Keep, Drop, CannotSay]);
    check("tokens", [NeedRecord; 3], [Keep, Drop, CannotSay]);
    check("entries_then_tokens", [Keep, Drop, NeedRecord], [Keep, Drop, CannotSay]);
}

#[test]
fn a_poison_message_is_alone_in_having_no_verdict() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    let mut flags = vec![KEEP; 32];
    (flags[3], flags[9], flags[20]) = (DROP, TRAP, DROP);
    let mut expected = vec![Keep; 32];
    (expected[3], expected[9], expected[20]) = (Drop, CannotSay, Drop);
    assert_eq!(ask(&handle, 100, &flags), expected);
    let status = running.status("g").unwrap();
    assert_eq!(status.state, PluginState::Probation);
    assert_eq!(status.poison.len(), 1);
    assert_eq!((status.poison[0].queue_offset, status.poison[0].physical_offset), (109, 109_000));
    assert!(status.poison[0].reason.contains("unreachable"), "{:?}", status.poison);
    assert_eq!(status.counts.traps, 2, "once with its neighbours, once alone");

    // Asked again and again, as a held message is, it costs no more traps, and does not stop the plugin for others.
    for _ in 0..10 {
        assert_eq!(ask(&handle, 100, &flags), expected);
    }
    assert_eq!(running.status("g").unwrap().counts.traps, 2);
    std::thread::sleep(Duration::from_millis(320));
    assert_eq!(ask(&handle, 100, &flags), expected, "tried once more after the pause");
    assert_eq!(running.status("g").unwrap().counts.traps, 4);
}

#[test]
fn an_endless_loop_ends() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    let began = Instant::now();
    let verdicts = ask(&handle, 0, &[KEEP, DROP, LOOP, KEEP]);
    let took = began.elapsed();
    assert_eq!(verdicts[..3], [Keep, Drop, CannotSay]);
    // 15 ms on an idle machine; on a busy one, wall time ends each of the two calls after a second.
    assert!(took < Duration::from_millis(2500), "{took:?}");
    let status = running.status("g").unwrap();
    assert_eq!((status.counts.timeouts, status.counts.traps), (2, 0));
    assert!(status.poison[0].reason.contains("10 ms"), "{:?}", status.poison);
    assert_eq!(ask(&handle, 10, &[KEEP, DROP]), [Keep, Drop], "and the plugin serves on");
}

#[test]
fn three_faults_open_the_breaker_and_a_trial_closes_it() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    for first in [0, 100, 200] {
        assert_eq!(ask(&handle, first, &[TRAP, KEEP]), [CannotSay, Keep]);
    }
    assert_eq!(running.status("g").unwrap().state, PluginState::Quarantined);
    assert_eq!(ask(&handle, 300, &[KEEP, DROP]), [CannotSay, CannotSay], "held, not dropped, not delivered");
    wait("quarantine is announced", || {
        running.events().iter().any(|event| matches!(event, PluginEvent::Quarantined { .. }))
    });
    assert!(running.status("g").unwrap().last_error.unwrap().contains("three times"));

    std::thread::sleep(Duration::from_millis(310));
    assert_eq!(ask(&handle, 300, &[KEEP, DROP]), [Keep, Drop]);
    assert_ne!(running.status("g").unwrap().state, PluginState::Quarantined);
    wait("recovery is announced", || {
        running.events().iter().any(|event| matches!(event, PluginEvent::Recovered { .. }))
    });
}

#[test]
fn deliver_is_for_those_who_ask_for_it() {
    let guest = guest("g").wasm();
    let bindings = b"[plugin.g]\non_fault = 'deliver'\n";
    let running = start(Vec::new(), &[("g.wasm", &guest), ("plugins.toml", bindings)]);
    let handle = running.subscribe("g");
    for first in [0, 100, 200] {
        assert_eq!(ask(&handle, first, &[DROP, TRAP, ERROR]), [Drop, Keep, Keep]);
    }
    assert_eq!(ask(&handle, 300, &[DROP, DROP]), [Keep, Keep], "the breaker is open");
    let counts = running.status("g").unwrap().counts;
    assert_eq!((counts.delivered_by_policy, counts.held), (8, 0));
}

#[test]
fn lies_are_no_verdicts() {
    let out = |at: u32| guest("g").arenas[2] + at;
    let lies = [
        ("bits beyond", format!("(i64.store (i32.const {}) (i64.const 0xff)) (i32.const 0)", out(0))),
        (
            "both at once",
            format!(
                "(i64.store (i32.const {}) (i64.const 1)) (i64.store (i32.const {}) (i64.const 1)) (i32.const 0)",
                out(0),
                out(8)
            ),
        ),
        (
            "nothing written",
            format!("(memory.fill (i32.const {}) (i32.const 0xff) (i32.const 16)) (i32.const 0)", out(0)),
        ),
        ("a fault number", "(i32.const 3)".to_string()),
        ("an unknown number", "(i32.const -77)".to_string()),
    ];
    for (name, finish) in lies {
        // Only about real messages: the self-test would find it out.
        let honest_at_first = format!(
            "(if (i32.load offset=4096 (i32.const 48)) (then (return (block (result i32) {finish})))) (i32.const 0)"
        );
        let running = start_one(&guest("g").finish(&honest_at_first));
        let handle = running.subscribe("g");
        assert_eq!(ask(&handle, 0, &[KEEP, DROP]), [CannotSay; 2], "{name}");
        assert!(running.status("g").unwrap().counts.traps > 0, "{name}");
    }
}

#[test]
fn memory_is_capped_and_the_trap_says_so() {
    let grow = "(if (i32.and (i32.eq (local.get $flag) (i32.const 7)) (i32.eq (memory.grow (i32.const 64)) (i32.const -1))) (then unreachable)) (i32.const 1)";
    let running = start_one(&guest("g").verdict(grow));
    let handle = running.subscribe("g");
    assert_eq!(ask(&handle, 0, &[KEEP, 7]), [Keep, CannotSay]);
    let reason = &running.status("g").unwrap().poison[0].reason;
    assert!(reason.contains("more memory"), "{reason}");

    // Growing is allowed up to the limit; an instance that took most of it is not kept.
    let grow = "(drop (memory.grow (i32.const 10))) (i32.const 1)";
    let running = start_one(&guest("g").verdict(grow));
    let handle = running.subscribe("g");
    for first in 0..50 {
        assert_eq!(ask(&handle, first, &[KEEP; 3]), [Keep; 3]);
    }
    assert_eq!(running.status("g").unwrap().counts.traps, 0);
}

#[test]
fn a_log_flood_is_counted() {
    let import = r#"(import "wq" "log" (func $log (param i32 i32 i32)))"#;
    let flood = "(call $log (i32.const 1) (i32.const -5) (i32.const 100)) (call $log (i32.const 9) (i32.const 0) (i32.const -1)) (i32.const 1)";
    let running = start_one(&guest("g").extra(import).verdict(flood));
    let handle = running.subscribe("g");
    for first in 0..10 {
        assert_eq!(ask(&handle, first, &[KEEP; 32]), [Keep; 32], "pointers outside its memory are no harm");
    }
    assert!(running.status("g").unwrap().counts.log_lines_dropped > 500);
}

#[test]
fn a_message_too_big_for_the_arena_goes_by_policy() {
    let mut small = guest("g");
    small.arenas = [4096, 1024, 4096 + 1024, 8192];
    let running = start_one(&small);
    let handle = running.subscribe("g");
    let large = [b"a\x01".as_slice(), &[b'x'; 2000]].concat();
    let mut records = records(0, &[KEEP; 12]);
    records[5].properties = &large;
    let mut verdicts = [NeedRecord; 12];
    handle.session().by_records(&records, &mut verdicts);
    let mut expected = [Keep; 12];
    expected[5] = CannotSay;
    assert_eq!(verdicts, expected, "and the others in as many calls as it takes");
    assert_eq!(running.status("g").unwrap().counts.traps, 0);
}

#[test]
fn sessions_without_an_instance_hold() {
    let running = start_one(&guest("g"));
    let handle = running.subscribe("g");
    // Two workers and two spare ones.
    let mut sessions: Vec<_> = (0..5).map(|_| handle.session()).collect();
    let mut all = Vec::new();
    for session in &mut sessions {
        let mut verdicts = [NeedRecord; 1];
        session.by_records(&records(0, &[KEEP]), &mut verdicts);
        all.extend(verdicts);
    }
    assert_eq!(all, [Keep, Keep, Keep, Keep, CannotSay]);
    drop(sessions);
    assert_eq!(ask(&handle, 0, &[KEEP]), [Keep]);
}
