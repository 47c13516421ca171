//! One attempt at one target, and the next one after it failed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Cancel, Client, Clients, Invite, State, branch};
use crate::endpoint::context::{Context, Timer};
use crate::endpoint::{ClientKey, FailureCause};
use crate::flow::SendTo;
use crate::transaction::candidates::Candidate;
use crate::{HeaderName, Method, Request};

impl Client {
    pub(super) fn new(key: Option<ClientKey>, request: Request) -> Self {
        let is_invite = request.method == Method::Invite;
        Self {
            key,
            nonce: 0,
            method: request.method.clone(),
            state: State::Resolving,
            to: None,
            wire: Bytes::new(),
            request: Some(Box::new(request)),
            candidates: VecDeque::new(),
            interval: Duration::ZERO,
            retransmit: None,
            expire: None,
            invite: is_invite.then(Box::<Invite>::default),
        }
    }

    pub(super) fn retransmit_timer(slot: usize) -> Timer {
        Timer::ClientRetransmit(slot)
    }

    pub(super) fn expire_timer(slot: usize) -> Timer {
        Timer::ClientExpire(slot)
    }

    pub(super) fn is_reliable(&self) -> bool {
        self.to.as_ref().is_some_and(|to| to.transport().is_reliable())
    }

    /// Whether another target may still be tried: not once it is cancelled.
    fn may_go_on(&self) -> bool {
        let is_cancelled =
            self.invite.as_ref().is_some_and(|invite| !matches!(invite.cancel, Cancel::No));
        !self.candidates.is_empty() && self.request.is_some() && !is_cancelled
    }
}

impl Clients {
    pub(super) fn begin(
        &mut self,
        cx: &mut Context,
        now: Instant,
        slot: usize,
        candidates: VecDeque<Candidate>,
    ) {
        if let Some(client) = self.slab.get_mut(slot) {
            client.candidates = candidates;
            self.launch(cx, now, slot);
        }
    }

    /// Sends the request to the next candidate under a branch of its own and
    /// arms timers A and B, or E and F.
    fn launch(&mut self, cx: &mut Context, now: Instant, slot: usize) {
        let Some(client) = self.slab.get_mut(slot) else { return };
        let (Some(request), Some(candidate)) =
            (client.request.as_deref_mut(), client.candidates.pop_front())
        else {
            return self.fail(cx, slot, FailureCause::Transport);
        };
        if client.to.is_some() {
            request.headers.remove_first_value(&HeaderName::Via);
        }
        client.nonce = cx.random();
        let branch = branch(slot, client.nonce);
        let (mut to, mut wire) = write(cx, request, &candidate.to, &branch);
        if let Some((tcp, fallback)) = candidate.instead_of_udp(wire.len()) {
            request.headers.remove_first_value(&HeaderName::Via);
            (to, wire) = write(cx, request, &tcp, &branch);
            client.candidates.push_front(fallback);
        }
        client.wire = wire.clone();
        client.state = State::Trying;
        if client.invite.is_none() && client.candidates.is_empty() {
            client.request = None;
        }
        cx.timers.cancel(&mut client.retransmit);
        cx.timers.cancel(&mut client.expire);
        client.interval = cx.config.t1;
        if !to.transport().is_reliable() {
            let timer = Client::retransmit_timer(slot);
            client.retransmit = Some(cx.timers.arm(now + client.interval, timer));
        }
        let timer = Client::expire_timer(slot);
        client.expire = Some(cx.timers.arm(now + cx.config.lifetime(), timer));
        let before = client.to.replace(to.clone());
        cx.send(to.clone(), wire, client.key);
        self.unbind(slot, before.as_ref());
        self.bind(slot, &to);
    }

    /// The attempt in `slot` came to nothing: no transport, or no response.
    pub(super) fn attempt_failed(
        &mut self,
        cx: &mut Context,
        now: Instant,
        slot: usize,
        cause: FailureCause,
    ) {
        let Some(client) = self.slab.get(slot) else { return };
        match client.state {
            State::Trying if client.may_go_on() => {
                cx.counters.failovers += 1;
                self.launch(cx, now, slot);
            }
            State::Trying | State::Proceeding => self.fail(cx, slot, cause),
            // What can no longer be heard has been heard, or is being looked up.
            State::Resolving | State::Completed | State::Accepted => {}
        }
    }

    /// RFC 3263 §4.3: a 503 sends the request to the next target. The attempt
    /// that got it stays behind to absorb what still comes of it. Returns
    /// whether there was a next target.
    pub(super) fn divert(&mut self, cx: &mut Context, now: Instant, slot: usize) -> bool {
        let Some(client) = self.slab.get_mut(slot) else { return false };
        if !client.may_go_on() {
            return false;
        }
        let Some(mut request) = client.request.take() else { return false };
        request.headers.remove_first_value(&HeaderName::Via);
        let key = client.key.take();
        let candidates = std::mem::take(&mut client.candidates);
        let next = self.insert(cx, Client::new(key, *request));
        if let Some(key) = key {
            self.by_key.insert(key, next);
        }
        cx.counters.failovers += 1;
        self.begin(cx, now, next, candidates);
        true
    }
}

fn write(cx: &Context, request: &mut Request, to: &SendTo, branch: &str) -> (SendTo, Bytes) {
    request.headers.push_front(HeaderName::Via, cx.via(to, branch));
    (to.clone(), request.to_bytes())
}
