//! Keys between a side that has them in its media (RFC 4733) and one that says
//! them otherwise.

use std::time::{Duration, Instant};

use landline_control::{Event, Key, LegId, PayloadType, Refusal};
use landline_media::RtpInfo;
use landline_media::keys::KeyReader;
use landline_media::play::Voice;
use landline_media::translate::{Press, Routes};

use super::counters::OwnDrop;
use super::translation::Translation;
use super::{Network, Shard};

const EVENTS: &str = "TELEPHONE-EVENT";
/// What a key lasts at the least and at the most, whatever was said.
const SHORTEST: Duration = Duration::from_millis(60);
const LONGEST: Duration = Duration::from_secs(5);

impl<N: Network> Shard<N> {
    /// Presses a key as if the leg's partner had.
    pub(super) fn press(
        &mut self,
        now: Instant,
        session: usize,
        leg: LegId,
        key: Key,
    ) -> Result<(), Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        let toward = self.legs.get(slot).ok_or(Refusal::UnknownLeg(leg))?;
        let events = events_of(&toward.payload_types).map(|kind| (kind.number, kind.clock_rate));
        let (Some((number, clock)), Some(partner)) = (events, toward.partner) else {
            self.counters.lost(OwnDrop::NoCodec);
            return Ok(());
        };
        let voice = Voice {
            ssrc: self.entropy.u64() as u32,
            sequence: self.entropy.u64() as u16 >> 1,
            timestamp: self.entropy.u64() as u32,
        };
        let duration = Duration::from_millis(key.duration_ms.into()).clamp(SHORTEST, LONGEST);
        let press = Press { event: key.event, duration, number, clock };
        let Some(from) = self.legs.get_mut(partner) else { return Ok(()) };
        let passing = Routes::passing(&from.payload_types);
        // By the numbers of what was relayed so far without a look at it.
        let heard = from.machine.heard_so_far();
        let translation = from.translation.get_or_insert_with(|| Translation::new(passing));
        heard.into_iter().for_each(|it| translation.translator.follow(it));
        if !translation.translator.press(now, press, voice) {
            self.counters.lost(OwnDrop::TooManyKeys);
        }
        self.translate(now, partner, None);
        Ok(())
    }

    /// The leg's keys are told and not relayed, until its peer describes itself
    /// anew.
    pub(super) fn tell_keys_of(&mut self, session: usize, leg: LegId) -> Result<(), Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        let found = self.legs.get_mut(slot).ok_or(Refusal::UnknownLeg(leg))?;
        found.keys.get_or_insert_default();
        Ok(())
    }

    /// True when the packet in hand is of a key, and taken care of.
    pub(super) fn take_key(&mut self, now: Instant, slot: usize, info: &RtpInfo) -> bool {
        let Some(leg) = self.legs.get_mut(slot) else { return false };
        let mut kinds = leg.payload_types.iter().filter(|kind| kind.encoding == EVENTS);
        let kind = kinds.find(|kind| kind.number == info.payload_type);
        let Some(clock) = kind.map(|kind| kind.clock_rate) else { return false };
        let Some(reader) = &mut leg.keys else { return false };
        let Ok(payload) = info.payload(self.packet.as_slice()) else { return true };
        let key = reader.read(now, info, payload, clock);
        for _ in 0..std::mem::take(&mut reader.refused) {
            self.counters.lost(OwnDrop::TooManyKeys);
        }
        if let (Some(key), Some(session)) = (key, self.sessions.get(leg.session)) {
            let duration_ms = u16::try_from(key.duration.as_millis()).unwrap_or(u16::MAX);
            let key = Key { event: key.event, duration_ms };
            session.owner.tell(session.id, Event::Key(leg.id, key));
        }
        true
    }
}

/// As the leg's peer takes keys first.
fn events_of(types: &[PayloadType]) -> Option<&PayloadType> {
    types.iter().find(|kind| kind.encoding == EVENTS)
}

/// Kept with a leg whose keys are told.
pub(super) type Keys = Option<Box<KeyReader>>;
