//! What a call's legs did, summed over the relays that carried it.

use landline_control::{LegId, LegStats, Outcome, Recorded, RelayId, SessionId, StreamStats};

use super::Call;
use crate::context::Context;

/// A session that the call has left.
#[derive(Debug)]
pub(super) struct Departed {
    pub session: SessionId,
    pub relay: RelayId,
    /// What the relay told last of its legs.
    pub counted: Vec<(LegId, LegStats)>,
    /// Its last word is still to come.
    pub is_awaited: bool,
}

impl Call {
    /// The relay tells what its legs did so far.
    pub(crate) fn counted(&mut self, session: SessionId, legs: Vec<(LegId, LegStats)>) {
        if self.session.as_ref().is_none_or(|it| it.id != session) {
            return;
        }
        for (id, stats) in legs {
            if let Some(leg) = self.legs.iter_mut().find(|leg| leg.relay_leg == id) {
                leg.counted = Some(stats);
            }
        }
    }

    /// What came of closing a session that was left.
    pub(super) fn departed(&mut self, cx: &mut Context, session: SessionId, outcome: Outcome) {
        let Some(at) = self.departed.iter().position(|it| it.session == session) else { return };
        let departed = self.departed.remove(at);
        match outcome {
            Outcome::Closed { legs, recording } => {
                self.add_figures(legs);
                self.add_recorded(recording);
            }
            _ => self.add_figures(departed.counted),
        }
        if self.closing {
            self.close(cx);
        }
    }

    /// The relay does not say any more.
    pub(super) fn forget_departed(&mut self, relay: &RelayId) {
        for departed in self.departed.iter_mut().filter(|it| it.relay == *relay) {
            departed.is_awaited = false;
        }
    }

    pub(super) fn awaits_figures(&self) -> bool {
        self.departed.iter().any(|it| it.is_awaited)
    }

    pub(super) fn add_figures(&mut self, figures: Vec<(LegId, LegStats)>) {
        for (id, stats) in figures {
            if let Some(leg) = self.legs.iter_mut().find(|leg| leg.relay_leg == id) {
                leg.before = Some(sum(leg.before.take(), stats));
            }
        }
    }

    pub(super) fn add_recorded(&mut self, recorded: Option<Recorded>) {
        let Some(more) = recorded else { return };
        let so_far = self.recorded.map_or((0, 0), |it| (it.expected_packets, it.stored_packets));
        self.recorded = Some(Recorded {
            sid: self.recording.map_or(more.sid, |(sid, _)| sid),
            expected_packets: so_far.0.saturating_add(more.expected_packets),
            stored_packets: so_far.1.saturating_add(more.stored_packets),
        });
    }

    /// Brings every leg's figures together, for the record.
    pub(super) fn total_figures(&mut self) {
        for departed in std::mem::take(&mut self.departed) {
            self.add_figures(departed.counted);
        }
        for leg in &mut self.legs {
            let last = leg.stats.take().or(leg.counted.take());
            leg.stats = match last {
                Some(last) => Some(sum(leg.before.take(), last)),
                None => leg.before.take(),
            };
        }
    }
}

/// `after` follows on `before`: what is counted adds up, what is a state is the
/// later one's.
fn sum(before: Option<LegStats>, after: LegStats) -> LegStats {
    let Some(before) = before else { return after };
    let heard = [&before, &after].map(|it| it.received.packets);
    let mut dropped = before.dropped;
    for (cause, count) in after.dropped {
        match dropped.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, so_far)) => *so_far = so_far.saturating_add(count),
            None => dropped.push((cause, count)),
        }
    }
    let mut faults = before.faults;
    for fault in after.faults {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    LegStats {
        received: sum_of_streams(before.received, after.received),
        sent: sum_of_streams(before.sent, after.sent),
        codec: after.codec.or(before.codec),
        mos_x100: mean(before.mos_x100.zip(Some(heard[0])), after.mos_x100.zip(Some(heard[1]))),
        dropped,
        faults,
    }
}

fn sum_of_streams(before: StreamStats, after: StreamStats) -> StreamStats {
    StreamStats {
        packets: before.packets.saturating_add(after.packets),
        octets: before.octets.saturating_add(after.octets),
        lost: before.lost.saturating_add(after.lost),
        jitter_us: if after.packets > 0 { after.jitter_us } else { before.jitter_us },
        rtcp_packets: before.rtcp_packets.saturating_add(after.rtcp_packets),
        dtmf_events: before.dtmf_events.saturating_add(after.dtmf_events),
    }
}

/// Each part counts by its packets.
fn mean(before: Option<(u16, u64)>, after: Option<(u16, u64)>) -> Option<u16> {
    let parts = [before, after].into_iter().flatten();
    let (total, weights) = parts.fold((0u64, 0u64), |(total, weights), (mos, packets)| {
        let weight = packets.clamp(1, u64::from(u32::MAX));
        (total + u64::from(mos) * weight, weights + weight)
    });
    u16::try_from(total.checked_div(weights)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up_and_the_listening_quality_is_weighed_by_what_was_heard() {
        let part = |packets, mos, dropped: &str| LegStats {
            received: StreamStats { packets, lost: 1, jitter_us: 7, ..StreamStats::default() },
            mos_x100: Some(mos),
            dropped: vec![(dropped.to_owned(), 2)],
            codec: Some("PCMU".to_owned()),
            ..LegStats::default()
        };
        let silent = LegStats::default();
        let total = sum(Some(part(300, 400, "late")), part(100, 440, "late"));
        assert_eq!((total.received.packets, total.received.lost), (400, 2));
        assert_eq!((total.mos_x100, total.dropped), (Some(410), vec![("late".to_owned(), 4)]));
        let total = sum(Some(part(300, 400, "late")), silent);
        assert_eq!((total.mos_x100, total.received.jitter_us), (Some(400), 7));
        assert_eq!(total.codec.as_deref(), Some("PCMU"));
    }
}
