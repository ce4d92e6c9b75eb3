//! Calls one address: connects when first needed, connects again after a loss, and lets any number of calls share the
//! connection. Used by the broker towards nameservers, by tools, and by tests. Requests from the other side go to a handler.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use waspmq_protocol::{RemotingCommand, ResponseCode};

use crate::budget::Budget;
use crate::connection::{Connection, RequestError};
use crate::driver::{Driver, Shared};
use crate::handler::{Handler, RefuseAll};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::net::Stream;
use crate::server::new_connection;

/// How a client connects and the bounds it keeps.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Longest wait for a connection. RocketMQ's clients: 3 s.
    pub connect_timeout: Duration,
    /// Bounds of the connection.
    pub limits: Limits,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(3), limits: Limits::default() }
    }
}

/// A client of one address. Dropped, it closes its connection.
pub struct Client {
    address: String,
    connect_timeout: Duration,
    handler: Arc<dyn Handler>,
    shared: Arc<Shared>,
    current: Mutex<Option<Arc<Connection>>>,
}

impl Client {
    /// A client of `address` (`host:port`). Nothing is connected until the first request. Without a handler, requests
    /// from the other side are answered as not supported.
    pub fn connect(address: impl Into<String>, config: ClientConfig, handler: Option<Arc<dyn Handler>>) -> Self {
        let ClientConfig { connect_timeout, limits } = config;
        let budget = Budget::new(limits.total_bytes_max);
        Self {
            address: address.into(),
            connect_timeout,
            handler: handler.unwrap_or_else(|| Arc::new(RefuseAll)),
            shared: Arc::new(Shared { limits, budget, metrics: Arc::default(), background: None }),
            current: Mutex::default(),
        }
    }

    /// Whom this client calls.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the client's connections have done.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Sends a request and waits for its answer, `timeout` in all with connecting. A server that says GO_AWAY is asked
    /// once more over a new connection.
    ///
    /// # Errors
    /// No connection, none left before the answer came, or no answer in time.
    pub async fn request(
        &self,
        mut command: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, RequestError> {
        let deadline = Instant::now() + timeout;
        let connection = self.connection(timeout).await?;
        let answer = connection.call(&mut command, deadline.saturating_duration_since(Instant::now())).await?;
        if answer.code != ResponseCode::GO_AWAY.0 {
            return Ok(answer);
        }
        self.forget(&connection).await;
        let Ok(connection) = self.connection(deadline.saturating_duration_since(Instant::now())).await else {
            return Ok(answer);
        };
        connection.call(&mut command, deadline.saturating_duration_since(Instant::now())).await
    }

    /// Sends a request that wants no answer.
    ///
    /// # Errors
    /// No connection, or the other side does not take what is already queued.
    pub async fn oneway(&self, mut command: RemotingCommand) -> Result<(), RequestError> {
        self.connection(self.connect_timeout).await?.post(&mut command)
    }

    /// Closes the connection, if there is one; the next request makes a new one.
    pub async fn close(&self) {
        if let Some(connection) = self.current.lock().await.take() {
            connection.close();
        }
    }

    async fn forget(&self, connection: &Arc<Connection>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = None;
        }
        connection.close();
    }

    /// The open connection, or a new one. Callers that arrive meanwhile wait for the same one.
    async fn connection(&self, within: Duration) -> Result<Arc<Connection>, RequestError> {
        let failed = |source| RequestError::Connect { address: self.address.clone(), source };
        let connecting = async {
            let mut current = self.current.lock().await;
            if let Some(connection) = current.as_ref().filter(|connection| !connection.is_closed()) {
                return Ok(Arc::clone(connection));
            }
            let stream = Stream::connect(&self.address).await?;
            let connection = new_connection(&stream, &self.shared);
            let handler = Arc::clone(&self.handler);
            let driver = Driver::new(stream, Arc::clone(&connection), handler, Arc::clone(&self.shared));
            tokio::spawn(driver.run());
            *current = Some(Arc::clone(&connection));
            Ok(connection)
        };
        match timeout(within.min(self.connect_timeout), connecting).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection attempt"))),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(connection) = self.current.get_mut() {
            connection.close();
        }
    }
}
