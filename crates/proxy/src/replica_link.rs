//! The links between the proxies of one region: mutual TLS, each with a
//! certificate of its own name. Who has calls connects to who is to hold them.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landline_call::PeerId;
use landline_control::{FrameError, Framer, encode};
use landline_region::{CallSid, RegionCode};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::PeerAddress;
use crate::inbox::Incoming;
use crate::listen::tune;
use crate::metrics::Drop as Cause;
use crate::replica::{FromPeer, Greeting, ToPeer, VERSION, queue, replica};
use crate::resolve::Dns;
use crate::shared::Shared;
use crate::tls::{self, Reloading, Role};

const PING: Duration = Duration::from_secs(1);
/// Three pings without a word.
const SILENCE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(3);
/// How long a proxy that starts waits for what its peers took from it.
const ASK: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(300);
/// Connections at one time: a region has a handful of proxies.
const CONNECTIONS: usize = 64;
/// More calls than a peer remembers.
const MOST_CARRIED: usize = 100_000;
/// Sids in one message.
const CHUNK: usize = 1000;
const READ: usize = 16 * 1024;

/// Why a link ended; for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it did not answer in time")]
    Silent,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("it is not the proxy it should be")]
    Stranger,
    #[error("it said what does not belong there")]
    Rude,
    #[error("its host has no address")]
    NoAddress,
    #[error("too much waited for it")]
    LetGo,
    #[error("the proxy stops")]
    Stopping,
}

/// What both ends of a link are made with.
#[derive(Clone)]
pub(crate) struct Peering {
    pub(crate) region: RegionCode,
    pub(crate) name: String,
    pub(crate) client: Arc<Reloading<ClientConfig>>,
    pub(crate) dns: Arc<Dns>,
}

/// One end of a link, framed.
struct Wire<S> {
    stream: S,
    framer: Framer,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(stream: S) -> Self {
        Self { stream, framer: Framer::default(), buffer: vec![0; READ] }
    }

    async fn send<M: Serialize>(&mut self, messages: &[M]) -> Result<(), Ended> {
        let mut octets = Vec::new();
        for message in messages {
            encode(message, &mut octets)?;
        }
        self.write(&octets).await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Ended> {
        let sent = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        timeout(SILENCE, sent).await.map_err(|_| Ended::Silent)?.map_err(Ended::Io)
    }

    async fn fill(&mut self) -> Result<(), Ended> {
        let length = self.stream.read(&mut self.buffer).await?;
        let octets = self.buffer.get(..length).filter(|octets| !octets.is_empty());
        self.framer.push(octets.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    async fn receive<M: DeserializeOwned>(&mut self) -> Result<M, Ended> {
        loop {
            if let Some(message) = self.framer.next()? {
                return Ok(message);
            }
            timeout(SILENCE, self.fill()).await.map_err(|_| Ended::Silent)??;
        }
    }
}

impl Peering {
    fn greeting(&self, asks: bool) -> Greeting {
        Greeting { version: VERSION, region: self.region, name: self.name.clone(), asks }
    }

    /// Connected, and both have said who they are.
    async fn connect(
        &self,
        peer: &PeerAddress,
        asks: bool,
    ) -> Result<Wire<tokio_rustls::client::TlsStream<TcpStream>>, Ended> {
        let name = ServerName::try_from(Role::Proxy.name(self.region))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let greet = |address| self.greet(address, name.clone(), peer, asks);
        let (host, port) = (&peer.address.host, peer.address.port);
        self.dns.first_of(host, port, Ended::NoAddress, greet).await
    }

    async fn greet(
        &self,
        address: SocketAddr,
        name: ServerName<'static>,
        peer: &PeerAddress,
        asks: bool,
    ) -> Result<Wire<tokio_rustls::client::TlsStream<TcpStream>>, Ended> {
        let stream = TcpStream::connect(address).await?;
        tune(&stream);
        let stream = TlsConnector::from(self.client.load()).connect(name, stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|it| it.first());
        if !self.is_proxy_named(certificate, &peer.id.0) {
            return Err(Ended::Stranger);
        }
        let mut wire = Wire::new(stream);
        wire.send(&[ToPeer::Hello(self.greeting(asks))]).await?;
        match wire.receive().await? {
            FromPeer::Hello(hello) if hello.name == peer.id.0 && self.is_alike(&hello) => Ok(wire),
            FromPeer::Hello(_) => Err(Ended::Stranger),
            _ => Err(Ended::Rude),
        }
    }

    fn is_proxy_named(&self, certificate: Option<&CertificateDer<'_>>, name: &str) -> bool {
        certificate.is_some_and(|it| tls::is_proxy_named(it, self.region, name))
    }

    fn is_alike(&self, hello: &Greeting) -> bool {
        hello.version == VERSION && hello.region == self.region
    }

    /// Which calls the peers have or had by now: they are theirs, whatever our own
    /// disk says. Of those that do not answer the relay is the judge.
    pub(crate) async fn carried_by(&self, peers: &[PeerAddress]) -> BTreeSet<CallSid> {
        let mut asked = JoinSet::new();
        for peer in peers {
            let (peering, peer) = (self.clone(), peer.clone());
            asked.spawn(async move {
                let answer = timeout(ASK, peering.ask(&peer)).await.unwrap_or(Err(Ended::Silent));
                (peer.id, answer)
            });
        }
        let mut carried = BTreeSet::new();
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok((_, Ok(calls))) => carried.extend(calls),
                Ok((peer, Err(problem))) => {
                    tracing::warn!(%peer, %problem, "does not say which calls it has");
                }
                Err(problem) => tracing::error!(%problem, "a peer could not be asked"),
            }
        }
        carried
    }

    async fn ask(&self, peer: &PeerAddress) -> Result<Vec<CallSid>, Ended> {
        let mut wire = self.connect(peer, true).await?;
        let mut carried = Vec::new();
        loop {
            match wire.receive().await? {
                FromPeer::Carried(calls) if calls.is_empty() => return Ok(carried),
                FromPeer::Carried(calls) if carried.len() < MOST_CARRIED => carried.extend(calls),
                _ => return Err(Ended::Rude),
            }
        }
    }
}

/// To one peer, kept up for ever.
pub(crate) struct PeerLink {
    pub(crate) peering: Peering,
    pub(crate) peer: PeerAddress,
    pub(crate) shared: Arc<Shared>,
}

impl PeerLink {
    pub(crate) async fn run(self) {
        let mut reported = false;
        loop {
            let connected = timeout(CONNECT, self.peering.connect(&self.peer, false)).await;
            let ended = match connected.unwrap_or(Err(Ended::Silent)) {
                Err(ended) => ended,
                Ok(wire) => {
                    reported = false;
                    let ended = self.exchange(wire).await;
                    let lost = Incoming::HolderLost { peer: self.peer.id.clone() };
                    if self.shared.answers.send(lost).await.is_err() {
                        return;
                    }
                    ended
                }
            };
            if matches!(ended, Ended::Stopping) {
                return;
            }
            if !reported {
                tracing::warn!(peer = %self.peer.id, problem = %ended, "no link to the proxy");
                reported = true;
            }
            sleep(PAUSE).await;
        }
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(&self, mut wire: Wire<S>) -> Ended {
        let (sender, mut frames) = queue();
        let up = Incoming::HolderUp { peer: self.peer.id.clone(), queue: sender };
        if self.shared.answers.send(up).await.is_err() {
            return Ended::Stopping;
        }
        tracing::info!(peer = %self.peer.id, "the proxy holds our calls");
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut octets = Vec::new();
        loop {
            let done = tokio::select! {
                taken = frames.take(&mut octets) => match taken {
                    false => Err(Ended::LetGo),
                    true => {
                        let sent = wire.write(&octets).await;
                        octets.clear();
                        sent
                    }
                },
                _ = pings.tick() => wire.send(&[ToPeer::Ping]).await,
                filled = timeout_at(heard + SILENCE, wire.fill()) => match filled {
                    Err(_) => Err(Ended::Silent),
                    Ok(filled) => {
                        heard = Instant::now();
                        filled
                    }
                },
            };
            if let Err(ended) = done {
                return ended;
            }
            if let Err(ended) = self.heard(&mut wire).await {
                return ended;
            }
        }
    }

    async fn heard<S>(&self, wire: &mut Wire<S>) -> Result<(), Ended> {
        let mut highest = None;
        while let Some(message) = wire.framer.next()? {
            match message {
                FromPeer::Ack(number) => highest = Some(number),
                FromPeer::Pong => {}
                FromPeer::Hello(_) | FromPeer::Carried(_) => return Err(Ended::Rude),
            }
        }
        let Some(number) = highest else { return Ok(()) };
        let held = Incoming::Held { peer: self.peer.id.clone(), number };
        self.shared.answers.send(held).await.map_err(|_| Ended::Stopping)
    }
}

/// Where the peers connect.
pub(crate) struct PeerServer {
    pub(crate) peering: Peering,
    pub(crate) acceptor: Arc<Reloading<ServerConfig>>,
    /// Nobody else is listened to.
    pub(crate) peers: Vec<PeerAddress>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) last_link: AtomicU64,
}

impl PeerServer {
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, say.
                sleep(PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.shared.metrics.drop(Cause::ConnectionLimit);
                continue;
            };
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                server.serve(stream).await;
                drop(place);
            });
        }
    }

    async fn serve(&self, stream: TcpStream) {
        tune(&stream);
        let accepted = TlsAcceptor::from(self.acceptor.load()).accept(stream);
        let stream = match timeout(CONNECT, accepted).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return self.shared.metrics.drop(Cause::HandshakeFailed),
            Err(_) => return self.shared.metrics.drop(Cause::HandshakeTimeout),
        };
        let Err(problem) = self.talk(stream).await else { return };
        match problem {
            Ended::Io(_) | Ended::Stopping => {}
            problem => {
                self.shared.metrics.drop(Cause::PeerRefused);
                tracing::warn!(%problem, "a proxy's link was closed");
            }
        }
    }

    async fn talk(&self, stream: tokio_rustls::server::TlsStream<TcpStream>) -> Result<(), Ended> {
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(|it| it.first()).cloned();
        let mut wire = Wire::new(stream);
        let ToPeer::Hello(hello) = wire.receive().await? else { return Err(Ended::Rude) };
        let is_named = self.peering.is_proxy_named(certificate.as_ref(), &hello.name);
        let is_known = self.peers.iter().any(|peer| peer.id.0 == hello.name);
        if !is_named || !is_known || !self.peering.is_alike(&hello) {
            return Err(Ended::Stranger);
        }
        wire.send(&[FromPeer::Hello(self.peering.greeting(false))]).await?;
        let peer = PeerId(hello.name);
        match hello.asks {
            true => self.tell_carried(&mut wire, peer).await,
            false => self.hold(&mut wire, peer).await,
        }
    }

    async fn tell_carried<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &mut Wire<S>,
        peer: PeerId,
    ) -> Result<(), Ended> {
        let (reply, carried) = oneshot::channel();
        let asks = Incoming::PeerAsks { peer, reply };
        self.shared.answers.send(asks).await.map_err(|_| Ended::Stopping)?;
        let carried: Vec<CallSid> = carried.await.map_err(|_| Ended::Stopping)?;
        for calls in carried.chunks(CHUNK) {
            wire.send(&[FromPeer::Carried(calls.to_vec())]).await?;
        }
        wire.send(&[FromPeer::Carried(Vec::new())]).await?;
        // Until it has read them.
        let _closed = timeout(SILENCE, wire.fill()).await;
        Ok(())
    }

    /// Takes what the peer tells of its calls, until it falls silent.
    async fn hold<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &mut Wire<S>,
        peer: PeerId,
    ) -> Result<(), Ended> {
        let link = self.last_link.fetch_add(1, Ordering::Relaxed);
        let answers = &self.shared.answers;
        let up = Incoming::PeerUp { peer: peer.clone(), link };
        answers.send(up).await.map_err(|_| Ended::Stopping)?;
        let ended = self.take(wire, &peer, link).await;
        let lost = Incoming::PeerLost { peer, link };
        answers.send(lost).await.map_err(|_| Ended::Stopping)?;
        ended
    }

    async fn take<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &mut Wire<S>,
        peer: &PeerId,
        link: u64,
    ) -> Result<(), Ended> {
        loop {
            let mut answers = Vec::new();
            while let Some(message) = wire.framer.next()? {
                let held = match message {
                    ToPeer::Hello(_) => return Err(Ended::Rude),
                    ToPeer::Ping => {
                        answers.push(FromPeer::Pong);
                        continue;
                    }
                    ToPeer::Gone(call) => Incoming::ReplicaGone { peer: peer.clone(), link, call },
                    ToPeer::Call { number, state, record } => {
                        answers.push(FromPeer::Ack(number));
                        let replica = replica(&state, &record).ok_or(Ended::Rude)?;
                        let replica = Box::new(replica);
                        Incoming::Replica { peer: peer.clone(), link, replica }
                    }
                };
                self.shared.answers.send(held).await.map_err(|_| Ended::Stopping)?;
            }
            if !answers.is_empty() {
                wire.send(&answers).await?;
            }
            timeout(SILENCE, wire.fill()).await.map_err(|_| Ended::Silent)??;
        }
    }
}
