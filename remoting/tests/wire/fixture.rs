//! A server whose requests say what should become of them, and a plain socket that speaks frames.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waspmq_protocol::command::Flags;
use waspmq_protocol::{RemotingCommand, RequestCode, ResponseCode, frame};
use waspmq_remoting::{
    Batch, CloseReason, Connection, Handler, Limits, Replies, ReplyTo, Responder, Server, ServerConfig,
};

pub(crate) const ECHO: i32 = 1;
pub(crate) const HOLD: i32 = 2;
pub(crate) const FORGET: i32 = 3;
pub(crate) const PANIC: i32 = 4;
/// Answered with a body of as many bytes as the first four body bytes say.
pub(crate) const GIVE: i32 = 5;
/// Gives way for as many milliseconds as the first four body bytes say; answered as [`WHERE`].
pub(crate) const GIVE_WAY: i32 = 6;
/// Answered with the name of the thread that handles it.
pub(crate) const WHERE: i32 = 7;

/// Long enough for anything that should happen at once on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Actor {
    pub(crate) handled: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) held: Mutex<Vec<Responder>>,
}

impl Handler for Actor {
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies) {
        while let Some(request) = requests.next_request() {
            self.handled.fetch_add(1, Ordering::Relaxed);
            let to = ReplyTo::of(request);
            match request.code {
                HOLD => self.held.lock().unwrap().push(connection.responder(request)),
                FORGET => drop(connection.responder(request)),
                PANIC => panic!("asked for by the test"),
                GIVE_WAY | WHERE => {
                    if request.code == GIVE_WAY {
                        connection.give_way(Duration::from_millis(number(request.body).into()));
                    }
                    let name = std::thread::current().name().unwrap_or_default().to_owned();
                    replies.push(to, RemotingCommand::response(ResponseCode::SUCCESS).with_body(name));
                }
                GIVE => {
                    let size = number(request.body) as usize;
                    let body = Bytes::from(vec![7; size]);
                    if let Some(head) = replies.reply(to, ResponseCode::SUCCESS) {
                        head.finish(body.len());
                        replies.push_body(body);
                    }
                }
                _ => {
                    let body = Bytes::copy_from_slice(request.body);
                    replies.push(to, RemotingCommand::response(ResponseCode::SUCCESS).with_body(body));
                }
            }
        }
    }

    fn closed(&self, _: &Arc<Connection>) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(*body.first_chunk().unwrap())
}

pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) actor: Arc<Actor>,
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.local_addrs()[0]
    }

    pub(crate) async fn socket(&self) -> Socket {
        Socket::connect(self.address()).await
    }

    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        self.server.metrics().closed(reason)
    }

    /// Waits until `reached` holds.
    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !reached(self) {
            assert!(start.elapsed() < SOON, "never happened: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(crate) fn serve(limits: Limits) -> Running {
    let mut config = ServerConfig::new(vec!["127.0.0.1:0".parse().unwrap()]);
    config.limits = limits;
    serve_with(config)
}

pub(crate) fn serve_with(config: ServerConfig) -> Running {
    let actor = Arc::new(Actor::default());
    Running { server: Server::bind(config, Arc::<Actor>::clone(&actor)).unwrap(), actor }
}

pub(crate) fn request(code: i32, opaque: i32, body: impl Into<Bytes>) -> RemotingCommand {
    let mut command =
        RemotingCommand::request(RequestCode(code), &waspmq_protocol::header::NoHeader {}).with_body(body);
    command.opaque = opaque;
    command
}

pub(crate) fn oneway(code: i32, opaque: i32) -> RemotingCommand {
    let mut command = request(code, opaque, "x");
    command.flags = Flags::ONEWAY;
    command
}

/// A client socket.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Socket {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, command: &RemotingCommand) {
        self.stream.write_all(&command.encode()).await.unwrap();
    }

    /// The next frame; `None` when the server has closed.
    pub(crate) async fn next(&mut self) -> Option<RemotingCommand> {
        tokio::time::timeout(SOON, async {
            loop {
                if let Some(bounds) = frame::split(&self.received, usize::MAX).unwrap() {
                    let command = RemotingCommand::decode(&self.received[..bounds.total]).unwrap();
                    self.received.drain(..bounds.total);
                    return Some(command);
                }
                let mut buffer = vec![0; 65_536];
                match self.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(bytes) => self.received.extend_from_slice(&buffer[..bytes]),
                }
            }
        })
        .await
        .expect("neither a frame nor the end came in time")
    }

    /// Sends an echo request and insists on its answer.
    pub(crate) async fn works(&mut self, opaque: i32) {
        self.send(&request(ECHO, opaque, "are you there")).await;
        let answer = self.next().await.expect("the connection was closed");
        assert_eq!((answer.opaque, &answer.body[..]), (opaque, &b"are you there"[..]));
    }
}
