//! A nameserver of its own for each test, with a clock that the test sets, and connections to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use waspmq_namesrv::{Namesrv, NamesrvConfig, NamesrvServer};
use waspmq_protocol::header::GetRouteInfoRequestHeader;
use waspmq_protocol::{FRAME_BYTES_MAX, RemotingCommand, RequestCode, ResponseCode, frame};
use waspmq_store::clock::SettableClock;

/// A nameserver of its own, its clock, and one connection to it.
pub(crate) struct Bench {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) server: Option<NamesrvServer>,
    pub(crate) clock: Arc<SettableClock>,
    connection: TcpStream,
    pub(crate) folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut NamesrvConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = NamesrvConfig::in_folder(folder.path());
        config.keys.scan_not_active_broker_interval = 20;
        change(&mut config);
        let clock = Arc::new(SettableClock::new(1_700_000_000_000));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let namesrv = Namesrv::new(config, clock.clone()).unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime.block_on(async { NamesrvServer::serve(namesrv, listen) }).unwrap();
        let connection = connect(server.local_addr());
        Self { runtime, server: Some(server), clock, connection, folder }
    }

    pub(crate) fn send(&mut self, frame: &[u8]) -> RemotingCommand {
        exchange(&mut self.connection, frame)
    }

    pub(crate) fn ask(&mut self, command: RemotingCommand) -> RemotingCommand {
        self.send(&command.encode())
    }

    pub(crate) fn route_code(&mut self, topic: &str) -> ResponseCode {
        self.ask(route_request(topic, 479)).response_code()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let server = self.server.take().unwrap();
        self.runtime.block_on(async { server.drain(Duration::from_secs(1)).await });
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection
}

pub(crate) fn exchange(connection: &mut TcpStream, frame: &[u8]) -> RemotingCommand {
    connection.write_all(frame).unwrap();
    let mut reply = Vec::new();
    while frame::split(&reply, FRAME_BYTES_MAX).unwrap().is_none() {
        let mut part = [0; 4096];
        let count = connection.read(&mut part).unwrap();
        assert!(count > 0, "the nameserver closed the connection");
        reply.extend_from_slice(&part[..count]);
    }
    RemotingCommand::decode(&reply).unwrap()
}

pub(crate) fn route_request(topic: &str, version: i32) -> RemotingCommand {
    let header = GetRouteInfoRequestHeader { topic: topic.into(), accept_standard_json_only: None };
    RemotingCommand { version, ..RemotingCommand::request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &header) }
}
