//! Client transactions: RFC 3261 §17.1 with RFC 6026, one attempt after the
//! other over the targets of RFC 3263.
//!
//! Each attempt has its own branch, which carries the slot it lives in, so that
//! a response finds its transaction without a look-up table; 64 random bits
//! beside it keep others from finding it.

mod attempt;
mod cancel;
mod receive;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;

use super::candidates::{self, Candidate, Located};
use super::key::Key;
use super::timer::TimerId;
use crate::endpoint::context::{Context, MAGIC_COOKIE};
use crate::endpoint::{ClientKey, Event, FailureCause, Output};
use crate::flow::{Destination, FlowId, SendTo, Target};
use crate::{HeaderName, Method, Request};

/// Forks of one INVITE whose 2xx are passed up; a B2BUA hangs up on all but one.
const MAX_FORKS: usize = 32;

#[derive(Default)]
pub(crate) struct Clients {
    slab: Slab<Client>,
    by_key: FxHashMap<ClientKey, usize>,
    /// From a 2xx we passed up to the INVITE it answered, for its ACK.
    acks: FxHashMap<Key, usize>,
    /// Attempts bound to one connection, to fail with it.
    by_flow: FxHashMap<FlowId, FxHashSet<usize>>,
}

struct Client {
    /// Nobody listens to a CANCEL, nor to an attempt that was given up.
    key: Option<ClientKey>,
    nonce: u64,
    method: Method,
    state: State,
    /// Where the current attempt goes; `None` before the first.
    to: Option<SendTo>,
    /// What a retransmission sends: the request, or the ACK to a non-2xx.
    wire: Bytes,
    /// With our Via on top, as long as an ACK, a CANCEL or another attempt may
    /// have to be made of it.
    request: Option<Box<Request>>,
    candidates: VecDeque<Candidate>,
    interval: Duration,
    retransmit: Option<TimerId>,
    expire: Option<TimerId>,
    /// For INVITE alone.
    invite: Option<Box<Invite>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing sent: the targets are being looked up.
    Resolving,
    /// Called Calling for INVITE.
    Trying,
    Proceeding,
    Completed,
    /// RFC 6026 §7.2: a 2xx came, more of them may.
    Accepted,
}

#[derive(Default)]
struct Invite {
    cancel: Cancel,
    forks: Vec<Fork>,
}

#[derive(Default)]
enum Cancel {
    #[default]
    No,
    /// Waiting for a provisional response, RFC 3261 §9.1.
    Wanted(Option<String>),
    /// Its transaction shares our branch and therefore our nonce.
    Sent { slot: usize },
}

/// One 2xx passed up, and the ACK that was sent for it.
struct Fork {
    key: Key,
    ack: Option<(SendTo, Bytes)>,
}

impl Clients {
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn start(
        &mut self,
        cx: &mut Context,
        now: Instant,
        key: ClientKey,
        mut request: Request,
        destination: Destination,
    ) {
        let in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
        let has_own = !matches!(request.method, Method::Ack | Method::Cancel);
        let is_free = key.0 < ClientKey::RESERVED && !self.by_key.contains_key(&key);
        if !has_own || !is_free || !cx.has_room(in_dialog) {
            cx.counters.refused_requests += 1;
            return cx.event(Event::ClientFailed { key, cause: FailureCause::Refused });
        }
        complete_headers(cx, &mut request);
        let slot = self.insert(cx, Client::new(Some(key), request));
        self.by_key.insert(key, slot);
        match candidates::locate(destination) {
            Located::At(candidates) => self.begin(cx, now, slot, candidates),
            Located::LookUp(uri) => {
                cx.output(Output::Resolve { key, uri });
                self.expire_after(cx, now, slot, cx.config.lifetime());
            }
        }
    }

    pub fn resolved(
        &mut self,
        cx: &mut Context,
        now: Instant,
        key: ClientKey,
        targets: Vec<Target>,
    ) {
        match self.by_key.get(&key).copied() {
            Some(slot) if self.state(slot) == Some(State::Resolving) => {
                if targets.is_empty() {
                    return self.fail(cx, slot, FailureCause::NotResolved);
                }
                self.begin(cx, now, slot, candidates::found(targets));
            }
            _ => cx.counters.late_inputs += 1,
        }
    }

    pub fn send_failed(&mut self, cx: &mut Context, now: Instant, key: ClientKey, to: &SendTo) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        // A late report of an attempt already given up says nothing of this one.
        let is_current = self.slab.get(slot).is_some_and(|client| client.to.as_ref() == Some(to));
        if is_current {
            self.attempt_failed(cx, now, slot, FailureCause::Transport);
        }
    }

    pub fn flow_closed(&mut self, cx: &mut Context, now: Instant, flow: FlowId) {
        let slots: Vec<usize> = self.by_flow.remove(&flow).into_iter().flatten().collect();
        for slot in slots {
            self.attempt_failed(cx, now, slot, FailureCause::Transport);
        }
    }

    /// Timers A and E.
    pub fn retransmit(&mut self, cx: &mut Context, now: Instant, slot: usize) {
        let Some(client) = self.slab.get_mut(slot) else { return };
        let Some(to) = client.to.clone() else { return };
        cx.resend(to, client.wire.clone(), client.key);
        client.interval = match (&client.method, client.state) {
            (Method::Invite, _) => client.interval * 2,
            (_, State::Proceeding) => cx.config.t2,
            _ => (client.interval * 2).min(cx.config.t2),
        };
        client.retransmit =
            Some(cx.timers.arm(now + client.interval, Client::retransmit_timer(slot)));
    }

    /// Timers B, D, F, K and M.
    pub fn expired(&mut self, cx: &mut Context, now: Instant, slot: usize) {
        match self.state(slot) {
            Some(State::Resolving) => self.fail(cx, slot, FailureCause::NotResolved),
            Some(State::Trying) => self.attempt_failed(cx, now, slot, FailureCause::Timeout),
            Some(State::Proceeding) => self.fail(cx, slot, FailureCause::Timeout),
            Some(State::Completed | State::Accepted) => self.remove(cx, slot),
            None => {}
        }
    }

    /// Keeps the ACK to a 2xx with its INVITE, to answer retransmissions of
    /// that 2xx with.
    pub fn remember_ack(&mut self, key: Key, to: &SendTo, bytes: &Bytes) {
        let fork = self
            .acks
            .get(&key)
            .and_then(|slot| self.slab.get_mut(*slot))
            .and_then(|client| client.invite.as_mut())
            .and_then(|invite| invite.forks.iter_mut().find(|fork| fork.key == key));
        if let Some(fork) = fork {
            fork.ack = Some((to.clone(), bytes.clone()));
        }
    }

    fn state(&self, slot: usize) -> Option<State> {
        self.slab.get(slot).map(|client| client.state)
    }

    fn insert(&mut self, cx: &mut Context, client: Client) -> usize {
        cx.alive += 1;
        self.slab.insert(client)
    }

    /// Ends a transaction without a final response.
    fn fail(&mut self, cx: &mut Context, slot: usize, cause: FailureCause) {
        let Some(client) = self.slab.get(slot) else { return };
        if cause == FailureCause::Timeout {
            cx.counters.client_timeouts += 1;
        }
        if let Some(key) = client.key {
            cx.event(Event::ClientFailed { key, cause });
        }
        self.remove(cx, slot);
    }

    fn remove(&mut self, cx: &mut Context, slot: usize) {
        let Some(mut client) = self.slab.try_remove(slot) else { return };
        cx.alive -= 1;
        cx.timers.cancel(&mut client.retransmit);
        cx.timers.cancel(&mut client.expire);
        if let Some(key) = client.key {
            self.by_key.remove(&key);
        }
        self.unbind(slot, client.to.as_ref());
        let Some(invite) = client.invite else { return };
        for fork in &invite.forks {
            self.acks.remove(&fork.key);
        }
        if let Cancel::Sent { slot } = invite.cancel
            && self.slab.get(slot).is_some_and(|cancel| cancel.nonce == client.nonce)
        {
            self.remove(cx, slot);
        }
    }

    fn bind(&mut self, slot: usize, to: &SendTo) {
        if let SendTo::Flow(flow) = to
            && flow.transport.is_reliable()
        {
            self.by_flow.entry(flow.id).or_default().insert(slot);
        }
    }

    fn unbind(&mut self, slot: usize, to: Option<&SendTo>) {
        if let Some(SendTo::Flow(flow)) = to
            && let Some(slots) = self.by_flow.get_mut(&flow.id)
        {
            slots.remove(&slot);
            if slots.is_empty() {
                self.by_flow.remove(&flow.id);
            }
        }
    }

    fn expire_after(&mut self, cx: &mut Context, now: Instant, slot: usize, after: Duration) {
        if let Some(client) = self.slab.get_mut(slot) {
            cx.timers.cancel(&mut client.expire);
            client.expire = Some(cx.timers.arm(now + after, Client::expire_timer(slot)));
        }
    }
}

/// RFC 3261 §8.1.1: what every request has to carry.
fn complete_headers(cx: &Context, request: &mut Request) {
    if !request.headers.contains(&HeaderName::MaxForwards) {
        request.headers.push(HeaderName::MaxForwards, "70");
    }
    if let Some(user_agent) = &cx.config.user_agent
        && !request.headers.contains(&HeaderName::UserAgent)
    {
        request.headers.push(HeaderName::UserAgent, user_agent.as_str());
    }
}

/// The branch of the attempt in `slot`.
pub(super) fn branch(slot: usize, nonce: u64) -> String {
    format!("{MAGIC_COOKIE}{slot:x}.{nonce:016x}")
}

/// The slot and the nonce of a branch of ours.
fn parse_branch(branch: &str) -> Option<(usize, u64)> {
    let (slot, nonce) = branch.strip_prefix(MAGIC_COOKIE)?.split_once('.')?;
    Some((usize::from_str_radix(slot, 16).ok()?, u64::from_str_radix(nonce, 16).ok()?))
}
