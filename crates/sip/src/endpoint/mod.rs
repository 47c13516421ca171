//! One SIP endpoint: bytes and requests in, bytes and events out.
//!
//! The endpoint parses, matches, retransmits and times out, and answers by
//! itself what no transaction user has to see: malformed requests, CANCEL,
//! merged requests, overload, and the 100 of an INVITE nobody has answered
//! within 200 ms. Run it as every machine here: [`Endpoint::handle_input`] or
//! [`Endpoint::handle_timeout`], then [`Endpoint::poll_output`] until `None`,
//! then sleep until [`Endpoint::poll_timeout`].
//!
//! Two things keep their state only as long as the transaction user lets them:
//! an INVITE received stays until it is answered, and an INVITE sent and
//! answered provisionally stays until it is answered finally or cancelled.

mod config;
pub(crate) mod context;
mod counters;
mod io;
pub(crate) mod overload;
pub(crate) mod source;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use config::{EndpointConfig, Listener};
use context::{Context, Timer};
pub use counters::Counters;
pub use io::{ClientKey, Event, FailureCause, Input, Output, ServerKey};

use crate::flow::{Flow, SendTo};
use crate::transaction::client::Clients;
use crate::transaction::forward::Forwards;
use crate::transaction::server::Servers;
use crate::{HeaderError, HeaderName, Message, ParseError, Request};

pub struct Endpoint {
    cx: Context,
    clients: Clients,
    servers: Servers,
    forwards: Forwards,
    now: Instant,
}

impl Endpoint {
    pub fn new(config: EndpointConfig, seed: [u8; 32], now: Instant) -> Self {
        Self {
            cx: Context::new(config, seed, now),
            clients: Clients::default(),
            servers: Servers::default(),
            forwards: Forwards::default(),
            now,
        }
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        let now = self.now;
        match input {
            Input::Received { flow, bytes } => self.receive(now, flow, &bytes),
            Input::Request { key, request, destination } => {
                self.clients.start(&mut self.cx, now, key, request, destination);
            }
            Input::Forward { request, destination } => {
                let Self { cx, clients, forwards, .. } = self;
                forwards.start(cx, clients, now, request, destination);
            }
            Input::Cancel { key, reason } => self.clients.cancel(&mut self.cx, now, key, reason),
            Input::Respond { key, response } => {
                self.servers.respond(&mut self.cx, now, key, response);
            }
            Input::Resolved { key, targets } if key.0 >= ClientKey::RESERVED => {
                self.forwards.resolved(&mut self.cx, &mut self.clients, key, targets);
            }
            Input::Resolved { key, targets } => {
                self.clients.resolved(&mut self.cx, now, key, targets);
            }
            Input::SendFailed { key, to } => {
                self.cx.counters.sends_failed += 1;
                if let Some(key) = key {
                    self.clients.send_failed(&mut self.cx, now, key, &to);
                }
            }
            Input::FlowClosed(flow) => {
                self.clients.flow_closed(&mut self.cx, now, flow);
                self.servers.flow_closed(flow);
                self.cx.event(Event::FlowClosed(flow));
            }
        }
    }

    /// Fires every timer due at `now`. A clock that runs backwards is taken to
    /// stand still.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let (cx, now) = (&mut self.cx, self.now);
        while let Some(timer) = cx.timers.expired(now) {
            match timer {
                Timer::ClientRetransmit(slot) => self.clients.retransmit(cx, now, slot),
                Timer::ClientExpire(slot) => self.clients.expired(cx, now, slot),
                Timer::ServerRetransmit(slot) => self.servers.retransmit(cx, now, slot),
                Timer::ServerExpire(slot) => self.servers.expired(cx, slot),
                Timer::ServerTrying(slot) => self.servers.trying(cx, slot),
                Timer::Forward(number) => self.forwards.expired(cx, number),
            }
        }
    }

    /// Tells how long a message waited before it is given to
    /// [`Endpoint::handle_input`]: when messages keep waiting for too long, a
    /// part of the new requests is answered 503.
    pub fn message_waited(&mut self, now: Instant, wait: Duration) {
        self.cx.overload.waited(now, wait);
    }

    /// The part of new requests that is refused at present, 0 to 1.
    pub fn refused_part(&mut self, now: Instant) -> f64 {
        self.cx.overload.part(now)
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.poll_output()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.cx.timers.next()
    }

    pub fn counters(&self) -> &Counters {
        &self.cx.counters
    }

    /// Transactions alive and sends waiting for their look-up.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len() + self.forwards.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn receive(&mut self, now: Instant, flow: Flow, bytes: &Bytes) {
        match crate::parse(bytes, &self.cx.config.limits) {
            Ok(Message::Request(request)) => {
                self.cx.counters.requests += 1;
                if self.receive_request(now, flow, request).is_err() {
                    // The parser vouches for these headers.
                    *self.cx.counters.parse_errors.entry("header_value").or_default() += 1;
                }
            }
            Ok(Message::Response(response)) => {
                self.cx.counters.responses += 1;
                self.clients.receive(&mut self.cx, now, response);
            }
            Err(error) => self.refuse(flow, error),
        }
    }

    fn receive_request(
        &mut self,
        now: Instant,
        flow: Flow,
        mut request: Request,
    ) -> Result<(), HeaderError> {
        let via = source::note_source(&mut request, &flow, self.cx.config.force_rport)?;
        self.servers.receive(&mut self.cx, now, flow, request, via)
    }

    /// Answers a malformed request as well as its headers allow, without
    /// keeping anything of it.
    fn refuse(&mut self, flow: Flow, error: ParseError) {
        *self.cx.counters.parse_errors.entry(error.kind.name()).or_default() += 1;
        let Some(reply) = error.reply else { return };
        let mut response = reply.response();
        let via = response.top_via().ok();
        let to = match &via {
            Some(via) => {
                let via = source::with_source(via, &flow, self.cx.config.force_rport);
                response.headers.replace_first_value(&HeaderName::Via, &via);
                source::Route::new(&flow, &via, self.cx.config.force_rport).to
            }
            None => SendTo::Flow(flow),
        };
        self.cx.counters.malformed_answered += 1;
        self.cx.send(to, response.to_bytes(), None);
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("transactions", &self.len())
            .field("timers", &self.cx.timers.len())
            .finish_non_exhaustive()
    }
}
