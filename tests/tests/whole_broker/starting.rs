//! Starts that are refused: one sentence with cause and next step on standard error, an exit code, no debug dump.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use waspmq_tests::standalone::{Ended, Signal, Standalone};
use waspmq_tests::wire::Connection;

use crate::asking::{read_queue, send};

const SOON: Duration = Duration::from_secs(30);

/// The broker ended by itself and said one sentence that has each of `parts` in it.
fn assert_refused(ended: &Ended, parts: &[&str]) {
    let Ended { status, out, err, .. } = ended;
    assert_eq!(status.code(), Some(1), "{err}");
    let (log, sentence): (Vec<&str>, Vec<&str>) = err.lines().partition(|line| line.contains(" INFO "));
    assert_eq!(sentence.len(), 1, "one sentence is enough:\n{err}");
    assert!(sentence[0].starts_with("broker: ") && err.ends_with(&format!("{}\n", sentence[0])), "{err}");
    assert!(log.iter().all(|line| line.is_ascii() && !line.contains('\x1b')), "colours in a file: {err}");
    for part in parts {
        assert!(sentence[0].contains(part), "{part:?} is not in: {err}");
    }
    for debris in ["panicked", "RUST_BACKTRACE", "Os {", "Error {", "kind: ", "Some(", "Err("] {
        assert!(!err.contains(debris), "{err}");
    }
    assert!(!out.contains("ready after"), "{out}");
}

fn refused(broker: &mut Standalone, options: &[&str], parts: &[&str]) {
    broker.launch(options).unwrap();
    assert_refused(&broker.wait(SOON).unwrap(), parts);
}

#[test]
fn a_port_in_use() {
    let mut broker = Standalone::prepare("port").unwrap();
    for address in [broker.address(), broker.namesrv()] {
        let holder = TcpListener::bind(&address).unwrap();
        refused(&mut broker, &[], &[&address, "another process", "port"]);
        drop(holder);
    }
    // What failed leaves nothing behind: the folder was closed properly.
    let page = broker.start(&[]).unwrap();
    assert!(page.contains(" 0 messages\n"), "{page}");
}

#[test]
fn a_data_folder_that_a_running_broker_uses() {
    let first = Standalone::serving("locked", &[]).unwrap();
    let mut second = Standalone::prepare("locking").unwrap();
    let data = first.data().display().to_string();
    refused(&mut second, &["--set", &format!("storePathRootDir={data}")], &[&data, "in use by process", "--data"]);
    // The first one did not notice.
    send(&mut Connection::open(&first.address()).unwrap(), "T", 0, b"still there").unwrap();
}

#[test]
fn the_data_of_another_broker() {
    let mut broker = Standalone::serving("identity", &["--set", "brokerName=north"]).unwrap();
    send(&mut Connection::open(&broker.address()).unwrap(), "T", 0, b"of north").unwrap();
    broker.end(Signal::TERM, SOON).unwrap();
    let identity = broker.data().join("waspmq/identity.json");
    let written = fs::read_to_string(&identity).unwrap();
    let value: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(
        value,
        serde_json::json!({ "brokerClusterName": "DefaultCluster", "brokerName": "north", "brokerId": 0 })
    );

    let data = broker.data().display().to_string();
    let file = identity.display().to_string();
    let ways_on = ["brokerName=north", "brokerClusterName=DefaultCluster", "--data", "delete", &data, &file];
    refused(&mut broker, &["--set", "brokerName=south"], &[&["north", "south"], &ways_on[..]].concat());
    refused(
        &mut broker,
        &["--set", "brokerName=north", "--set", "brokerClusterName=Other"],
        &[&["DefaultCluster", "Other"], &ways_on[..]].concat(),
    );
    assert_eq!(fs::read_to_string(&identity).unwrap(), written);

    let kept = |broker: &Standalone| read_queue(&mut Connection::open(&broker.address()).unwrap(), "T", 0).unwrap();
    broker.start(&["--set", "brokerName=north"]).unwrap();
    assert_eq!(kept(&broker), [b"of north"]);
    broker.end(Signal::TERM, SOON).unwrap();
    // Taken over, as the sentence says. A folder of RocketMQ's own broker has no such file either.
    fs::remove_file(&identity).unwrap();
    broker.start(&["--set", "brokerName=south"]).unwrap();
    assert_eq!(kept(&broker), [b"of north"]);
    broker.end(Signal::TERM, SOON).unwrap();
    refused(&mut broker, &["--set", "brokerName=north"], &["holds the data of broker south"]);
    // Nobody can tell.
    fs::write(&identity, "{\"brokerName\"").unwrap();
    refused(&mut broker, &["--set", "brokerName=south"], &[&file, "whose data", "delete the file"]);
}

#[test]
fn a_configuration_file_that_cannot_be_used() {
    let mut broker = Standalone::prepare("config").unwrap();
    let file = broker.folder().join("broker.conf");
    let path = file.display().to_string();
    refused(&mut broker, &["-c", &path], &[&path, "cannot be read", "No such file"]);
    refused(&mut broker, &["-c", "/"], &["configuration file / cannot be read"]);
    fs::write(&file, [0xff, 0xfe, b'a', b'=']).unwrap();
    refused(&mut broker, &["-c", &path], &[&path, "cannot be read", "UTF-8"]);
    for (line, parts) in [
        ("flushDiskType=FAST", &["flushDiskType", "FAST", "ASYNC_FLUSH or SYNC_FLUSH"][..]),
        ("defaultTopicQueueNums=many", &["defaultTopicQueueNums", "many", "number"]),
        ("defaultTopicQueueNums=0", &["defaultTopicQueueNums=0", "1 to 65536"]),
        ("brokerName=a b", &["brokerName=a b"]),
        ("maxMessageSize=-1", &["maxMessageSize", "-1", "number"]),
        ("maxHashSlotNum=0", &["maxHashSlotNum must not be 0"]),
        ("namesrvAddr=nowhere", &["namesrvAddr=nowhere", "host:port"]),
        ("aclEnable=true", &["aclEnable=true", "not served"]),
    ] {
        fs::write(&file, format!("{line}\n")).unwrap();
        refused(&mut broker, &["-c", &path], parts);
    }
    refused(&mut broker, &["--set", "brokerName"], &["--set", "KEY=VALUE"]);
}

#[test]
fn a_data_folder_that_cannot_be_made() {
    let mut broker = Standalone::prepare("folder").unwrap();
    fs::write(broker.data(), "a file").unwrap();
    let data = broker.data().display().to_string();
    refused(&mut broker, &[], &[&data]);
}

#[test]
fn an_unknown_key_is_mentioned_and_the_start_goes_on() {
    let mut broker = Standalone::prepare("unknown").unwrap();
    let file = broker.folder().join("broker.conf");
    fs::write(&file, "flushDiskTyp=SYNC_FLUSH\nsomethingElse=1\n").unwrap();
    let page = broker.start(&["-c", &file.display().to_string()]).unwrap();
    assert!(page.contains("flushDiskTyp") && page.contains("did you mean flushDiskType?"), "{page}");
    assert!(page.contains("somethingElse"), "{page}");
    send(&mut Connection::open(&broker.address()).unwrap(), "T", 0, b"serves").unwrap();
}
