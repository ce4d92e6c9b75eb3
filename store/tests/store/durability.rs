//! Waiting for the disk, failing syncs, full disks.

use std::time::Duration;

use waspmq_store::{AppendError, Durability, FlushMode, OpenError};

use crate::rig::{Rig, append, bodies, settle, wait_durable};

const LONG: Duration = Duration::from_secs(10);

#[test]
fn what_was_waited_for_survives_a_power_cut() {
    for seed in 0..20 {
        let mut rig = Rig::new();
        rig.config.flush = FlushMode::Sync;
        let store = rig.open();
        for at in 0..30u8 {
            append(&store, "T", i32::from(at % 3), &[at; 100]).unwrap();
        }
        assert_eq!(wait_durable(&store, LONG), Durability::Durable);
        let rig = rig.power_cut(seed);
        let again = rig.open();
        for queue in 0..3 {
            let expected: Vec<_> = (0..30u8).filter(|at| i32::from(at % 3) == queue).map(|at| vec![at; 100]).collect();
            assert_eq!(bodies(&again, "T", queue), expected, "seed {seed}");
        }
    }
}

#[test]
fn with_sync_flush_readers_see_only_what_is_on_the_disk() {
    let mut rig = Rig::new();
    rig.config.flush = FlushMode::Sync;
    rig.config.flush_interval = Duration::from_secs(1000);
    rig.config.flush_thorough_interval = Duration::from_secs(1000);
    let store = rig.open();
    append(&store, "T", 0, b"not yet").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    assert!(bodies(&store, "T", 0).is_empty());
    assert_eq!(wait_durable(&store, LONG), Durability::Durable);
    settle(&store);
    assert_eq!(bodies(&store, "T", 0), [b"not yet"]);
}

#[test]
fn async_flush_reaches_the_disk_by_itself() {
    let mut rig = Rig::new();
    rig.config.flush_pages_min = 0;
    let store = rig.open();
    let end = append(&store, "T", 0, b"soon").unwrap().end;
    for _ in 0..1000 {
        if store.durable() >= end {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing was flushed in five seconds");
}

#[test]
fn a_failed_sync_poisons_the_log_until_a_restart_and_reads_go_on() {
    let rig = Rig::new();
    let store = rig.open();
    append(&store, "T", 0, b"first").unwrap();
    assert_eq!(wait_durable(&store, LONG), Durability::Durable);
    rig.storage.fail_syncs(true);
    append(&store, "T", 0, b"second").unwrap();
    let Durability::Failed { reason } = wait_durable(&store, LONG) else { panic!("a failed sync was not told") };
    assert!(reason.contains("commitlog/00000000000000000000") && reason.contains("does not sync"), "{reason}");
    rig.storage.fail_syncs(false);
    assert!(
        matches!(append(&store, "T", 0, b"third"), Err(AppendError::Poisoned { reason: again }) if again == reason)
    );
    assert!(matches!(wait_durable(&store, LONG), Durability::Failed { .. }), "no second try");
    assert!(matches!(store.refusal(), Some(AppendError::Poisoned { .. })), "nothing lifts it");
    settle(&store);
    assert_eq!(bodies(&store, "T", 0), [&b"first"[..], b"second"]);
    let report = store.shutdown();
    assert!(!report.clean);
    drop(store);
    let again = rig.open();
    assert!(!again.open_report().clean);
    assert_eq!(bodies(&again, "T", 0), [&b"first"[..], b"second"]);
    append(&again, "T", 0, b"third").unwrap();
}

#[test]
fn a_full_disk_refuses_messages_and_takes_them_again_when_there_is_room() {
    let rig = Rig::new();
    let store = rig.open();
    rig.storage.set_room(Some(3 * 4096 + 1000));
    let refused = (0..1000).find_map(|_| append(&store, "T", 0, &[7; 1000]).err()).unwrap();
    let AppendError::DiskFull { reason } = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("commitlog/0000"), "{reason}");
    assert!(append(&store, "T", 0, b"short").is_ok(), "what is left of the last file is used");
    rig.storage.set_room(None);
    let accepted = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        append(&store, "T", 0, &[8; 1000]).is_ok()
    });
    assert!(accepted);
    settle(&store);
    let stored = bodies(&store, "T", 0);
    assert_eq!(stored.last().unwrap()[..], [8; 1000]);
}

#[test]
fn a_closed_store_refuses_and_says_how_much_it_holds() {
    let rig = Rig::new();
    let store = rig.open();
    for _ in 0..10 {
        append(&store, "T", 0, b"kept").unwrap();
    }
    let report = store.shutdown();
    assert_eq!((report.messages, report.clean), (10, true));
    assert_eq!(store.shutdown(), report);
    assert!(matches!(append(&store, "T", 0, b"late"), Err(AppendError::ShuttingDown)));
    assert_eq!(rig.open().open_report().messages, 10, "the folder is free again");
}

#[test]
fn wrong_settings_are_named() {
    let mut rig = Rig::new();
    rig.config.commit_log_file_bytes = 100;
    assert!(matches!(rig.try_open(), Err(OpenError::Config { reason }) if reason.contains("mappedFileSizeCommitLog")));
}
