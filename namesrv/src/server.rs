//! The nameserver with its sockets: listens, looks for silent brokers, ends in order. Started by the program `namesrv`
//! and by a broker that carries a nameserver inside.

use crate::config::NamesrvConfig;
use crate::error::NamesrvError;
use crate::namesrv::Namesrv;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use waspmq_remoting::{DrainReport, Server, ServerConfig};
use waspmq_store::clock::SystemClock;

/// A running nameserver. Dropped, it closes everything at once; [`NamesrvServer::drain`] ends it in order.
#[derive(Debug)]
pub struct NamesrvServer {
    server: Server,
    namesrv: Arc<Namesrv>,
    scan: JoinHandle<()>,
}

impl NamesrvServer {
    /// Starts a nameserver. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// Files that cannot be read, or an address that cannot be listened on.
    pub async fn start(config: NamesrvConfig) -> Result<Self, NamesrvError> {
        let listen = config.listen;
        let opened = tokio::task::spawn_blocking(|| Namesrv::new(config, Arc::new(SystemClock::new()))).await;
        let namesrv = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Self::serve(namesrv, listen)
    }

    /// Serves a nameserver that is there already: with a clock of the caller's.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn serve(namesrv: Arc<Namesrv>, listen: SocketAddr) -> Result<Self, NamesrvError> {
        let mut server = ServerConfig::new(vec![listen]);
        server.limits.idle_timeout = namesrv.idle_timeout();
        let server = Server::bind(server, namesrv.clone())?;
        let scan = tokio::spawn(scan(Arc::clone(&namesrv)));
        Ok(Self { server, namesrv, scan })
    }

    /// The address listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addrs().first().copied().expect("a bound server has the address it was bound to")
    }

    /// The tables behind the sockets.
    pub fn namesrv(&self) -> &Arc<Namesrv> {
        &self.namesrv
    }

    /// Stops listening, lets connections finish what they have begun, and closes them after `within` at the latest.
    pub async fn drain(&self, within: Duration) -> DrainReport {
        self.scan.abort();
        self.server.drain(within).await
    }
}

impl Drop for NamesrvServer {
    fn drop(&mut self) {
        self.scan.abort();
    }
}

async fn scan(namesrv: Arc<Namesrv>) {
    loop {
        tokio::time::sleep(namesrv.scan_interval()).await;
        namesrv.forget_silent_brokers();
    }
}
