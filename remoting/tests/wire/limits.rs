//! Those who send without reading, and those who want more than there is.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use waspmq_protocol::{HeaderKind, ResponseCode};
use waspmq_remoting::{CloseReason, Limits, ServerConfig};

use crate::fixture::{ECHO, GIVE, HOLD, request, serve, serve_with};
use waspmq_protocol::RemotingCommand;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_before_the_first_answer_is_read() {
    let running = serve(Limits::default());
    let mut socket = running.socket().await;
    let stream: Vec<u8> = (0..10_000).flat_map(|opaque| request(ECHO, opaque, "pipelined").encode().to_vec()).collect();
    socket.stream.write_all(&stream).await.unwrap();
    for opaque in 0..10_000 {
        assert_eq!(socket.next().await.unwrap().opaque, opaque);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_is_held_back_and_then_cut_and_nobody_else_notices() {
    let slow_reader_timeout = Duration::from_millis(500);
    let running = serve(Limits { connection_bytes_max: 256 << 10, slow_reader_timeout, ..Limits::default() });
    let mut bystander = running.socket().await;
    let mut greedy = running.socket().await;
    let wanted: u32 = 128 << 10;
    let asked: u64 = 2000;
    for opaque in 0..asked {
        greedy.send(&request(GIVE, opaque as i32, wanted.to_be_bytes().to_vec())).await;
    }
    bystander.works(1).await;
    running.until("cut", |running| running.closed(CloseReason::SlowReader) == 1).await;
    let answered = running.actor.handled.load(std::sync::atomic::Ordering::Relaxed);
    assert!(answered < asked / 2, "{answered} of {asked} answers were made for a client that reads none");
    bystander.works(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_that_reads_on_gets_everything_in_order() {
    let running = serve(Limits { connection_bytes_max: 64 << 10, ..Limits::default() });
    let mut socket = running.socket().await;
    let stream: Vec<u8> = (0..400)
        .flat_map(|opaque| request(GIVE, opaque, 100_000_u32.to_be_bytes().to_vec()).encode().to_vec())
        .collect();
    socket.stream.write_all(&stream).await.unwrap();
    for opaque in 0..400 {
        let answer = socket.next().await.unwrap();
        assert_eq!((answer.opaque, answer.body.len()), (opaque, 100_000));
        assert!(answer.body.iter().all(|byte| *byte == 7));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_frames_get_through_a_small_budget_also_while_one_stands_still() {
    const BODY: usize = 2 << 20;
    let running = serve(Limits { total_bytes_max: 3 << 20, ..Limits::default() });
    let frame = request(ECHO, 1, vec![3; BODY]).encode();
    let mut stands_still = running.socket().await;
    stands_still.stream.write_all(&frame[..frame.len() - 1]).await.unwrap();
    // Else it might be the one that overdraws, and the others would wait for it until its half frame is given up.
    let begun = frame.len() as u64 - 1;
    running
        .until("begun", |running| running.server.metrics().bytes_in.load(std::sync::atomic::Ordering::Relaxed) >= begun)
        .await;
    let mut others = Vec::new();
    for _ in 0..6 {
        let (mut socket, frame) = (running.socket().await, frame.clone());
        others.push(tokio::spawn(async move {
            socket.stream.write_all(&frame).await.unwrap();
            assert_eq!(socket.next().await.unwrap().body.len(), BODY);
        }));
    }
    for other in others {
        other.await.unwrap();
    }
    stands_still.stream.write_all(&frame[frame.len() - 1..]).await.unwrap();
    assert_eq!(stands_still.next().await.unwrap().body.len(), BODY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_requests_are_bounded_and_reading_goes_on_when_they_are_answered() {
    let running = serve(Limits { held_requests_max: 10, ..Limits::default() });
    let mut socket = running.socket().await;
    for opaque in 0..25 {
        socket.send(&request(HOLD, opaque, "")).await;
    }
    let mut answered = Vec::new();
    while answered.len() < 25 {
        let expected = 10.min(25 - answered.len());
        running.until("held", |running| running.actor.held.lock().unwrap().len() == expected).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let held = std::mem::take(&mut *running.actor.held.lock().unwrap());
        assert_eq!(held.len(), expected);
        for responder in held {
            responder.send(RemotingCommand::response(ResponseCode::SUCCESS));
            answered.push(socket.next().await.unwrap().opaque);
        }
    }
    assert_eq!(answered, (0..25).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_bound_wait_for_their_turn() {
    let mut config = ServerConfig::new(vec!["127.0.0.1:0".parse().unwrap()]);
    config.connections_max = 2;
    let running = serve_with(config);
    let (mut first, mut second) = (running.socket().await, running.socket().await);
    first.works(1).await;
    second.works(2).await;
    let mut third = running.socket().await;
    third.send(&request(ECHO, 3, "")).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), third.next()).await.is_err());
    drop(first);
    assert_eq!(third.next().await.unwrap().opaque, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_is_written_like_the_request() {
    let running = serve(Limits::default());
    let mut socket = running.socket().await;
    for kind in [HeaderKind::RocketMq, HeaderKind::Json, HeaderKind::RocketMq] {
        let mut command = request(ECHO, 4, "either way");
        command.kind = kind;
        socket.send(&command).await;
        let answer = socket.next().await.unwrap();
        assert_eq!((answer.kind, answer.opaque, &answer.body[..]), (kind, 4, &b"either way"[..]));
    }
}
