//! Listeners for connections: accept, admit, shake hands, hand over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landline_sip::{Flow, Transport};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::admission::{Admission, Permit, Refused};
use crate::inbox::{Incoming, Written, write_queue};
use crate::metrics::Drop as Cause;
use crate::shared::Shared;
use crate::stream::{self, Side};
use crate::tls::{self, ForClients, Reloading};
use crate::websocket;

/// What a listener does with a connection before SIP.
#[derive(Clone)]
pub(crate) enum Kind {
    Tcp,
    Tls(Arc<Reloading<ServerConfig>>),
    Ws,
    Wss(Arc<Reloading<ServerConfig>>),
    /// Mutual TLS: only proxies of other regions, who prove their name.
    InterRegion {
        tls: Arc<Reloading<ServerConfig>>,
    },
}

impl Kind {
    /// What a client listener does; the inner `None` for UDP, which has no
    /// connections, the outer one where a certificate is needed and missing.
    pub(crate) fn for_clients(
        transport: Transport,
        certificates: Option<&ForClients>,
    ) -> Option<Option<Self>> {
        Some(match transport {
            Transport::Udp => None,
            Transport::Tcp => Some(Self::Tcp),
            Transport::Tls => Some(Self::Tls(Arc::clone(&certificates?.tls))),
            Transport::Ws => Some(Self::Ws),
            Transport::Wss => Some(Self::Wss(Arc::clone(&certificates?.wss))),
        })
    }

    const fn transport(&self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Tls(_) | Self::InterRegion { .. } => Transport::Tls,
            Self::Ws => Transport::Ws,
            Self::Wss(_) => Transport::Wss,
        }
    }
}

pub(crate) struct Listener {
    socket: TcpListener,
    kind: Kind,
    /// The bound address, by which the endpoint and the core know the listener.
    local: SocketAddr,
}

impl Listener {
    pub(crate) fn bind(address: SocketAddr, kind: Kind) -> io::Result<Self> {
        let socket = bind(address)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, kind, local })
    }

    pub(crate) const fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) const fn transport(&self) -> Transport {
        self.kind.transport()
    }

    /// Accepts until the task is aborted; that ends the listener and every
    /// handshake under way. Connections go on by themselves until the driver
    /// lets them go.
    pub(crate) async fn run(self, shared: Arc<Shared>, admission: Arc<Admission>) {
        let mut handshakes = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = handshakes.join_next() => continue,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            match admission.admit(remote.ip()) {
                Ok(permit) => {
                    let (kind, local) = (self.kind.clone(), self.local);
                    let shared = Arc::clone(&shared);
                    handshakes.spawn(async move {
                        take_up(stream, remote, local, kind, permit, shared).await;
                    });
                }
                Err(Refused::Total) => shared.metrics.drop(Cause::ConnectionLimit),
                Err(Refused::Source) => shared.metrics.drop(Cause::SourceLimit),
            }
        }
    }
}

pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Out of descriptors, accept fails at once and again; give others time to close.
async fn pause_after(error: &io::Error) {
    let the_peers =
        matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !the_peers {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn take_up(
    stream: TcpStream,
    remote: SocketAddr,
    local: SocketAddr,
    kind: Kind,
    permit: Permit,
    shared: Arc<Shared>,
) {
    tune(&stream);
    let transport = kind.transport();
    let (outbox, written) = write_queue(&shared.limits);
    let flow = Flow { id: shared.next_flow(), transport, local, remote, peer: None };
    let shared = Arc::clone(&shared);
    let opening =
        Opening { flow, domains: Vec::new(), outbox, written, permit, shared: Arc::clone(&shared) };
    match timeout(shared.limits.handshake, shake_hands(stream, kind, opening)).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => shared.metrics.drop(cause),
        Err(_) => shared.metrics.drop(Cause::HandshakeTimeout),
    }
}

/// A connection whose handshakes are not done yet.
struct Opening {
    flow: Flow,
    /// What the client's certificate speaks for.
    domains: Vec<String>,
    outbox: crate::inbox::Outbox,
    written: Written,
    permit: Permit,
    shared: Arc<Shared>,
}

impl Opening {
    /// Tells the driver, then runs the connection as a task of its own.
    async fn start<F, R>(self, run: F)
    where
        F: FnOnce(Flow, Written, Arc<Shared>) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let Self { flow, domains, outbox, written, permit, shared } = self;
        let opened = Incoming::Opened { flow: flow.clone(), domains, outbox };
        if shared.inbox.send(opened).await.is_err() {
            return;
        }
        let running = run(flow, written, shared);
        tokio::spawn(async move {
            let _permit = permit;
            running.await;
        });
    }
}

async fn shake_hands(stream: TcpStream, kind: Kind, mut opening: Opening) -> Result<(), Cause> {
    match kind {
        Kind::Tcp => start_stream(stream, opening).await,
        Kind::Tls(config) => {
            let stream = accept_tls(stream, &config).await?;
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            opening.domains = certificate.map(tls::domains_of).unwrap_or_default();
            start_stream(stream, opening).await;
        }
        Kind::Ws => start_websocket(stream, opening).await?,
        Kind::Wss(config) => {
            let stream = accept_tls(stream, &config).await?;
            start_websocket(stream, opening).await?;
        }
        Kind::InterRegion { tls } => {
            let stream = accept_tls(stream, &tls).await?;
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            // Our own region's too: its accounts call each other over this link.
            let region = certificate.and_then(tls::proxy_region);
            let region = region.ok_or(Cause::WrongRegion)?;
            opening.flow.peer = Some(Arc::from(region.as_str()));
            start_stream(stream, opening).await;
        }
    }
    Ok(())
}

async fn accept_tls(
    stream: TcpStream,
    config: &Reloading<ServerConfig>,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>, Cause> {
    TlsAcceptor::from(config.load()).accept(stream).await.map_err(|_| Cause::HandshakeFailed)
}

async fn start_stream<S>(stream: S, opening: Opening)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    opening
        .start(|flow, written, shared| async move {
            stream::serve(stream, Side::Accepted, flow, written, &shared).await;
        })
        .await;
}

async fn start_websocket<S>(stream: S, opening: Opening) -> Result<(), Cause>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let socket = websocket::accept(stream, &opening.shared).await?;
    opening
        .start(|flow, written, shared| async move {
            websocket::serve(socket, flow, written, &shared).await;
        })
        .await;
    Ok(())
}

/// SIP is small messages that want to go at once; and a peer that vanished
/// without a word is found within minutes, whatever the idle limit.
pub(crate) fn tune(stream: &TcpStream) {
    let _best_effort = stream.set_nodelay(true);
    let keep_alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let _best_effort = SockRef::from(stream).set_tcp_keepalive(&keep_alive);
}
