//! What can be done with the legs of an open session.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use landline_control::{
    Direction, IpFamily, LegId, LegKeys, LegLocal, LegSpec, LegStats, Protocol, Refusal, Remote,
    VideoType,
};
use landline_media::{Component, DtlsBackend, Leg, LegConfig};

use super::leg::{PairSockets, RelayLeg, Sockets, token};
use super::{Network, Shard};
use crate::streams::Place;

/// How many port pairs are tried when others on the machine hold some.
const PORT_ATTEMPTS: usize = 16;

/// Legs that a session may have had, as a multiple of those it may have.
const ENDED_LEGS: usize = 8;

impl<N: Network> Shard<N> {
    pub(super) fn add_leg(
        &mut self,
        now: Instant,
        session: usize,
        id: LegId,
        spec: LegSpec,
        resume: Option<LegKeys>,
    ) -> Result<LegLocal, Refusal> {
        let limit = self.shared.config.limits.legs_per_session;
        let open = self.session(session)?;
        if open.has_had(id) {
            return Err(Refusal::Exists);
        }
        if open.legs.len() >= limit || open.ended.len() >= limit * ENDED_LEGS {
            return Err(Refusal::Full);
        }
        let sockets = match spec.ice && spec.rtcp_mux {
            true => self.share_ice_port(spec.family)?,
            false => self.open_sockets(now, spec.family)?,
        };
        let identity = (spec.protocol == Protocol::Dtls).then(|| Arc::clone(&self.shared.identity));
        let mut config = LegConfig::new(spec, identity, self.entropy.seed());
        config.resume = resume;
        if !self.shared.config.dtls_1_3 {
            config.dtls_backend = DtlsBackend::Primary12;
        }
        config.media_timeout = self.shared.config.media_timeout;
        config.latch_window = self.shared.config.latch_window;
        self.next_serial += 1;
        let leg = RelayLeg {
            id,
            session,
            machine: Leg::new(config, now),
            sockets,
            streams: Vec::new(),
            fragments: Vec::new(),
            partner: None,
            recorded: false,
            payload_types: Vec::new(),
            spoken: None,
            translation: None,
            playing: None,
            keys: None,
            wake_at: None,
            serial: self.next_serial,
        };
        let local = leg.local();
        let slot = self.legs.insert(Box::new(leg));
        self.session_mut(session)?.legs.push((id, slot));
        self.shared.metrics.legs.inc();
        self.be_named(slot);
        if self.watch(slot).is_err() {
            self.remove(now, session, id)?;
            return Err(Refusal::NoPorts);
        }
        self.drain_outputs(now, slot);
        Ok(local)
    }

    /// Checks are this leg's, by connections and on the port that it shares, that
    /// name credentials which it answers to: the new ones, and until its peer has
    /// heard of those, those that it knows.
    fn be_named(&mut self, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let fragments: Vec<String> = leg.machine.fragments().map(str::to_owned).collect();
        let lost = leg.fragments.iter().filter(|it| !fragments.contains(it));
        if let Some(port) = leg.sockets.ice().and_then(|share| self.ice.get_mut(share.port)) {
            lost.clone().for_each(|former| port.remove_fragment(former));
            fragments.iter().for_each(|fragment| port.add_fragment(fragment.clone(), slot));
        }
        if !self.shared.streams.is_empty() {
            lost.for_each(|former| self.shared.fragments.remove(former));
            let place = Place { shard: self.number, slot, serial: leg.serial };
            for fragment in &fragments {
                self.shared.fragments.add(fragment.clone(), place);
            }
        }
        leg.fragments = fragments;
    }

    fn watch(&self, slot: usize) -> io::Result<()> {
        if let Some(Sockets::Pair(pair)) = self.legs.get(slot).map(|leg| &leg.sockets) {
            self.network.watch(&pair.rtp, token(slot, Component::Rtp))?;
            self.network.watch(&pair.rtcp, token(slot, Component::Rtcp))?;
        }
        Ok(())
    }

    /// That of the media address of the family which has the fewest such legs.
    fn share_ice_port(&mut self, family: IpFamily) -> Result<Sockets<N::Socket>, Refusal> {
        let is_of = |address: usize| {
            self.shared.addresses.get(address).is_some_and(|local| local.is(family))
        };
        let ports = self.ice.iter_mut().enumerate().filter(|(_, port)| is_of(port.address));
        let (at, port) = ports.min_by_key(|(_, port)| port.legs).ok_or(Refusal::NoFamily)?;
        self.shared.metrics.ice_legs.inc();
        Ok(Sockets::Ice(port.share(at)))
    }

    fn open_sockets(&self, now: Instant, family: IpFamily) -> Result<Sockets<N::Socket>, Refusal> {
        let mut refusal = Refusal::NoFamily;
        let addresses = self.shared.addresses.iter().enumerate();
        for (index, local) in addresses.filter(|(_, local)| local.is(family)) {
            refusal = Refusal::NoPorts;
            for _ in 0..PORT_ATTEMPTS {
                let Some(pair) = local.ports.take(now) else { break };
                let bind = |port| self.network.bind(local.ports.address, port);
                let both = bind(pair.rtp()).and_then(|rtp| Ok((rtp, bind(pair.rtcp())?)));
                match both {
                    Ok((rtp, rtcp)) => {
                        return Ok(Sockets::Pair(PairSockets {
                            rtp,
                            rtcp,
                            pair,
                            address: index,
                            advertised_rtp: local.advertised(pair.rtp()),
                            advertised_rtcp: local.advertised(pair.rtcp()),
                        }));
                    }
                    Err(error) => {
                        local.ports.release(now, pair);
                        tracing::debug!(kind = ?error.kind(), "a port pair could not be bound");
                    }
                }
            }
        }
        Err(refusal)
    }

    pub(super) fn set_remote(
        &mut self,
        now: Instant,
        session: usize,
        leg: LegId,
        remote: &Remote,
    ) -> Result<(), Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        let found = self.legs.get_mut(slot).ok_or(Refusal::UnknownLeg(leg))?;
        if found.sockets.ice().is_some() && remote.ice.is_none() {
            let why = "a leg that shares its port finds its peer by ICE alone";
            return Err(Refusal::BadRemote(why.to_owned()));
        }
        found
            .machine
            .set_remote(now, remote)
            .map_err(|error| Refusal::BadRemote(error.to_string()))?;
        found.payload_types.clone_from(&remote.payload_types);
        found.keys = None;
        if found.recorded {
            self.describe(session, slot);
        }
        self.forget_spoken(slot);
        self.play_again(now, slot);
        self.drain_outputs(now, slot);
        self.reschedule(slot);
        Ok(())
    }

    pub(super) fn join(
        &mut self,
        now: Instant,
        session: usize,
        a: LegId,
        b: LegId,
    ) -> Result<(), Refusal> {
        let found = self.session(session)?;
        let (slot_a, slot_b) = (found.slot(a)?, found.slot(b)?);
        if slot_a == slot_b {
            return Err(Refusal::UnknownLeg(b));
        }
        for (slot, partner) in [(slot_a, slot_b), (slot_b, slot_a)] {
            let former = self.legs.get_mut(slot).and_then(|leg| leg.partner.replace(partner));
            if former != Some(partner) {
                former.into_iter().for_each(|former| self.part(former, slot));
                self.legs.get_mut(slot).into_iter().for_each(|leg| leg.translation = None);
            }
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.machine.open_latch(now);
            }
            self.drain_outputs(now, slot);
            self.reschedule(slot);
        }
        [slot_a, slot_b].into_iter().for_each(|slot| self.set_translation(slot));
        if self.session(session)?.tap.is_some() {
            self.record_leg(session, slot_a);
            self.record_leg(session, slot_b);
        }
        Ok(())
    }

    /// Takes a leg's partner from it, if it still is `partner`.
    fn part(&mut self, slot: usize, partner: usize) {
        if let Some(leg) = self.legs.get_mut(slot)
            && leg.partner == Some(partner)
        {
            leg.partner = None;
            leg.recorded = false;
            leg.translation = None;
        }
    }

    pub(super) fn set_video(
        &mut self,
        session: usize,
        leg: LegId,
        direction: Direction,
        types: Vec<VideoType>,
    ) -> Result<(), Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        let machine = &mut self.legs.get_mut(slot).ok_or(Refusal::UnknownLeg(leg))?.machine;
        machine.set_video(direction, types);
        Ok(())
    }

    pub(super) fn renew(&mut self, session: usize, leg: LegId) -> Result<(), Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        self.legs.get_mut(slot).ok_or(Refusal::UnknownLeg(leg))?.machine.renew();
        Ok(())
    }

    pub(super) fn restart(
        &mut self,
        now: Instant,
        session: usize,
        leg: LegId,
    ) -> Result<LegLocal, Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        let found = self.legs.get_mut(slot).ok_or(Refusal::UnknownLeg(leg))?;
        found.machine.restart(now);
        let local = found.local();
        self.be_named(slot);
        self.drain_outputs(now, slot);
        self.reschedule(slot);
        Ok(local)
    }

    pub(super) fn remove(
        &mut self,
        now: Instant,
        session: usize,
        leg: LegId,
    ) -> Result<(), Refusal> {
        let found = self.session_mut(session)?;
        let slot = found.slot(leg)?;
        found.legs.retain(|(id, _)| *id != leg);
        if let Some(stats) = self.end_leg(now, slot) {
            self.session_mut(session)?.ended.push((leg, stats));
        }
        Ok(())
    }

    /// Closes a leg's sockets and lets its ports rest, or leaves the one that it
    /// shares.
    pub(super) fn end_leg(&mut self, now: Instant, slot: usize) -> Option<LegStats> {
        let leg = *self.legs.try_remove(slot)?;
        if let Some(partner) = leg.partner {
            self.part(partner, slot);
        }
        for at in leg.streams {
            self.close_stream(at);
        }
        for fragment in &leg.fragments {
            self.shared.fragments.remove(fragment);
        }
        let stats = leg.machine.stats(now);
        match leg.sockets {
            Sockets::Pair(PairSockets { rtp, rtcp, pair, address, .. }) => {
                [rtp, rtcp].into_iter().for_each(|socket| self.network.close(socket));
                if let Some(local) = self.shared.addresses.get(address) {
                    local.ports.release(now, pair);
                }
            }
            Sockets::Ice(share) => self.leave_ice(share, &leg.fragments),
        }
        self.shared.metrics.legs.dec();
        Some(stats)
    }
}
