//! One endpoint under a virtual clock, and the text of messages to feed it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_sip::{
    ClientKey, Destination, Endpoint, EndpointConfig, Event, FailureCause, Flow, FlowId, Input,
    Listener, Message, Output, Request, Response, SendTo, ServerKey, StatusCode, Transport,
};

pub const KEY: ClientKey = ClientKey(1);

pub struct Lab {
    pub endpoint: Endpoint,
    start: Instant,
    now: Instant,
}

/// An output and the milliseconds since the lab began.
pub type Timed = (u64, Output);

impl Lab {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: EndpointConfig) -> Self {
        let start = Instant::now();
        Self { endpoint: Endpoint::new(config, [7; 32], start), start, now: start }
    }

    pub fn input(&mut self, input: Input) -> Vec<Output> {
        self.endpoint.handle_input(self.now, input);
        std::iter::from_fn(|| self.endpoint.poll_output()).collect()
    }

    pub fn receive(&mut self, flow: &Flow, text: &str) -> Vec<Output> {
        let bytes = Bytes::from(text.replace('\n', "\r\n"));
        self.input(Input::Received { flow: flow.clone(), bytes })
    }

    /// Lets `ms` milliseconds pass, firing each timer at its very time.
    pub fn run(&mut self, ms: u64) -> Vec<Timed> {
        let end = self.now + Duration::from_millis(ms);
        let mut outputs = Vec::new();
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            let elapsed = self.elapsed();
            outputs.extend(std::iter::from_fn(|| Some((elapsed, self.endpoint.poll_output()?))));
        }
        self.now = end;
        outputs
    }

    /// Lets a second pass in which every message waits for so long.
    pub fn messages_wait(&mut self, wait: Duration) {
        for _ in 0..10 {
            self.run(100);
            self.endpoint.message_waited(self.now, wait);
        }
    }

    pub fn refused_part(&mut self) -> f64 {
        self.endpoint.refused_part(self.now)
    }

    pub fn elapsed(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    pub fn request(&mut self, key: ClientKey, text: &str, to: Destination) -> Vec<Output> {
        self.input(Input::Request { key, request: request(text), destination: to })
    }

    pub fn respond(&mut self, key: ServerKey, request: &Request, status: u16) -> Vec<Output> {
        let status = StatusCode::new(status).unwrap();
        let mut response = Response::for_request(request, status);
        if status != StatusCode::TRYING {
            response = response.with_to_tag("us");
        }
        self.input(Input::Respond { key, response })
    }
}

pub fn config() -> EndpointConfig {
    let listener = |transport, port| Listener {
        transport,
        local: local(port),
        advertised: ("192.0.2.1".into(), port),
    };
    EndpointConfig {
        listeners: vec![listener(Transport::Udp, 5060), listener(Transport::Tcp, 5060)],
        ..Default::default()
    }
}

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

pub fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], port))
}

pub fn udp() -> Flow {
    Flow {
        id: FlowId(1),
        transport: Transport::Udp,
        local: local(5060),
        remote: peer(5099),
        peer: None,
    }
}

pub fn tcp() -> Flow {
    Flow { id: FlowId(2), transport: Transport::Tcp, ..udp() }
}

pub fn address(transport: Transport, port: u16) -> Destination {
    Destination::Address { transport, addr: peer(port), server_name: None }
}

pub fn request(text: &str) -> Request {
    match landline_sip::parse(&Bytes::from(text.replace('\n', "\r\n")), &Default::default()) {
        Ok(Message::Request(request)) => request,
        Ok(Message::Response(_)) => panic!("a response: {text}"),
        Err(error) => panic!("{error} in {text}"),
    }
}

/// A request of ours, as a transaction user makes it: without a Via. The parser
/// wants one, so it is given and taken off again.
pub fn own(method: &str) -> Request {
    let mut request = request(&incoming(method, "z9hG4bKnone"));
    request.headers.remove_all(&landline_sip::HeaderName::Via);
    request
}

/// A request of a peer at 192.0.2.9:5099 that asks for `rport`.
pub fn incoming(method: &str, branch: &str) -> String {
    with_via(method, &format!("SIP/2.0/UDP 192.0.2.9:5099;rport;branch={branch}"))
}

pub fn with_via(method: &str, via: &str) -> String {
    format!(
        "{method} sip:bob@acme.test SIP/2.0\nVia: {via}\nMax-Forwards: 70\n\
         From: <sip:alice@acme.test>;tag=them\nTo: <sip:bob@acme.test>\nCall-ID: c1\n\
         CSeq: 7 {method}\nContact: <sip:alice@192.0.2.9:5099>\nContent-Length: 0\n\n"
    )
}

/// What a peer answers to the bytes we sent it.
pub fn answer(sent: &Bytes, status: u16, to_tag: &str) -> String {
    let Ok(Message::Request(request)) = landline_sip::parse(sent, &Default::default()) else {
        panic!("not a request of ours");
    };
    let status = StatusCode::new(status).unwrap();
    let mut response = Response::for_request(&request, status);
    if !to_tag.is_empty() {
        response = response.with_to_tag(to_tag);
    }
    String::from_utf8(response.to_bytes().to_vec()).unwrap().replace("\r\n", "\n")
}

/// What was sent, as text with bare line feeds.
pub fn sent(outputs: &[Output]) -> Vec<String> {
    sends(outputs).into_iter().map(|(_, bytes)| text(&bytes)).collect()
}

pub fn sends(outputs: &[Output]) -> Vec<(SendTo, Bytes)> {
    let send = |output: &Output| match output {
        Output::Send { to, bytes, .. } => Some((to.clone(), bytes.clone())),
        _ => None,
    };
    outputs.iter().filter_map(send).collect()
}

pub fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap().replace("\r\n", "\n")
}

pub fn events(outputs: &[Output]) -> Vec<Event> {
    let event = |output: &Output| match output {
        Output::Event(event) => Some(event.clone()),
        _ => None,
    };
    outputs.iter().filter_map(event).collect()
}

/// Outputs in short: `180`, `>INVITE`, `>200`, `failed Timeout`, `?` …
pub fn brief(outputs: &[Output]) -> Vec<String> {
    outputs.iter().map(brief_one).collect()
}

pub fn brief_timed(outputs: &[Timed]) -> Vec<(u64, String)> {
    outputs.iter().map(|(at, output)| (*at, brief_one(output))).collect()
}

fn brief_one(output: &Output) -> String {
    match output {
        Output::Send { bytes, .. } => {
            let text = text(bytes);
            let mut words = text.split(' ');
            let first = words.next().unwrap();
            format!(">{}", if first == "SIP/2.0" { words.next().unwrap() } else { first })
        }
        Output::Resolve { .. } => "?".into(),
        Output::Event(Event::Request { key, request, .. }) => {
            format!("{}{}", request.method, if key.is_none() { " (no key)" } else { "" })
        }
        Output::Event(Event::Response { response, .. }) => response.status.to_string(),
        Output::Event(Event::ClientFailed { cause, .. }) => format!("failed {cause:?}"),
        Output::Event(Event::Cancelled { .. }) => "cancelled".into(),
        Output::Event(Event::Acked { .. }) => "acked".into(),
        Output::Event(Event::AckTimeout { .. }) => "ack timeout".into(),
        Output::Event(Event::FlowClosed(_)) => "flow closed".into(),
        Output::Event(Event::StrayAnswer { .. }) => "stray answer".into(),
    }
}

/// The key and the request of the first request event.
pub fn arrived(outputs: &[Output]) -> (ServerKey, Request) {
    events(outputs)
        .into_iter()
        .find_map(|event| match event {
            Event::Request { key: Some(key), request, .. } => Some((key, request)),
            _ => None,
        })
        .expect("a request event")
}

pub fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

pub fn failed(key: ClientKey, cause: FailureCause, outputs: &[Output]) -> bool {
    events(outputs).iter().any(|event| {
        matches!(event, Event::ClientFailed { key: k, cause: c } if *k == key && *c == cause)
    })
}
