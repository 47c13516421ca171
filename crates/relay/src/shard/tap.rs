//! The recording tap: copies of the plain packets of joined legs.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use landline_control::{LegId, Recorded, Recording, Refusal};
use landline_region::UnixMillis;
use landline_store::{Part, RecordingStart};
use tokio::sync::oneshot;

use super::{Network, Shard};

/// A recording that runs.
pub(super) struct Tap {
    recording: Recording,
    started: Instant,
    frames: u64,
}

/// A recording that ended and is being stored.
pub(super) struct Finishing {
    /// What the relay knows, should the sink say nothing.
    known: Recorded,
    stored: Option<oneshot::Receiver<Recorded>>,
}

impl<N: Network> Shard<N> {
    /// `segments` of the recording are there already, by other relays.
    pub(super) fn start_recording(
        &mut self,
        now: Instant,
        session: usize,
        segments: u16,
    ) -> Result<(), Refusal> {
        let found = self.session_mut(session)?;
        let Some(mut recording) = found.recording.clone().filter(|_| found.tap.is_none()) else {
            return Ok(());
        };
        let part = Part::of(recording.sid, segments);
        recording.sid = part.sid();
        let sid = recording.sid;
        let start = RecordingStart {
            part,
            call: found.call,
            account: found.account,
            consent: recording.consent,
            started_at: unix_now(),
            payload_types: Vec::new(),
        };
        found.tap = Some(Tap { recording, started: now, frames: 0 });
        let slots: Vec<_> = found.legs.iter().map(|(_, slot)| *slot).collect();
        self.shared.metrics.recordings.inc();
        if let Some(sink) = &self.shared.config.recordings
            && sink.start(start).is_err()
        {
            self.counters.recording_drops += 1;
            tracing::error!(recording = %sid, "the recorder had no room for a recording's start");
        }
        for slot in slots {
            if self.legs.get(slot).is_some_and(|leg| leg.partner.is_some()) {
                self.record_leg(session, slot);
            }
        }
        Ok(())
    }

    /// Records one leg with nobody at its other end.
    pub(super) fn take_note(
        &mut self,
        now: Instant,
        session: usize,
        leg: LegId,
        recording: Recording,
    ) -> Result<(), Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        let found = self.session_mut(session)?;
        if found.tap.is_none() {
            found.recording = Some(recording);
        }
        self.start_recording(now, session, 0)?;
        self.record_leg(session, slot);
        Ok(())
    }

    pub(super) fn record_leg(&mut self, session: usize, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if !std::mem::replace(&mut leg.recorded, true) {
            self.describe(session, slot);
        }
    }

    /// Says what the leg's payload types mean from now on.
    pub(super) fn describe(&mut self, session: usize, slot: usize) {
        let tap = self.sessions.get(session).and_then(|session| session.tap.as_ref());
        let (Some(tap), Some(leg)) = (tap, self.legs.get(slot)) else { return };
        if let Some(sink) = &self.shared.config.recordings
            && sink.payload_types(tap.recording.sid, leg.id, &leg.payload_types).is_err()
        {
            self.counters.recording_drops += 1;
        }
    }

    /// Gives a copy of the packet in hand to the recording.
    pub(super) fn record(&mut self, now: Instant, slot: usize) {
        let Some(leg) = self.legs.get(slot) else { return };
        let session = self.sessions.get_mut(leg.session);
        let Some(tap) = session.and_then(|session| session.tap.as_mut()) else { return };
        tap.frames += 1;
        self.counters.recording_frames += 1;
        let Some(sink) = &self.shared.config.recordings else { return };
        let at_ms = now.saturating_duration_since(tap.started).as_millis() as u32;
        if sink.frame(tap.recording.sid, leg.id, at_ms, self.packet.as_slice()).is_err() {
            self.counters.recording_drops += 1;
        }
    }

    pub(super) fn end_recording(&self, tap: Tap) -> Finishing {
        let sid = tap.recording.sid;
        let sink = self.shared.config.recordings.as_ref();
        Finishing {
            known: Recorded { sid, expected_packets: tap.frames, stored_packets: 0 },
            stored: sink.map(|sink| sink.finish(sid)),
        }
    }

    /// Waits, elsewhere, for a recording to be stored.
    pub(super) fn finish(
        &self,
        finishing: Finishing,
        then: impl FnOnce(Recorded) + Send + 'static,
    ) {
        let held = Arc::clone(&self.shared.finishing);
        let recordings = self.shared.metrics.recordings.clone();
        self.shared.runtime.spawn(async move {
            let Finishing { known, stored } = finishing;
            let stored = match stored {
                Some(stored) => stored.await.ok(),
                None => None,
            };
            recordings.dec();
            then(stored.unwrap_or(known));
            drop(held);
        });
    }
}

/// The wall clock, read where a recording begins.
fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as i64)
}
