//! One call as a phone has it: its dialog, its media, and what it remembers for
//! the model to judge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use landline_control::{Direction, LegLocal};
use landline_media::audio::Codec;
use landline_media::{Component, Leg, LegConfig, PacketBuf, Received, rtp};
use landline_phone::MediaMode;
use landline_phone::description::{self, Answered, Own};
use landline_region::Seed;
use landline_sip::{ClientKey, Dialog, Request, ServerKey};

/// Who somebody is: the account and the user, by number.
pub type Person = (usize, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Calling,
    Ringing,
    /// We answered; the ACK is not here yet.
    Answered,
    Up,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    WeHungUp,
    TheyHungUp,
    WeCancelled,
    TheyCancelled,
    WeRefused(u16),
    Refused(u16),
    /// Nobody answered our request.
    Unanswered,
    /// The phone lost power.
    Died,
}

pub struct Line {
    /// Unlike any other of the run.
    pub id: u64,
    pub person: Person,
    pub is_caller: bool,
    pub call_id: String,
    /// Whom it is with, as dialled or as shown.
    pub peer: Option<Person>,
    pub began: Duration,
    pub state: State,
    pub invite: Request,
    pub asked: Option<ClientKey>,
    pub owed: Option<ServerKey>,
    pub dialog: Option<Dialog>,
    pub media: Media,
    pub rang: bool,
    /// The credentials were taken: the call itself is being dealt with.
    pub up_at: Option<Duration>,
    pub over_at: Option<Duration>,
    pub end: Option<End>,
    /// A description was exchanged again: who may speak is not followed.
    pub modified: bool,
    pub said: Vec<(u32, Duration)>,
    /// By whose line.
    pub heard: BTreeMap<u64, Vec<u32>>,
    /// We cancelled, and the answer may be on its way.
    pub cancelled: bool,
    /// Somebody who was parked: the record is that one's.
    pub takes: bool,
}

impl Line {
    pub fn is_live(&self) -> bool {
        self.state != State::Over
    }

    pub fn over(&mut self, at: Duration, end: End) {
        if self.is_live() {
            self.state = State::Over;
            self.over_at = Some(at);
            self.end = Some(end);
        }
    }

    pub fn up(&mut self, at: Duration) {
        if self.state < State::Up {
            self.state = State::Up;
            self.up_at = Some(at);
        }
    }
}

pub struct Media {
    mode: MediaMode,
    leg: Leg,
    local: LegLocal,
    answered: Option<Answered>,
    version: u64,
    direction: Direction,
    sequence: u16,
    ssrc: u32,
}

/// What a packet of ours says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    pub line: u64,
    pub person: Person,
    pub number: u32,
}

impl Media {
    pub fn new(mode: MediaMode, rtp: SocketAddr, seed: Seed, now: Instant) -> Self {
        let leg = Leg::new(LegConfig::new(mode.spec(rtp.ip()), None, seed), now);
        let rtcp = SocketAddr::new(rtp.ip(), rtp.port() + 1);
        let local = leg.local(rtp, rtcp);
        let ssrc = u32::from_be_bytes([seed[0], seed[1], seed[2], seed[3]]);
        Self {
            mode,
            leg,
            local,
            answered: None,
            version: 0,
            direction: Direction::SendReceive,
            sequence: 0,
            ssrc,
        }
    }

    pub fn port(&self) -> u16 {
        self.local.rtp.port()
    }

    pub fn offer(&mut self, direction: Direction) -> String {
        self.direction = direction;
        self.describe(None)
    }

    pub fn answer(&mut self) -> String {
        self.describe(self.answered.clone())
    }

    fn describe(&mut self, answer: Option<Answered>) -> String {
        self.version += 1;
        let description = description::write(&Own {
            local: &self.local,
            mode: self.mode,
            codec: Codec::Pcmu,
            candidates: &[],
            direction: self.direction,
            version: self.version,
            answer,
        });
        description.replace("s=-", "s=a subject")
    }

    /// Takes the other side's description in.
    pub fn take(&mut self, now: Instant, body: &[u8], is_answer: bool) -> bool {
        let Ok(theirs) = description::read(body, &self.local, is_answer) else { return false };
        if !is_answer {
            self.direction = theirs.remote.direction;
        }
        self.answered = Some(theirs.answered);
        self.leg.set_remote(now, &theirs.remote).is_ok()
    }

    /// A packet with a word in it, and where to.
    pub fn speak(&mut self, now: Instant, word: Word) -> Option<(SocketAddr, PacketBuf)> {
        self.sequence = self.sequence.wrapping_add(1);
        let time = word.number.wrapping_mul(1600);
        let header = rtp::write_header(false, 0, self.sequence, time, self.ssrc);
        let mut packet = PacketBuf::new();
        let mut payload = [0xd5; 32];
        payload[..8].copy_from_slice(&word.line.to_be_bytes());
        payload[8] = word.person.0 as u8;
        payload[9] = word.person.1 as u8;
        payload[10..14].copy_from_slice(&word.number.to_be_bytes());
        if !packet.append(&header) || !packet.append(&payload) {
            return None;
        }
        let (_, to) = self.leg.send(now, Component::Rtp, &mut packet)?;
        Some((to, packet))
    }

    /// What a packet says that is authentic.
    pub fn hear(&mut self, now: Instant, from: SocketAddr, octets: &[u8]) -> Option<Word> {
        let mut packet = PacketBuf::from_slice(octets)?;
        let received = self.leg.receive(now, Component::Rtp, from, &mut packet);
        while self.leg.poll_output().is_some() {}
        let Received::Rtp(info) = received else { return None };
        let payload = info.payload(packet.as_slice()).ok()?;
        let (line, rest) = payload.split_first_chunk::<8>()?;
        let [account, user, n0, n1, n2, n3, ..] = *rest else { return None };
        Some(Word {
            line: u64::from_be_bytes(*line),
            person: (account.into(), user.into()),
            number: u32::from_be_bytes([n0, n1, n2, n3]),
        })
    }

    pub fn local(&self) -> SocketAddr {
        self.local.rtp
    }
}
