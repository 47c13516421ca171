//! A relay's machine: the real core on ports of the simulated network, and the
//! control connections of its region's proxies.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use landline_control::{
    Framer, FromRelay, Hello, LegId, PayloadType, Recorded, RelayId, ToRelay, VERSION, encode,
};
use landline_media::Identity;
use landline_region::RecordingSid;
use landline_relay::{
    Full, MediaAddress, Network, ProxyLink, RecordingSink, RecordingStart, RelayConfig, RelayCore,
    TlsFiles,
};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::cx::{Cx, Event, Node, relay_address};
use crate::plan::Sabotage;
use crate::stream::What;
use crate::tenants;

/// More than a run needs: a plain leg may take what a phone still sends to a port
/// of its last call for its own peer's, as long as it may latch.
const PORTS: std::ops::RangeInclusive<u16> = 30_000..=33_999;
/// How long sessions outlive their proxy's connection.
const GRACE: Duration = Duration::from_secs(30);

/// What a relay does by itself.
pub enum Task {
    /// It was drained, and another process takes its place.
    Replace,
    /// A proxy whose connection ended did not come back.
    Expire(usize),
    /// Nor did this one adopt what is left of its former life's sessions.
    ExpireFormer(usize),
}

pub struct RelayHost {
    pub number: usize,
    pub region: usize,
    pub life: Option<Life>,
    pub lives: u64,
    /// It was told to take no new sessions, until its next start.
    pub draining: bool,
}

pub struct Life {
    core: RelayCore<SimNetwork>,
    network: SimNetwork,
    recorder: Arc<Recorder>,
    links: BTreeMap<usize, Link>,
    /// Ended ones within their grace time.
    ended: BTreeMap<usize, ProxyLink>,
    hello: Hello,
}

struct Link {
    side: usize,
    framer: Framer,
    proxy: Option<ProxyLink>,
}

impl RelayHost {
    pub fn new(number: usize, region: usize) -> Self {
        Self { number, region, life: None, lives: 0, draining: false }
    }

    pub fn id(&self) -> RelayId {
        RelayId(format!("relay-{}", self.number))
    }

    pub fn start(&mut self, cx: &mut Cx, runtime: &Runtime) {
        static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
        let identity =
            IDENTITY.get_or_init(|| Arc::new(Identity::generate().expect("an identity"))).clone();
        self.lives += 1;
        self.draining = false;
        let region = tenants::region(self.region);
        let nowhere = || "unused".into();
        let tls = TlsFiles { certificate: nowhere(), key: nowhere(), authorities: nowhere() };
        let address = MediaAddress::direct(relay_address(self.number));
        let mut config = RelayConfig::new(self.id(), region, tls, address);
        config.ports = PORTS;
        config.limits.sessions = 40;
        config.media_timeout = Duration::from_secs(30);
        config.proxy_grace = GRACE;
        let recorder = Arc::new(Recorder::default());
        config.recordings = Some(recorder.clone());
        let network = SimNetwork::new(cx.plan.sabotage);
        let mut entropy = cx.chance.entropy();
        let hello =
            Hello { version: VERSION, region, name: self.id().0, incarnation: cx.chance.u64() };
        let handle = runtime.handle().clone();
        let core = RelayCore::new(config, network.clone(), identity, &mut entropy, handle);
        let core = core.expect("a relay's configuration");
        let (links, ended) = Default::default();
        self.life = Some(Life { core, network, recorder, links, ended, hello });
        cx.remark(format_args!("relay {} is up", self.number));
    }

    pub fn task(&mut self, cx: &mut Cx, task: &Task) {
        let Some(life) = &mut self.life else { return };
        match task {
            Task::Replace => return,
            Task::Expire(stream) => {
                if let Some(mut link) = life.ended.remove(stream) {
                    life.core.expire_former(cx.instant(), &mut link);
                    life.core.expire(cx.instant(), &link);
                }
            }
            Task::ExpireFormer(stream) => {
                let present = life.links.get_mut(stream).and_then(|it| it.proxy.as_mut());
                if let Some(link) = present.or(life.ended.get_mut(stream)) {
                    life.core.expire_former(cx.instant(), link);
                }
            }
        }
        self.drain(cx);
    }

    pub fn drain_sessions(&mut self) {
        if let Some(life) = &self.life {
            self.draining = true;
            life.core.drain();
        }
    }

    /// A datagram for one of its ports.
    pub fn packet(&mut self, cx: &mut Cx, from: SocketAddr, port: u16, octets: Vec<u8>) {
        let Some(life) = &mut self.life else { return };
        if let Some(token) = life.network.arrived(port, from, octets) {
            life.core.receive(cx.instant(), token);
        }
        self.drain(cx);
    }

    pub fn stream(&mut self, cx: &mut Cx, stream: usize, side: usize, what: What) {
        let Some(life) = &mut self.life else { return };
        match what {
            What::Opened => {
                let link = Link { side, framer: Framer::default(), proxy: None };
                life.links.insert(stream, link);
                cx.accepted(stream, self.lives);
                let hello = FromRelay::Hello(life.hello.clone());
                say(cx, stream, side, &hello);
            }
            What::Octets(octets) => {
                if life.heard(cx, stream, &octets) {
                    let task = Event::Relay(self.number, self.lives, Task::ExpireFormer(stream));
                    cx.after(GRACE, task);
                }
            }
            What::Closed | What::Lost => {
                let proxy = life.links.remove(&stream).and_then(|link| link.proxy);
                let Some(proxy) = proxy else { return };
                let is_away = life.core.disconnect(&proxy);
                // Also where it was replaced already: its former incarnation's
                // grace time runs on.
                life.ended.insert(stream, proxy);
                if is_away {
                    let task = Event::Relay(self.number, self.lives, Task::Expire(stream));
                    cx.after(GRACE, task);
                }
            }
        }
        self.drain(cx);
    }

    pub fn timeout(&self) -> Option<std::time::Instant> {
        self.life.as_ref()?.core.poll_timeout()
    }

    pub fn handle_timeout(&mut self, cx: &mut Cx) {
        let Some(life) = &mut self.life else { return };
        if life.core.poll_timeout().is_some_and(|at| at <= cx.instant()) {
            life.core.handle_timeout(cx.instant());
            self.drain(cx);
        }
    }

    /// Recordings that ended and wait for the runtime to say so.
    pub fn is_finishing(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.recorder.is_finishing())
    }

    /// Sends what the core wants sent.
    pub fn drain(&mut self, cx: &mut Cx) {
        let Some(life) = &mut self.life else { return };
        let ip = relay_address(self.number);
        while let Some((port, to, octets)) = life.network.sent() {
            cx.datagram(Node::Relay(self.number), SocketAddr::new(ip, port), to, &octets);
        }
        for (stream, link) in &mut life.links {
            while let Some(message) = link.proxy.as_mut().and_then(ProxyLink::poll) {
                say(cx, *stream, link.side, &message);
            }
        }
    }

    /// Sockets that nobody closed, but for the one that all legs with ICE share.
    pub fn bound_ports(&self) -> usize {
        self.life
            .as_ref()
            .map_or(0, |life| life.network.0.borrow().inboxes.len() - life.core.ice_addrs().len())
    }

    /// Sessions and port pairs in use.
    pub fn under_way(&self, cx: &Cx) -> (usize, usize) {
        self.life.as_ref().map_or((0, 0), |life| life.core.under_way(cx.instant()))
    }
}

impl Life {
    /// True when a proxy introduced itself.
    fn heard(&mut self, cx: &mut Cx, stream: usize, octets: &[u8]) -> bool {
        let Some(link) = self.links.get_mut(&stream) else { return false };
        link.framer.push(octets);
        let mut is_new = false;
        loop {
            match link.framer.next::<ToRelay>() {
                Ok(None) => return is_new,
                Ok(Some(ToRelay::Hello(hello))) => {
                    is_new = true;
                    link.proxy = self.core.connect(cx.instant(), &hello);
                }
                Ok(Some(message)) => {
                    cx.note(format_args!("{} is asked", self.hello.name));
                    if let Some(proxy) = &link.proxy {
                        self.core.handle(cx.instant(), proxy, message);
                    }
                }
                Err(error) => {
                    cx.fault(format!("a relay cannot read a proxy: {error}"));
                    return is_new;
                }
            }
        }
    }
}

/// Sends a message of a relay's or a proxy's own, in its frame.
pub fn say<M: Serialize>(cx: &mut Cx, stream: usize, side: usize, message: &M) {
    let mut octets = Vec::new();
    match encode(message, &mut octets) {
        Ok(()) => in_pieces(cx, stream, side, &octets),
        Err(error) => cx.fault(format!("a message cannot be framed: {error}")),
    }
}

/// A stream keeps no message together.
pub fn in_pieces(cx: &mut Cx, stream: usize, side: usize, octets: &[u8]) {
    let cut = match cx.chance.one_in(4) {
        true => cx.chance.below(octets.len()),
        false => 0,
    };
    for piece in [&octets[..cut], &octets[cut..]] {
        if !piece.is_empty() {
            cx.transmit(stream, side, piece.to_vec());
        }
    }
}

/// The relay's ports on the simulated network.
#[derive(Clone)]
pub struct SimNetwork(Rc<RefCell<Ports>>);

#[derive(Default)]
struct Ports {
    /// By port: the token it is watched by.
    tokens: BTreeMap<u16, u64>,
    /// By port: what waits there.
    inboxes: BTreeMap<u16, VecDeque<(SocketAddr, Vec<u8>)>>,
    outbox: VecDeque<(u16, SocketAddr, Vec<u8>)>,
    sabotage: Option<Sabotage>,
    sent: u64,
    last_to: BTreeMap<u16, SocketAddr>,
}

/// Closes its port when it is dropped, as a socket does.
pub struct SimSocket {
    port: u16,
    network: SimNetwork,
}

impl SimNetwork {
    fn new(sabotage: Option<Sabotage>) -> Self {
        Self(Rc::new(RefCell::new(Ports { sabotage, ..Ports::default() })))
    }

    /// The token of the port's socket, if it has one.
    fn arrived(&self, port: u16, from: SocketAddr, octets: Vec<u8>) -> Option<u64> {
        let mut ports = self.0.borrow_mut();
        let token = *ports.tokens.get(&port)?;
        ports.inboxes.entry(port).or_default().push_back((from, octets));
        Some(token)
    }

    fn sent(&self) -> Option<(u16, SocketAddr, Vec<u8>)> {
        self.0.borrow_mut().outbox.pop_front()
    }
}

impl Network for SimNetwork {
    type Socket = SimSocket;

    fn bind(&self, _address: IpAddr, port: u16) -> io::Result<SimSocket> {
        let mut ports = self.0.borrow_mut();
        match ports.inboxes.contains_key(&port) {
            true => Err(io::ErrorKind::AddrInUse.into()),
            false => {
                ports.inboxes.insert(port, VecDeque::new());
                Ok(SimSocket { port, network: self.clone() })
            }
        }
    }

    fn watch(&self, socket: &SimSocket, token: u64) -> io::Result<()> {
        self.0.borrow_mut().tokens.insert(socket.port, token);
        Ok(())
    }

    fn receive(&self, socket: &SimSocket, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut ports = self.0.borrow_mut();
        let waiting = ports.inboxes.get_mut(&socket.port).and_then(VecDeque::pop_front);
        let (from, octets) = waiting.ok_or(io::ErrorKind::WouldBlock)?;
        let length = octets.len().min(into.len());
        into[..length].copy_from_slice(&octets[..length]);
        Ok((length, from))
    }

    fn send(&self, socket: &SimSocket, octets: &[u8], to: SocketAddr) -> io::Result<usize> {
        let mut ports = self.0.borrow_mut();
        ports.sent += 1;
        let fortieth = ports.sent.is_multiple_of(40);
        let mut to = to;
        match ports.sabotage.filter(|_| fortieth) {
            Some(Sabotage::RelayLoses) => return Ok(octets.len()),
            Some(Sabotage::RelayCrosses) => {
                let other = |(port, _): &(&u16, &SocketAddr)| port.abs_diff(socket.port) > 3;
                to = ports.last_to.iter().find(other).map_or(to, |(_, other)| *other);
            }
            _ => drop(ports.last_to.insert(socket.port, to)),
        }
        ports.outbox.push_back((socket.port, to, octets.to_vec()));
        Ok(octets.len())
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let mut ports = self.network.0.borrow_mut();
        ports.tokens.remove(&self.port);
        ports.last_to.remove(&self.port);
        if ports.sabotage != Some(Sabotage::PortsLeak) {
            ports.inboxes.remove(&self.port);
        }
    }
}

/// Keeps counts where the store would keep recordings.
#[derive(Default)]
struct Recorder(Mutex<Recordings>);

#[derive(Default)]
struct Recordings {
    frames: BTreeMap<RecordingSid, u64>,
    finishing: bool,
}

impl Recorder {
    fn lock(&self) -> std::sync::MutexGuard<'_, Recordings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_finishing(&self) -> bool {
        std::mem::take(&mut self.lock().finishing)
    }
}

impl RecordingSink for Recorder {
    fn start(&self, start: RecordingStart) -> Result<(), Full> {
        self.lock().frames.insert(start.part.sid(), 0);
        Ok(())
    }

    fn payload_types(&self, _: RecordingSid, _: LegId, _: &[PayloadType]) -> Result<(), Full> {
        Ok(())
    }

    fn frame(&self, recording: RecordingSid, _: LegId, _: u32, _: &[u8]) -> Result<(), Full> {
        *self.lock().frames.entry(recording).or_default() += 1;
        Ok(())
    }

    fn finish(&self, recording: RecordingSid) -> oneshot::Receiver<Recorded> {
        let mut recordings = self.lock();
        recordings.finishing = true;
        let frames = recordings.frames.remove(&recording).unwrap_or(0);
        let (sender, receiver) = oneshot::channel();
        let recorded =
            Recorded { sid: recording, expected_packets: frames, stored_packets: frames };
        let _ = sender.send(recorded);
        receiver
    }
}
