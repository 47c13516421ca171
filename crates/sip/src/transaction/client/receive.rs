//! Responses, RFC 3261 §17.1.1.2, §17.1.2.2 and RFC 6026 §7.2.

use std::time::Instant;

use super::cancel::ack_to_failure;
use super::{Cancel, Client, Clients, Fork, MAX_FORKS, State, parse_branch};
use crate::endpoint::Event;
use crate::endpoint::context::Context;
use crate::transaction::key;
use crate::{HeaderName, Method, Response, StatusCode};

impl Clients {
    pub fn receive(&mut self, cx: &mut Context, now: Instant, mut response: Response) {
        let Some(slot) = self.find(&response) else {
            cx.counters.stray_responses += 1;
            let is_invite = response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
            if is_invite && response.status.is_success() {
                cx.event(Event::StrayAnswer { response });
            }
            return;
        };
        response.headers.remove_first_value(&HeaderName::Via);
        match self.slab.get(slot) {
            Some(client) if client.invite.is_some() => {
                self.receive_for_invite(cx, now, slot, response)
            }
            _ => self.receive_for_other(cx, now, slot, response),
        }
    }

    /// RFC 3261 §17.1.3: the branch and the CSeq method, which tells a CANCEL
    /// from its INVITE.
    fn find(&self, response: &Response) -> Option<usize> {
        let via = response.top_via().ok()?;
        let (slot, nonce) = parse_branch(via.branch()?)?;
        let method = response.cseq().ok()?.method;
        let client = self.slab.get(slot).filter(|client| client.nonce == nonce)?;
        if client.method == method {
            return Some(slot);
        }
        match client.invite.as_deref()?.cancel {
            Cancel::Sent { slot } if method == Method::Cancel => self
                .slab
                .get(slot)
                .is_some_and(|cancel| cancel.nonce == nonce && cancel.method == method)
                .then_some(slot),
            _ => None,
        }
    }

    fn receive_for_invite(
        &mut self,
        cx: &mut Context,
        now: Instant,
        slot: usize,
        response: Response,
    ) {
        let Some(client) = self.slab.get_mut(slot) else { return };
        let status = response.status;
        match client.state {
            State::Trying | State::Proceeding if status.is_provisional() => {
                let is_first = client.state == State::Trying;
                client.state = State::Proceeding;
                if is_first {
                    cx.timers.cancel(&mut client.retransmit);
                    cx.timers.cancel(&mut client.expire);
                }
                pass_up(cx, client, response);
                self.send_cancel_if_wanted(cx, now, slot);
            }
            State::Trying | State::Proceeding if status.is_success() => {
                cx.timers.cancel(&mut client.retransmit);
                client.state = State::Accepted;
                client.request = None;
                self.expire_after(cx, now, slot, cx.config.lifetime());
                self.receive_success(cx, slot, response);
            }
            State::Accepted if status.is_success() => self.receive_success(cx, slot, response),
            State::Trying | State::Proceeding => self.receive_failure(cx, now, slot, response),
            State::Completed if status.class() >= 3 => {
                cx.counters.response_retransmissions += 1;
                if let Some(to) = client.to.clone() {
                    cx.resend(to, client.wire.clone(), None);
                }
            }
            _ => cx.counters.stray_responses += 1,
        }
    }

    /// A 2xx: new for each fork, or sent again because our ACK got lost.
    fn receive_success(&mut self, cx: &mut Context, slot: usize, response: Response) {
        let Some(client) = self.slab.get_mut(slot) else { return };
        let Some(invite) = client.invite.as_deref_mut() else { return };
        let Some(key) = key::success_key(&cx.hash, &response) else {
            cx.counters.stray_responses += 1;
            return;
        };
        if let Some(fork) = invite.forks.iter().find(|fork| fork.key == key) {
            cx.counters.response_retransmissions += 1;
            if let Some((to, bytes)) = fork.ack.clone() {
                cx.resend(to, bytes, None);
            }
            return;
        }
        if invite.forks.len() >= MAX_FORKS {
            cx.counters.forks_dropped += 1;
            return;
        }
        invite.forks.push(Fork { key, ack: None });
        pass_up(cx, client, response);
        self.acks.insert(key, slot);
    }

    /// A final non-2xx to an INVITE is acknowledged here, §17.1.1.3.
    fn receive_failure(&mut self, cx: &mut Context, now: Instant, slot: usize, response: Response) {
        let Some(client) = self.slab.get_mut(slot) else { return };
        cx.timers.cancel(&mut client.retransmit);
        client.state = State::Completed;
        if let (Some(request), Some(to)) = (client.request.as_deref(), client.to.clone()) {
            client.wire = ack_to_failure(request, &response).to_bytes();
            cx.send(to, client.wire.clone(), None);
        }
        self.finish(cx, now, slot, response, cx.config.lifetime());
    }

    fn receive_for_other(
        &mut self,
        cx: &mut Context,
        now: Instant,
        slot: usize,
        response: Response,
    ) {
        let Some(client) = self.slab.get_mut(slot) else { return };
        match client.state {
            State::Trying | State::Proceeding if response.status.is_provisional() => {
                client.state = State::Proceeding;
                pass_up(cx, client, response);
            }
            State::Trying | State::Proceeding => {
                cx.timers.cancel(&mut client.retransmit);
                client.state = State::Completed;
                self.finish(cx, now, slot, response, cx.config.t4);
            }
            _ => cx.counters.response_retransmissions += 1,
        }
    }

    /// Hands up a final response, or goes to the next target for a 503, and
    /// waits out retransmissions: timer D or K, zero over a reliable transport.
    fn finish(
        &mut self,
        cx: &mut Context,
        now: Instant,
        slot: usize,
        response: Response,
        linger: std::time::Duration,
    ) {
        let is_diverted =
            response.status == StatusCode::SERVICE_UNAVAILABLE && self.divert(cx, now, slot);
        let Some(client) = self.slab.get_mut(slot) else { return };
        if !is_diverted {
            pass_up(cx, client, response);
            if let Some(key) = client.key.take() {
                self.by_key.remove(&key);
            }
        }
        client.request = None;
        if client.is_reliable() {
            return self.remove(cx, slot);
        }
        self.expire_after(cx, now, slot, linger);
    }
}

fn pass_up(cx: &mut Context, client: &Client, response: Response) {
    if let Some(key) = client.key {
        cx.event(Event::Response { key, response });
    }
}
