use std::sync::Arc;
use std::time::Instant;

use landline_control::{
    LegId, LegLocal, LegStats, Op, Outcome, Recording, Refusal, Request, Resume, SessionId,
    TakeOver, TakenOver,
};
use landline_region::{AccountSid, CallSid};

use super::tap::{Finishing, Tap};
use super::{Network, Shard};
use crate::owner::{Owner, OwnerKey, Reply};

/// More than a proxy writes into the record of one call.
const STEPS_OF_AN_OWNER: u32 = 100_000;

/// The legs of one call.
pub(super) struct Session {
    pub id: SessionId,
    pub owner: Arc<Owner>,
    pub account: AccountSid,
    pub call: CallSid,
    /// Of the record, as high as any owner was told.
    pub step: u32,
    /// Where each leg is.
    pub legs: Vec<(LegId, usize)>,
    /// What the removed ones did.
    pub ended: Vec<(LegId, LegStats)>,
    pub recording: Option<Recording>,
    pub tap: Option<Tap>,
}

impl Session {
    pub fn slot(&self, leg: LegId) -> Result<usize, Refusal> {
        let found = self.legs.iter().find(|(id, _)| *id == leg);
        found.map(|(_, slot)| *slot).ok_or(Refusal::UnknownLeg(leg))
    }

    /// An identifier is used once, so that statistics name one leg.
    pub fn has_had(&self, leg: LegId) -> bool {
        self.legs.iter().any(|(id, _)| *id == leg) || self.ended.iter().any(|(id, _)| *id == leg)
    }
}

/// What is left of a closed session.
struct Closed {
    legs: Vec<(LegId, LegStats)>,
    recording: Option<Finishing>,
}

impl<N: Network> Shard<N> {
    pub(super) fn request(
        &mut self,
        now: Instant,
        owner: Arc<Owner>,
        request: Request,
        reply: Reply,
    ) {
        let adopted = match &request {
            Request::Adopt(adopt) | Request::TakeOver(TakeOver { adopt, .. }) => Some(adopt.call),
            _ => None,
        };
        let outcome = match request {
            Request::Open(open) => {
                self.open(now, owner, Resume { open, keys: Vec::new(), step: 0 }).map(Outcome::Done)
            }
            Request::Resume(resume) => self.open(now, owner, resume).map(Outcome::Done),
            Request::Change(session, ops) => {
                self.change(now, &owner, session, ops).map(Outcome::Done)
            }
            Request::Close(close) => match self.find(&owner, close.session) {
                Ok(session) => {
                    let closed = self.close(now, session);
                    return self.answer_closed(closed, reply);
                }
                Err(refusal) => Err(refusal),
            },
            Request::Adopt(adopt) => {
                let taken = self.adopt(now, &owner, TakeOver { adopt, step: 0 });
                taken.map(|taken| Outcome::Adopted(taken.legs))
            }
            Request::TakeOver(take) => self.adopt(now, &owner, take).map(Outcome::TakenOver),
        };
        match outcome {
            Ok(outcome) => {
                reply.send(outcome);
                if let Some(call) = adopted {
                    self.tell_keys(now, call);
                }
            }
            Err(refusal) => {
                let reason = refusal_name(&refusal);
                self.shared.metrics.refusals.with_label_values(&[reason]).inc();
                reply.send(Outcome::Refused(refusal));
            }
        }
    }

    fn find(&self, owner: &Owner, session: SessionId) -> Result<usize, Refusal> {
        self.index.get(&(owner.key, session)).copied().ok_or(Refusal::UnknownSession)
    }

    fn open(
        &mut self,
        now: Instant,
        owner: Arc<Owner>,
        Resume { open, keys, step }: Resume,
    ) -> Result<Vec<(LegId, LegLocal)>, Refusal> {
        if self.shared.is_draining() || owner.is_gone() {
            return Err(Refusal::Draining);
        }
        let key = (owner.key, open.session);
        if self.index.contains_key(&key) {
            return Err(Refusal::Exists);
        }
        if !self.shared.admit_session() {
            return Err(Refusal::Full);
        }
        let session = self.sessions.insert(Session {
            id: open.session,
            owner,
            account: open.account,
            call: open.call,
            step,
            legs: Vec::with_capacity(2),
            ended: Vec::new(),
            recording: open.recording,
            tap: None,
        });
        self.index.insert(key, session);
        self.calls.insert(open.call, session);
        self.tally.begin(now);
        let mut locals = Vec::with_capacity(open.legs.len());
        for (leg, spec) in open.legs {
            let resume = keys.iter().find(|(id, _)| *id == leg).map(|(_, keys)| keys.clone());
            match self.add_leg(now, session, leg, spec, resume) {
                Ok(local) => locals.push((leg, local)),
                Err(refusal) => {
                    self.close(now, session);
                    return Err(refusal);
                }
            }
        }
        Ok(locals)
    }

    fn change(
        &mut self,
        now: Instant,
        owner: &Owner,
        session: SessionId,
        ops: Vec<Op>,
    ) -> Result<Vec<(LegId, LegLocal)>, Refusal> {
        let session = self.find(owner, session)?;
        let mut locals = Vec::new();
        for op in ops {
            match op {
                Op::Add(leg, spec) => {
                    locals.push((leg, self.add_leg(now, session, leg, spec, None)?));
                }
                Op::Remote(leg, remote) => self.set_remote(now, session, leg, &remote)?,
                Op::Join(a, b) => self.join(now, session, a, b)?,
                Op::Record => self.start_recording(now, session, 0)?,
                Op::Continue(segments) => self.start_recording(now, session, segments)?,
                Op::Restart(leg) => locals.push((leg, self.restart(now, session, leg)?)),
                Op::Remove(leg) => self.remove(now, session, leg)?,
                Op::Renew(leg) => self.renew(session, leg)?,
                Op::Speak(both) => self.speak(session, *both)?,
                Op::Play(leg, play) => self.play(now, session, leg, *play)?,
                Op::Hush(leg) => self.hush(session, leg)?,
                Op::Video(leg, direction, types) => {
                    self.set_video(session, leg, direction, types)?;
                }
                Op::Press(leg, key) => self.press(now, session, leg, key)?,
                Op::TellKeys(leg) => self.tell_keys_of(session, leg)?,
                Op::Note(leg, recording) => self.take_note(now, session, leg, *recording)?,
            }
        }
        Ok(locals)
    }

    /// The session is `owner`'s from now on. Whoever had it is told.
    fn adopt(
        &mut self,
        now: Instant,
        owner: &Arc<Owner>,
        TakeOver { adopt, step }: TakeOver,
    ) -> Result<TakenOver, Refusal> {
        if owner.is_gone() {
            return Err(Refusal::UnknownSession);
        }
        let slot = self.calls.get(&adopt.call).copied().ok_or(Refusal::UnknownSession)?;
        let key = (owner.key, adopt.session);
        if self.index.get(&key).is_some_and(|known| *known != slot) {
            return Err(Refusal::Exists);
        }
        let session = self.session_mut(slot)?;
        if session.id != adopt.session {
            return Err(Refusal::UnknownSession);
        }
        let former = std::mem::replace(&mut session.owner, Arc::clone(owner));
        let legs = session.legs.clone();
        let is_same = former.key == owner.key;
        let least = session.step.saturating_add(if is_same { 0 } else { STEPS_OF_AN_OWNER });
        let step = step.max(least);
        session.step = step;
        if !is_same {
            self.index.remove(&(former.key, adopt.session));
            self.index.insert(key, slot);
            self.shared.metrics.adopted_sessions.inc();
            former.lost(adopt.session);
        }
        let faults = |slot: usize| {
            self.legs.get(slot).map_or_else(Vec::new, |leg| leg.machine.stats(now).faults)
        };
        let legs = legs.into_iter().map(|(id, slot)| (id, faults(slot))).collect();
        Ok(TakenOver { legs, step })
    }

    /// Who adopted the call's session has none of its keys: they are nowhere but
    /// in the memory of the processes that serve it.
    fn tell_keys(&mut self, now: Instant, call: CallSid) {
        let session = self.calls.get(&call).and_then(|slot| self.sessions.get(*slot));
        for (_, slot) in session.map_or_else(Vec::new, |session| session.legs.clone()) {
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.machine.tell_keys();
            }
            self.drain_outputs(now, slot);
        }
    }

    fn close(&mut self, now: Instant, slot: usize) -> Closed {
        let Some(session) = self.sessions.try_remove(slot) else {
            return Closed { legs: Vec::new(), recording: None };
        };
        self.index.remove(&(session.owner.key, session.id));
        if self.calls.get(&session.call) == Some(&slot) {
            self.calls.remove(&session.call);
        }
        let mut legs = session.ended;
        for (id, slot) in session.legs {
            legs.extend(self.end_leg(now, slot).map(|stats| (id, stats)));
        }
        legs.sort_by_key(|(id, _)| *id);
        self.shared.end_session();
        let recording = session.tap.map(|tap| self.end_recording(tap));
        Closed { legs, recording }
    }

    fn answer_closed(&self, closed: Closed, reply: Reply) {
        let Closed { legs, recording } = closed;
        match recording {
            None => reply.send(Outcome::Closed { legs, recording: None }),
            Some(finishing) => self.finish(finishing, move |recorded| {
                reply.send(Outcome::Closed { legs, recording: Some(recorded) });
            }),
        }
    }

    pub(super) fn close_owner(&mut self, now: Instant, owner: OwnerKey) {
        let theirs: Vec<_> =
            self.index.iter().filter(|((key, _), _)| *key == owner).map(|(_, at)| *at).collect();
        self.shared.metrics.orphaned_sessions.inc_by(theirs.len() as u64);
        theirs.into_iter().for_each(|session| self.abandon(now, session));
    }

    pub(super) fn close_all(&mut self) {
        let now = Instant::now();
        let all: Vec<_> = self.index.values().copied().collect();
        all.into_iter().for_each(|session| self.abandon(now, session));
        self.counters.flush();
    }

    /// Closes a session for which nobody waits.
    fn abandon(&mut self, now: Instant, session: usize) {
        if let Some(finishing) = self.close(now, session).recording {
            self.finish(finishing, |_| {});
        }
    }

    pub(super) fn session(&self, session: usize) -> Result<&Session, Refusal> {
        self.sessions.get(session).ok_or(Refusal::UnknownSession)
    }

    pub(super) fn session_mut(&mut self, session: usize) -> Result<&mut Session, Refusal> {
        self.sessions.get_mut(session).ok_or(Refusal::UnknownSession)
    }
}

fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoPorts => "no_ports",
        Refusal::Full => "full",
        Refusal::Draining => "draining",
        Refusal::UnknownSession => "unknown_session",
        Refusal::UnknownLeg(_) => "unknown_leg",
        Refusal::Exists => "exists",
        Refusal::BadRemote(_) => "bad_remote",
        Refusal::NoFamily => "no_family",
    }
}
