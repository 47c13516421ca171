//! Between two legs that do not share every codec.

use std::time::Instant;

use landline_control::{LegId, Refusal, Spoken};
use landline_media::translate::{Routes, Translator};
use landline_media::{Component, RtpInfo};
use prometheus::IntGauge;

use super::{Network, Shard};

/// What a leg says, made into what its partner takes.
pub(super) struct Translation {
    pub translator: Translator,
    /// Of those at work, once it is.
    counted: Option<IntGauge>,
}

impl Translation {
    pub fn new(routes: Routes) -> Box<Self> {
        Box::new(Self { translator: Translator::new(routes), counted: None })
    }
}

impl Drop for Translation {
    fn drop(&mut self) {
        if let Some(gauge) = &self.counted {
            gauge.dec();
        }
    }
}

impl<N: Network> Shard<N> {
    /// What two legs speak, until either gets another description.
    pub(super) fn speak(
        &mut self,
        session: usize,
        both: [(LegId, Spoken); 2],
    ) -> Result<(), Refusal> {
        let found = self.session(session)?;
        let [(a, of_a), (b, of_b)] = both;
        let slots = [found.slot(a)?, found.slot(b)?];
        for (slot, spoken) in slots.into_iter().zip([of_a, of_b]) {
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.spoken = Some(Box::new(spoken));
            }
        }
        slots.into_iter().for_each(|slot| self.set_translation(slot));
        Ok(())
    }

    /// What the leg spoke no longer counts.
    pub(super) fn forget_spoken(&mut self, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let partner = leg.partner;
        if leg.spoken.take().is_some() {
            self.set_translation(slot);
            partner.into_iter().for_each(|slot| self.set_translation(slot));
        } else if leg.translation.is_some() {
            // What passes by way of it may have other numbers.
            self.set_translation(slot);
        }
    }

    /// After a change of what the leg or its partner speak, or of its partner.
    pub(super) fn set_translation(&mut self, slot: usize) {
        let Some(leg) = self.legs.get(slot) else { return };
        let partner = leg.partner.and_then(|partner| self.legs.get(partner));
        let spoken = leg.spoken.as_ref().zip(partner.and_then(|it| it.spoken.as_ref()));
        let routes = spoken.and_then(|(own, theirs)| Routes::new(own, theirs));
        let Some(leg) = self.legs.get_mut(slot) else { return };
        match (&mut leg.translation, routes) {
            (Some(it), None) if !it.translator.is_at_work() => leg.translation = None,
            // A stream that was given numbers of its own goes on by them.
            (Some(it), routes) => {
                let routes = routes.unwrap_or_else(|| Routes::passing(&leg.payload_types));
                it.translator.set_routes(Some(routes));
            }
            (None, Some(routes)) => leg.translation = Some(Translation::new(routes)),
            (None, None) => {}
        }
    }

    /// Gives the packet in hand, if there is one, to the leg's translation, and
    /// its partner what comes of it.
    pub(super) fn translate(&mut self, now: Instant, slot: usize, said: Option<&RtpInfo>) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let partner = leg.partner;
        let Some(mut translation) = leg.translation.take() else { return };
        if let Some(info) = said {
            translation.translator.receive(now, info, self.packet.as_slice());
            if translation.translator.transcodes() {
                translation.counted.get_or_insert_with(|| {
                    let gauge = self.shared.metrics.transcoders.clone();
                    gauge.inc();
                    gauge
                });
            }
        }
        while translation.translator.poll_output(now, &mut self.packet) {
            self.forward(now, partner, Component::Rtp);
        }
        self.counters.translated(translation.translator.take_figures());
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.translation = Some(translation);
        }
        self.reschedule(slot);
    }

    /// Makes the reports in hand true for the partner of the leg they came from.
    pub(super) fn translate_reports(&mut self, slot: usize, partner: Option<usize>) {
        if let Some(own) = self.legs.get(slot).and_then(|leg| leg.translation.as_ref()) {
            own.translator.tell(self.packet.as_mut_slice());
        }
        let theirs = partner.and_then(|slot| self.legs.get(slot)?.translation.as_ref());
        if let Some(theirs) = theirs {
            theirs.translator.restore(self.packet.as_mut_slice());
        }
    }
}
