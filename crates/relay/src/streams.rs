//! Connections for media (ICE-TCP, RFC 6544), for peers whose network lets no
//! UDP out: one port for all legs. A connection says whose it is by its first
//! packet, a connectivity check; then it goes to that leg's shard, which closes
//! it again unless the check is authentic.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use landline_media::framing::Deframer;
use landline_media::stun::{BINDING, Class, Message};
use rustc_hash::FxHashMap;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::shard::{EXPEDITED_FORWARDING, Shards};
use crate::shared::Shared;

/// From the connection to its first check. A browser sends it at once.
const GREETING_TIME: Duration = Duration::from_secs(5);

/// What a stranger may send in that time. A check has about a hundred octets.
const MAX_GREETING: usize = 1024;

/// A connection whose octets stay unacknowledged this long is gone.
const UNACKNOWLEDGED_TIME: Duration = Duration::from_secs(20);

/// What the kernel holds for a peer that reads slowly, doubled by it, and what
/// of that may be unsent. Media that waits there can no longer be dropped.
const SEND_BUFFER: usize = 16 * 1024;
const UNSENT: u32 = 2 * 1024;

/// A connection by which nothing comes is asked after this whether it is there.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Which leg a fragment is of, on all shards.
#[derive(Debug, Default)]
pub(crate) struct Fragments(Mutex<FxHashMap<String, Place>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub shard: usize,
    pub slot: usize,
    pub serial: u64,
}

impl Fragments {
    pub fn add(&self, fragment: String, place: Place) {
        self.lock().insert(fragment, place);
    }

    pub fn remove(&self, fragment: &str) {
        self.lock().remove(fragment);
    }

    fn find(&self, fragment: &str) -> Option<Place> {
        self.lock().get(fragment).copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FxHashMap<String, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on its way to its shard, with what it brought so far.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub place: Place,
    pub socket: std::net::TcpStream,
    pub from: SocketAddr,
    pub octets: Vec<u8>,
    /// A stranger until the leg has judged.
    pub stranger: Stranger,
}

/// Why a connection is closed; the names are the metric's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    TooMany,
    TooManyFromSource,
    Late,
    Gone,
    NotACheck,
    UnknownLeg,
    /// The leg found the check not to be its peer's.
    Unproven,
    Busy,
    /// Within a connection that was let in.
    Framing,
}

impl Refused {
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::TooManyFromSource => "too_many_from_source",
            Self::Late => "late",
            Self::Gone => "gone",
            Self::NotACheck => "not_a_check",
            Self::UnknownLeg => "unknown_leg",
            Self::Unproven => "unproven",
            Self::Busy => "busy",
            Self::Framing => "framing",
        }
    }
}

/// Listens on the port of each media address; tells where, as peers are told.
pub(crate) fn bind(
    bind: IpAddr,
    advertise: IpAddr,
    port: u16,
) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let domain = if bind.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if bind.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SocketAddr::new(bind, port).into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let port = listener.local_addr()?.port();
    Ok((listener, SocketAddr::new(advertise, port)))
}

/// The strangers of one listener or several.
pub(crate) struct Reception {
    pub shared: Arc<Shared>,
    pub shards: Shards,
    pub strangers: Arc<Mutex<Strangers>>,
    pub stop: watch::Receiver<bool>,
}

/// Connections that have not said whose they are, by their source.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    /// Those that still say who they are, by when they came: the way to end one.
    greeting: BTreeMap<u64, Arc<Notify>>,
    next: u64,
    by_source: BTreeMap<IpAddr, usize>,
}

impl Reception {
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stopped| *stopped) => return,
            };
            let Ok((stream, from)) = accepted else {
                // Out of file descriptors, say: wait for one to come free.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let stranger = match Stranger::enter(&self, from.ip()) {
                Ok(stranger) => stranger,
                Err(refused) => {
                    self.shared.metrics.refuse_stream(refused);
                    continue;
                }
            };
            let reception = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(refused) = reception.greet(stream, from, stranger).await {
                    reception.shared.metrics.refuse_stream(refused);
                }
            });
        }
    }

    async fn greet(
        &self,
        mut stream: TcpStream,
        from: SocketAddr,
        stranger: Stranger,
    ) -> Result<(), Refused> {
        let mut stop = self.stop.clone();
        let (octets, place) = tokio::select! {
            greeted = timeout(GREETING_TIME, self.first_check(&mut stream)) => {
                greeted.map_err(|_| Refused::Late)??
            }
            () = stranger.has_to_go.notified() => return Err(Refused::TooMany),
            _ = stop.wait_for(|stopped| *stopped) => return Err(Refused::Gone),
        };
        set_options(&stream, from.ip());
        let socket = stream.into_std().map_err(|_| Refused::Gone)?;
        let arrival = Arrival { place, socket, from, octets, stranger };
        if self.shards.hand_over(arrival) { Ok(()) } else { Err(Refused::Busy) }
    }

    /// Reads until the first packet is whole, and what came with it.
    async fn first_check(&self, stream: &mut TcpStream) -> Result<(Vec<u8>, Place), Refused> {
        let mut octets = Vec::with_capacity(256);
        let mut buffer = [0; MAX_GREETING];
        loop {
            let room = MAX_GREETING - octets.len();
            if room == 0 {
                return Err(Refused::NotACheck);
            }
            match stream.read(&mut buffer[..room]).await {
                Ok(0) | Err(_) => return Err(Refused::Gone),
                Ok(length) => octets.extend_from_slice(&buffer[..length]),
            }
            let mut found = None;
            let first = |packet: &[u8]| {
                found = Some(fragment(packet).map(str::to_owned));
                false
            };
            Deframer::default().push(&octets, first).map_err(|_| Refused::NotACheck)?;
            if let Some(fragment) = found {
                let fragment = fragment.ok_or(Refused::NotACheck)?;
                let place = self.shared.fragments.find(&fragment).ok_or(Refused::UnknownLeg)?;
                return Ok((octets, place));
            }
        }
    }
}

/// Whose check this is: the receiver's part of its user name.
fn fragment(packet: &[u8]) -> Option<&str> {
    let message = Message::parse(packet).ok()?;
    let is_check =
        message.class == Class::Request && message.method == BINDING && message.has_integrity();
    let username = message.username.filter(|_| is_check)?;
    std::str::from_utf8(username).ok()?.split(':').next()
}

/// Best effort: without them a call works less well.
fn set_options(stream: &TcpStream, peer: IpAddr) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME));
    let keepalive = TcpKeepalive::new().with_time(QUIET_TIME).with_interval(QUIET_TIME / 2);
    let _ = socket.set_tcp_keepalive(&keepalive.with_retries(2));
    let _ = match peer {
        IpAddr::V4(_) => socket.set_tos_v4(EXPEDITED_FORWARDING),
        IpAddr::V6(_) => socket.set_tclass_v6(EXPEDITED_FORWARDING),
    };
}

/// Counted among the strangers until it is dropped.
#[derive(Debug)]
pub(crate) struct Stranger {
    strangers: Arc<Mutex<Strangers>>,
    number: u64,
    source: IpAddr,
    has_to_go: Arc<Notify>,
}

impl Stranger {
    /// One source may have so many; where all together have too many, the one
    /// that has said nothing for longest has to go.
    fn enter(reception: &Reception, from: IpAddr) -> Result<Self, Refused> {
        let source = source(from);
        let limits = &reception.shared.config.limits;
        let mut all = reception.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = all.by_source.get(&source).copied().unwrap_or_default();
        if theirs >= limits.strangers_per_source {
            return Err(Refused::TooManyFromSource);
        }
        if all.greeting.len() >= limits.strangers
            && let Some((_, oldest)) = all.greeting.pop_first()
        {
            oldest.notify_one();
        }
        let (number, has_to_go) = (all.next, Arc::default());
        all.next += 1;
        all.greeting.insert(number, Arc::clone(&has_to_go));
        all.by_source.insert(source, theirs + 1);
        Ok(Self { strangers: Arc::clone(&reception.strangers), number, source, has_to_go })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut all = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        all.greeting.remove(&self.number);
        if let Some(theirs) = all.by_source.get_mut(&self.source) {
            *theirs -= 1;
            if *theirs == 0 {
                all.by_source.remove(&self.source);
            }
        }
    }
}

/// A host, or with IPv6 a network: who has one address there has them all.
fn source(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V4(_) => from,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}
