use std::net::SocketAddr;
use std::time::Instant;

use landline_control::Protocol;

use super::{Component, Described, DropCause, Leg, takes_media};
use crate::packet::PacketBuf;
use crate::rtp::RtpInfo;

impl Leg {
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
            Component::Rtp | Component::Stream => self.send_rtp(now, packet),
            Component::Rtcp => self.send_rtcp(now, packet),
        };
        sent.map_err(|cause| self.drops.count(cause)).ok()
    }

    /// Whether what is sent by [`Component::Rtp`] now reaches the peer.
    pub fn reaches_peer(&self) -> bool {
        self.remote.as_ref().is_some_and(Described::takes_media)
            && self.target(Component::Rtp).is_some()
            && (self.security.protocol() == Protocol::Rtp || self.security.suite().is_some())
    }

    fn send_rtp(
        &mut self,
        now: Instant,
        packet: &mut PacketBuf,
    ) -> Result<(Component, SocketAddr), DropCause> {
        self.begin_sending(now)?;
        let target = self.target(Component::Rtp).ok_or(DropCause::NoAddress)?;
        let remote = self.remote.as_ref().ok_or(DropCause::NoAddress)?;
        let info = RtpInfo::parse(packet.as_slice()).map_err(|_| DropCause::MalformedRtp)?;
        let video = self.video_kind(&info);
        let direction = if video.is_some() { self.video.direction } else { remote.direction };
        if !takes_media(direction) {
            return Err(DropCause::Direction);
        }
        let octets = info.payload(packet.as_slice()).map_err(|_| DropCause::MalformedRtp)?.len();
        let mut told = info;
        if let Some(splice) = self.splice.as_mut().filter(|_| video.is_none()) {
            let kind = remote.kind(info.payload_type);
            told = splice.rtp(&mut self.entropy, now, &info, kind, packet.as_mut_slice())?;
        }
        if let Some(renewal) = &mut self.renewal {
            renewal.rtp(&mut self.entropy, &told, packet.as_mut_slice());
            if let Some(kind) = video {
                self.video.sent(kind, &told, renewal, packet.as_mut_slice());
            }
        }
        self.security.protect_rtp(packet)?;
        if video.is_none() {
            self.transmission.rtp(&info, octets, remote.kind(info.payload_type));
        }
        Ok(target)
    }

    fn send_rtcp(
        &mut self,
        now: Instant,
        packet: &mut PacketBuf,
    ) -> Result<(Component, SocketAddr), DropCause> {
        self.begin_sending(now)?;
        let muxed = self.remote.as_ref().is_some_and(|remote| remote.rtcp_mux);
        let component = if muxed { Component::Rtp } else { Component::Rtcp };
        let target = self.target(component).ok_or(DropCause::NoAddress)?;
        if let Some(splice) = &self.splice {
            splice.tell(packet.as_mut_slice());
        }
        if let Some(renewal) = &mut self.renewal {
            renewal.rtcp(&mut self.entropy, packet.as_mut_slice());
        }
        self.security.protect_rtcp(component, packet)?;
        self.transmission.rtcp();
        Ok(target)
    }

    /// From the first packet on that the peer is sent, it is expected to speak.
    fn begin_sending(&mut self, now: Instant) -> Result<(), DropCause> {
        let remote = self.remote.as_mut().ok_or(DropCause::NoAddress)?;
        if !remote.sent {
            remote.sent = true;
            self.expect_peer(now);
        }
        Ok(())
    }
}
