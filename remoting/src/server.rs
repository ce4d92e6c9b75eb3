//! Listens, gives each accepted connection a task, and drains: no new connections, GO_AWAY for new requests, late answers
//! still sent, everything closed by the deadline. Used by the broker and the nameserver.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::budget::Budget;
use crate::connection::Connection;
use crate::driver::{Driver, Shared};
use crate::handler::Handler;
use crate::limits::Limits;
use crate::metrics::{CloseReason, Metrics, add};
use crate::net::{Listener, Stream};

/// Wait before `accept` is tried again when the system lacks something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is left for tasks to end once their connections were told to close.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The last number given to a connection of this process.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// Makes the handle of a new connection.
pub(crate) fn new_connection(stream: &Stream, shared: &Shared) -> Arc<Connection> {
    let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
    let metrics = Arc::clone(&shared.metrics);
    Arc::new(Connection::new(id, stream.peer, stream.local, shared.limits.connection_bytes_max, metrics))
}

/// What a server listens on and the bounds it keeps.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Addresses to listen on; port 0 takes any free port.
    pub listen: Vec<SocketAddr>,
    /// Open connections at most. At the bound nothing is accepted until one closes.
    pub connections_max: u32,
    /// Bounds of each connection and of all together.
    pub limits: Limits,
    /// The runtime for connections that [give way](Connection::give_way); without it they run among the others.
    pub background: Option<Handle>,
}

impl ServerConfig {
    /// Listens on `listen` with the usual bounds.
    pub fn new(listen: Vec<SocketAddr>) -> Self {
        Self { listen, connections_max: 65_536, limits: Limits::default(), background: None }
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; is another process using the port?")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

/// What became of the connections that were open when draining began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections open when draining began.
    pub open: usize,
    /// Those that still had something to answer at the deadline and were cut.
    pub cut: usize,
}

/// A running server. Dropped, it stops listening and closes its connections at once.
#[derive(Debug)]
pub struct Server {
    inner: Arc<Inner>,
    local_addrs: Vec<SocketAddr>,
    accepting: Mutex<Vec<JoinHandle<()>>>,
    connections_max: u32,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    foreground: Handle,
}

impl Server {
    /// Listens and accepts from now on. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// An address that cannot be listened on; then none is.
    pub fn bind(config: ServerConfig, handler: Arc<dyn Handler>) -> Result<Self, BindError> {
        let ServerConfig { listen, connections_max, limits, background } = config;
        let bound: Result<Vec<_>, _> = listen
            .into_iter()
            .map(|address| Listener::bind(address).map_err(|source| BindError { address, source }))
            .collect();
        let listeners = bound?;
        let budget = Budget::new(limits.total_bytes_max);
        let inner = Arc::new(Inner {
            shared: Arc::new(Shared { limits, budget, metrics: Arc::default(), background }),
            permits: Arc::new(Semaphore::new(connections_max as usize)),
            open: Mutex::default(),
            foreground: Handle::current(),
        });
        let local_addrs = listeners.iter().map(|listener| listener.local).collect();
        let accepting = listeners
            .into_iter()
            .map(|listener| tokio::spawn(Arc::clone(&inner).accept(listener, Arc::clone(&handler))))
            .collect();
        Ok(Self { inner, local_addrs, accepting: Mutex::new(accepting), connections_max })
    }

    /// The addresses listened on, in the order of the configuration.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// What the connections have done.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.shared.metrics
    }

    /// The connections open now.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.inner.lock_open().values().cloned().collect()
    }

    /// Shuts down in order: accepts nothing more, answers GO_AWAY to clients that understand it, lets held requests be
    /// answered (release them before or meanwhile), and closes each connection when it has nothing left, all of them
    /// after `within`.
    pub async fn drain(&self, within: Duration) -> DrainReport {
        let accepting = std::mem::take(&mut *self.accepting.lock().unwrap_or_else(PoisonError::into_inner));
        for task in accepting {
            task.abort();
            // Ends with the listening socket closed; that it was aborted is no news.
            let _ = task.await;
        }
        let open = self.connections();
        for connection in &open {
            connection.begin_drain();
        }
        let all_closed = || self.inner.permits.acquire_many(self.connections_max);
        let mut cut = 0;
        if timeout(within, all_closed()).await.is_err() {
            for connection in self.connections() {
                connection.close_for(CloseReason::DrainDeadline);
                cut += 1;
            }
            // A task that runs a long handler ends by itself afterwards.
            let _ = timeout(LAST_WAIT, all_closed()).await;
        }
        DrainReport { open: open.len(), cut }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in self.accepting.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
        for connection in self.connections() {
            connection.close();
        }
    }
}

impl Inner {
    async fn accept(self: Arc<Self>, listener: Listener, handler: Arc<dyn Handler>) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok(stream) => self.serve(stream, permit, &handler),
                Err(error) => {
                    add(&self.shared.metrics.accept_failures, 1);
                    if !is_one_connections_own(&error) {
                        tracing::warn!(local = %listener.local, %error, "cannot accept; trying again shortly");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Starts the task of a new connection.
    fn serve(self: &Arc<Self>, stream: Stream, permit: OwnedSemaphorePermit, handler: &Arc<dyn Handler>) {
        let connection = new_connection(&stream, &self.shared);
        tracing::debug!(peer = %connection.peer(), local = %connection.local(), "connection accepted");
        self.lock_open().insert(connection.id(), Arc::clone(&connection));
        let registered = Registered { inner: Arc::clone(self), id: connection.id(), _permit: permit };
        let driver = Driver::new(stream, connection, Arc::clone(handler), Arc::clone(&self.shared));
        run(driver, registered);
    }

    /// Where the connection is to run.
    fn place(&self, driver: &Driver<Stream>) -> &Handle {
        self.shared.background.as_ref().filter(|_| driver.in_background()).unwrap_or(&self.foreground)
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the open ones.
struct Registered {
    inner: Arc<Inner>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.inner.lock_open().remove(&self.id);
    }
}

/// Runs a connection until it ends: among the others, or where it gives way to them.
fn run(driver: Driver<Stream>, registered: Registered) {
    let place = registered.inner.place(&driver).clone();
    place.spawn(async move {
        let Some(mut driver) = driver.run().await else { return };
        {
            let _there = registered.inner.place(&driver).enter();
            driver.settle_here();
        }
        run(driver, registered);
    });
}

/// Whether `accept` failed because of the connection it was about to return, so that the next may well succeed.
fn is_one_connections_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NotConnected)
}
