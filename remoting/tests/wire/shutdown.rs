//! Draining: nothing new, late answers still sent, everything closed by the deadline.

use std::time::{Duration, Instant};

use waspmq_protocol::{RemotingCommand, ResponseCode};
use waspmq_remoting::{Client, ClientConfig, CloseReason, DrainReport, Limits};

use crate::fixture::{ECHO, HOLD, SOON, request, serve};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_answers_what_is_held_and_turns_new_requests_away() {
    let running = serve(Limits::default());
    let (mut new, mut old, mut idle) = (running.socket().await, running.socket().await, running.socket().await);
    idle.works(1).await;
    for socket in [&mut new, &mut old] {
        socket.send(&request(HOLD, 1, "")).await;
    }
    running.until("held", |running| running.actor.held.lock().unwrap().len() == 2).await;
    let drain = async {
        let start = Instant::now();
        let report = running.server.drain(SOON).await;
        (report, start.elapsed())
    };
    let clients = async {
        assert!(idle.next().await.is_none());
        assert!(tokio::net::TcpStream::connect(running.address()).await.is_err());
        new.send(&request(ECHO, 2, "")).await;
        let answer = new.next().await.unwrap();
        assert_eq!((answer.opaque, answer.code), (2, ResponseCode::GO_AWAY.0));
        let mut from_old = request(ECHO, 2, "");
        from_old.version = 317;
        old.send(&from_old).await;
        assert_eq!(old.next().await.unwrap().code, 0);
        for responder in std::mem::take(&mut *running.actor.held.lock().unwrap()) {
            responder.send(RemotingCommand::response(ResponseCode::PULL_NOT_FOUND));
        }
        for socket in [&mut new, &mut old] {
            let answer = socket.next().await.unwrap();
            assert_eq!((answer.opaque, answer.code), (1, ResponseCode::PULL_NOT_FOUND.0));
            assert!(socket.next().await.is_none());
        }
    };
    let ((report, took), ()) = tokio::join!(drain, clients);
    assert_eq!(report, DrainReport { open: 3, cut: 0 });
    assert!(took < SOON);
    assert_eq!(running.closed(CloseReason::Drained), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_cuts_what_is_still_held() {
    let running = serve(Limits::default());
    let mut socket = running.socket().await;
    socket.send(&request(HOLD, 1, "")).await;
    running.until("held", |running| running.actor.held.lock().unwrap().len() == 1).await;
    let (start, within) = (Instant::now(), Duration::from_millis(300));
    assert_eq!(running.server.drain(within).await, DrainReport { open: 1, cut: 1 });
    assert!(start.elapsed() >= within && start.elapsed() < SOON);
    assert!(socket.next().await.is_none());
    assert_eq!(running.closed(CloseReason::DrainDeadline), 1);
    running.actor.held.lock().unwrap().clear();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_told_to_go_away_asks_the_next_server() {
    let first = serve(Limits::default());
    let address = first.address();
    let client = Client::connect(address.to_string(), ClientConfig::default(), None);
    client.request(request(ECHO, 0, "first"), SOON).await.unwrap();
    let mut keeps_draining = first.socket().await;
    keeps_draining.send(&request(HOLD, 1, "")).await;
    first.until("held", |running| running.actor.held.lock().unwrap().len() == 1).await;
    let next = async {
        first.until("draining", |_| std::net::TcpStream::connect(address).is_err()).await;
        let mut config = waspmq_remoting::ServerConfig::new(vec![address]);
        config.connections_max = 10;
        let second = crate::fixture::serve_with(config);
        let answer = client.request(request(ECHO, 0, "second"), SOON).await.unwrap();
        assert_eq!((answer.code, &answer.body[..]), (0, &b"second"[..]));
        first.actor.held.lock().unwrap().clear();
        second
    };
    let (report, second) = tokio::join!(first.server.drain(SOON), next);
    assert_eq!(report.open, 2);
    assert_eq!(second.actor.handled.load(std::sync::atomic::Ordering::Relaxed), 1);
}
