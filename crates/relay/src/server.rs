//! The control server: proxies of the region connect here over mutual TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landline_control::{Framer, FromRelay, Hello, Request, ToRelay, VERSION, encode};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::owner::{Attached, ConnectionId, Outgoing, Owner, Owners, Reply};
use crate::shard::{Command, Shards};
use crate::shared::Shared;
use crate::tls::{self, Peer, PeerRegion};

/// For the TLS handshake and again for the peer's first message.
const GREETING_TIME: Duration = Duration::from_secs(10);

/// A connection whose octets stay unacknowledged this long is gone.
const UNACKNOWLEDGED_TIME: Duration = Duration::from_secs(20);

/// Peers that are being greeted at a time, beside the proxies that were: who
/// only opens connections must not keep them out.
const GREETINGS: usize = 256;

const READ_SIZE: usize = 16 * 1024;

pub(crate) struct Server {
    pub shared: Arc<Shared>,
    pub shards: Shards,
    pub owners: Arc<Owners>,
    pub acceptor: TlsAcceptor,
    pub hello: Hello,
    pub next_connection: AtomicU64,
    /// True once the relay stops.
    pub stop: watch::Receiver<bool>,
}

/// Why the relay ends a connection; the names are the metric's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Ended {
    #[error("closed by the peer")]
    ByPeer,
    #[error("replaced, overflowed or stopped")]
    ByRelay,
    #[error("tls")]
    Tls,
    #[error("greeting_timeout")]
    GreetingTimeout,
    #[error("peer_region")]
    PeerRegion,
    #[error("hello_region")]
    HelloRegion,
    #[error("hello_name")]
    HelloName,
    #[error("version")]
    Version,
    #[error("malformed")]
    Malformed,
    #[error("out_of_order")]
    OutOfOrder,
    #[error("too_many_proxies")]
    TooManyProxies,
}

impl Server {
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let greetings = Arc::new(Semaphore::new(GREETINGS));
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stopped| *stopped) => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, say: wait for one to come free.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(greeting) = Arc::clone(&greetings).try_acquire_owned() else {
                self.count_error("too_many_greetings");
                continue;
            };
            let server = Arc::clone(&self);
            tokio::spawn(async move { server.serve(stream, greeting).await });
        }
    }

    async fn serve(&self, stream: TcpStream, greeting: OwnedSemaphorePermit) {
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            ended = self.connection(stream, greeting) => ended,
            _ = stop.wait_for(|stopped| *stopped) => Ended::ByRelay,
        };
        if !matches!(ended, Ended::ByPeer | Ended::ByRelay) {
            self.count_error(&ended.to_string());
            tracing::warn!(reason = %ended, "a control connection was closed");
        }
    }

    async fn connection(&self, stream: TcpStream, greeting: OwnedSemaphorePermit) -> Ended {
        set_options(&stream);
        let accepted = timeout(GREETING_TIME, self.acceptor.accept(stream)).await;
        let mut stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return Ended::Tls,
            Err(_) => return Ended::GreetingTimeout,
        };
        let mut framer = Framer::default();
        let greeted = match self.check_region(&stream) {
            Ok(peer) => timeout(GREETING_TIME, self.greet(&mut stream, &mut framer, &peer)).await,
            Err(ended) => Ok(Err(ended)),
        };
        let hello = match greeted {
            Ok(Ok(hello)) => hello,
            Ok(Err(ended)) => {
                let _ = stream.shutdown().await;
                return ended;
            }
            Err(_) => return Ended::GreetingTimeout,
        };
        drop(greeting);
        self.attached(stream, framer, hello).await
    }

    fn check_region(&self, stream: &TlsStream<TcpStream>) -> Result<Peer, Ended> {
        let ours = self.hello.region;
        let peer = tls::peer(stream.get_ref().1.peer_certificates());
        let label = match peer.region {
            PeerRegion::One(region) if region == ours => return Ok(peer),
            PeerRegion::One(region) => region.to_string(),
            PeerRegion::Unclear => "unclear".to_owned(),
        };
        self.shared.metrics.refused_peers.with_label_values(&[&label]).inc();
        tracing::warn!(region = %label, "a peer of another region was refused");
        Err(Ended::PeerRegion)
    }

    /// Exchanges the first messages. Ours goes first, so that a peer that is
    /// refused can tell why.
    async fn greet<S>(
        &self,
        stream: &mut S,
        framer: &mut Framer,
        peer: &Peer,
    ) -> Result<Hello, Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        write_all(stream, &[FromRelay::Hello(self.hello.clone())]).await?;
        let mut buffer = vec![0; READ_SIZE];
        let hello = loop {
            match framer.next::<ToRelay>().map_err(|_| Ended::Malformed)? {
                Some(ToRelay::Hello(hello)) => break hello,
                Some(_) => return Err(Ended::OutOfOrder),
                None => framer.push(read_some(stream, &mut buffer).await?),
            }
        };
        if hello.version != VERSION {
            return Err(Ended::Version);
        }
        if hello.region != self.hello.region {
            return Err(Ended::HelloRegion);
        }
        // Sessions belong to a name: whoever may claim any may close them all.
        if !peer.is_named(&hello.name) {
            let claimed: String = hello.name.chars().take(63).collect();
            tracing::warn!(claimed = ?claimed, certificate = ?peer.hosts,
                "a proxy claims a name that its certificate is not for");
            return Err(Ended::HelloName);
        }
        Ok(hello)
    }

    async fn attached(
        &self,
        stream: TlsStream<TcpStream>,
        mut framer: Framer,
        hello: Hello,
    ) -> Ended {
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let (queue, mut messages) =
            mpsc::channel(self.shared.config.limits.messages_per_connection);
        let ended = Arc::new(Notify::new());
        let outgoing = Outgoing::new(queue, Arc::clone(&ended));
        let attached = self.owners.attach(&hello, connection, outgoing.clone());
        let Some(Attached { owner, former }) = attached else { return Ended::TooManyProxies };
        if let Some(former) = former {
            tracing::info!(proxy = %former.name, "a proxy restarted; it may adopt its sessions");
            self.close_after_grace(former);
        }
        if !self.shared.streams.is_empty() {
            outgoing.send(FromRelay::Streams(self.shared.streams.clone()));
        }
        if self.shared.is_draining() {
            outgoing.send(FromRelay::Draining);
        }
        self.shared.metrics.control_connections.inc();
        tracing::info!(proxy = %owner.name, "a proxy connected");
        let (mut reader, mut writer) = tokio::io::split(stream);
        let result = tokio::select! {
            result = self.read(&mut reader, &mut framer, &owner, &outgoing) => result,
            result = write(&mut writer, &mut messages) => result,
            () = ended.notified() => Err(Ended::ByRelay),
        };
        self.shared.metrics.control_connections.dec();
        tracing::info!(proxy = %owner.name, "a proxy's connection is over");
        self.start_grace(owner, connection);
        result.err().unwrap_or(Ended::ByPeer)
    }

    async fn read<S: AsyncRead + Unpin>(
        &self,
        reader: &mut S,
        framer: &mut Framer,
        owner: &Arc<Owner>,
        outgoing: &Outgoing,
    ) -> Result<(), Ended> {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match framer.next::<ToRelay>().map_err(|_| Ended::Malformed)? {
                Some(ToRelay::Ping(number)) => outgoing.send(FromRelay::Pong(number)),
                Some(ToRelay::Hello(_)) => return Err(Ended::OutOfOrder),
                Some(ToRelay::Request(id, request)) => {
                    let session = match &request {
                        Request::Open(open) => open.session,
                        Request::Change(session, _) => *session,
                        Request::Close(close) => close.session,
                        Request::Adopt(adopt) => adopt.session,
                        Request::TakeOver(take) => take.adopt.session,
                        Request::Resume(resume) => resume.open.session,
                    };
                    let reply = Reply { request: id, outgoing: outgoing.clone() };
                    let owner = Arc::clone(owner);
                    let command = Command::Request { owner, request, reply };
                    self.shards.send(session, command).await;
                }
                None => framer.push(read_some(reader, &mut buffer).await?),
            }
        }
    }

    /// Closes the proxy's sessions if it does not come back in time.
    fn start_grace(&self, owner: Arc<Owner>, connection: ConnectionId) {
        if !self.owners.detach(&owner, connection) {
            return;
        }
        let (owners, shards) = (Arc::clone(&self.owners), self.shards.clone());
        self.after_grace(async move {
            if owners.expire(&owner, connection) {
                tracing::warn!(proxy = %owner.name, "a proxy stayed away; closing its sessions");
                shards.close_owner(owner.key).await;
            }
        });
    }

    /// Closes what a former incarnation's sessions nobody adopted in time.
    fn close_after_grace(&self, former: Arc<Owner>) {
        let shards = self.shards.clone();
        self.after_grace(async move { shards.close_owner(former.key).await });
    }

    /// Unless the relay stops before.
    fn after_grace(&self, act: impl Future<Output = ()> + Send + 'static) {
        let grace = self.shared.config.proxy_grace;
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                _ = stop.wait_for(|stopped| *stopped) => return,
            }
            act.await;
        });
    }

    fn count_error(&self, reason: &str) {
        self.shared.metrics.control_errors.with_label_values(&[reason]).inc();
    }
}

/// Best effort: without them a dead peer is only noticed later.
fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME));
}

async fn read_some<'a, S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &'a mut [u8],
) -> Result<&'a [u8], Ended> {
    match stream.read(buffer).await {
        Ok(0) | Err(_) => Err(Ended::ByPeer),
        Ok(length) => Ok(&buffer[..length]),
    }
}

/// Sends what is queued, several messages in one record where there are several.
async fn write<S: AsyncWrite + Unpin>(
    writer: &mut S,
    messages: &mut mpsc::Receiver<FromRelay>,
) -> Result<(), Ended> {
    let mut batch = Vec::new();
    while messages.recv_many(&mut batch, 64).await > 0 {
        write_all(writer, &batch).await?;
        batch.clear();
    }
    Ok(())
}

async fn write_all<S: AsyncWrite + Unpin>(
    writer: &mut S,
    messages: &[FromRelay],
) -> Result<(), Ended> {
    let mut octets = Vec::new();
    for message in messages {
        if encode(message, &mut octets).is_err() {
            tracing::error!("a message was too long for the control connection");
            return Err(Ended::ByRelay);
        }
    }
    writer.write_all(&octets).await.map_err(|_| Ended::ByPeer)?;
    writer.flush().await.map_err(|_| Ended::ByPeer)
}
