//! The control connection to one relay: mutual TLS, kept up for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landline_control::{
    Framer, FromRelay, Hello, RelayId, Request, RequestId, ToRelay, VERSION, encode,
};
use landline_region::RegionCode;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::RelayAddress;
use crate::inbox::Incoming;
use crate::listen::tune;
use crate::resolve::Dns;
use crate::shared::Shared;
use crate::tls::{Reloading, Role};

/// Requests on their way to one relay.
const REQUESTS: usize = 4096;
const PING: Duration = Duration::from_secs(2);
/// Three pings without a word: the relay or the way to it is gone.
const SILENCE: Duration = Duration::from_secs(6);
const CONNECT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

pub(crate) struct RelayLink {
    pub(crate) relay: RelayAddress,
    pub(crate) region: RegionCode,
    /// The proxy's own words.
    pub(crate) hello: Hello,
    pub(crate) tls: Arc<Reloading<rustls::ClientConfig>>,
    pub(crate) dns: Arc<Dns>,
    pub(crate) shared: Arc<Shared>,
}

/// Why a link ended; for the log.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it did not answer in time")]
    Silent,
    #[error("{0}")]
    Frame(#[from] landline_control::FrameError),
    #[error("it is `{name}` of region {region}, speaking version {version}")]
    Stranger { name: String, region: RegionCode, version: u16 },
    #[error("it did not greet first")]
    Rude,
    #[error("its host has no address")]
    NoAddress,
    #[error("too many requests waited for it")]
    LetGo,
    #[error("the proxy stops")]
    Stopping,
}

type Stream = TlsStream<TcpStream>;

impl RelayLink {
    pub(crate) async fn run(self) {
        let id = self.relay.id.clone();
        let mut pause = FIRST_PAUSE;
        let mut reported = false;
        loop {
            let ended = match timeout(CONNECT, self.connect()).await.unwrap_or(Err(Ended::Silent)) {
                Err(ended) => ended,
                Ok((link, hello)) => {
                    pause = FIRST_PAUSE;
                    reported = false;
                    self.shared.metrics.relays_connected.inc();
                    let ended = self.exchange(link, hello).await;
                    self.shared.metrics.relays_connected.dec();
                    let lost = Incoming::RelayLost { relay: id.clone() };
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
                tracing::warn!(relay = %id, control = %self.relay.control, problem = %ended,
                    "no control connection to the relay; trying again");
                reported = true;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self) -> Result<(Link, Hello), Ended> {
        let name = ServerName::try_from(Role::Relay.name(self.region))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let control = &self.relay.control;
        let mut last = Ended::NoAddress;
        for ip in self.dns.addresses(&control.host).await {
            match self.greet(SocketAddr::new(ip, control.port), name.clone()).await {
                Ok(greeted) => return Ok(greeted),
                Err(ended) => last = ended,
            }
        }
        Err(last)
    }

    async fn greet(
        &self,
        address: SocketAddr,
        name: ServerName<'static>,
    ) -> Result<(Link, Hello), Ended> {
        let stream = TcpStream::connect(address).await?;
        tune(&stream);
        let stream = TlsConnector::from(self.tls.load()).connect(name, stream).await?;
        let (read, write) = tokio::io::split(stream);
        let mut link = Link { read, write, framer: Framer::default(), buffer: vec![0; 16 * 1024] };
        link.send(&[ToRelay::Hello(self.hello.clone())]).await?;
        let FromRelay::Hello(hello) = link.receive().await? else {
            return Err(Ended::Rude);
        };
        let expected = hello.version == VERSION
            && hello.region == self.region
            && hello.name == self.relay.id.0;
        match expected {
            true => Ok((link, hello)),
            false => Err(Ended::Stranger {
                name: hello.name.chars().take(32).collect(),
                region: hello.region,
                version: hello.version,
            }),
        }
    }

    /// Carries requests and what comes back until the link breaks. Requests
    /// have a queue of their own for each connection: none meant for a session
    /// of the former one reaches the next.
    async fn exchange(&self, link: Link, hello: Hello) -> Ended {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let relay = self.relay.id.clone();
        tracing::info!(%relay, "control connection to the relay is up");
        let connected = Incoming::RelayConnected { relay: relay.clone(), hello, requests: sender };
        if self.shared.answers.send(connected).await.is_err() {
            return Ended::Stopping;
        }
        let Link { read, write, framer, buffer } = link;
        let reader = self.read(relay, Reader { read, framer, buffer });
        tokio::select! {
            ended = reader => ended,
            ended = write_requests(write, requests) => ended,
        }
    }

    async fn read(&self, relay: RelayId, mut reader: Reader) -> Ended {
        let mut heard = Instant::now();
        loop {
            match reader.framer.next::<FromRelay>() {
                Err(error) => return error.into(),
                Ok(Some(FromRelay::Pong(_))) => continue,
                Ok(Some(message)) => {
                    let message = Incoming::Relay { relay: relay.clone(), message };
                    if self.shared.answers.send(message).await.is_err() {
                        return Ended::Stopping;
                    }
                    continue;
                }
                Ok(None) => {}
            }
            match tokio::time::timeout_at(heard + SILENCE, reader.fill()).await {
                Err(_) => return Ended::Silent,
                Ok(Err(error)) => return error.into(),
                Ok(Ok(())) => heard = Instant::now(),
            }
        }
    }
}

struct Link {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    framer: Framer,
    buffer: Vec<u8>,
}

impl Link {
    async fn send(&mut self, messages: &[ToRelay]) -> Result<(), Ended> {
        let mut octets = Vec::new();
        for message in messages {
            encode(message, &mut octets)?;
        }
        self.write.write_all(&octets).await?;
        Ok(self.write.flush().await?)
    }

    async fn receive(&mut self) -> Result<FromRelay, Ended> {
        loop {
            if let Some(message) = self.framer.next()? {
                return Ok(message);
            }
            let length = self.read.read(&mut self.buffer).await?;
            let octets = self.buffer.get(..length).filter(|octets| !octets.is_empty());
            self.framer.push(octets.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
        }
    }
}

struct Reader {
    read: ReadHalf<Stream>,
    framer: Framer,
    buffer: Vec<u8>,
}

impl Reader {
    async fn fill(&mut self) -> io::Result<()> {
        let length = self.read.read(&mut self.buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.framer.push(&self.buffer[..length]);
        Ok(())
    }
}

async fn write_requests(
    mut write: WriteHalf<Stream>,
    mut requests: mpsc::Receiver<(RequestId, Request)>,
) -> Ended {
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    let mut batch = Vec::new();
    let mut octets = Vec::new();
    loop {
        octets.clear();
        let encoded = tokio::select! {
            taken = requests.recv_many(&mut batch, 64) => {
                if taken == 0 {
                    return Ended::LetGo;
                }
                batch.drain(..).try_for_each(|(id, request)| {
                    encode(&ToRelay::Request(id, request), &mut octets)
                })
            }
            _ = pings.tick() => {
                number += 1;
                encode(&ToRelay::Ping(number), &mut octets)
            }
        };
        if let Err(error) = encoded {
            return error.into();
        }
        let sent = async {
            write.write_all(&octets).await?;
            write.flush().await
        };
        match timeout(SILENCE, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return Ended::Silent,
        }
    }
}
