//! Connections: TLS first, then HTTP/1.1 or HTTP/2 over it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::homes::Homes;
use crate::metrics::Metrics;
use crate::tls::Certificate;
use crate::{ConsoleConfig, StartError, upkeep};

/// How long a client may take for its handshake, and for a request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(15);
/// HTTP/1.1 heads beyond this are refused with 431.
const MAX_HEAD: usize = 16 << 10;
const STREAMS_A_CONNECTION: u32 = 64;

/// One region's HTTPS API: see [`Console::start`].
pub struct Console;

impl Console {
    /// Reads the certificate and the directory, binds, and starts to serve.
    pub async fn start(config: ConsoleConfig) -> Result<ConsoleHandle, StartError> {
        let certificate = Arc::new(Certificate::read(config.tls.clone())?);
        let homes = Homes::open(&config.directory)?;
        let metrics = Metrics::new(&config.registry, config.region.code)?;
        let address = config.listen;
        let bound = |error| StartError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        let permits = Arc::new(Semaphore::new(config.limits.connections));
        let app = Arc::new(App::new(config, homes, metrics)?);
        let mut tasks = JoinSet::new();
        tasks.spawn(upkeep::run(Arc::clone(&app), Arc::clone(&certificate)));
        tasks.spawn(Arc::clone(&app.webhooks).run());
        let task = tokio::spawn(async move {
            let _tasks = tasks;
            accept(listener, certificate, app, permits).await;
        });
        Ok(ConsoleHandle { address, task })
    }
}

/// A running console. Ends when dropped.
pub struct ConsoleHandle {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl ConsoleHandle {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for ConsoleHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    certificate: Arc<Certificate>,
    app: Arc<App>,
    permits: Arc<Semaphore>,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            app.metrics.refused("too_many");
            continue;
        };
        let acceptor = TlsAcceptor::from(certificate.config());
        connections.spawn(serve(stream, peer, acceptor, Arc::clone(&app), permit));
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    app: Arc<App>,
    _permit: OwnedSemaphorePermit,
) {
    let _undelayed = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return app.metrics.refused("handshake"),
        Err(_) => return app.metrics.refused("handshake_timeout"),
    };
    app.metrics.connections.inc();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_A_CONNECTION)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(Duration::from_secs(20));
    let counted = Arc::clone(&app);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let app = Arc::clone(&app);
        async move {
            let request = request.map(axum::body::Body::new);
            Ok::<_, std::convert::Infallible>(app.answer(request, peer.ip()).await)
        }
    });
    // What a client does to its own connection is its own affair.
    let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
    counted.metrics.connections.dec();
}
