//! Bytes that are no frames, frames that never end, handlers that panic.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use waspmq_remoting::{CloseReason, Limits};

use crate::fixture::{ECHO, FORGET, PANIC, SOON, oneway, request, serve};

fn words(length: i32, header: u32) -> Vec<u8> {
    [length.to_be_bytes(), header.to_be_bytes()].concat()
}

fn framed(kind: u8, header: &[u8]) -> Vec<u8> {
    let mut bytes = words(4 + header.len() as i32, u32::from(kind) << 24 | header.len() as u32);
    bytes.extend_from_slice(header);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_frame_close_their_connection_only() {
    let running = serve(Limits::default());
    let mut bystander = running.socket().await;
    let cases: [(&str, Vec<u8>, CloseReason); 14] = [
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec(), CloseReason::BadFrame),
        ("length 0", words(0, 0), CloseReason::BadFrame),
        ("length 3", words(3, 0), CloseReason::BadFrame),
        ("negative length", words(-1, 0), CloseReason::BadFrame),
        ("16 MiB + 1 with its length word", words((16 << 20) - 3, 100), CloseReason::BadFrame),
        ("the largest length", words(i32::MAX, 100), CloseReason::BadFrame),
        ("header longer than its frame", words(100, 97), CloseReason::BadFrame),
        ("encoding 7", words(100, 7 << 24 | 10), CloseReason::BadFrame),
        ("JSON that is none", framed(0, b"{\"code\":"), CloseReason::BadHeader),
        ("a JSON array", framed(0, b"[1,2,3]"), CloseReason::BadHeader),
        ("a binary header cut short", framed(1, &[0; 20]), CloseReason::BadHeader),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0][..], &[0; 40]].concat(), CloseReason::TlsHandshake),
        ("PROXY 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(), CloseReason::ProxyPreface),
        ("PROXY 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(), CloseReason::ProxyPreface),
    ];
    for (index, (name, bytes, reason)) in cases.into_iter().enumerate() {
        let (before, start) = (running.closed(reason), Instant::now());
        let mut hostile = running.socket().await;
        hostile.stream.write_all(&bytes).await.unwrap();
        assert!(hostile.next().await.is_none(), "{name} was answered");
        assert!(start.elapsed() < Duration::from_secs(5), "{name} was closed late");
        running.until(name, |running| running.closed(reason) == before + 1).await;
        bystander.works(index as i32).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_frame_is_served_and_one_byte_more_is_not() {
    let running = serve(Limits::default());
    let mut socket = running.socket().await;
    let head = request(ECHO, 1, "").encode().len();
    for (body, served) in [((16 << 20) - head, true), ((16 << 20) - head + 1, false)] {
        let frame = request(ECHO, 1, vec![1; body]).encode();
        let _ = socket.stream.write_all(&frame).await;
        assert_eq!(socket.next().await.is_some_and(|answer| answer.body.len() == body), served);
    }
    assert_eq!(running.closed(CloseReason::BadFrame), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_may_come_byte_by_byte() {
    let running = serve(Limits::default());
    let mut socket = running.socket().await;
    socket.stream.set_nodelay(true).unwrap();
    for byte in request(ECHO, 9, "slowly").encode() {
        socket.stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(&socket.next().await.unwrap().body[..], b"slowly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_frame_and_silence_have_their_limits() {
    let half_frame_timeout = Duration::from_millis(200);
    let idle_timeout = Duration::from_millis(1500);
    let running = serve(Limits { half_frame_timeout, idle_timeout, ..Limits::default() });
    let frame = request(ECHO, 1, vec![1; 300_000]).encode();
    for part in [1, 7, 20, 200_000] {
        let (mut socket, start) = (running.socket().await, Instant::now());
        socket.works(1).await;
        socket.stream.write_all(&frame[..part]).await.unwrap();
        assert!(socket.next().await.is_none());
        assert!(start.elapsed() >= half_frame_timeout && start.elapsed() < idle_timeout);
    }
    assert_eq!(running.closed(CloseReason::HalfFrame), 4);
    // Before the server can have seen the connection: its time runs from there.
    let start = Instant::now();
    let mut silent = running.socket().await;
    assert!(silent.next().await.is_none());
    assert!(start.elapsed() >= idle_timeout && start.elapsed() < SOON);
    assert_eq!(running.closed(CloseReason::Idle), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_handler_closes_that_connection_only() {
    let running = serve(Limits::default());
    let (mut one, mut other) = (running.socket().await, running.socket().await);
    other.works(1).await;
    one.send(&request(PANIC, 1, "x")).await;
    assert!(one.next().await.is_none());
    running.until("counted", |running| running.closed(CloseReason::HandlerPanicked) == 1).await;
    other.works(2).await;
    running.socket().await.works(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_way_request_is_never_answered_and_a_forgotten_one_is() {
    let running = serve(Limits::default());
    let mut socket = running.socket().await;
    for code in [ECHO, FORGET] {
        socket.send(&oneway(code, 5)).await;
    }
    socket.send(&request(FORGET, 6, "x")).await;
    let answer = socket.next().await.unwrap();
    assert_eq!((answer.opaque, answer.code), (6, 1));
    assert!(answer.remark.is_some());
    // Had a one-way request been answered, the answer would come before this one.
    socket.works(7).await;
}
