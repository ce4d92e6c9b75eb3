//! `broker store …` on the folder of a broker that ran: whole, damaged, repaired, shown.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use waspmq_tests::standalone::{Signal, Standalone};
use waspmq_tests::wire::Connection;

use crate::asking::{SEND_MESSAGE, SUCCESS, create_topic, send_fields};

const MESSAGES: usize = 500;

/// A folder with messages whose broker was ended by `signal`.
fn filled(signal: Signal) -> Standalone {
    let mut broker = Standalone::serving("store-tool", &[]).unwrap();
    let mut connection = Connection::open(&broker.address()).unwrap();
    create_topic(&mut connection, "Tool", 4).unwrap();
    for at in 0..MESSAGES {
        connection.send(SEND_MESSAGE, &send_fields("Tool", at as i32 % 4), format!("body {at}").as_bytes()).unwrap();
        assert_eq!(connection.receive().unwrap().code, SUCCESS);
    }
    broker.end(signal, Duration::from_secs(20)).unwrap();
    broker
}

/// Exit code, standard output and standard error of `broker store …`.
fn run(broker: &Standalone, words: &[&str]) -> (i32, String, String) {
    let program = broker.command(&[]).unwrap().get_program().to_owned();
    let output = Command::new(program).arg("store").args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn check(broker: &Standalone) -> (i32, String) {
    let data = broker.data().display().to_string();
    let (code, out, err) = run(broker, &["check", &data]);
    (code, out + &err)
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_folder_at_rest_is_whole_and_its_messages_can_be_shown() {
    for signal in [Signal::TERM, Signal::KILL] {
        let broker = filled(signal);
        let (code, said) = check(&broker);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(&format!("{MESSAGES} messages")) && said.contains("nothing is damaged"), "{said}");
        let data = broker.data().display().to_string();
        let (code, shown, _) = run(&broker, &["dump", &data, "--topic", "Tool", "--queue", "1", "--bodies"]);
        let lines: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((code, lines.len()), (0, MESSAGES / 4));
        assert_eq!((&lines[2]["body"], &lines[2]["queueOffset"]), (&"body 9".into(), &2.into()));
    }
}

#[test]
fn damage_is_named_served_around_and_queues_are_repaired() {
    let mut broker = filled(Signal::TERM);
    let log = broker.data().join("commitlog/00000000000000000000");
    let body = b"body 100";
    let at = fs::read(&log).unwrap().windows(body.len()).position(|bytes| bytes == body).unwrap();
    overwrite(&log, at as u64, b"BODY");
    overwrite(&broker.data().join("consumequeue/Tool/2/00000000000000000000"), 40, &[9; 8]);
    // In the topic of the message before it, where RocketMQ has no checksum.
    let topic = fs::read(&log).unwrap()[..at].windows(4).rposition(|bytes| bytes == b"Tool").unwrap();
    overwrite(&log, topic as u64, b"t");
    let (code, said) = check(&broker);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("DAMAGED") && said.contains("checksum") && said.contains("topic"), "{said}");
    assert!(said.contains("Tool queue 2 offset 2 "), "{said}");
    let data = broker.data().display().to_string();
    let (code, out, _) = run(&broker, &["repair", &data]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("made anew") && out.contains("messages are damaged"), "{out}");
    assert!(!out.contains("Tool queue 2 offset 2 "), "{out}");
    broker.start(&[]).unwrap();
    let (code, said) = check(&broker);
    assert!(code == 1 && said.contains("in use by process"), "{said}");
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let broker = Standalone::prepare("store-none").unwrap();
    for verb in ["check", "repair", "dump"] {
        let folder = broker.folder().display().to_string();
        let (code, _, err) = run(&broker, &[verb, &folder]);
        assert!(code == 1 && err.contains("holds no messages"), "{err}");
        assert!(!broker.folder().join("lock").exists(), "nothing is made");
    }
}
