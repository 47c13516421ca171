//! Where the call rings: one group of targets after the other, and all of a
//! group at once.

use std::time::Duration;

use landline_control::{LegId, LegSpec, Op, Open, Recording, Request as RelayRequest};
use landline_region::LegSid;
use landline_region::egress::Refused;

use super::leg::{Branch, Invite, LegState};
use super::message::{SDP, bare};
use super::music::hears_music;
use super::prack::EarlyDialogs;
use super::{A, Call, Ending, Leg, Phase, Session};
use crate::context::{ClientUse, Context};
use crate::io::Log;
use crate::negotiate::{Codec, LegMedia, Profile, Terms};
use crate::record::Cause;
use crate::relays::RelayStep;
use crate::route::{Side, Target};
use crate::timers::{CallTimer, Timer};

/// How much longer a call to another region rings here than there.
const REGION_GRACE: Duration = Duration::from_secs(5);

impl Call {
    /// The record is on disk: the media may be made, and then it may ring.
    pub(crate) fn journaled(&mut self, cx: &mut Context) {
        match self.phase {
            Phase::Journaling => {
                self.phase = Phase::Opening;
                self.prepare_caller(cx);
                self.add_group(cx);
                self.open_session(cx);
            }
            Phase::Answering => self.pass_answer(cx),
            Phase::Closed => self.say_farewell(cx),
            Phase::Opening | Phase::Ringing | Phase::Up | Phase::Ending => {}
        }
    }

    /// A call without a record does not ring. One that has one goes on and ends
    /// as it would: its events are kept until they can be written.
    pub(crate) fn journal_failed(&mut self, cx: &mut Context) {
        cx.log(Log::RecordsNotJournaled { call: self.sid });
        match self.phase {
            Phase::Journaling => self.end(cx, Ending::new(Cause::Failed, 503)),
            _ => self.journaled(cx),
        }
    }

    /// Asks the next relay for the call's first legs.
    pub(super) fn open_session(&mut self, cx: &mut Context) {
        let Some(relay) = cx.relays.choose(&self.tried_relays) else {
            cx.counters.calls_without_relay += 1;
            return self.end(cx, Ending::new(Cause::Failed, 503));
        };
        let legs = (A..self.legs.len()).filter_map(|leg| self.spec_of(leg)).collect();
        let id = cx.relays.begin(&relay, self.key);
        let open = Open {
            session: id,
            account: self.account.sid,
            call: self.sid,
            recording: self.recording.map(|(sid, consent)| Recording { sid, consent }),
            legs,
        };
        let incarnation = cx.relays.incarnation(&relay);
        self.session = Some(Session { relay: relay.clone(), id, incarnation, lost: false });
        let open = match self.has_guests() {
            true => self.open_resumed(open),
            false => RelayRequest::Open(open),
        };
        cx.ask_relay(&relay, self.key, RelayStep::Open, open);
    }

    /// A caller without an offer gets ours in the 200: made as for a callee.
    fn prepare_caller(&mut self, cx: &mut Context) {
        let encryption = self.account.encryption;
        let Some(leg) = self.legs.get_mut(A).filter(|leg| leg.media.is_none()) else { return };
        let (transport, ip) = match &leg.reach {
            crate::route::Reach::Flow(flow) => (flow.transport, Some(flow.remote.ip())),
            _ => (landline_sip::Transport::Udp, None),
        };
        let profiles = match &leg.side {
            Side::User(user) => crate::negotiate::user_profiles(
                user.media,
                transport,
                crate::tenancy::MediaPolicy::Auto,
                encryption,
            ),
            Side::Trunk(trunk) => {
                crate::negotiate::trunk_profiles(trunk.media, trunk.send_to.transport)
            }
            Side::Region(_) => crate::negotiate::region_profiles(),
        };
        let family = match ip.is_some_and(|ip| ip.to_canonical().is_ipv6()) {
            true => landline_control::IpFamily::V6,
            false => landline_control::IpFamily::V4,
        };
        let profile = profiles.first().copied().unwrap_or(Profile::Dtls);
        let hears = hears_music(&self.account, &leg.side);
        let media = LegMedia::offering(profile, family, cx.entropy.u64());
        leg.media = Some(media.transcoding(cx.config.transcoding).on_hold_hearing(hears));
    }

    fn spec_of(&self, leg: usize) -> Option<(LegId, LegSpec)> {
        let leg = self.legs.get(leg)?;
        Some((leg.relay_leg, leg.media.as_ref()?.spec.clone()))
    }

    /// Makes legs for the next group of targets; what the relay has to add.
    pub(super) fn add_group(&mut self, cx: &mut Context) -> Vec<(LegId, LegSpec)> {
        let targets = self.groups.pop_front().unwrap_or_default();
        self.group = self.group.saturating_add(1);
        let first = self.legs.len();
        for target in targets {
            self.add_leg(cx, target);
        }
        (first..self.legs.len()).filter_map(|leg| self.spec_of(leg)).collect()
    }

    fn add_leg(&mut self, cx: &mut Context, target: Target) {
        let mut profiles = target.profiles.clone();
        if profiles.is_empty() {
            return;
        }
        let profile = profiles.remove(0);
        let tag = cx.entropy.u64();
        let relay_leg = self.relay_leg();
        cx.dialogs.insert(tag, (self.key, self.legs.len()));
        let (side, reach) = (target.side.clone(), target.reach.clone());
        let family = target.family;
        let invite = Invite::Sent(Box::new(Branch {
            target,
            request: None,
            key: None,
            cseq: 0,
            call_id: cx.entropy.hex::<16>(),
            early: EarlyDialogs::default(),
            has_rung: false,
            profiles,
            retries: 0,
            is_pending: false,
            is_cancelled: false,
        }));
        let sid = LegSid::new(&mut cx.entropy);
        let mut leg = Leg::new(sid, side, reach, tag, relay_leg, invite);
        let hears = hears_music(&self.account, &leg.side);
        let media = LegMedia::offering(profile, family, cx.entropy.u64());
        leg.media = Some(media.transcoding(cx.config.transcoding).on_hold_hearing(hears));
        leg.is_first = self.rings_first();
        self.legs.push(leg);
    }

    /// The relay made the legs of the group: let them ring.
    pub(super) fn ring_group(&mut self, cx: &mut Context) {
        if self.has_guests_alone() {
            self.phase = Phase::Answering;
            return self.gather(cx);
        }
        self.phase = Phase::Ringing;
        if self.is_being_parked() {
            return self.park(cx);
        }
        // The callee's home decides when it rang long enough.
        let is_away = self.last_rung().is_some_and(|leg| leg.side.is_region());
        let grace = if is_away { REGION_GRACE } else { Duration::ZERO };
        let deadline = cx.now.instant + self.ring_time(cx) + grace;
        let timer = CallTimer::NoAnswer(self.group);
        cx.timers.set(deadline, Timer::Call(self.key, timer));
        let is_rung =
            self.rung().any(|leg| self.legs.get(leg).is_some_and(|it| it.state == LegState::Early));
        if !self.waits_for_sleepers(cx) && !is_rung && self.mailed_to.is_some() {
            return self.group_failed(cx);
        }
        for leg in self.rung() {
            let fresh = self.legs.get_mut(leg).and_then(Leg::branch);
            if fresh.is_some_and(|branch| branch.request.is_none()) {
                self.ring(cx, leg);
            }
        }
    }

    /// Sends a branch its INVITE, the first or one that offers other media.
    pub(super) fn ring(&mut self, cx: &mut Context, leg: usize) {
        self.convert_keys(leg, A);
        let terms = self.offered_by_caller();
        let Some(mut request) = self.invite(cx, leg) else { return };
        let Some(it) = self.legs.get_mut(leg) else { return };
        let Some(body) = it.media.as_mut().and_then(|media| media.offer(terms)) else { return };
        request.set_body(SDP, body);
        it.prove(cx, &mut request);
        let purpose = ClientUse::Branch { call: self.key, leg };
        let Some(branch) = it.branch() else { return };
        branch.request = Some(request.clone());
        branch.is_pending = true;
        let destination = branch.target.destination.clone();
        let sip_call_id = branch.call_id.clone();
        if let Side::Region(region) = branch.target.side
            && let Err(refused) = cx.call_leaves(self.sid, region)
        {
            return self.kept_in(cx, leg, refused);
        }
        branch.key = Some(cx.send(purpose, request, destination));
        self.record_leg(cx, leg, sip_call_id);
    }

    /// The egress gate does not let the call out, by whichever proxy.
    fn kept_in(&mut self, cx: &mut Context, leg: usize, refused: Refused) {
        cx.counters.region_calls_kept_in += 1;
        cx.log(Log::CallKeptIn { call: self.sid, refused });
        if let Some(branch) = self.legs.get_mut(leg).and_then(Leg::branch) {
            branch.is_pending = false;
        }
        self.not_away();
        self.branch_failed_with(cx, leg, 403);
        self.consider(403, Cause::Forbidden, Vec::new());
        self.group_failed(cx);
    }

    /// What the caller offers, or all we know where it leaves that to us.
    pub(super) fn offered_by_caller(&self) -> Terms {
        if let Some(terms) = self.terms_of_guest() {
            return terms;
        }
        let caller = self.legs.first();
        // What a party that we rang answered is offered to the other.
        let answered = caller.filter(|_| self.started.is_some()).and_then(|it| it.media.as_ref());
        if let Some(agreed) = answered.and_then(|media| media.agreed.as_ref()) {
            let codecs = agreed.terms.codecs.clone();
            return Terms { codecs, ..self.terms_of(&agreed.peer) };
        }
        match caller.and_then(Leg::incoming).and_then(|it| it.offer.as_ref()) {
            Some(offer) => self.terms_of(offer),
            None => Terms {
                codecs: Codec::ours(),
                direction: landline_control::Direction::SendReceive,
                ptime: None,
                maxptime: None,
                video: None,
            },
        }
    }

    /// Every branch of the group has ended without an answer.
    pub(super) fn group_failed(&mut self, cx: &mut Context) {
        let mut rung = self.rung().filter_map(|leg| self.legs.get(leg));
        let still = rung.any(|leg| leg.state == LegState::Early);
        if still
            || self.is_in_mailbox()
            || self.is_parked()
            || self.winner.is_some()
            || self.ending.is_some()
        {
            return;
        }
        if self.groups.is_empty() {
            if self.waits_for_sleepers(cx) {
                return;
            }
            if !self.divert_failed(cx) {
                if self.leave_to_mailbox(cx) {
                    return;
                }
                return self.fail(cx);
            }
        }
        self.ring_next(cx);
    }

    /// The next group, beside what rings already.
    pub(super) fn ring_next(&mut self, cx: &mut Context) {
        let legs = self.add_group(cx);
        let Some(session) = self.session.clone().filter(|_| !legs.is_empty()) else {
            return self.group_failed(cx);
        };
        let ops = legs.into_iter().map(|(leg, spec)| Op::Add(leg, spec)).collect();
        let change = RelayRequest::Change(session.id, ops);
        cx.ask_relay(&session.relay, self.key, RelayStep::Fork, change);
    }

    /// Nobody answered anywhere: the best of their reasons goes to the caller.
    pub(super) fn fail(&mut self, cx: &mut Context) {
        let of_mailbox = self.mailed_to.take().map(|(_, failure)| failure);
        let ending = match self.best.take().or(of_mailbox) {
            Some(best) => Ending {
                warning: best.warning,
                reasons: best.reasons,
                ..Ending::new(best.cause, best.status)
            },
            None => Ending::new(Cause::Unreachable, 480),
        };
        self.end(cx, ending);
    }

    /// The callees rang long enough.
    pub(crate) fn no_answer(&mut self, cx: &mut Context, group: u16) {
        if self.phase != Phase::Ringing || group != self.group {
            return;
        }
        if self.is_parked() {
            return self.recall(cx);
        }
        let ringing: Vec<_> = self
            .rung()
            .filter(|leg| self.legs.get(*leg).is_some_and(|it| it.state == LegState::Early))
            .collect();
        self.slept = self.slept();
        let cause = match ringing.is_empty() && self.slept.is_some() {
            true => Cause::Unreachable,
            false => Cause::NoAnswer,
        };
        self.forget_sleepers(cx);
        self.consider(480, cause, vec![super::reason(408, "No answer").into()]);
        for leg in ringing {
            self.cancel_branch(cx, leg, Some(super::reason(408, "No answer")));
            self.early = self.early.filter(|it| *it != leg);
            self.release_media(cx, leg);
        }
        self.group_failed(cx);
    }

    /// What rings, or is about to take the call, is taken back, and nothing else is
    /// rung.
    pub(super) fn ring_no_more(&mut self, cx: &mut Context, reason: Option<String>) {
        self.groups.clear();
        self.forget_sleepers(cx);
        for leg in self.rung() {
            if self.legs.get(leg).is_some_and(|it| it.state == LegState::Early) {
                self.cancel_branch(cx, leg, reason.clone());
            }
        }
    }

    /// Takes a branch's INVITE back; its final response is still awaited.
    pub(super) fn cancel_branch(&mut self, cx: &mut Context, leg: usize, reason: Option<String>) {
        let Some(it) = self.legs.get_mut(leg) else { return };
        it.state = LegState::Ended;
        it.dialog = None;
        let Some(branch) = it.branch() else { return self.refuse_pick_up(cx, leg, 486) };
        if branch.is_cancelled || !branch.is_pending {
            return;
        }
        branch.is_cancelled = true;
        if let Some(key) = branch.key {
            let is_away = branch.target.side.is_region();
            cx.cancel(key, reason.map(|it| if is_away { bare(&it) } else { it }));
        }
    }
}
