//! Answers to several requests at once, later.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use waspmq_protocol::{RemotingCommand, ResponseCode};
use waspmq_remoting::{Batch, Connection, Handler, LateAnswers, Limits, Replies, ReplyTo, Server, ServerConfig};

use crate::fixture::{ECHO, FORGET, SOON, Socket, oneway, request};

/// Keeps everything that one read brought, to be answered together.
#[derive(Default)]
struct Keeper {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    requests: usize,
    answers: Vec<LateAnswers<String>>,
}

impl Keeper {
    /// What is kept, once it is so many requests.
    async fn take(&self, expected: usize) -> Vec<LateAnswers<String>> {
        let start = Instant::now();
        while self.kept.lock().unwrap().requests != expected {
            assert!(start.elapsed() < SOON, "never {expected} requests kept");
            tokio::task::yield_now().await;
        }
        std::mem::take(&mut *self.kept.lock().unwrap()).answers
    }
}

impl Handler for Keeper {
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, _: &mut Replies) {
        let mut late = connection.late_answers();
        let (mut count, mut forget) = (0, false);
        while let Some(request) = requests.next_request() {
            count += 1;
            forget |= request.code == FORGET;
            late.push(ReplyTo::of(request), format!("number {}", request.opaque));
        }
        if !forget {
            let mut kept = self.kept.lock().unwrap();
            kept.requests += count;
            kept.answers.push(late);
        }
    }
}

fn serve() -> (Server, Arc<Keeper>) {
    let keeper = Arc::new(Keeper::default());
    let mut config = ServerConfig::new(vec!["127.0.0.1:0".parse().unwrap()]);
    config.limits = Limits { held_requests_max: 4, ..Limits::default() };
    (Server::bind(config, Arc::<Keeper>::clone(&keeper)).unwrap(), keeper)
}

async fn none_is_held(server: &Server) {
    let start = Instant::now();
    while server.connections().iter().any(|connection| connection.held() > 0) {
        assert!(start.elapsed() < SOON, "answered requests still count as held");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_gets_its_answer_in_order_and_a_one_way_one_none() {
    let (server, keeper) = serve();
    let mut socket = Socket::connect(server.local_addrs()[0]).await;
    for command in
        [request(ECHO, 1, ""), oneway(ECHO, 2), request(ECHO, 3, ""), request(ECHO, 4, ""), request(ECHO, 5, "")]
    {
        socket.send(&command).await;
    }
    // The fifth waits until there is room among those that are held.
    for (expected, answered) in [(4, &[1, 3, 4][..]), (1, &[5])] {
        for late in keeper.take(expected).await {
            late.send(|replies, to, part| {
                replies.push(to, RemotingCommand::response(ResponseCode::SUCCESS).with_body(part));
            });
        }
        for opaque in answered {
            let answer = socket.next().await.unwrap();
            assert_eq!((answer.opaque, &answer.body[..]), (*opaque, format!("number {opaque}").as_bytes()));
        }
    }
    none_is_held(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_are_forgotten_are_told_so() {
    let (server, _) = serve();
    let mut socket = Socket::connect(server.local_addrs()[0]).await;
    for opaque in 1..=3 {
        socket.send(&request(FORGET, opaque, "")).await;
    }
    for opaque in 1..=3 {
        let answer = socket.next().await.unwrap();
        assert_eq!((answer.opaque, answer.code), (opaque, ResponseCode::SYSTEM_ERROR.0));
    }
    none_is_held(&server).await;
}
