//! One media leg: between the relay and one peer.
//!
//! Feed it what its sockets receive and the partner leg's plain packets, drain
//! [`Leg::poll_output`] after each call, and call [`Leg::handle_timeout`] when
//! [`Leg::poll_timeout`] says so.

mod config;
mod drops;
mod path;
mod security;
mod stats;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use landline_control::{Direction, LegLocal, LegStats, MediaFault, PayloadType, Remote};
use landline_region::Entropy;

pub use self::config::{Component, DtlsBackend, LegConfig, LegOutput, Received, RemoteError};
pub use self::drops::{DropCause, Drops};
use self::path::Path;
use self::security::Security;
use self::stats::{Reception, Transmission};
use crate::packet::PacketBuf;
use crate::rtcp;
use crate::rtp::RtpInfo;

/// Answers and flights waiting to be polled.
const MAX_OUTPUT: usize = 64;

pub struct Leg {
    config: LegConfig,
    entropy: Entropy,
    security: Security,
    rtp_path: Path,
    rtcp_path: Path,
    /// What the peer described, once it did.
    remote: Option<Described>,
    reception: Reception,
    transmission: Transmission,
    drops: Drops,
    faults: Vec<MediaFault>,
    output: VecDeque<LegOutput>,
    started: bool,
    /// Since when media is expected, or when the last came.
    waiting_since: Option<Instant>,
    timed_out: bool,
}

struct Described {
    rtcp_mux: bool,
    direction: Direction,
    payload_types: Vec<PayloadType>,
    /// Something was sent since.
    sent: bool,
}

impl Leg {
    pub fn new(config: LegConfig, _now: Instant) -> Self {
        let mut entropy = Entropy::new(config.seed);
        let security = Security::new(&config.spec, &mut entropy);
        Self {
            config,
            entropy,
            security,
            rtp_path: Path::default(),
            rtcp_path: Path::default(),
            remote: None,
            reception: Reception::default(),
            transmission: Transmission::default(),
            drops: Drops::default(),
            faults: Vec::new(),
            output: VecDeque::new(),
            started: false,
            waiting_since: None,
            timed_out: false,
        }
    }

    /// What our description of the leg says, with the advertised addresses of
    /// its sockets.
    pub fn local(&self, rtp: SocketAddr, rtcp: SocketAddr) -> LegLocal {
        LegLocal {
            rtp,
            rtcp,
            ice: None,
            fingerprint: self.config.identity.as_ref().map(|identity| identity.fingerprint()),
            sdes: self.security.offered().to_vec(),
        }
    }

    /// Takes the peer's description, the first or a later one. Contexts whose
    /// keys stay the same are kept, and with them their rollover counters.
    pub fn set_remote(&mut self, now: Instant, remote: &Remote) -> Result<(), RemoteError> {
        self.security.set_remote(remote)?;
        self.rtp_path.signal(remote.rtp);
        self.rtcp_path.signal(remote.rtcp);
        self.remote = Some(Described {
            rtcp_mux: self.config.spec.rtcp_mux && remote.rtcp_mux,
            direction: remote.direction,
            payload_types: remote.payload_types.clone(),
            sent: false,
        });
        self.waiting_since = self.waiting_since.map(|_| now);
        self.open_latch(now);
        Ok(())
    }

    /// Opens the window in which plain media may come from an address that was
    /// not signalled. To be called when the leg gets its partner: a caller's
    /// phone may be silent until the call is answered.
    pub fn open_latch(&mut self, now: Instant) {
        self.rtp_path.open_window(now + self.config.latch_window);
        self.rtcp_path.open_window(now + self.config.latch_window);
    }

    /// New ICE credentials and a new DTLS association.
    pub fn restart(&mut self, _now: Instant) {
        let _ = &mut self.entropy;
    }

    /// Takes one datagram. On `Rtp` and `Rtcp` the buffer holds the plain packet.
    pub fn receive(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        packet: &mut PacketBuf,
    ) -> Received {
        let received = match packet.as_slice().first() {
            Some(0..=3) => Err(DropCause::StunUnexpected),
            Some(20..=63) => Err(DropCause::DtlsUnexpected),
            Some(128..=191) if rtcp::looks_like_rtcp(packet.as_slice()) => {
                self.receive_rtcp(now, component, from, packet)
            }
            Some(128..=191) if component == Component::Rtp => self.receive_rtp(now, from, packet),
            _ => Err(DropCause::UnknownProtocol),
        };
        received.unwrap_or_else(|cause| {
            self.drops.count(cause);
            Received::Dropped(cause)
        })
    }

    fn receive_rtp(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &mut PacketBuf,
    ) -> Result<Received, DropCause> {
        let info = if self.security.is_plain() {
            let info = RtpInfo::parse(packet.as_slice()).map_err(|_| DropCause::MalformedRtp)?;
            if !self.rtp_path.admit_plain(now, from, None) {
                return Err(DropCause::UnprovenSource);
            }
            info
        } else {
            let info = self.security.unprotect_rtp(packet)?;
            self.rtp_path.prove(now, from);
            info
        };
        let payload = info.payload(packet.as_slice()).map_err(|_| DropCause::MalformedRtp)?;
        let octets = payload.len();
        let remote = self.remote.as_ref().ok_or(DropCause::NoKeys)?;
        if !matches!(remote.direction, Direction::SendReceive | Direction::ReceiveOnly) {
            return Err(DropCause::Direction);
        }
        let kind = remote.kind(info.payload_type);
        self.reception.rtp(now, &info, octets, kind);
        self.heard(now);
        if !self.started {
            self.started = true;
            self.emit(LegOutput::Started);
        }
        Ok(Received::Rtp(info))
    }

    fn receive_rtcp(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        packet: &mut PacketBuf,
    ) -> Result<Received, DropCause> {
        let rtp_host = self.rtp_path.current().map(|address| address.ip());
        let path = match component {
            Component::Rtp => &mut self.rtp_path,
            Component::Rtcp => &mut self.rtcp_path,
        };
        if self.security.is_plain() {
            rtcp::check(packet.as_slice()).map_err(|_| DropCause::MalformedRtcp)?;
            let within = rtp_host.filter(|_| component == Component::Rtcp);
            if !path.admit_plain(now, from, within) {
                return Err(DropCause::UnprovenSource);
            }
        } else {
            self.security.unprotect_rtcp(packet)?;
            path.prove(now, from);
            rtcp::check(packet.as_slice()).map_err(|_| DropCause::MalformedRtcp)?;
        }
        self.reception.rtcp();
        self.heard(now);
        Ok(Received::Rtcp)
    }

    fn heard(&mut self, now: Instant) {
        self.waiting_since = Some(now);
        self.timed_out = false;
    }

    /// Protects a plain packet of the given kind for the peer. Tells by which
    /// socket and to where it goes; `None`, and counted, when it cannot be sent
    /// now.
    pub fn send(
        &mut self,
        now: Instant,
        component: Component,
        packet: &mut PacketBuf,
    ) -> Option<(Component, SocketAddr)> {
        let sent = match component {
            Component::Rtp => self.send_rtp(now, packet),
            Component::Rtcp => self.send_rtcp(now, packet),
        };
        sent.map_err(|cause| self.drops.count(cause)).ok()
    }

    fn send_rtp(
        &mut self,
        now: Instant,
        packet: &mut PacketBuf,
    ) -> Result<(Component, SocketAddr), DropCause> {
        self.begin_sending(now)?;
        let remote = self.remote.as_ref().ok_or(DropCause::NoAddress)?;
        if !matches!(remote.direction, Direction::SendReceive | Direction::SendOnly) {
            return Err(DropCause::Direction);
        }
        let to = self.rtp_path.target().ok_or(DropCause::NoAddress)?;
        let info = RtpInfo::parse(packet.as_slice()).map_err(|_| DropCause::MalformedRtp)?;
        let octets = info.payload(packet.as_slice()).map_err(|_| DropCause::MalformedRtp)?.len();
        self.security.protect_rtp(packet)?;
        self.transmission.rtp(&info, octets, remote.kind(info.payload_type));
        Ok((Component::Rtp, to))
    }

    fn send_rtcp(
        &mut self,
        now: Instant,
        packet: &mut PacketBuf,
    ) -> Result<(Component, SocketAddr), DropCause> {
        self.begin_sending(now)?;
        let muxed = self.remote.as_ref().is_some_and(|remote| remote.rtcp_mux);
        let (component, path) = if muxed {
            (Component::Rtp, &self.rtp_path)
        } else {
            (Component::Rtcp, &self.rtcp_path)
        };
        let to = path.target().ok_or(DropCause::NoAddress)?;
        self.security.protect_rtcp(packet)?;
        self.transmission.rtcp();
        Ok((component, to))
    }

    /// From the first packet on that the peer is sent, it is expected to speak.
    fn begin_sending(&mut self, now: Instant) -> Result<(), DropCause> {
        let remote = self.remote.as_mut().ok_or(DropCause::NoAddress)?;
        if !remote.sent {
            remote.sent = true;
            self.waiting_since.get_or_insert(now);
            self.open_latch(now);
        }
        Ok(())
    }

    pub fn poll_output(&mut self) -> Option<LegOutput> {
        self.output.pop_front()
    }

    fn emit(&mut self, output: LegOutput) {
        if self.output.len() < MAX_OUTPUT {
            self.output.push_back(output);
        } else {
            self.drops.count(DropCause::Overflow);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.media_deadline()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.media_deadline().is_some_and(|deadline| now >= deadline) {
            self.timed_out = true;
            self.fault(MediaFault::MediaTimeout);
        }
    }

    /// When the peer will have been silent for too long.
    fn media_deadline(&self) -> Option<Instant> {
        let expected = self.remote.as_ref().is_some_and(|remote| {
            matches!(remote.direction, Direction::SendReceive | Direction::ReceiveOnly)
        });
        let since = self.waiting_since.filter(|_| expected && !self.timed_out)?;
        Some(since + self.config.media_timeout)
    }

    fn fault(&mut self, fault: MediaFault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
        self.emit(LegOutput::Fault(fault));
    }

    pub fn stats(&self, _now: Instant) -> LegStats {
        let codec = self.reception.last_audio().and_then(|number| {
            let kind = self.remote.as_ref()?.kind(number)?;
            Some(kind.encoding.to_ascii_uppercase())
        });
        let received = self.reception.totals();
        LegStats {
            received,
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
}

impl Described {
    fn kind(&self, number: u8) -> Option<&PayloadType> {
        self.payload_types.iter().find(|kind| kind.number == number)
    }
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leg").field("drops", &self.drops).finish_non_exhaustive()
    }
}
