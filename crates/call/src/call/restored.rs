//! What a call that was taken up owes to its former life: a session to adopt on
//! the relay, and perhaps the caller's 200.

use std::time::{Duration, Instant};

use landline_control::{
    Adopt, LegId, MediaFault, Outcome, Request as RelayRequest, SessionId, TakeOver, TakenOver,
};
use landline_region::UnixMillis;
use landline_sip::{Destination, Flow, FlowId, Request, Response, ServerKey, Transport};

use super::leg::{Incoming, Invite};
use super::{A, Call, Leg, Phase};
use crate::config::LocalAddress;
use crate::context::{Context, ServerUse};
use crate::io::{Log, Output};
use crate::negotiate::LegMedia;
use crate::record::Step;
use crate::relays::RelayStep;
use crate::restore::Former;
use crate::route::Reach;
use crate::snapshot::Snapshot;

/// As long as a caller may wait for the 200 to come again: 64·T1 (RFC 3261
/// §13.3.1.4).
const ANSWERING: Duration = Duration::from_secs(32);

pub(crate) struct Restored {
    pub(super) adoption: Adoption,
    /// The 200 that the caller may not have got.
    pub(super) reply: Option<Response>,
    pub(super) former: Former,
    /// The call was up then.
    pub(super) kept_at: UnixMillis,
    was_up: bool,
    /// Until then its relay may come.
    pub(super) deadline: Option<Instant>,
    /// The session that nobody had any more, and since when.
    pub(super) lost: Option<(SessionId, UnixMillis)>,
    /// Changes that were asked for before the session was ours.
    pub(super) held: Vec<(usize, ServerKey, Request)>,
}

/// As many as two hasty peers ask for.
const MOST_HELD: usize = 4;
/// A record's numbers jump no further than this: after 24 days of one call they
/// go on one by one.
const LAST_JUMP: u32 = u32::MAX / 2;
/// A connection that is another process's has no number here.
const ELSEWHERE: FlowId = FlowId(u64::MAX);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adoption {
    Wanted,
    /// No relay has it for us, and its proxy may have it elsewhere.
    Doubted,
    Done,
}

impl Restored {
    pub(super) fn new(former: Former, kept_at: UnixMillis, was_up: bool) -> Self {
        let adoption = Adoption::Wanted;
        let (deadline, lost, held) = (None, None, Vec::new());
        Self { adoption, reply: None, former, kept_at, was_up, deadline, lost, held }
    }

    /// Its peers know another proxy's address.
    fn has_moved(&self) -> bool {
        !matches!(self.former, Former::Run { .. })
    }
}

impl Call {
    /// The call is up from here on, or waits where it is parked, and its relay is to
    /// be asked for its session.
    pub(crate) fn resume(&mut self, cx: &mut Context) {
        cx.counters.calls_restored += 1;
        cx.usage.add(self.account.sid, self.caller.sid());
        for (place, leg) in self.legs.iter().enumerate() {
            for tag in [Some(leg.tag), leg.former_tag].into_iter().flatten() {
                let former = cx.dialogs.insert(tag, (self.key, place));
                if let Some((other, _)) = former.filter(|(other, _)| *other != self.key) {
                    self.claim(cx, other, tag);
                }
            }
        }
        if let Some(session) = &self.session {
            cx.relays.resume(&session.relay, session.id, self.key);
        }
        if self.waits() {
            self.wait_on(cx);
        } else {
            let response = self.winner.and_then(|winner| self.answer_for_caller(winner));
            self.rise(cx, response);
        }
        self.await_relay(cx);
        self.offer_answer_again(cx);
    }

    /// The call was another proxy's: from here on its peers are to reach us, and
    /// are reached by our sockets.
    pub(crate) fn relocate(&mut self, cx: &mut Context) {
        for leg in &mut self.legs {
            match &mut leg.reach {
                Reach::Flow(flow) | Reach::Region(_, Destination::Flow(flow)) => {
                    relocate_flow(cx, flow);
                }
                Reach::Region(..) | Reach::Address(_) | Reach::Uri => {}
            }
            let Some(dialog) = &mut leg.dialog else { continue };
            let mut local = dialog.local_contact().clone();
            let (host, port) = match &leg.reach {
                Reach::Flow(flow) => cx.address_for(flow),
                Reach::Region(..) => cx.config.inter_region.clone().unwrap_or_default(),
                Reach::Address(addr) => cx.address_by(Transport::Udp, addr.is_ipv6()),
                Reach::Uri => cx.address_by(local.uri.transport().unwrap_or(Transport::Udp), false),
            };
            local.uri.host = crate::context::host(&host);
            local.uri.port = Some(port);
            dialog.set_local_contact(local);
        }
    }

    /// Tells those who understand it where they reach the call now: an UPDATE
    /// without an offer carries our Contact and changes nothing else (RFC 3311
    /// §5.1). Others learn it by the next re-INVITE.
    fn tell_contact(&mut self, cx: &mut Context) {
        for leg in [Some(A), self.winner].into_iter().flatten() {
            if self.legs.get(leg).is_some_and(|it| it.takes_update) {
                self.send_update(cx, leg);
            }
        }
        self.keep(cx);
    }

    /// A change that has to wait until the session is ours. False: it need not,
    /// or may not.
    pub(super) fn hold_back(&mut self, leg: usize, key: ServerKey, request: &Request) -> bool {
        let awaits = self.awaits_adoption();
        match &mut self.restored {
            Some(restored) if awaits && restored.held.len() < MOST_HELD => {
                restored.held.push((leg, key, request.clone()));
                true
            }
            _ => false,
        }
    }

    /// The caller's INVITE is taken as if it came once more, so that its 200 is
    /// sent until there is an ACK: nobody knows whether it reached the caller.
    fn offer_answer_again(&mut self, cx: &mut Context) {
        let since = self.answered_at.map_or(i64::MAX, |at| cx.now.unix.0.saturating_sub(at.0));
        let is_late = since > ANSWERING.as_millis() as i64;
        let has_reply = self.restored.as_ref().is_some_and(|it| it.reply.is_some());
        let caller = self.legs.first();
        let invite = caller.and_then(Leg::incoming).map(|it| it.request.clone());
        let (Some(invite), false, true) = (invite, is_late, has_reply) else {
            return self.forget_invite();
        };
        let flow = match caller.map(|it| &it.reach) {
            Some(Reach::Flow(flow)) => Some(flow.clone()),
            _ => flow_of(cx, &invite),
        };
        let (Some(flow), Ok(call_id)) = (flow, invite.call_id()) else { return };
        cx.unheard.insert(call_id, self.key);
        let bytes = invite.to_bytes();
        cx.out.push_back(Output::Sip(landline_sip::Input::Received { flow, bytes }));
    }

    fn forget_invite(&mut self) {
        if let Some(caller) = self.legs.first_mut()
            && caller.incoming().is_some()
        {
            caller.invite = Invite::Former(caller.role());
        }
    }

    /// The INVITE of this call, again. False: it is another one.
    pub(crate) fn answer_again(
        &mut self,
        cx: &mut Context,
        key: ServerKey,
        flow: &Flow,
        request: &Request,
    ) -> bool {
        let reply = self.restored.as_ref().and_then(|it| it.reply.clone());
        let (Some(reply), false) = (reply, self.is_ending()) else { return false };
        let call = self.key;
        let Some(caller) = self.legs.first_mut() else { return false };
        if !caller.side.is_trunk() && !caller.came_by(flow) {
            return false;
        }
        let Some(incoming) = caller.incoming_mut() else { return false };
        let known = &incoming.request;
        let tag = |it: &Request| it.from().ok().and_then(|it| it.tag().map(str::to_owned));
        let number = |it: &Request| it.cseq().ok().map(|it| it.number);
        let branch = |it: &Request| it.top_via().ok().and_then(|it| it.branch().map(str::to_owned));
        let is_same = tag(known) == tag(request)
            && number(known) == number(request)
            && branch(known) == branch(request);
        if !is_same || incoming.key != Incoming::FORMER {
            return false;
        }
        incoming.key = key;
        caller.unacked = Some(key);
        cx.servers.insert(key, ServerUse::Invite(call));
        cx.respond(key, reply);
        true
    }

    /// The caller has its 200, or is not going to have it. True where that was
    /// in doubt.
    pub(super) fn heard_answer(&mut self, cx: &mut Context) -> bool {
        let Some(restored) = &mut self.restored else { return false };
        let was_owed = restored.reply.take().is_some();
        if was_owed
            && let Some(incoming) = self.legs.first().and_then(Leg::incoming)
            && let Ok(call_id) = incoming.request.call_id()
        {
            cx.unheard.remove(&call_id);
        }
        was_owed
    }

    /// A change by the caller: the 200 reached it, and its ACK a former process
    /// (RFC 3261 §14.1).
    pub(super) fn has_heard_answer(&mut self, cx: &mut Context, leg: usize) {
        let media = self.legs.get(leg).and_then(|it| it.media.as_ref());
        let owes_answer = media.is_some_and(LegMedia::awaits_answer);
        if leg == A
            && !owes_answer
            && self.heard_answer(cx)
            && let Some(caller) = self.legs.get_mut(A)
        {
            caller.unacked = None;
        }
    }

    /// Until then the relay does nothing for us.
    pub(super) fn awaits_adoption(&self) -> bool {
        self.restored.as_ref().is_some_and(|it| it.adoption != Adoption::Done)
    }

    /// The relay is to say whether it has the session.
    pub(super) fn is_to_be_asked(&self) -> bool {
        self.restored.as_ref().is_some_and(|it| it.adoption == Adoption::Wanted)
    }

    /// Asks the relay for the session. False where nothing has to be asked.
    pub(crate) fn adopt(&mut self, cx: &mut Context) -> bool {
        let (Some(session), true) = (self.session.clone(), self.is_to_be_asked()) else {
            return false;
        };
        let adopt = Adopt { session: session.id, call: self.sid };
        let adopt = match cx.config.has_peers {
            true => RelayRequest::TakeOver(TakeOver { adopt, step: self.sequence }),
            false => RelayRequest::Adopt(adopt),
        };
        cx.ask_relay(&session.relay, self.key, RelayStep::Adopt, adopt);
        true
    }

    pub(super) fn adoption_answered(&mut self, cx: &mut Context, outcome: Outcome) {
        if !self.is_to_be_asked() {
            return;
        }
        match outcome {
            Outcome::Adopted(legs) if self.has_legs(&legs) => self.adopted(cx, legs),
            Outcome::TakenOver(TakenOver { legs, step }) if self.has_legs(&legs) => {
                // What the region's other proxies wrote has lower numbers.
                self.sequence = self.sequence.max(step);
                self.adopted(cx, legs);
            }
            _ => self.not_adopted(cx),
        }
    }

    /// A call that ends, as of a transfer, wants its session closed and no more.
    fn has_legs(&self, made: &[(LegId, Vec<MediaFault>)]) -> bool {
        if self.ending.is_some() {
            return true;
        }
        let talking = [Some(A), self.winner];
        let mut legs = talking.into_iter().flatten().map(|leg| self.legs.get(leg));
        legs.all(|leg| leg.is_some_and(|leg| made.iter().any(|(id, _)| *id == leg.relay_leg)))
    }

    /// The media never stopped. What a change under way had made of it is taken
    /// back, and what went wrong meanwhile is heard now.
    fn adopted(&mut self, cx: &mut Context, legs: Vec<(LegId, Vec<MediaFault>)>) {
        let Some(restored) = self.restored.as_mut() else { return };
        restored.adoption = Adoption::Done;
        let (was_up, has_moved) = (restored.was_up, restored.has_moved());
        let held = std::mem::take(&mut restored.held);
        if let Some(session) = &mut self.session {
            session.incarnation = cx.relays.incarnation(&session.relay);
            for media in self.legs.iter_mut().filter_map(|leg| leg.media.as_mut()) {
                let rtp = media.local.as_ref().map(|local| local.rtp);
                media.stream = rtp.and_then(|it| cx.relays.stream_beside(&session.relay, it));
            }
        }
        if cx.config.has_peers {
            self.record_taken_over(cx);
        }
        if self.ending.is_some() {
            self.drop_held(cx, held);
            return self.close_session(cx);
        }
        for (id, faults) in legs {
            if self.legs.iter().all(|leg| leg.relay_leg != id) {
                self.give_back(cx, id);
                continue;
            }
            for fault in faults {
                if let Some(session) = self.session.as_ref().map(|it| it.id) {
                    let event = landline_control::Event::Fault(id, fault);
                    self.media_event(cx, session, event);
                }
            }
        }
        if self.ending.is_some() {
            return self.drop_held(cx, held);
        }
        self.settle_music(cx);
        if has_moved {
            self.tell_contact(cx);
        }
        if !was_up && self.started.is_some() {
            self.align(cx, A);
        }
        for (leg, key, request) in held {
            self.modify(cx, leg, key, request);
        }
    }

    pub(super) fn drop_held(&self, cx: &mut Context, held: Vec<(usize, ServerKey, Request)>) {
        for (_, key, request) in held {
            self.gone(cx, key, &request);
        }
    }

    /// Where no relay has the session any more, how long the call lasted gives the
    /// number that no former owner has used. Where one has, its word counts alone:
    /// after a wall clock that went wrong no later owner would come up to it.
    pub(super) fn number_by_time(&mut self, cx: &Context) {
        let lasted = self.now(cx).0.saturating_sub(self.opened_at.0).max(0);
        let lasted = u32::try_from(lasted).unwrap_or(LAST_JUMP).min(LAST_JUMP);
        self.sequence = self.sequence.max(lasted);
    }

    /// The record says that the call is ours now, under a number that no former
    /// owner has used or is going to use.
    pub(super) fn record_taken_over(&mut self, cx: &mut Context) {
        let proxy = cx.config.proxy.clone();
        self.journal(cx, Step::TakenOver { proxy });
        self.keep(cx);
    }

    /// Another proxy has adopted the session: the call is that one's, with its
    /// record, and nobody is told anything. Gives what it takes to have it back.
    pub(crate) fn taken(&mut self, cx: &mut Context) -> Option<Snapshot> {
        if self.is_closed() {
            return None;
        }
        cx.counters.calls_taken += 1;
        self.drop_modification(cx);
        self.drop_move(cx);
        self.drop_passes(cx);
        let snapshot = self.snapshot(cx).filter(|_| self.ending.is_none());
        self.drop_transfer(cx);
        // Who hung up here is not kept waiting, nor who rings or takes it here: it
        // rings again where it is now.
        self.say_farewell(cx);
        self.ring_no_more(cx, None);
        self.phase = Phase::Closed;
        if let Some(session) = self.session.take() {
            cx.relays.end(&session.relay, session.id);
        }
        cx.usage.remove(self.account.sid, self.caller.sid());
        self.forget();
        cx.out.push_back(Output::Forget(self.sid));
        cx.log(Log::CallTaken { call: self.sid });
        snapshot
    }

    /// A 2xx to an INVITE of a former process: that one's ACK may have been
    /// lost with it.
    pub(crate) fn acknowledge_again(&mut self, cx: &mut Context, leg: usize, said: &Response) {
        let Some(it) = self.legs.get_mut(leg).filter(|_| self.restored.is_some()) else { return };
        let (Some(dialog), Ok(cseq)) = (&it.dialog, said.cseq()) else { return };
        let is_same = said.call_id().is_ok_and(|id| id == *dialog.call_id())
            && said.to().is_ok_and(|to| to.tag() == dialog.remote().tag());
        if is_same {
            let ack = dialog.ack(cseq.number);
            if let Some(destination) = it.destination(cx) {
                cx.send_ack(ack, destination);
            }
        }
    }
}

/// Another proxy's flow as one of ours: a datagram leaves by any socket, a
/// connection that another process has is none.
fn relocate_flow(cx: &Context, flow: &mut Flow) {
    if flow.transport.is_reliable() {
        flow.id = ELSEWHERE;
        return;
    }
    let same = |it: &&LocalAddress| {
        it.transport == flow.transport && it.local.is_ipv4() == flow.remote.is_ipv4()
    };
    let own = cx.config.addresses.iter().filter(same);
    if let Some(own) = own.max_by_key(|it| it.local == flow.local) {
        flow.local = own.local;
    }
}

/// The way back that an INVITE's Via tells (RFC 3581 §4), by a listener of ours.
fn flow_of(cx: &Context, invite: &Request) -> Option<Flow> {
    let via = invite.top_via().ok()?;
    let remote = std::net::SocketAddr::new(via.received()?, via.rport()??);
    let mut own = cx.config.addresses.iter().filter(|it| it.transport == Transport::Udp);
    let own = own.find(|it| it.local.is_ipv4() == remote.is_ipv4())?;
    Some(Flow { id: FlowId(0), transport: Transport::Udp, local: own.local, remote, peer: None })
}
