use std::net::SocketAddr;
use std::time::Instant;

use landline_control::Protocol;

use super::handshakes::Trust;
use super::{Component, DropCause, Leg, LegOutput, Received, brings_media};
use crate::packet::PacketBuf;
use crate::rtcp;
use crate::rtp::RtpInfo;

impl Leg {
    /// Takes one datagram (RFC 7983). On `Rtp` and `Rtcp` the buffer holds the
    /// plain packet.
    pub fn receive(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        packet: &mut PacketBuf,
    ) -> Received {
        let received = match packet.as_slice().first() {
            Some(128..=191) if rtcp::looks_like_rtcp(packet.as_slice()) => {
                self.receive_rtcp(now, component, from, packet)
            }
            Some(128..=191) if component != Component::Rtcp => {
                self.receive_rtp(now, component, from, packet)
            }
            Some(0..=3) => self.receive_stun(now, component, from, packet),
            Some(20..=63) => self.receive_dtls(now, component, from, packet),
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
        by: Component,
        from: SocketAddr,
        packet: &mut PacketBuf,
    ) -> Result<Received, DropCause> {
        self.check_validated(by, from)?;
        let info = if self.security.protocol() == Protocol::Rtp {
            let info = RtpInfo::parse(packet.as_slice()).map_err(|_| DropCause::MalformedRtp)?;
            self.admit_plain(now, Component::Rtp, from)?;
            info
        } else {
            let signalled =
                self.uses_ice() || self.paths[Component::Rtp.index()].is_signalled(from);
            let info = self.security.unprotect_rtp(now, signalled, packet)?;
            self.prove(now, by, from);
            info
        };
        let payload = info.payload(packet.as_slice()).map_err(|_| DropCause::MalformedRtp)?;
        let remote = self.remote.as_ref().ok_or(DropCause::UnprovenSource)?;
        let is_video = self.has_as_video(&info);
        let direction = if is_video { self.video.direction } else { remote.direction };
        if !brings_media(direction) {
            return Err(DropCause::Direction);
        }
        if is_video {
            return Ok(Received::Video(info));
        }
        self.reception.rtp(now, &info, payload.len(), remote.kind(info.payload_type));
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
        self.check_validated(component, from)?;
        if self.security.protocol() == Protocol::Rtp {
            rtcp::check(packet.as_slice()).map_err(|_| DropCause::MalformedRtcp)?;
            self.admit_plain(now, component, from)?;
        } else {
            self.security.unprotect_rtcp(component, packet)?;
            self.prove(now, component, from);
            rtcp::check(packet.as_slice()).map_err(|_| DropCause::MalformedRtcp)?;
        }
        if let Some(renewal) = &self.renewal {
            renewal.restore_rtcp(packet.as_mut_slice());
        }
        if let Some(splice) = &self.splice {
            splice.restore(packet.as_mut_slice());
        }
        self.reception.rtcp();
        self.heard(now);
        Ok(Received::Rtcp)
    }

    /// With ICE, only validated addresses are heard, before any cryptography.
    /// Without, there are no connections.
    fn check_validated(&self, by: Component, from: SocketAddr) -> Result<(), DropCause> {
        let is_sound = match self.uses_ice() {
            true => self.is_validated(by, from),
            false => by != Component::Stream,
        };
        if is_sound { Ok(()) } else { Err(DropCause::UnprovenSource) }
    }

    /// The source of an authentic packet is the peer. A connection is ICE's alone.
    pub(super) fn prove(&mut self, now: Instant, by: Component, from: SocketAddr) {
        if by != Component::Stream {
            self.paths[by.index()].prove(now, from);
        }
    }

    fn admit_plain(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
    ) -> Result<(), DropCause> {
        if self.uses_ice() {
            return Ok(());
        }
        // RTCP on its own port comes from the host that RTP comes from.
        let rtp_host = self.paths[Component::Rtp.index()].current().map(|address| address.ip());
        let within = rtp_host.filter(|_| component == Component::Rtcp);
        let admitted = self.paths[component.index()].admit_plain(now, from, within);
        if admitted { Ok(()) } else { Err(DropCause::UnprovenSource) }
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = Some(now);
        self.waiting_since = Some(now);
        self.timed_out = false;
    }

    fn receive_stun(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        packet: &PacketBuf,
    ) -> Result<Received, DropCause> {
        let ice = self.ice.as_mut().ok_or(DropCause::StunUnexpected)?;
        let answer = ice.handle(now, component, from, packet.as_slice());
        if let Some(bytes) = answer.reply {
            self.emit(LegOutput::Transmit { component, to: from, bytes });
        }
        if let Some(cause) = answer.refused {
            return Err(cause);
        }
        self.begin_handshakes(now);
        Ok(Received::Handled)
    }

    fn receive_dtls(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        packet: &PacketBuf,
    ) -> Result<Received, DropCause> {
        self.check_validated(component, from)?;
        let path = &self.paths[component.index()];
        let trust = if self.uses_ice() || path.is_signalled(from) {
            Trust::Proven
        } else if self.remote.is_none() || path.may_handshake(now, from) {
            Trust::Stranger
        } else {
            return Err(DropCause::UnprovenSource);
        };
        let handshakes = self.handshakes.as_mut().ok_or(DropCause::DtlsUnexpected)?;
        let step = handshakes.receive(now, component, from, trust, packet);
        self.conclude(now, component, step)?;
        Ok(Received::Handled)
    }

    /// What came before the peer's description did, if it may be heard now.
    pub(super) fn hear_early_handshakes(&mut self, now: Instant) {
        for component in [Component::Rtp, Component::Rtcp] {
            let early = self.handshakes.as_mut().map(|it| it.take_early(component));
            for (by, from, packet) in early.into_iter().flatten() {
                if let Err(cause) = self.receive_dtls(now, by, from, &packet) {
                    self.drops.count(cause);
                }
            }
        }
    }
}
