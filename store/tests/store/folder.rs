//! A real folder: two processes at once, and a process that is killed.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use waspmq_store::{MessageStore, NoListener, OpenError, StoreConfig, clock::SystemClock};

use crate::rig::{append, bodies};

const FOLDER: &str = "WASPMQ_TEST_FOLDER";

fn open(folder: &str) -> Result<Arc<MessageStore>, OpenError> {
    let config = StoreConfig { commit_log_file_bytes: 1 << 20, ..StoreConfig::new(folder) };
    MessageStore::open(config, Arc::new(NoListener), Arc::new(SystemClock::new()))
}

/// Runs as a process of its own: stores messages and says so, one line each, until it is killed.
#[test]
fn child_stores_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = open(&folder).unwrap();
    let mut stdout = std::io::stdout().lock();
    for number in 0.. {
        let body = format!("message {number} {}", "x".repeat(number % 3000));
        append(&store, "T", (number % 4) as i32, body.as_bytes()).unwrap();
        writeln!(stdout, "\nstored {number}").unwrap();
    }
}

fn start_child(folder: &str) -> (Child, impl Iterator<Item = usize>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "folder::child_stores_until_it_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("stored ")?.parse().ok());
    (child, numbers)
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let mut acked_before = 0;
    for round in 1..=3 {
        let (mut child, mut acks) = start_child(folder);
        let some = acks.by_ref().nth(1500 * round).unwrap();
        child.kill().unwrap();
        let acked = acks.last().unwrap_or(some) + 1;
        child.wait().unwrap();
        let store = open(folder).unwrap();
        assert!(!store.open_report().clean);
        let stored: usize = (0..4).map(|queue| bodies(&store, "T", queue).len()).sum();
        // One message may have been stored and its acknowledgement lost.
        assert!((acked..=acked + 1).contains(&(stored - acked_before)), "{acked} acknowledged, {stored} stored");
        assert_eq!(store.open_report().messages as usize, stored);
        let numbers =
            |queue| bodies(&store, "T", queue).into_iter().filter(|body| body.starts_with(b"message ")).count();
        assert_eq!((0..4).map(numbers).sum::<usize>(), stored);
        acked_before = stored;
        if round == 2 {
            assert!(store.shutdown().clean);
        }
    }
}

#[test]
fn a_second_process_is_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let (mut child, mut acks) = start_child(folder);
    acks.next().unwrap();
    let error = open(folder).unwrap_err();
    let expected = format!("is in use by process {}", child.id());
    assert!(error.to_string().contains(&expected) && error.to_string().contains(folder), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    open(folder).unwrap();
}

#[test]
fn a_second_store_of_one_process_is_refused_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let first = open(folder).unwrap();
    assert!(matches!(open(folder), Err(OpenError::Locked { .. })));
    drop(first);
    open(folder).unwrap();
}
