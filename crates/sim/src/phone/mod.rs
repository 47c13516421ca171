//! A phone behind its NAT: a real endpoint, real media legs, and a person who
//! does what people do.

mod acts;
mod answers;
pub mod line;
pub mod nat;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_phone::MediaMode;
use landline_sip as sip;
use landline_sip::digest::{self, Challenge};
use landline_sip::{
    ClientKey, Destination, Endpoint, EndpointConfig, Event, Flow, FlowId, HeaderName, Listener,
    Method, NameAddr, Request, Response, Transport, Uri,
};

use crate::cx::{self, Cx, Node, phone_address, proxy_address};
use crate::tenants::{DOMAINS, NAMES, PASSWORD};
use line::{End, Line, Person};

/// What a phone or its owner does by and by.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    Register,
    KeepAlive,
    Dial,
    Ring(u64),
    Answer(u64),
    Refuse(u64, u16),
    Cancel(u64),
    HangUp(u64),
    Hold(u64, bool),
    /// Leaves the other one to whoever takes him.
    Park(u64),
    Speak(u64),
}

/// Why a request of ours was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Register,
    Invite(u64),
    Modify(u64),
    /// What comes of it is told otherwise, or nobody wants to know.
    Bye,
    Refer,
}

struct Pending {
    request: Request,
    purpose: Purpose,
    is_proven: bool,
}

pub struct Phone {
    pub number: usize,
    pub person: Person,
    pub proxy: usize,
    pub media: MediaMode,
    pub endpoint: Option<Endpoint>,
    pub lives: u64,
    pub lines: BTreeMap<u64, Line>,
    /// Calls that are over.
    pub history: Vec<Line>,
    pub is_registered: bool,
    pending: BTreeMap<ClientKey, Pending>,
    last_key: u64,
    cseq: u32,
    next_port: u16,
}

impl Phone {
    pub fn new(number: usize, person: Person, proxy: usize) -> Self {
        let media = match crate::tenants::media_of(person.1) {
            landline_call::tenancy::MediaPolicy::Sdes => MediaMode::Sdes,
            _ => MediaMode::Rtp,
        };
        Self {
            number,
            person,
            proxy,
            media,
            endpoint: None,
            lives: 0,
            lines: BTreeMap::new(),
            history: Vec::new(),
            is_registered: false,
            pending: BTreeMap::new(),
            last_key: 0,
            cseq: 0,
            next_port: 4000,
        }
    }

    pub fn user(&self) -> &'static str {
        NAMES[self.person.0][self.person.1]
    }

    fn domain(&self) -> &'static str {
        DOMAINS[self.person.0]
    }

    fn later(&self, cx: &mut Cx, pause: Duration, act: Act) {
        cx.after(pause, cx::Event::Phone(self.number, self.lives, act));
    }

    pub fn power_on(&mut self, cx: &mut Cx) {
        if self.endpoint.is_some() {
            return;
        }
        self.lives += 1;
        self.is_registered = false;
        let local = phone_address(self.number);
        let advertised = (local.ip().to_string(), local.port());
        let listener = Listener { transport: Transport::Udp, local, advertised };
        let config = EndpointConfig { listeners: vec![listener], ..EndpointConfig::default() };
        self.endpoint = Some(Endpoint::new(config, cx.chance.seed(), cx.instant()));
        cx.note(format_args!("phone {} is on", self.number));
        let pause = cx.chance.millis(0, 800);
        self.later(cx, pause, Act::Register);
        self.later(cx, Duration::from_secs(25), Act::KeepAlive);
        let pause = cx.chance.millis(2_000, 20_000);
        self.later(cx, pause, Act::Dial);
    }

    /// The battery is empty, in the middle of whatever it was.
    pub fn power_off(&mut self, cx: &mut Cx) {
        self.endpoint = None;
        self.lives += 1;
        self.pending.clear();
        for (_, mut line) in std::mem::take(&mut self.lines) {
            line.over(cx.at(), End::Died);
            self.history.push(line);
        }
        cx.remark(format_args!("phone {} is off", self.number));
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.endpoint.as_ref()?.poll_timeout()
    }

    pub fn handle_timeout(&mut self, cx: &mut Cx) {
        let now = cx.instant();
        if let Some(endpoint) = &mut self.endpoint
            && endpoint.poll_timeout().is_some_and(|at| at <= now)
        {
            endpoint.handle_timeout(now);
            self.drain(cx);
        }
    }

    /// A datagram that its NAT let in.
    pub fn packet(&mut self, cx: &mut Cx, from: SocketAddr, to: SocketAddr, octets: Vec<u8>) {
        if to.port() != phone_address(self.number).port() {
            return self.hear(cx, from, to.port(), &octets);
        }
        let local = phone_address(self.number);
        let id = FlowId(0);
        let flow = Flow { id, transport: Transport::Udp, local, remote: from, peer: None };
        self.sip(cx, sip::Input::Received { flow, bytes: Bytes::from(octets) });
    }

    fn sip(&mut self, cx: &mut Cx, input: sip::Input) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.handle_input(cx.instant(), input);
            self.drain(cx);
        }
    }

    fn drain(&mut self, cx: &mut Cx) {
        while let Some(output) = self.endpoint.as_mut().and_then(Endpoint::poll_output) {
            match output {
                sip::Output::Event(event) => self.event(cx, event),
                sip::Output::Send { to, bytes, .. } => {
                    let to = match to {
                        sip::SendTo::Flow(flow) => flow.remote,
                        sip::SendTo::Address { addr, .. } => addr,
                        sip::SendTo::Region { .. } => continue,
                    };
                    cx.datagram(Node::Phone(self.number), phone_address(self.number), to, &bytes);
                }
                sip::Output::Resolve { .. } => {}
            }
        }
    }

    fn event(&mut self, cx: &mut Cx, event: Event) {
        match event {
            Event::Response { key, response } => self.response(cx, key, &response),
            Event::ClientFailed { key, .. } => self.unanswered(cx, key),
            Event::Request { key, request, .. } => self.request(cx, key, &request),
            Event::Cancelled { key } => self.cancelled(cx, key),
            Event::AckTimeout { key } => self.not_acknowledged(cx, key),
            Event::Acked { .. } | Event::FlowClosed(_) | Event::StrayAnswer { .. } => {}
        }
    }

    fn contact(&self) -> NameAddr {
        let uri = format!("sip:{}@{}", self.user(), phone_address(self.number));
        NameAddr::new(Uri::parse(&uri).expect("a contact"))
    }

    /// A request outside any dialog, as chatty as phones are.
    fn outside(&mut self, method: Method, uri: &str, to: &str, call_id: &str) -> Request {
        self.cseq += 1;
        let own = format!("<sip:{}@{}>", self.user(), self.domain());
        Request::new(method.clone(), Uri::parse(uri).expect("a target"))
            .with_header(HeaderName::MaxForwards, "70")
            .with_header(HeaderName::From, format!("{own};tag=t{}", self.cseq))
            .with_header(HeaderName::To, to)
            .with_header(HeaderName::CallId, call_id.to_owned())
            .with_header(HeaderName::CSeq, format!("{} {method}", self.cseq))
            .with_header(HeaderName::Contact, self.contact())
            .with_header(HeaderName::UserAgent, "Phone/secret-version")
            .with_header(HeaderName::Subject, "private matter")
            .with_header(HeaderName::parse("X-Customer"), "customer 4711")
            .with_header(HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, UPDATE, INFO")
    }

    fn ask(&mut self, cx: &mut Cx, request: Request, purpose: Purpose, is_proven: bool) {
        self.last_key += 1;
        let key = ClientKey(self.last_key);
        if let Purpose::Invite(line) = purpose
            && let Some(line) = self.lines.get_mut(&line)
        {
            line.asked = Some(key);
            line.invite = request.clone();
        }
        self.pending.insert(key, Pending { request: request.clone(), purpose, is_proven });
        let destination = self.way();
        self.sip(cx, sip::Input::Request { key, request, destination });
    }

    fn way(&self) -> Destination {
        Destination::Address {
            transport: Transport::Udp,
            addr: proxy_address(self.proxy),
            server_name: None,
        }
    }

    /// The request with the answer to a challenge.
    fn proven(&mut self, cx: &mut Cx, request: &Request, challenge: &Response) -> Option<Request> {
        let (from, to) = match challenge.status.code() {
            401 => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            _ => (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
        };
        let challenges: Vec<_> =
            challenge.headers.all(&from).filter_map(|it| Challenge::parse(it).ok()).collect();
        let cnonce = format!("{:016x}", cx.chance.u64());
        let uri = request.uri.to_string();
        let (user, method) = (self.user(), &request.method);
        let credentials =
            digest::answer(&challenges, method, &uri, user, PASSWORD, 1, &cnonce)?.to_string();
        let mut request = request.clone();
        self.cseq = self.cseq.max(request.cseq().ok()?.number) + 1;
        request.headers.set(HeaderName::CSeq, format!("{} {}", self.cseq, request.method));
        request.headers.set(to, credentials);
        Some(request)
    }

    /// The line of a dialog: by its Call-ID and our tag (RFC 3261 §12.2.2).
    fn line_of(&self, request: &Request) -> Option<u64> {
        let call_id = request.call_id().ok()?;
        let call_id = call_id.to_str_lossy();
        let to = request.to().ok()?;
        let found = self.lines.values().find(|line| line.call_id == call_id)?;
        let dialog = found.dialog.as_ref().map(landline_sip::Dialog::id);
        let is_ours = dialog.is_none_or(|id| to.tag() == id.local_tag.as_str());
        (is_ours && found.is_live()).then_some(found.id)
    }

    /// Takes lines that are over out of the way.
    pub fn tidy(&mut self) {
        let over: Vec<u64> =
            self.lines.values().filter(|line| !line.is_live()).map(|line| line.id).collect();
        for id in over {
            self.history.extend(self.lines.remove(&id));
        }
    }
}
