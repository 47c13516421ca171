//! What a leg's peer hears from the relay itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_control::{Event, LegId, MOST_SOUNDS, PayloadType, Play, Refusal};
use landline_media::audio::Codec;
use landline_media::play::{Clip, Ear, Player, Voice};
use landline_media::{Component, RtpInfo};
use prometheus::IntGauge;

use super::counters::OwnDrop;
use super::{Network, Shard};
use crate::sounds::Awaited;

/// How often it is looked whether everything is there to begin with.
const LOOK: Duration = Duration::from_millis(20);
/// The peer's keys or address are not there by then: it is not going to hear it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The sounds themselves may have to wait for others'.
const SOUNDS: Duration = Duration::from_secs(300);
/// Packets in a row that may be due at once.
const AT_ONCE: usize = 8;

pub(super) struct Playing {
    play: Play,
    /// For the partner, whose silence is not to come between.
    ear: Ear,
    voice: Voice,
    stage: Stage,
    /// What the voice's timestamps count: units a second.
    clock: u32,
    /// Until it is over.
    counted: Option<Counted>,
}

/// One of those that play.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

enum Stage {
    /// The sounds are on their way, or the peer cannot be reached yet.
    Waiting {
        sounds: Vec<Awaited>,
        number: u8,
        look_at: Instant,
        until: Instant,
    },
    Speaking(Player),
    Over,
}

impl Playing {
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting { look_at, .. } => Some(*look_at),
            Stage::Speaking(player) => player.poll_timeout(),
            Stage::Over => None,
        }
    }

    /// The leg's partner sent this. False when it is silence that is not to come
    /// between.
    pub fn overhear(&mut self, now: Instant, types: &[PayloadType], packet: &[u8]) -> bool {
        let Stage::Speaking(player) = &mut self.stage else { return true };
        let Ok(info) = RtpInfo::parse(packet) else { return true };
        let kind = types.iter().find(|kind| kind.number == info.payload_type);
        let encoding = kind.map(|kind| kind.encoding.as_str());
        let payload = info.payload(packet).unwrap_or_default();
        let said = self.ear.hear(info.payload_type, encoding, payload);
        player.overhear(now, said)
    }

    fn voice(&self) -> Voice {
        match &self.stage {
            Stage::Speaking(player) => player.voice(),
            Stage::Waiting { .. } | Stage::Over => self.voice,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The next one may go on as the same stream.
    fn end(&mut self) {
        (self.voice, self.stage, self.counted) = (self.voice(), Stage::Over, None);
    }
}

impl<N: Network> Shard<N> {
    pub(super) fn play(
        &mut self,
        now: Instant,
        session: usize,
        leg: LegId,
        mut play: Play,
    ) -> Result<(), Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        let found = self.legs.get_mut(slot).ok_or(Refusal::UnknownLeg(leg))?;
        play.sounds.truncate(MOST_SOUNDS);
        if found.playing.as_ref().is_some_and(|it| it.play == play && !it.is_over()) {
            return Ok(());
        }
        let former = found.playing.take().map(|it| (it.voice(), it.clock));
        self.begin_playing(now, slot, play, former);
        Ok(())
    }

    pub(super) fn hush(&mut self, session: usize, leg: LegId) -> Result<(), Refusal> {
        let slot = self.session(session)?.slot(leg)?;
        let found = self.legs.get_mut(slot).ok_or(Refusal::UnknownLeg(leg))?;
        if let Some(playing) = &mut found.playing {
            playing.end();
        }
        Ok(())
    }

    /// The peer has described itself anew: it may want another codec.
    pub(super) fn play_again(&mut self, now: Instant, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let chosen = codec_of(&leg.payload_types);
        let is_other = |it: &Playing| match &it.stage {
            Stage::Speaking(player) => chosen != Some((player.codec(), player.number())),
            Stage::Waiting { .. } => true,
            Stage::Over => false,
        };
        if leg.playing.as_deref().is_some_and(is_other)
            && let Some(playing) = leg.playing.take()
        {
            let former = Some((playing.voice(), playing.clock));
            self.begin_playing(now, slot, playing.play, former);
        }
    }

    /// One stream for all that it is ever played, by one clock (RFC 7160 §4).
    fn begin_playing(
        &mut self,
        now: Instant,
        slot: usize,
        play: Play,
        former: Option<(Voice, u32)>,
    ) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let account = self.sessions.get(leg.session).map(|session| session.account);
        let chosen = codec_of(&leg.payload_types).zip(account);
        let counted = Some(Counted::new(&self.shared.metrics.players));
        let clock = chosen.map(|((codec, _), _)| codec.clock_rate());
        let clock = clock.or(former.map(|(_, clock)| clock)).unwrap_or_default();
        let voice = match former {
            Some((voice, same)) if same == clock => voice,
            _ => Voice {
                ssrc: self.entropy.u64() as u32,
                sequence: self.entropy.u64() as u16 >> 1,
                timestamp: self.entropy.u64() as u32,
            },
        };
        let stage = match chosen {
            Some(((codec, number), account)) => {
                let (clips, runtime) = (&self.shared.clips, &self.shared.runtime);
                let want = |sound: &_| clips.want(now, runtime, account, *sound, codec);
                let sounds = play.sounds.iter().map(want).collect();
                Stage::Waiting { sounds, number, look_at: now, until: now + PATIENCE }
            }
            None => {
                self.counters.lost(OwnDrop::NoCodec);
                Stage::Waiting { sounds: Vec::new(), number: 0, look_at: now, until: now }
            }
        };
        leg.playing =
            Some(Box::new(Playing { play, ear: Ear::default(), voice, stage, clock, counted }));
        self.reschedule(slot);
    }

    /// Does what is due.
    pub(super) fn play_on(&mut self, now: Instant, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if leg.playing_timeout().is_none_or(|at| now < at) {
            return;
        }
        let reaches = leg.machine.reaches_peer();
        let Some(mut playing) = leg.playing.take() else { return };
        playing.begin(now, reaches);
        if let Stage::Speaking(player) = &mut playing.stage {
            leg.machine.splice();
            for _ in 0..AT_ONCE {
                if !player.poll_output(now, &mut self.packet) {
                    break;
                }
                self.counters.played_packets += 1;
                self.deliver(now, slot, Component::Rtp);
            }
            if player.is_over() {
                playing.end();
            }
        }
        let is_over = playing.is_over();
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.playing = Some(playing);
        if is_over && let Some(session) = self.sessions.get(leg.session) {
            session.owner.tell(session.id, Event::Played(leg.id));
        }
        self.reschedule(slot);
    }
}

impl Playing {
    /// Begins to speak once everything is there, with what there is.
    fn begin(&mut self, now: Instant, reaches: bool) {
        let Stage::Waiting { sounds, number, look_at, until } = &mut self.stage else { return };
        let is_there = sounds.iter().all(|it| it.look().is_some());
        let waits = match is_there {
            true => !reaches && now < *until,
            false => now < *until + SOUNDS,
        };
        if waits {
            *look_at = now + LOOK;
            return;
        }
        let clips: Vec<Arc<Clip>> =
            sounds.iter().filter_map(|it| it.look().flatten().cloned()).collect();
        let player = Player::new(now, self.voice, *number, clips, self.play.repeats);
        match player.is_over() || !reaches {
            true => self.end(),
            false => self.stage = Stage::Speaking(player),
        }
    }
}

/// The first that it takes of those we have, and by which number.
fn codec_of(types: &[PayloadType]) -> Option<(Codec, u8)> {
    types.iter().find_map(|kind| {
        let codec = Codec::from_encoding(&kind.encoding)?;
        (codec.clock_rate() == kind.clock_rate).then_some((codec, kind.number))
    })
}
