//! Requests: to which transaction they belong, or a new one for them.

use std::time::Instant;

use super::{Invite, NewServer, Servers, State, TRYING_AFTER, resend};
use crate::endpoint::context::{Context, Timer};
use crate::endpoint::overload::Urgency;
use crate::endpoint::source::Route;
use crate::endpoint::{Event, ServerKey};
use crate::flow::Flow;
use crate::transaction::key::{self, Key, Rfc2543};
use crate::{HeaderError, HeaderName, Method, NameAddr, Request, Response, StatusCode, Via};

/// How long a peer should stay away when there is no room, in seconds: from
/// the first of these on for as many as the second, so that those refused
/// together do not come back together.
const RETRY_AFTER: (u64, u64) = (5, 10);

/// A request as the matching rules see it.
struct Arrival {
    flow: Flow,
    request: Request,
    via: Via,
    from: NameAddr,
    to: NameAddr,
    cseq: u32,
}

impl Servers {
    /// `request` has `received` and `rport` set in `via`, its top Via.
    pub fn receive(
        &mut self,
        cx: &mut Context,
        now: Instant,
        flow: Flow,
        request: Request,
        via: Via,
    ) -> Result<(), HeaderError> {
        let arrival = Arrival::new(flow, request, via)?;
        match arrival.request.method {
            Method::Ack => self.receive_ack(cx, now, arrival),
            Method::Cancel => self.receive_cancel(cx, now, arrival),
            _ => self.receive_request(cx, now, arrival),
        }
        Ok(())
    }

    fn receive_request(&mut self, cx: &mut Context, now: Instant, arrival: Arrival) {
        let key = arrival.key(cx, &arrival.request.method);
        if self.absorb(cx, key) {
            return;
        }
        let merge = arrival.merge_key(cx);
        if merge.is_some_and(|merge| self.merge.contains_key(&merge)) {
            cx.counters.merged_requests += 1;
            return reply(cx, &arrival, key, StatusCode::LOOP_DETECTED);
        }
        let in_dialog = arrival.to.tag().is_some();
        if !cx.has_room(in_dialog) {
            cx.counters.overload_answered += 1;
            return reply(cx, &arrival, key, StatusCode::SERVICE_UNAVAILABLE);
        }
        let numbers = &cx.config.emergency_numbers;
        let urgency = Urgency::of(&arrival.request, in_dialog, numbers);
        // By the key, so that each copy of one request meets the same fate.
        if cx.overload.refuses(urgency, (key >> 32) as u32) {
            cx.counters.shed += 1;
            return reply(cx, &arrival, key, StatusCode::SERVICE_UNAVAILABLE);
        }
        let (slot, server_key) = self.open(cx, key, merge, &arrival);
        if arrival.request.method == Method::Invite {
            let timer = cx.timers.arm(now + TRYING_AFTER, Timer::ServerTrying(slot));
            if let Some(invite) = self.slab.get_mut(slot).and_then(|s| s.invite.as_mut()) {
                invite.trying_timer = Some(timer);
            }
        } else {
            // Its sender gives up then (timer F), and RFC 4320 §4.2 forbids
            // answering any later.
            self.expire_after(cx, now, slot, cx.config.lifetime());
        }
        let Arrival { flow, request, .. } = arrival;
        cx.event(Event::Request { key: Some(server_key), flow, request });
    }

    /// A retransmission gets the last response again; one of an INVITE that was
    /// answered 2xx is absorbed, RFC 6026 §7.1.
    fn absorb(&mut self, cx: &mut Context, key: Key) -> bool {
        let Some(server) = self.by_key.get(&key).and_then(|slot| self.slab.get(*slot)) else {
            return false;
        };
        cx.counters.request_retransmissions += 1;
        if let Some(last) = &server.last
            && matches!(server.state, State::Proceeding | State::Completed)
        {
            resend(cx, server, last);
        }
        true
    }

    fn receive_ack(&mut self, cx: &mut Context, now: Instant, arrival: Arrival) {
        let slot = self.invite_of(cx, &arrival);
        match slot.and_then(|slot| self.slab.get_mut(slot).map(|server| (slot, server))) {
            Some((slot, server)) if server.state == State::Completed => {
                server.state = State::Confirmed;
                server.last = None;
                cx.timers.cancel(&mut server.retransmit);
                if server.is_reliable {
                    return self.remove(cx, slot);
                }
                self.expire_after(cx, now, slot, cx.config.t4);
            }
            Some((_, server)) if server.state != State::Accepted => cx.counters.stray_acks += 1,
            _ => self.receive_ack_to_success(cx, arrival),
        }
    }

    /// The ACK to a 2xx is a request of its own: it is matched by its dialog,
    /// and handed up as often as it comes, for a proxy has to pass it on.
    fn receive_ack_to_success(&mut self, cx: &mut Context, arrival: Arrival) {
        if let Some(ack) = key::ack_key(&cx.hash, &arrival.request)
            && let Some(slot) = self.acks.remove(&ack)
            && let Some(server) = self.slab.get_mut(slot)
        {
            let key = server.server_key(slot);
            if let Some(invite) = server.invite.as_deref_mut() {
                invite.successes.retain(|success| success.key != ack);
                if invite.successes.is_empty() {
                    cx.timers.cancel(&mut server.retransmit);
                    server.last = None;
                }
            }
            cx.event(Event::Acked { key });
        }
        let Arrival { flow, request, .. } = arrival;
        cx.event(Event::Request { key: None, flow, request });
    }

    /// RFC 3261 §9.2: answered here; what becomes of the INVITE is for the
    /// transaction user to say.
    fn receive_cancel(&mut self, cx: &mut Context, now: Instant, arrival: Arrival) {
        let key = arrival.key(cx, &Method::Cancel);
        if self.absorb(cx, key) {
            return;
        }
        let Some(slot) = self.invite_of(cx, &arrival) else {
            cx.counters.stray_cancels += 1;
            return reply(cx, &arrival, key, StatusCode::CALL_DOES_NOT_EXIST);
        };
        let Some(server) = self.slab.get_mut(slot) else { return };
        let invite_key = server.server_key(slot);
        let is_open = server.state == State::Proceeding;
        let mut tag = stateless_tag(key);
        let mut is_new = false;
        if let Some(invite) = server.invite.as_deref_mut() {
            is_new = is_open && !std::mem::replace(&mut invite.is_cancelled, true);
            if let Some(own) = &invite.to_tag {
                tag = own.to_string();
            }
        }
        let response = cx.own_response(&arrival.request, StatusCode::OK, &tag);
        if cx.has_room(true) {
            let (_, own) = self.open(cx, key, None, &arrival);
            self.respond(cx, now, own, response);
        } else {
            send_reply(cx, &arrival, &response);
        }
        if is_new {
            cx.event(Event::Cancelled { key: invite_key });
        }
    }

    /// The INVITE transaction an ACK or a CANCEL speaks of. Senders without the
    /// cookie name it by our To tag too.
    fn invite_of(&self, cx: &Context, arrival: &Arrival) -> Option<usize> {
        let slot = *self.by_key.get(&arrival.key(cx, &Method::Invite))?;
        if arrival.via.rfc3261_branch().is_some() || arrival.request.method == Method::Cancel {
            return Some(slot);
        }
        let ours = self.slab.get(slot)?.invite.as_ref()?.to_tag.as_deref();
        (ours == arrival.to.tag()).then_some(slot)
    }

    fn open(
        &mut self,
        cx: &mut Context,
        key: Key,
        merge: Option<Key>,
        arrival: &Arrival,
    ) -> (usize, ServerKey) {
        let method = arrival.request.method.clone();
        let invite = (method == Method::Invite).then(|| {
            let trying = cx.own_response(&arrival.request, StatusCode::TRYING, "");
            Box::new(Invite {
                trying: trying.to_bytes(),
                trying_timer: None,
                is_cancelled: false,
                to_tag: None,
                successes: Default::default(),
            })
        });
        let new = NewServer {
            key,
            merge,
            method,
            flow: arrival.flow.id,
            is_reliable: arrival.flow.transport.is_reliable(),
            route: Route::new(&arrival.flow, &arrival.via, cx.config.force_rport),
            invite,
        };
        self.insert(cx, new)
    }
}

impl Arrival {
    fn new(flow: Flow, request: Request, via: Via) -> Result<Self, HeaderError> {
        let (from, to) = (request.from()?, request.to()?);
        let cseq = request.cseq()?.number;
        Ok(Self { flow, request, via, from, to, cseq })
    }

    fn sender_tag(&self) -> &str {
        self.from.tag().unwrap_or_default()
    }

    /// RFC 3261 §17.2.3, as if the request's method were `method`.
    fn key(&self, cx: &Context, method: &Method) -> Key {
        if let Some(branch) = self.via.rfc3261_branch() {
            return cx.hash.branch(branch, &self.via.host, self.via.port, method.as_str());
        }
        let is_invite = *method == Method::Invite || *method == Method::Cancel;
        let to_tag = self.to.tag().filter(|_| !is_invite);
        let call_id = self.request.headers.get(&HeaderName::CallId);
        cx.hash.rfc2543(&Rfc2543 {
            method: method.as_str(),
            uri: &self.request.uri.to_string(),
            to_tag: to_tag.unwrap_or_default(),
            from_tag: self.sender_tag(),
            call_id: call_id.map_or(b"", |id| id.as_bytes()),
            cseq: self.cseq,
            via_transport: self.flow.transport,
            via_host: &self.via.host,
            via_port: self.via.port,
            via_branch: self.via.branch().unwrap_or_default(),
        })
    }

    /// RFC 3261 §8.2.2.2: for requests outside dialogs.
    fn merge_key(&self, cx: &Context) -> Option<Key> {
        if self.to.tag().is_some() {
            return None;
        }
        Some(cx.hash.merge(&self.request, self.sender_tag(), self.cseq))
    }
}

/// Answers without keeping anything.
fn reply(cx: &mut Context, arrival: &Arrival, key: Key, status: StatusCode) {
    let mut response = cx.own_response(&arrival.request, status, &stateless_tag(key));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let (least, spread) = RETRY_AFTER;
        let seconds = least + key as u64 % spread;
        response.headers.push(HeaderName::RetryAfter, seconds.to_string());
    }
    send_reply(cx, arrival, &response);
}

fn send_reply(cx: &mut Context, arrival: &Arrival, response: &Response) {
    let route = Route::new(&arrival.flow, &arrival.via, cx.config.force_rport);
    cx.send(route.to, response.to_bytes(), None);
}

/// The same To tag for every retransmission of one request, RFC 3261 §8.2.7.
fn stateless_tag(key: Key) -> String {
    format!("{:016x}", key as u64)
}
