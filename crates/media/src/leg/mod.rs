//! One media leg: between the relay and one peer.
//!
//! Feed it what its sockets receive and the partner leg's plain packets, drain
//! [`Leg::poll_output`] after each call, and call [`Leg::handle_timeout`] when
//! [`Leg::poll_timeout`] says so.

mod config;
mod drops;
mod handshakes;
mod path;
mod receive;
mod renewal;
mod security;
mod send;
mod splice;
mod stats;
mod video;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use landline_control::{
    Direction, LegKeys, LegLocal, LegStats, MediaFault, PayloadType, Protocol, Remote, SrtpSuite,
};
use landline_region::Entropy;

pub use self::config::{Component, DtlsBackend, LegConfig, LegOutput, Received, RemoteError};
pub use self::drops::{DropCause, Drops};
use self::handshakes::{Handshakes, Step};
use self::path::Path;
use self::renewal::Renewal;
use self::security::Security;
use self::splice::Splice;
pub use self::stats::Heard;
use self::stats::{Reception, Transmission};
use self::video::Video;
use crate::dtls::Established;
use crate::ice::{IceLite, Target};

/// Answers and flights waiting to be polled.
const MAX_OUTPUT: usize = 64;

pub struct Leg {
    config: LegConfig,
    entropy: Entropy,
    security: Security,
    /// Of the streams to the peer, where it has heard them under other keys.
    renewal: Option<Renewal>,
    /// Of the sound to the peer, once the relay itself has spoken to it.
    splice: Option<Box<Splice>>,
    ice: Option<IceLite>,
    handshakes: Option<Handshakes>,
    /// Of RTP and of RTCP. With ICE, its validated addresses count instead.
    paths: [Path; 2],
    /// What the peer described, once it did.
    remote: Option<Described>,
    /// Kept apart: sound is judged by its own packets.
    video: Video,
    reception: Reception,
    transmission: Transmission,
    drops: Drops,
    faults: Vec<MediaFault>,
    output: VecDeque<LegOutput>,
    started: bool,
    /// Since when media is expected, or when the last came.
    waiting_since: Option<Instant>,
    timed_out: bool,
    /// When the peer's last packet was taken.
    heard_at: Option<Instant>,
}

struct Described {
    rtcp_mux: bool,
    /// The peer is an ICE agent too.
    ice: bool,
    direction: Direction,
    payload_types: Vec<PayloadType>,
    /// Something was sent since.
    sent: bool,
}

impl Leg {
    /// A leg that goes on with another relay's keys gives every stream a name of
    /// its own from the first packet on: under the name that it has had, its
    /// keystream would be used twice.
    pub fn new(mut config: LegConfig, _now: Instant) -> Self {
        let mut entropy = Entropy::new(config.seed);
        let mut security = Security::new(&config.spec, config.rollover, &mut entropy);
        if let Some(keys) = config.resume.take() {
            security.resume(&keys);
        }
        let renewal = security.is_resumed().then(|| Renewal::avoiding(security.sent()));
        let ice = config.spec.ice.then(|| IceLite::new(&mut entropy));
        let identity = config.identity.clone().filter(|_| config.spec.protocol == Protocol::Dtls);
        let handshakes = identity.map(|identity| {
            Handshakes::new(identity, config.dtls_backend, config.handshake_timeout)
        });
        Self {
            config,
            entropy,
            security,
            renewal,
            splice: None,
            ice,
            handshakes,
            paths: Default::default(),
            remote: None,
            video: Video::default(),
            reception: Reception::default(),
            transmission: Transmission::default(),
            drops: Drops::default(),
            faults: Vec::new(),
            output: VecDeque::new(),
            started: false,
            waiting_since: None,
            timed_out: false,
            heard_at: None,
        }
    }

    /// What our description of the leg says, with the advertised addresses of
    /// its sockets.
    pub fn local(&self, rtp: SocketAddr, rtcp: SocketAddr) -> LegLocal {
        let identity = self.config.identity.as_ref().filter(|_| self.handshakes.is_some());
        LegLocal {
            rtp,
            rtcp,
            ice: self.ice.as_ref().map(|ice| ice.local().clone()),
            fingerprint: identity.map(|identity| identity.fingerprint()),
            sdes: self.security.offered().to_vec(),
        }
    }

    /// Takes the peer's description, the first or a later one. Contexts whose
    /// keys stay the same are kept, and with them their rollover counters; so
    /// is a DTLS association whose fingerprints and role stay.
    pub fn set_remote(&mut self, now: Instant, remote: &Remote) -> Result<(), RemoteError> {
        match self.security.protocol() {
            Protocol::Rtp => {}
            Protocol::Sdes => {
                self.security.set_sdes(remote.sdes.as_ref().ok_or(RemoteError::NoSdesKeys)?)?;
            }
            Protocol::Dtls => {
                let parameters = remote.dtls.as_ref().ok_or(RemoteError::NoFingerprint)?;
                if parameters.fingerprints.is_empty() {
                    return Err(RemoteError::NoFingerprint);
                }
                let handshakes = self.handshakes.as_mut().ok_or(RemoteError::NoIdentity)?;
                // The peer may know nothing of a new association yet, and never will.
                let is_resumed = self.remote.is_none() && self.security.is_resumed();
                if handshakes.set_remote(parameters) && !is_resumed {
                    self.security.forget();
                }
            }
        }
        if let (Some(ice), Some(credentials)) = (&mut self.ice, &remote.ice) {
            ice.set_remote(credentials);
        }
        self.paths[Component::Rtp.index()].signal(remote.rtp);
        self.paths[Component::Rtcp.index()].signal(remote.rtcp);
        self.remote = Some(Described {
            rtcp_mux: self.may_multiplex() && remote.rtcp_mux,
            ice: self.ice.is_some() && remote.ice.is_some(),
            direction: remote.direction,
            payload_types: remote.payload_types.clone(),
            sent: false,
        });
        self.waiting_since = self.waiting_since.map(|_| now);
        self.open_windows(now);
        self.begin_handshakes(now);
        self.hear_early_handshakes(now);
        Ok(())
    }

    /// With ICE the port for RTCP may be left unused (RFC 5761 §5.1.3).
    fn may_multiplex(&self) -> bool {
        self.config.spec.rtcp_mux || self.config.spec.ice
    }

    /// The leg's peer is expected to speak from now on: its media timeout and
    /// its handshake's time begin, and plain media may come from an address
    /// that was not signalled for as long as the latch window. To be called when
    /// the leg gets its partner and when the call is answered: a caller's phone
    /// may be silent until then.
    pub fn open_latch(&mut self, now: Instant) {
        self.expect_peer(now);
        self.begin_handshakes(now);
    }

    fn expect_peer(&mut self, now: Instant) {
        self.waiting_since = Some(now);
        self.timed_out = false;
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.expect(now);
        }
        self.open_windows(now);
    }

    fn open_windows(&mut self, now: Instant) {
        for path in &mut self.paths {
            path.open_window(now + self.config.latch_window);
        }
    }

    /// New ICE credentials. DTLS goes on, and is done anew when the peer's next
    /// description has another fingerprint or role (RFC 8842 §4).
    pub fn restart(&mut self, _now: Instant) {
        if let Some(ice) = &mut self.ice {
            ice.restart(&mut self.entropy);
        }
    }

    /// The peer has heard the streams it is sent under other keys: from the next
    /// packet on they have SSRCs of their own, and their sequence numbers begin
    /// anew. A peer that keeps rollover counters over new keys and one that does
    /// not then agree with us. Plain streams stay as they are.
    pub fn renew(&mut self) {
        if self.security.protocol() != Protocol::Rtp {
            self.renewal = Some(Renewal::avoiding(self.security.sent()));
        }
    }

    /// The relay itself is going to speak to the peer: from the next packet on all
    /// sound to it is one stream.
    pub fn splice(&mut self) {
        if self.splice.is_none() {
            let splice = Splice::new(&mut self.entropy, self.security.sent());
            self.splice = Some(Box::new(splice));
        }
    }

    /// Has [`LegOutput::Keyed`] told again: somebody else listens.
    pub fn tell_keys(&mut self) {
        self.security.tell_again();
    }

    /// [`Self::poll_output`] has keys to tell.
    pub fn has_keys_to_tell(&self) -> bool {
        self.security.has_news()
    }

    /// The peer goes on with the keys that it has had, and is heard: whether it
    /// makes a handshake is its own affair.
    fn is_heard_as_before(&self, now: Instant) -> bool {
        let is_silent = self.remote.as_ref().is_some_and(|remote| !remote.brings_media());
        let is_heard = self.heard_at.is_some_and(|at| now < at + self.config.handshake_timeout);
        self.security.is_resumed() && (is_silent || is_heard)
    }

    fn uses_ice(&self) -> bool {
        match &self.remote {
            Some(remote) => remote.ice,
            None => self.ice.is_some(),
        }
    }

    /// By which socket a component's packets go, and where to.
    fn target(&self, component: Component) -> Option<Target> {
        if self.uses_ice() {
            self.ice.as_ref().and_then(|ice| ice.target(component))
        } else {
            self.paths[component.index()].target().map(|to| (component, to))
        }
    }

    /// Whether an authentic connectivity check came by that socket from there.
    pub fn is_validated(&self, by: Component, from: SocketAddr) -> bool {
        self.ice.as_ref().is_some_and(|ice| ice.is_validated(by, from))
    }

    /// Whether its peer has described itself.
    pub fn is_described(&self) -> bool {
        self.remote.is_some()
    }

    /// Counts a packet of its own that was not let through to it.
    pub fn refuse(&mut self, cause: DropCause) {
        self.drops.count(cause);
    }

    /// How many authentic connectivity checks came.
    pub fn checks(&self) -> u64 {
        self.ice.as_ref().map_or(0, IceLite::checks)
    }

    /// Whether that is where its packets go.
    pub fn is_selected(&self, by: Component, from: SocketAddr) -> bool {
        self.target(by) == Some((by, from))
    }

    /// By what credentials its peer may be heard, the present ones first.
    pub fn fragments(&self) -> impl Iterator<Item = &str> {
        self.ice.iter().flat_map(IceLite::fragments)
    }

    /// The peer is not there any more: its connection is over, or its address is
    /// another's.
    pub fn lose(&mut self, by: Component, from: SocketAddr) {
        if let Some(ice) = &mut self.ice {
            ice.lose((by, from));
        }
    }

    /// The components that have a socket of their own.
    fn components(&self) -> &'static [Component] {
        if self.remote.as_ref().is_some_and(|remote| remote.rtcp_mux) {
            &[Component::Rtp]
        } else {
            &[Component::Rtp, Component::Rtcp]
        }
    }

    /// As the DTLS client: needs an address to send to.
    fn begin_handshakes(&mut self, now: Instant) {
        for component in self.components() {
            let target = self.target(*component);
            if let (Some(handshakes), Some((_, to))) = (&mut self.handshakes, target) {
                handshakes.begin(now, *component, to);
            }
        }
        self.send_flights();
    }

    fn send_flights(&mut self) {
        for component in [Component::Rtp, Component::Rtcp] {
            while let Some((peer, bytes)) =
                self.handshakes.as_mut().and_then(|handshakes| handshakes.transmit(component))
            {
                let peer = (component, peer);
                let (component, to) =
                    if self.uses_ice() { self.target(component).unwrap_or(peer) } else { peer };
                self.emit(LegOutput::Transmit { component, to, bytes });
            }
        }
    }

    /// Carries out what a step of a handshake led to.
    fn conclude(
        &mut self,
        now: Instant,
        component: Component,
        step: Step,
    ) -> Result<(), DropCause> {
        self.send_flights();
        match step {
            Step::Nothing => Ok(()),
            Step::Dropped(cause) => Err(cause),
            Step::Fault(MediaFault::DtlsHandshakeFailed) if self.is_heard_as_before(now) => Ok(()),
            Step::Fault(fault) => {
                self.fault(fault);
                Ok(())
            }
            Step::Keys(established) => self.take_keys(now, component, &established),
        }
    }

    /// The peer proved who it is, and by that where it is.
    fn take_keys(
        &mut self,
        now: Instant,
        component: Component,
        established: &Established,
    ) -> Result<(), DropCause> {
        let peer = self.handshakes.as_ref().and_then(|it| it.peer(component));
        if let Some(peer) = peer {
            self.prove(now, component, peer);
        }
        self.security.install(component, established).map_err(|_| DropCause::NoKeys)
    }

    pub fn poll_output(&mut self) -> Option<LegOutput> {
        self.output.pop_front().or_else(|| {
            self.security.take_news().map(|keys: LegKeys| LegOutput::Keyed(Box::new(keys)))
        })
    }

    fn emit(&mut self, output: LegOutput) {
        if self.output.len() < MAX_OUTPUT {
            self.output.push_back(output);
        } else {
            self.drops.count(DropCause::Overflow);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let handshakes = self.handshakes.as_ref().and_then(Handshakes::poll_timeout);
        [self.media_deadline(), handshakes].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.media_deadline().is_some_and(|deadline| now >= deadline) {
            self.timed_out = true;
            self.fault(MediaFault::MediaTimeout);
        }
        let may_wait = self.is_heard_as_before(now);
        for component in [Component::Rtp, Component::Rtcp] {
            let Some(handshakes) = &mut self.handshakes else { return };
            let step = handshakes.handle_timeout(now, component, may_wait);
            if let Err(cause) = self.conclude(now, component, step) {
                self.drops.count(cause);
            }
        }
    }

    /// When the peer will have been silent for too long.
    fn media_deadline(&self) -> Option<Instant> {
        let expected = self.remote.as_ref().is_some_and(Described::brings_media);
        let since = self.waiting_since.filter(|_| expected && !self.timed_out)?;
        Some(since + self.config.media_timeout)
    }

    fn fault(&mut self, fault: MediaFault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
        self.emit(LegOutput::Fault(fault));
    }

    /// Where the stream is that the peer sends, if it has sent any.
    pub fn heard_so_far(&self) -> Option<Heard> {
        self.reception.heard()
    }

    pub fn stats(&self, _now: Instant) -> LegStats {
        let codec = self.reception.last_audio().and_then(|number| {
            let kind = self.remote.as_ref()?.kind(number)?;
            Some(kind.encoding.to_ascii_uppercase())
        });
        LegStats {
            received: self.reception.totals(),
            sent: self.transmission.totals(),
            mos_x100: self.reception.mos_x100(codec.as_deref()),
            codec,
            dropped: self.drops.iter().map(|(cause, n)| (cause.name().to_owned(), n)).collect(),
            faults: self.faults.clone(),
        }
    }

    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// The SRTP suite in use, once there are keys.
    pub fn suite(&self) -> Option<SrtpSuite> {
        self.security.suite()
    }
}

impl Described {
    fn kind(&self, number: u8) -> Option<&PayloadType> {
        self.payload_types.iter().find(|kind| kind.number == number)
    }

    fn brings_media(&self) -> bool {
        brings_media(self.direction)
    }

    fn takes_media(&self) -> bool {
        takes_media(self.direction)
    }
}

fn brings_media(direction: Direction) -> bool {
    matches!(direction, Direction::SendReceive | Direction::ReceiveOnly)
}

fn takes_media(direction: Direction) -> bool {
    matches!(direction, Direction::SendReceive | Direction::SendOnly)
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leg").field("drops", &self.drops).finish_non_exhaustive()
    }
}
