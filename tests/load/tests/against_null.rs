//! The tool against its own null server: every way of sending gets through, in both header encodings.

use std::net::SocketAddr;

use clap::Parser;
use waspmq_load::args::{Command, Options, VerifyCommand};
use waspmq_load::{latency, null_server, produce, verify};

/// Runs `mqbench ARGUMENTS -n SERVER` in this process.
fn mqbench(server: SocketAddr, arguments: &str) -> bool {
    let line = format!("mqbench {arguments} -n {server}");
    let done = match Options::parse_from(line.split(' ')).command {
        Command::Produce(args) => produce::run(&args, true),
        Command::Latency(args) => latency::run(&args, true),
        Command::Verify(VerifyCommand::Send(args)) => verify::send::run(&args, true),
        other => panic!("{other:?} is not for a null server"),
    };
    done.unwrap_or_else(|error| panic!("{arguments}: {error}"))
}

#[test]
fn every_way_of_sending_gets_through() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let free = "127.0.0.1:0".parse().unwrap();
    let server = runtime.block_on(async { null_server::start(free) }).unwrap();
    let address = server.local_addrs()[0];
    for arguments in [
        "produce --count 1000",
        "produce --count 1000 --header rocketmq -s 100 --in-flight 1",
        "produce --count 1000 --batch 32 --tags a,b --property a=10",
        "produce --duration 0.3 --rate 2000",
        "latency --duration 0.3 --rate 2000 --no-receive",
    ] {
        assert!(mqbench(address, arguments), "{arguments}");
    }
    let frames = server.metrics().frames_in.load(std::sync::atomic::Ordering::Relaxed);
    assert!(frames > 2000 + 1000 / 32, "{frames}");
}

#[test]
fn exactly_the_count_is_sent_and_all_of_it_is_in_the_journal() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let free = "127.0.0.1:0".parse().unwrap();
    let server = runtime.block_on(async { null_server::start(free) }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let arguments = format!("verify send --count 777 --journal {}", journal.display());
    assert!(mqbench(server.local_addrs()[0], &arguments));
    let journal = verify::journal::Journal::read(&journal).unwrap();
    let fates: Vec<_> = journal.fates.iter().flatten().collect();
    assert_eq!(fates.len(), 777);
    assert!(fates.iter().all(|fate| matches!(fate, verify::journal::Fate::Acknowledged(_))));
}

#[test]
fn sending_goes_on_when_the_server_comes_back_and_what_was_in_flight_is_unknown() {
    let start = |address: SocketAddr| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(async { null_server::start(address) }).unwrap();
        (server, runtime)
    };
    let (server, runtime) = start("127.0.0.1:0".parse().unwrap());
    let address = server.local_addrs()[0];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let arguments = format!("verify send --duration 60 --count 20000 -c 2 --journal {}", path.display());
    let sending = std::thread::spawn(move || mqbench(address, &arguments));
    while server.metrics().frames_in.load(std::sync::atomic::Ordering::Relaxed) < 1000 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // Connections are cut where they stand, as by a kill.
    runtime.shutdown_timeout(std::time::Duration::from_secs(20));
    drop(server);
    let (second, _runtime) = start(address);
    assert!(sending.join().unwrap());
    assert!(second.metrics().frames_in.load(std::sync::atomic::Ordering::Relaxed) > 0);
    let journal = verify::journal::Journal::read(&path).unwrap();
    let fates: Vec<_> = journal.fates.iter().flatten().collect();
    let unknown = fates.iter().filter(|fate| matches!(fate, verify::journal::Fate::Unknown)).count();
    assert_eq!(fates.len(), 20_000);
    assert!((1..=2 * 64).contains(&unknown), "{unknown} in flight when the server went");
}
