//! What a relay itself says to a leg's peer: sounds that were encoded before,
//! one packet every 20 ms, as a stream of its own (RFC 3550 §5.1).
//!
//! Poll [`Player::poll_output`] until it has no more when [`Player::poll_timeout`]
//! says so, and send what it writes by the leg.

mod clip;
mod ear;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::clip::{Clip, FRAME_MS, SOUND_RATE};
pub use self::ear::Ear;

use crate::audio::Codec;
use crate::packet::PacketBuf;
use crate::rtp::write_header;

const FRAME: Duration = Duration::from_millis(FRAME_MS as u64);
/// Packets that are overdue by more are left out: their time is over.
const LATEST: Duration = Duration::from_millis(100);
/// Who spoke so long ago does not speak any more.
const SPOKEN: Duration = Duration::from_millis(500);

/// By what its packets are known to the peer: no other stream of the leg's has
/// this source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    pub ssrc: u32,
    /// Of the first packet.
    pub sequence: u16,
    pub timestamp: u32,
}

pub struct Player {
    voice: Voice,
    /// What the peer takes them by.
    number: u8,
    clips: Vec<Arc<Clip>>,
    repeats: bool,
    /// The clip that is played, and which of its packets is next.
    place: (usize, usize),
    due: Option<Instant>,
    /// The next packet begins to speak (RFC 3551 §4.1).
    begins: bool,
    /// The leg's partner speaks, at least until then.
    overheard_until: Option<Instant>,
}

impl Player {
    /// Plays `clips`, all of the same codec.
    pub fn new(
        now: Instant,
        voice: Voice,
        number: u8,
        clips: Vec<Arc<Clip>>,
        repeats: bool,
    ) -> Self {
        let mut player = Self {
            voice,
            number,
            clips,
            repeats,
            place: (0, 0),
            due: None,
            begins: true,
            overheard_until: None,
        };
        player.due = player.frame().is_some().then_some(now);
        player
    }

    /// The stream as it would go on: another player's may.
    pub const fn voice(&self) -> Voice {
        self.voice
    }

    /// What it plays in; the peer takes it by [`Self::number`].
    pub fn codec(&self) -> Codec {
        self.clips.first().map_or(Codec::Pcmu, |clip| clip.codec())
    }

    pub const fn number(&self) -> u8 {
        self.number
    }

    /// When the next packet is to be sent. `None`: all was said.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub const fn is_over(&self) -> bool {
        self.due.is_none()
    }

    /// The leg's partner said something. True when it is to be passed on: what is
    /// meant to be heard goes first, and this is silent while it does.
    pub fn overhear(&mut self, now: Instant, said: Said) -> bool {
        if said == Said::Sound {
            self.overheard_until = Some(now + SPOKEN);
        }
        said == Said::Keys || self.is_interrupted(now)
    }

    /// The partner speaks.
    fn is_interrupted(&self, now: Instant) -> bool {
        self.overheard_until.is_some_and(|until| now < until)
    }

    /// The next packet, if one is due. Time that passed in silence counts, and
    /// the sound goes on where it was.
    pub fn poll_output(&mut self, now: Instant, packet: &mut PacketBuf) -> bool {
        let Some(mut due) = self.due.filter(|due| *due <= now) else { return false };
        let units = self.units();
        let late = now.saturating_duration_since(due);
        if late > LATEST {
            let missed = u32::try_from(late.as_millis() / FRAME.as_millis()).unwrap_or(u32::MAX);
            due += FRAME * missed;
            self.pass(units.wrapping_mul(missed));
        }
        if self.is_interrupted(now) {
            self.due = Some(due + FRAME);
            self.pass(units);
            return false;
        }
        let Voice { ssrc, sequence, timestamp } = self.voice;
        let Some(frame) = self.clips.get(self.place.0).and_then(|it| it.frame(self.place.1)) else {
            self.due = None;
            return false;
        };
        let header = write_header(self.begins, self.number, sequence, timestamp, ssrc);
        let is_written = packet.copy_from(&header) && packet.append(frame);
        self.begins = false;
        self.voice.sequence = sequence.wrapping_add(1);
        self.voice.timestamp = timestamp.wrapping_add(units);
        self.place.1 += 1;
        self.due = self.frame().is_some().then_some(due + FRAME);
        is_written
    }

    /// A packet's time goes by without one.
    fn pass(&mut self, units: u32) {
        self.voice.timestamp = self.voice.timestamp.wrapping_add(units);
        self.begins = true;
    }

    /// Finds what is played next: the next clip where one has ended. `None` when
    /// there is no more.
    fn frame(&mut self) -> Option<()> {
        // Once around: they may all be empty.
        for _ in 0..=self.clips.len() {
            if let Some(clip) = self.clips.get(self.place.0) {
                if clip.frame(self.place.1).is_some() {
                    return Some(());
                }
                self.place = (self.place.0 + 1, 0);
            } else if self.repeats {
                self.place = (0, 0);
            } else {
                return None;
            }
        }
        self.clips.get(self.place.0)?.frame(self.place.1).map(drop)
    }

    /// Of the codec's clock, in a packet.
    fn units(&self) -> u32 {
        self.codec().clock_rate() / 1000 * FRAME_MS
    }
}

/// What the partner of a leg sends while its peer is played something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Meant to be heard.
    Sound,
    Silence,
    /// Keys that were pressed (RFC 4733): nothing to listen to, but told.
    Keys,
}
