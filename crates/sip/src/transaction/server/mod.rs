//! Server transactions: RFC 3261 §17.2 with RFC 6026 §7.1.

mod receive;
mod respond;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use smallvec::SmallVec;

use super::key::Key;
use super::timer::TimerId;
use crate::Method;
use crate::endpoint::context::{Context, Timer};
use crate::endpoint::source::Route;
use crate::endpoint::{Event, ServerKey};
use crate::flow::{FlowId, SendTo};

/// An INVITE nobody has answered by then gets its 100, RFC 3261 §17.2.1.
const TRYING_AFTER: Duration = Duration::from_millis(200);

/// 2xx of one INVITE retransmitted at once: a proxy passes those of all forks.
const MAX_PENDING_SUCCESSES: usize = 16;

#[derive(Default)]
pub(crate) struct Servers {
    slab: Slab<Server>,
    by_key: FxHashMap<Key, usize>,
    /// Requests outside dialogs, by what a second copy would share, §8.2.2.2.
    merge: FxHashMap<Key, usize>,
    /// From a 2xx that waits for its ACK to the INVITE it answered.
    acks: FxHashMap<Key, usize>,
    by_flow: FxHashMap<FlowId, FxHashSet<usize>>,
    generation: u32,
}

struct Server {
    generation: u32,
    key: Key,
    merge: Option<Key>,
    is_invite: bool,
    state: State,
    to: Option<SendTo>,
    fallback: Option<Box<SendTo>>,
    flow: FlowId,
    is_reliable: bool,
    /// The last response, for retransmissions of the request.
    last: Option<Bytes>,
    interval: Duration,
    retransmit: Option<TimerId>,
    expire: Option<TimerId>,
    invite: Option<Box<Invite>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Of a non-INVITE: nothing answered yet.
    Trying,
    Proceeding,
    Completed,
    /// The ACK to a non-2xx has come.
    Confirmed,
    /// RFC 6026: a 2xx has been sent.
    Accepted,
}

struct Invite {
    /// The 100, written while the request was at hand.
    trying: Bytes,
    trying_timer: Option<TimerId>,
    is_cancelled: bool,
    /// Of our responses, for the CANCEL's and to know an RFC 2543 ACK.
    to_tag: Option<Box<str>>,
    /// 2xx not acknowledged yet.
    successes: SmallVec<[Success; 1]>,
}

struct Success {
    key: Key,
    bytes: Bytes,
}

impl Server {
    fn route(&self) -> Option<&SendTo> {
        self.to.as_ref().or(self.fallback.as_deref())
    }

    fn server_key(&self, slot: usize) -> ServerKey {
        ServerKey((u64::from(self.generation) << 32) | slot as u64)
    }
}

impl Servers {
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// The connection is gone: responses still to be sent go by RFC 3261
    /// §18.2.2, where the sender can be reached that way.
    pub fn flow_closed(&mut self, flow: FlowId) {
        for slot in self.by_flow.remove(&flow).into_iter().flatten() {
            if let Some(server) = self.slab.get_mut(slot) {
                server.to = None;
            }
        }
    }

    /// Timer G, and the retransmissions of 2xx, RFC 3261 §13.3.1.4.
    pub fn retransmit(&mut self, cx: &mut Context, now: Instant, slot: usize) {
        let Some(server) = self.slab.get_mut(slot) else { return };
        match (server.state, &server.invite) {
            (State::Accepted, Some(invite)) => {
                for success in &invite.successes {
                    resend(cx, server, &success.bytes);
                }
            }
            (State::Completed, _) => {
                if let Some(last) = &server.last {
                    resend(cx, server, last);
                }
            }
            _ => return,
        }
        server.interval = (server.interval * 2).min(cx.config.t2);
        server.retransmit =
            Some(cx.timers.arm(now + server.interval, Timer::ServerRetransmit(slot)));
    }

    pub fn trying(&mut self, cx: &mut Context, slot: usize) {
        let Some(server) = self.slab.get_mut(slot) else { return };
        let Some(invite) = &server.invite else { return };
        if server.state == State::Proceeding && server.last.is_none() {
            server.last = Some(invite.trying.clone());
            send(cx, server, &invite.trying);
        }
    }

    /// Timers H, I, J and L, and the end of a request nobody answered.
    pub fn expired(&mut self, cx: &mut Context, slot: usize) {
        let Some(server) = self.slab.get(slot) else { return };
        let unacked = server.invite.as_ref().is_some_and(|invite| !invite.successes.is_empty());
        match server.state {
            State::Trying | State::Proceeding => cx.counters.unanswered_requests += 1,
            State::Completed if server.is_invite => cx.counters.missing_acks += 1,
            State::Accepted if unacked => {
                cx.counters.missing_acks += 1;
                cx.event(Event::AckTimeout { key: server.server_key(slot) });
            }
            _ => {}
        }
        self.remove(cx, slot);
    }

    fn insert(&mut self, cx: &mut Context, new: NewServer) -> (usize, ServerKey) {
        cx.alive += 1;
        self.generation = self.generation.wrapping_add(1);
        let NewServer { key, merge, method, flow, is_reliable, route, invite } = new;
        let is_invite = method == Method::Invite;
        let server = Server {
            generation: self.generation,
            key,
            merge,
            is_invite,
            state: if is_invite { State::Proceeding } else { State::Trying },
            to: Some(route.to),
            fallback: route.fallback.map(Box::new),
            flow,
            is_reliable,
            last: None,
            interval: cx.config.t1,
            retransmit: None,
            expire: None,
            invite,
        };
        let slot = self.slab.insert(server);
        self.by_key.insert(key, slot);
        if let Some(merge) = merge {
            self.merge.insert(merge, slot);
        }
        if is_reliable {
            self.by_flow.entry(flow).or_default().insert(slot);
        }
        (slot, ServerKey((u64::from(self.generation) << 32) | slot as u64))
    }

    fn remove(&mut self, cx: &mut Context, slot: usize) {
        let Some(mut server) = self.slab.try_remove(slot) else { return };
        cx.alive -= 1;
        cx.timers.cancel(&mut server.retransmit);
        cx.timers.cancel(&mut server.expire);
        self.by_key.remove(&server.key);
        if let Some(merge) = server.merge {
            self.merge.remove(&merge);
        }
        if let Some(invite) = &mut server.invite {
            cx.timers.cancel(&mut invite.trying_timer);
            for success in &invite.successes {
                self.acks.remove(&success.key);
            }
        }
        if server.is_reliable
            && let Some(slots) = self.by_flow.get_mut(&server.flow)
        {
            slots.remove(&slot);
            if slots.is_empty() {
                self.by_flow.remove(&server.flow);
            }
        }
    }

    fn expire_after(&mut self, cx: &mut Context, now: Instant, slot: usize, after: Duration) {
        if let Some(server) = self.slab.get_mut(slot) {
            cx.timers.cancel(&mut server.expire);
            server.expire = Some(cx.timers.arm(now + after, Timer::ServerExpire(slot)));
        }
    }
}

struct NewServer {
    key: Key,
    merge: Option<Key>,
    method: Method,
    flow: FlowId,
    is_reliable: bool,
    route: Route,
    invite: Option<Box<Invite>>,
}

fn send(cx: &mut Context, server: &Server, bytes: &Bytes) {
    match server.route() {
        Some(to) => cx.send(to.clone(), bytes.clone(), None),
        None => cx.counters.unroutable_responses += 1,
    }
}

fn resend(cx: &mut Context, server: &Server, bytes: &Bytes) {
    cx.counters.retransmissions_sent += 1;
    send(cx, server, bytes);
}
