//! A relay that allocates, remembers and reports, without any media.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use landline_call::Input;
use landline_control::{
    Direction, Event, Fingerprint, FromRelay, HashFunction, IceCredentials, LegId, LegKeys,
    LegLocal, LegSpec, LegStats, Op, Outcome, Protocol, Recorded, Refusal, RelayId, Remote,
    Request, SdesKey, SessionId, Spoken, TakenOver, VideoType,
};
use landline_region::CallSid;

use super::World;

pub struct FakeRelay {
    number: u8,
    sessions: BTreeMap<SessionId, Session>,
    /// Every operation asked for, in order.
    pub ops: Vec<(SessionId, Op)>,
    next_port: u16,
    /// What every leg did, by the session's end.
    pub figures: LegStats,
    /// Does what it is asked and answers nothing.
    pub silent: bool,
    pub full: bool,
    /// The keys that it was to go on with, in order.
    pub resumed: Vec<(LegId, LegKeys)>,
}

pub struct Session {
    pub call: CallSid,
    pub step: u32,
    pub specs: BTreeMap<LegId, LegSpec>,
    pub all: Vec<LegId>,
    pub remotes: BTreeMap<LegId, Remote>,
    pub joined: Option<(LegId, LegId)>,
    /// What was told of legs that do not share every codec.
    pub spoken: BTreeMap<LegId, Spoken>,
    /// What the legs' peers send beside sound.
    pub video: BTreeMap<LegId, (Direction, Vec<VideoType>)>,
    /// Whose streams have had their names changed, and how often.
    pub renewed: BTreeMap<LegId, u32>,
    pub recording: Option<landline_region::RecordingSid>,
    pub is_recording: bool,
    /// Parts of the recording that other relays had made before.
    pub segments: u16,
}

impl FakeRelay {
    pub fn new(number: u8) -> Self {
        Self {
            number,
            sessions: BTreeMap::new(),
            ops: Vec::new(),
            next_port: 20_000,
            figures: LegStats::default(),
            silent: false,
            full: false,
            resumed: Vec::new(),
        }
    }

    /// Of the one session that there is: whose streams were renewed, how often.
    pub fn renewed(&self) -> Vec<(u16, u32)> {
        let session = self.sessions.values().next().expect("a session");
        session.renewed.iter().map(|(leg, times)| (leg.0, *times)).collect()
    }

    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// It restarted, say, with nothing of what it had.
    pub fn forget(&mut self) {
        self.sessions.clear();
    }

    pub fn session(&self) -> &Session {
        self.sessions.values().next_back().expect("a session")
    }

    pub fn session_id(&self) -> SessionId {
        *self.sessions.keys().next_back().expect("a session")
    }

    pub fn handle(&mut self, request: Request) -> Option<Outcome> {
        let outcome = self.carry_out(request);
        (!self.silent).then_some(outcome)
    }

    fn carry_out(&mut self, request: Request) -> Outcome {
        match request {
            Request::Open(_) | Request::Resume(_) if self.full => Outcome::Refused(Refusal::Full),
            Request::Resume(resume) => {
                self.resumed.extend(resume.keys);
                let id = resume.open.session;
                let outcome = self.carry_out(Request::Open(resume.open));
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.step = resume.step;
                }
                outcome
            }
            Request::Open(open) => {
                let mut session = Session {
                    call: open.call,
                    step: 0,
                    specs: BTreeMap::new(),
                    renewed: BTreeMap::new(),
                    all: Vec::new(),
                    remotes: BTreeMap::new(),
                    joined: None,
                    spoken: BTreeMap::new(),
                    video: BTreeMap::new(),
                    recording: open.recording.map(|it| it.sid),
                    is_recording: false,
                    segments: 0,
                };
                let mut made = Vec::new();
                for (leg, spec) in open.legs {
                    made.push((leg, self.local(leg, &spec)));
                    session.all.push(leg);
                    assert!(session.specs.insert(leg, spec).is_none(), "leg opened twice");
                }
                assert!(self.sessions.insert(open.session, session).is_none());
                Outcome::Done(made)
            }
            Request::Change(id, ops) => self.change(id, ops),
            Request::Adopt(adopt) => match self.sessions.get(&adopt.session) {
                Some(session) if session.call == adopt.call => {
                    Outcome::Adopted(session.specs.keys().map(|leg| (*leg, Vec::new())).collect())
                }
                _ => Outcome::Refused(Refusal::UnknownSession),
            },
            Request::TakeOver(take) => match self.carry_out(Request::Adopt(take.adopt)) {
                Outcome::Adopted(legs) => {
                    let session = self.sessions.get_mut(&take.adopt.session).expect("adopted");
                    session.step = take.step.max(session.step + 100_000);
                    Outcome::TakenOver(TakenOver { legs, step: session.step })
                }
                refused => refused,
            },
            Request::Close(close) => match self.sessions.remove(&close.session) {
                None => Outcome::Refused(Refusal::UnknownSession),
                Some(session) => Outcome::Closed {
                    legs: session.all.iter().map(|leg| (*leg, self.figures.clone())).collect(),
                    recording: session
                        .recording
                        .filter(|_| session.is_recording)
                        .map(|sid| Recorded { sid, expected_packets: 10, stored_packets: 10 }),
                },
            },
        }
    }

    fn change(&mut self, id: SessionId, ops: Vec<Op>) -> Outcome {
        let mut made = Vec::new();
        for op in ops {
            self.ops.push((id, op.clone()));
            let fresh = match &op {
                Op::Add(leg, spec) => Some((*leg, self.local(*leg, spec))),
                Op::Restart(leg) => {
                    let spec = self.sessions.get(&id).and_then(|it| it.specs.get(leg)).cloned();
                    spec.map(|spec| (*leg, self.local(*leg, &spec)))
                }
                _ => None,
            };
            let Some(session) = self.sessions.get_mut(&id) else {
                return Outcome::Refused(Refusal::UnknownSession);
            };
            let known = |leg: &LegId| session.specs.contains_key(leg);
            match op {
                Op::Add(leg, spec) => {
                    assert!(session.specs.insert(leg, spec).is_none(), "leg added twice");
                    session.all.push(leg);
                }
                Op::Remote(leg, remote) => {
                    if !known(&leg) {
                        return Outcome::Refused(Refusal::UnknownLeg(leg));
                    }
                    fits(&session.specs[&leg], &remote);
                    session.remotes.insert(leg, *remote);
                    session.spoken.remove(&leg);
                }
                Op::Join(a, b) => {
                    if !known(&a) || !known(&b) {
                        return Outcome::Refused(Refusal::UnknownLeg(a));
                    }
                    session.joined = Some((a, b));
                }
                Op::Record => session.is_recording = true,
                Op::Note(leg, recording) => {
                    if !known(&leg) {
                        return Outcome::Refused(Refusal::UnknownLeg(leg));
                    }
                    (session.recording, session.is_recording) = (Some(recording.sid), true);
                }
                Op::Continue(segments) => {
                    (session.is_recording, session.segments) = (true, segments);
                }
                Op::Restart(_) => {}
                Op::Play(leg, _) | Op::Hush(leg) | Op::Press(leg, _) | Op::TellKeys(leg) => {
                    if !known(&leg) {
                        return Outcome::Refused(Refusal::UnknownLeg(leg));
                    }
                }
                Op::Speak(both) => {
                    for (leg, spoken) in *both {
                        if !known(&leg) {
                            return Outcome::Refused(Refusal::UnknownLeg(leg));
                        }
                        session.spoken.insert(leg, spoken);
                    }
                }
                Op::Video(leg, direction, types) => {
                    if !known(&leg) {
                        return Outcome::Refused(Refusal::UnknownLeg(leg));
                    }
                    session.video.insert(leg, (direction, types));
                }
                Op::Renew(leg) => {
                    if !known(&leg) {
                        return Outcome::Refused(Refusal::UnknownLeg(leg));
                    }
                    *session.renewed.entry(leg).or_default() += 1;
                }
                Op::Remove(leg) => {
                    if session.specs.remove(&leg).is_none() {
                        return Outcome::Refused(Refusal::UnknownLeg(leg));
                    }
                }
            }
            made.extend(fresh);
        }
        Outcome::Done(made)
    }

    fn local(&mut self, leg: LegId, spec: &LegSpec) -> LegLocal {
        self.next_port += 2;
        let rtp = SocketAddr::from(([10, 0, self.number, 9], self.next_port));
        let rtcp = match spec.rtcp_mux {
            true => rtp,
            false => SocketAddr::from(([10, 0, self.number, 9], self.next_port + 1)),
        };
        LegLocal {
            rtp,
            rtcp,
            ice: spec.ice.then(|| IceCredentials {
                ufrag: format!("u{:03}", leg.0),
                pwd: format!("p{:029}", self.next_port),
            }),
            fingerprint: (spec.protocol == Protocol::Dtls)
                .then(|| Fingerprint { hash: HashFunction::Sha256, digest: vec![self.number; 32] }),
            sdes: (1..)
                .zip(&spec.suites)
                .map(|(tag, suite)| SdesKey {
                    tag,
                    suite: *suite,
                    key_and_salt: vec![leg.0 as u8; suite.key_and_salt_len()],
                })
                .collect(),
        }
    }
}

/// What a real relay checks of a peer's description.
fn fits(spec: &LegSpec, remote: &Remote) {
    match spec.protocol {
        Protocol::Rtp => assert!(remote.sdes.is_none() && remote.dtls.is_none()),
        Protocol::Sdes => assert!(remote.sdes.is_some(), "SDES without keys"),
        Protocol::Dtls => {
            let dtls = remote.dtls.as_ref().expect("DTLS without fingerprint");
            assert!(!dtls.fingerprints.is_empty());
        }
    }
    assert!(!remote.payload_types.is_empty());
}

impl World {
    /// The first proxy's relay tells it of its newest session.
    pub fn happens(&mut self, event: Event) {
        let message = FromRelay::Event(self.proxies[0].relay.session_id(), event);
        self.input(0, Input::Relay { relay: RelayId("relay-1".into()), message });
        self.settle();
    }
}
