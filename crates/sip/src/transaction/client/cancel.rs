//! CANCEL, RFC 3261 §9.1, and the ACK to a non-2xx, §17.1.1.3: the two requests
//! made out of an INVITE and sent under its branch.

use std::time::Instant;

use super::{Cancel, Client, Clients, State};
use crate::endpoint::context::Context;
use crate::endpoint::{ClientKey, FailureCause};
use crate::{HeaderName, Method, Request, Response};

impl Clients {
    pub fn cancel(
        &mut self,
        cx: &mut Context,
        now: Instant,
        key: ClientKey,
        reason: Option<String>,
    ) {
        let Some(slot) = self.by_key.get(&key).copied() else {
            cx.counters.late_inputs += 1;
            return;
        };
        let Some(client) = self.slab.get_mut(slot) else { return };
        let Some(invite) = client.invite.as_deref_mut() else {
            cx.counters.refused_requests += 1;
            return;
        };
        match (client.state, &invite.cancel) {
            (State::Resolving, _) => self.fail(cx, slot, FailureCause::Cancelled),
            (State::Trying | State::Proceeding, Cancel::No) => {
                invite.cancel = Cancel::Wanted(reason);
                self.send_cancel_if_wanted(cx, now, slot);
            }
            _ => {}
        }
    }

    /// Sends the CANCEL once the INVITE is known to have arrived, and gives the
    /// final response 64·T1 to come.
    pub(super) fn send_cancel_if_wanted(&mut self, cx: &mut Context, now: Instant, slot: usize) {
        let Some(client) = self.slab.get_mut(slot) else { return };
        let (Some(invite), Some(to)) = (client.invite.as_deref_mut(), client.to.clone()) else {
            return;
        };
        if client.state != State::Proceeding {
            return;
        }
        let Cancel::Wanted(reason) = &mut invite.cancel else { return };
        let reason = reason.take();
        let Some(request) = client.request.as_deref() else { return };
        let request = cancel(request, reason);
        let wire = request.to_bytes();
        let nonce = client.nonce;
        let mut own = Client::new(None, request);
        own.request = None;
        own.nonce = nonce;
        own.state = State::Trying;
        own.interval = cx.config.t1;
        own.wire = wire.clone();
        own.to = Some(to.clone());
        let own_slot = self.insert(cx, own);
        if let Some(own) = self.slab.get_mut(own_slot)
            && !own.is_reliable()
        {
            let timer = Client::retransmit_timer(own_slot);
            own.retransmit = Some(cx.timers.arm(now + own.interval, timer));
        }
        cx.send(to, wire, None);
        if let Some(invite) = self.slab.get_mut(slot).and_then(|client| client.invite.as_mut()) {
            invite.cancel = Cancel::Sent { slot: own_slot };
        }
        self.expire_after(cx, now, own_slot, cx.config.lifetime());
        self.expire_after(cx, now, slot, cx.config.lifetime());
    }
}

fn cancel(invite: &Request, reason: Option<String>) -> Request {
    let mut request = sibling(invite, Method::Cancel);
    if let Some(to) = invite.headers.get(&HeaderName::To) {
        request.headers.push(HeaderName::To, to.clone());
    }
    if let Some(reason) = reason {
        request.headers.push(HeaderName::Reason, reason);
    }
    request
}

/// The To is the response's: its tag tells which fork is acknowledged.
pub(super) fn ack_to_failure(invite: &Request, response: &Response) -> Request {
    let mut request = sibling(invite, Method::Ack);
    if let Some(to) = response.headers.get(&HeaderName::To) {
        request.headers.push(HeaderName::To, to.clone());
    }
    request
}

/// What both share with their INVITE: the URI, the top Via alone, Route, From,
/// Call-ID and the CSeq number.
fn sibling(invite: &Request, method: Method) -> Request {
    let mut request = Request::new(method.clone(), invite.uri.clone());
    if let Some(via) = invite.headers.values(&HeaderName::Via).next() {
        request.headers.push(HeaderName::Via, via);
    }
    request.headers.push(HeaderName::MaxForwards, "70");
    for name in [HeaderName::Route, HeaderName::From, HeaderName::CallId] {
        for value in invite.headers.all(&name) {
            request.headers.push(name.clone(), value.clone());
        }
    }
    if let Ok(cseq) = invite.cseq() {
        request.headers.push(HeaderName::CSeq, format!("{} {method}", cseq.number));
    }
    request
}
