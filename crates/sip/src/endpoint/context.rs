//! What every transaction needs of its endpoint: timers, outputs, names.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::endpoint::overload::Overload;
use crate::endpoint::{ClientKey, Counters, EndpointConfig, Event, Listener, Output};
use crate::flow::{Flow, SendTo};
use crate::transaction::key::KeyedHash;
use crate::transaction::timer::Timers;
use crate::{HeaderName, Request, Response, StatusCode, Transport};

/// RFC 3261 §8.1.1.7: a branch that starts so is unique.
pub(crate) const MAGIC_COOKIE: &str = "z9hG4bK";

/// Which transaction a timer belongs to, by its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A, E.
    ClientRetransmit(usize),
    /// B, D, F, K, M, and the end of waiting for a look-up or a cancelled INVITE.
    ClientExpire(usize),
    /// G, and the retransmissions of a 2xx.
    ServerRetransmit(usize),
    /// H, I, J, L, and the end of a request nobody answered.
    ServerExpire(usize),
    /// The 100 an INVITE gets after 200 ms.
    ServerTrying(usize),
    Forward(usize),
}

pub(crate) struct Context {
    pub config: EndpointConfig,
    pub timers: Timers<Timer>,
    pub counters: Counters,
    pub hash: KeyedHash,
    /// Transactions alive, client and server.
    pub alive: usize,
    pub overload: Overload,
    outputs: VecDeque<Output>,
    random: ChaCha12Rng,
    /// Sent-by of an endpoint without listeners, in the manner of RFC 7118 §5.
    anonymous: String,
}

impl Context {
    pub fn new(config: EndpointConfig, seed: [u8; 32], now: Instant) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        let hash = KeyedHash::new(random.next_u64(), random.next_u64());
        let anonymous = format!("{:012x}.invalid", random.next_u64() >> 16);
        Self {
            overload: Overload::new(config.longest_wait, now),
            config,
            timers: Timers::new(),
            counters: Counters::default(),
            hash,
            alive: 0,
            outputs: VecDeque::new(),
            random,
            anonymous,
        }
    }

    pub fn send(&mut self, to: SendTo, bytes: Bytes, key: Option<ClientKey>) {
        self.outputs.push_back(Output::Send { to, bytes, key });
    }

    pub fn resend(&mut self, to: SendTo, bytes: Bytes, key: Option<ClientKey>) {
        self.counters.retransmissions_sent += 1;
        self.send(to, bytes, key);
    }

    pub fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// Whether one more transaction fits; the last tenth is for requests
    /// inside dialogs.
    pub fn has_room(&self, in_dialog: bool) -> bool {
        let max = self.config.max_transactions;
        self.alive < if in_dialog { max } else { max - max / 10 }
    }

    /// The Via of a request of ours to `to`, asking for the port it comes from
    /// (RFC 3581 §3).
    pub fn via(&self, to: &SendTo, branch: &str) -> String {
        let transport = to.transport();
        let mut via = String::with_capacity(96);
        let _ = write!(via, "SIP/2.0/{transport} ");
        match self.listener(to, transport) {
            Some(Listener { advertised: (host, port), .. }) if is_bare_v6(host) => {
                let _ = write!(via, "[{host}]:{port}");
            }
            Some(Listener { advertised: (host, port), .. }) => {
                let _ = write!(via, "{host}:{port}");
            }
            None => via.push_str(&self.anonymous),
        }
        let _ = write!(via, ";branch={branch};rport");
        via
    }

    /// The listener peers should answer to: the one the flow belongs to, or
    /// the first of the same transport and address family.
    fn listener(&self, to: &SendTo, transport: Transport) -> Option<&Listener> {
        let listeners = || self.config.listeners.iter();
        if let SendTo::Flow(Flow { local, .. }) = to
            && let Some(exact) = listeners().find(|l| l.transport == transport && l.local == *local)
        {
            return Some(exact);
        }
        let ip = match to {
            SendTo::Flow(flow) => Some(flow.remote.ip()),
            SendTo::Address { addr, .. } => Some(addr.ip()),
            SendTo::Region { .. } => None,
        };
        let family = |listener: &&Listener| ip.is_none_or(|ip| same_family(ip, listener.local));
        listeners()
            .filter(|l| l.transport == transport)
            .find(family)
            .or_else(|| listeners().find(|l| l.transport == transport))
            .or_else(|| listeners().find(family))
    }

    /// A response the endpoint makes itself. `tag` is the To tag where the
    /// request has none: the same for a retransmission, RFC 3261 §8.2.7.
    pub fn own_response(&self, request: &Request, status: StatusCode, tag: &str) -> Response {
        let mut response = Response::for_request(request, status);
        if status != StatusCode::TRYING {
            response = response.with_to_tag(tag);
        }
        if let Some(server) = &self.config.server {
            response.headers.push(HeaderName::Server, server.as_str());
        }
        response
    }
}

fn same_family(ip: IpAddr, local: SocketAddr) -> bool {
    ip.is_ipv4() == local.is_ipv4()
}

fn is_bare_v6(host: &str) -> bool {
    host.contains(':') && !host.starts_with('[')
}
