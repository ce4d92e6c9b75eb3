//! What a scraper sees.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use waspmq_tests::metrics::{self, SHOWN, request, scrape, value};
use waspmq_tests::standalone::Standalone;
use waspmq_tests::wire::Connection;

use crate::asking::{create_topic, send};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn the_store_is_shown_under_rocketmqs_names() {
    let mut broker = Standalone::prepare("metrics").unwrap();
    let page = broker.start(&[&SHOWN[..], &["--set", "metricsLabel=zone:a,rack:r 7"]].concat()).unwrap();
    let address = metrics::address(&page).unwrap();
    let before = scrape(&address).unwrap();
    assert!(!before.contains("message_reserve_time"), "an empty store has no oldest message:\n{before}");
    let mut connection = Connection::open(&broker.address()).unwrap();
    create_topic(&mut connection, "Shown", 1).unwrap();
    for _ in 0..3 {
        send(&mut connection, "Shown", 0, &[1; 1000]).unwrap();
    }
    let begun = Instant::now();
    let after = loop {
        let scraped = scrape(&address).unwrap();
        // What is acknowledged is in the log, and dispatched a moment later.
        let shown = |name| value(&scraped, name, &[]).unwrap();
        if shown("waspmq_store_messages") == 3.0 && shown("rocketmq_storage_dispatch_behind_bytes") == 0.0 {
            break scraped;
        }
        assert!(begun.elapsed() < SOON, "{scraped}");
    };
    let labels = [
        "cluster=\"DefaultCluster\"",
        "node_type=\"broker\"",
        "node_id=\"broker-a\"",
        "zone=\"a\"",
        "rack=\"r 7\"",
        "storage_type=\"local\"",
        "storage_medium=\"disk\"",
    ];
    let shown = |name| value(&after, name, &labels).unwrap();
    assert!(shown("rocketmq_storage_size_bytes") > 0.0);
    assert!(shown("rocketmq_storage_flush_behind_bytes") < 5000.0);
    assert_eq!(shown("rocketmq_storage_dispatch_behind_bytes"), 0.0);
    assert!(shown("rocketmq_storage_message_reserve_time_milliseconds") < 10_000.0);
    let shown = |name| value(&after, name, &labels[..5]).unwrap();
    assert!((3000.0..10_000.0).contains(&shown("waspmq_store_log_bytes")));
    assert!(shown("waspmq_disk_available_bytes") > 0.0);
    assert_eq!(shown("waspmq_store_damaged_reads_total"), 0.0);
    assert_eq!(shown("waspmq_messages_refused"), 0.0);
    assert!(after.ends_with("# EOF\n"), "{after}");
}

#[test]
fn whatever_else_is_asked_there_does_no_harm() {
    let mut broker = Standalone::prepare("metrics-else").unwrap();
    let address = metrics::address(&broker.start(&SHOWN).unwrap()).unwrap();
    assert!(request(&address, "GET", "/").unwrap().starts_with("HTTP/1.1 404 "));
    assert!(request(&address, "POST", "/metrics").unwrap().starts_with("HTTP/1.1 405 "));
    // Half a request on some connections, and none on others, fewer than are served at a time.
    let mut silent: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(&address).unwrap()).collect();
    silent[0].write_all(b"GET /metr").unwrap();
    silent[1].write_all(&[0; 10_000]).unwrap();
    let begun = Instant::now();
    scrape(&address).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "the silent ones were waited for");
}

#[test]
fn without_being_asked_nothing_is_shown() {
    let mut broker = Standalone::prepare("unseen").unwrap();
    let page = broker.start(&[]).unwrap();
    assert!(!page.contains("metrics"), "{page}");
}
