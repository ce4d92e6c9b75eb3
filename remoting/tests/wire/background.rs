//! Connections that give way: they are served by threads of their own, come back, and end as the others do.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use waspmq_remoting::{CloseReason, DrainReport, ServerConfig};

use crate::fixture::{ECHO, GIVE_WAY, HOLD, Running, SOON, Socket, WHERE, request, serve_with};

const THREADS: &str = "background";
const LONG_MS: u32 = 60_000;

/// A server with a background.
fn serve() -> (Running, Runtime) {
    let runtime = Builder::new_multi_thread().worker_threads(2).thread_name(THREADS).enable_all().build().unwrap();
    let mut config = ServerConfig::new(vec!["127.0.0.1:0".parse().unwrap()]);
    config.background = Some(runtime.handle().clone());
    (serve_with(config), runtime)
}

/// Whether a request of `socket` is handled in the background.
async fn is_behind(socket: &mut Socket) -> bool {
    socket.send(&request(WHERE, 1, "")).await;
    socket.next().await.unwrap().body == THREADS
}

async fn give_way(socket: &mut Socket, ms: u32) {
    socket.send(&request(GIVE_WAY, 1, ms.to_be_bytes().to_vec())).await;
    assert!(socket.next().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_way_is_served_in_the_background_and_comes_back() {
    let (running, runtime) = serve();
    let (mut reader, mut other) = (running.socket().await, running.socket().await);
    assert!(!is_behind(&mut reader).await);
    give_way(&mut reader, LONG_MS).await;
    assert!(is_behind(&mut reader).await);
    assert!(!is_behind(&mut other).await, "nobody else goes with it");
    // A shorter time does not take back a longer one.
    give_way(&mut reader, 0).await;
    assert!(is_behind(&mut reader).await);

    give_way(&mut other, 50).await;
    let start = Instant::now();
    while is_behind(&mut other).await {
        assert!(start.elapsed() < SOON, "it never came back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_before_moving_is_finished_after_it() {
    let (running, runtime) = serve();
    let mut socket = running.socket().await;
    socket.send(&request(HOLD, 1, "")).await;
    give_way(&mut socket, LONG_MS).await;
    // Half a frame here, the other half there.
    let frame = request(ECHO, 2, "in two halves").encode();
    let (begin, end) = frame.split_at(frame.len() / 2);
    tokio::io::AsyncWriteExt::write_all(&mut socket.stream, begin).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    tokio::io::AsyncWriteExt::write_all(&mut socket.stream, end).await.unwrap();
    assert_eq!(socket.next().await.unwrap().body, "in two halves");
    let held = running.actor.held.lock().unwrap().pop().unwrap();
    held.send(waspmq_protocol::RemotingCommand::response(waspmq_protocol::ResponseCode::PULL_NOT_FOUND));
    assert_eq!(socket.next().await.unwrap().opaque, 1);

    drop(socket);
    running.until("closed", |running| running.closed(CloseReason::PeerClosed) == 1).await;
    assert!(running.server.connections().is_empty());
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_for_the_background_too() {
    let (running, runtime) = serve();
    let mut socket = running.socket().await;
    give_way(&mut socket, LONG_MS).await;
    assert!(is_behind(&mut socket).await);
    assert_eq!(running.server.drain(SOON).await, DrainReport { open: 1, cut: 0 });
    assert!(socket.next().await.is_none());
    assert_eq!(running.closed(CloseReason::Drained), 1);
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_that_ends_closes_its_connections_and_no_others() {
    let (running, runtime) = serve();
    let (mut reader, mut other) = (running.socket().await, running.socket().await);
    give_way(&mut reader, LONG_MS).await;
    assert!(is_behind(&mut reader).await);
    runtime.shutdown_background();
    assert!(reader.next().await.is_none());
    other.works(2).await;
    assert_eq!(running.server.connections().len(), 1);
    // Who would go there now is closed as well, not forgotten.
    other.send(&request(GIVE_WAY, 1, LONG_MS.to_be_bytes().to_vec())).await;
    assert!(other.next().await.is_none());
    running.until("closed", |running| running.server.connections().is_empty()).await;
}
