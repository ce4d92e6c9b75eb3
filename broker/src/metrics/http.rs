//! Answers `GET /metrics`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Scrapes at the same time; further ones wait.
const SCRAPES_MAX: usize = 8;
/// A connection is for one scrape, and ends after this long.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when the system gives no connection, as when all file descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the text format of the client library is, see <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Serves metrics until it is dropped.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Listens and answers from now on.
    ///
    /// # Errors
    /// What the system says of the address.
    pub async fn start(listen: SocketAddr, registry: Registry) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(listener, Arc::new(registry))) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, registry: Arc<Registry>) {
    let scrapes = Arc::new(Semaphore::new(SCRAPES_MAX));
    loop {
        let Ok(permit) = scrapes.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = registry.clone();
                tokio::spawn(async move {
                    // Whoever is too slow or speaks no HTTP is not told; a scraper notices by itself.
                    let _ = tokio::time::timeout(SCRAPE_TIMEOUT, answer(stream, registry)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, registry: Arc<Registry>) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let registry = registry.clone();
        async move { Ok::<_, Infallible>(respond(&request, registry).await) }
    });
    hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await
}

async fn respond(request: &Request<Incoming>, registry: Arc<Registry>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    // Collectors may ask the disk.
    let encoded = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        text::encode(&mut text, &registry).map(|()| text)
    });
    match encoded.await {
        Ok(Ok(text)) => {
            let mut response = Response::new(Full::from(text));
            response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
            response
        }
        failed => {
            tracing::error!(?failed, "metrics could not be collected");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be collected; the broker's log says why\n")
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
