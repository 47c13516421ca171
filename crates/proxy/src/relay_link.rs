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
/// Answers to pings come back within milliseconds; four that are missing are
/// no accident. A call is to be elsewhere within two seconds of its relay's
/// death, and a relay that is stopped or cut off says nothing of it.
const PING: Duration = Duration::from_millis(250);
const SILENCE: Duration = Duration::from_secs(1);
/// How long the sessions of a broken link are kept for the relay to be there
/// again: connection, TLS and greeting take a few milliseconds.
const LEASE: Duration = Duration::from_millis(400);
const CONNECT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
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
type Requests = mpsc::Receiver<(RequestId, Request)>;

/// What a broken link leaves: if the same process is there again in time, its
/// sessions were never gone, and what waited for it is sent.
struct Lease {
    incarnation: u64,
    until: Instant,
    requests: Requests,
}

impl Lease {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

impl RelayLink {
    pub(crate) async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut reported = false;
        let mut lease: Option<Lease> = None;
        loop {
            let patience = lease.as_ref().map_or(CONNECT, Lease::left);
            let ended = match timeout(patience, self.connect()).await.unwrap_or(Err(Ended::Silent))
            {
                Err(ended) => ended,
                Ok((link, hello)) => {
                    (pause, reported) = (FIRST_PAUSE, false);
                    let Some((ended, next)) = self.serve(link, hello, lease.take()).await else {
                        return;
                    };
                    lease = next;
                    ended
                }
            };
            if !reported {
                tracing::warn!(relay = %self.relay.id, control = %self.relay.control,
                    problem = %ended, "no control connection to the relay; trying again");
                reported = true;
            }
            // Nobody listens where it did: that process is no more.
            let is_dead = matches!(&ended, Ended::Io(error)
                if error.kind() == io::ErrorKind::ConnectionRefused);
            if lease.as_ref().is_some_and(|lease| is_dead || lease.left().is_zero()) {
                lease = None;
                if !self.tell_loss().await {
                    return;
                }
            }
            sleep(lease.as_ref().map_or(pause, |lease| pause.min(lease.left()))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Carries requests over a link that stands, until it breaks; what is held
    /// on to then. `None` once the proxy stops.
    async fn serve(
        &self,
        link: Link,
        hello: Hello,
        lease: Option<Lease>,
    ) -> Option<(Ended, Option<Lease>)> {
        let incarnation = hello.incarnation;
        let is_same = lease.as_ref().is_some_and(|lease| lease.incarnation == incarnation);
        if lease.is_some() && !is_same && !self.tell_loss().await {
            return None;
        }
        let relay = self.relay.id.clone();
        tracing::info!(%relay, "control connection to the relay is up");
        let (queue, mut requests) = match lease.filter(|_| is_same) {
            Some(lease) => (None, lease.requests),
            None => {
                let (sender, requests) = mpsc::channel(REQUESTS);
                (Some(sender), requests)
            }
        };
        let connected = Incoming::RelayConnected { relay, hello, requests: queue };
        self.shared.answers.send(connected).await.ok()?;
        self.shared.metrics.relays_connected.inc();
        let ended = self.exchange(link, &mut requests).await;
        self.shared.metrics.relays_connected.dec();
        match ended {
            Ended::Stopping => None,
            // Requests are missing, and so what is there is half made.
            Ended::LetGo => self.tell_loss().await.then_some((ended, None)),
            ended => {
                let until = Instant::now() + LEASE;
                Some((ended, Some(Lease { incarnation, until, requests })))
            }
        }
    }

    /// False once the proxy stops.
    async fn tell_loss(&self) -> bool {
        let lost = Incoming::RelayLost { relay: self.relay.id.clone() };
        self.shared.answers.send(lost).await.is_ok()
    }

    async fn connect(&self) -> Result<(Link, Hello), Ended> {
        let name = ServerName::try_from(Role::Relay.name(self.region))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let control = &self.relay.control;
        let greet = |address| self.greet(address, name.clone());
        self.dns.first_of(&control.host, control.port, Ended::NoAddress, greet).await
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

    /// Carries requests and what comes back until the link breaks.
    async fn exchange(&self, link: Link, requests: &mut Requests) -> Ended {
        let Link { read, write, framer, buffer } = link;
        let reader = self.read(self.relay.id.clone(), Reader { read, framer, buffer });
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

async fn write_requests(mut write: WriteHalf<Stream>, requests: &mut Requests) -> Ended {
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
