//! What one transaction costs an endpoint, parsing and printing included, and
//! with 100,000 others alive beside it.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use landline_sip::{
    ClientKey, Destination, Dialog, Endpoint, EndpointConfig, Event, Flow, FlowId, HeaderName,
    Input, Listener, Message, Method, Output, Request, Response, StatusCode, Transport,
};

fn endpoint(port: u16, now: Instant) -> Endpoint {
    let listener = Listener {
        transport: Transport::Udp,
        local: address(port),
        advertised: ("192.0.2.1".into(), port),
    };
    let config = EndpointConfig {
        listeners: vec![listener],
        max_transactions: 1_000_000,
        ..Default::default()
    };
    Endpoint::new(config, [port as u8; 32], now)
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn flow(local: u16, remote: u16) -> Flow {
    Flow {
        id: FlowId(u64::from(local)),
        transport: Transport::Udp,
        local: address(local),
        remote: address(remote),
        peer: None,
    }
}

fn register(number: u64) -> Bytes {
    format!(
        "REGISTER sip:acme.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5099;rport;branch=z9hG4bK{number:016x}\r\n\
         Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@acme.test>;tag=a73kszlfl\r\n\
         To: \"Alice\" <sip:alice@acme.test>\r\nCall-ID: {number:x}@192.0.2.1\r\n\
         CSeq: 1 REGISTER\r\nContact: <sip:alice@192.0.2.1:5099;ob>;+sip.instance=\"<urn:uuid:1>\"\r\n\
         Expires: 600\r\nUser-Agent: bench\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE\r\n\
         Supported: outbound, path\r\nContent-Length: 0\r\n\r\n"
    )
    .into()
}

/// Receives, answers 200 and drains; the transaction stays for timer J.
fn serve(endpoint: &mut Endpoint, now: Instant, bytes: Bytes) {
    endpoint.handle_input(now, Input::Received { flow: flow(5060, 5099), bytes });
    while let Some(output) = endpoint.poll_output() {
        if let Output::Event(Event::Request { key: Some(key), request, .. }) = output {
            let response = Response::for_request(&request, StatusCode::OK).with_to_tag("b");
            endpoint.handle_input(now, Input::Respond { key, response });
        } else {
            black_box(output);
        }
    }
}

fn non_invite(c: &mut Criterion) {
    let mut group = c.benchmark_group("transaction");
    group.throughput(Throughput::Elements(1));
    for alive in [1_000u32, 100_000] {
        let mut now = Instant::now();
        let mut endpoint = endpoint(5060, now);
        let mut number = 0;
        // Timer J takes 32 s: one this often keeps so many alive.
        let step = Duration::from_secs(32) / alive;
        let mut next = |endpoint: &mut Endpoint, bytes| {
            now += step;
            serve(endpoint, now, bytes);
        };
        for _ in 0..alive {
            number += 1;
            next(&mut endpoint, register(number));
        }
        group.bench_function(format!("server REGISTER, {alive} alive"), |b| {
            let requests = || {
                number += 1;
                register(number)
            };
            b.iter_batched(requests, |bytes| next(&mut endpoint, bytes), BatchSize::SmallInput);
        });
        assert!(endpoint.len() + 2 >= alive as usize);
    }
    group.finish();
}

struct Pair {
    now: Instant,
    caller: Endpoint,
    callee: Endpoint,
    next: u64,
    dialog: Option<Dialog>,
    invite: Option<Request>,
    ended: u64,
}

impl Pair {
    /// INVITE, 180, 200, ACK, BYE, 200.
    fn call(&mut self) {
        self.now += Duration::from_millis(1);
        self.next += 1;
        let mut invite = invite(self.next);
        self.invite = Some(invite.clone());
        invite.headers.remove_all(&HeaderName::Via);
        self.send(invite);
        self.exchange();
    }

    fn send(&mut self, request: Request) {
        let destination = Destination::Flow(flow(5099, 5060));
        let input = match request.method {
            Method::Ack => Input::Forward { request, destination },
            _ => {
                self.next += 1;
                Input::Request { key: ClientKey(self.next), request, destination }
            }
        };
        self.caller.handle_input(self.now, input);
    }

    fn exchange(&mut self) {
        loop {
            if let Some(output) = self.caller.poll_output() {
                self.caller_output(output);
            } else if let Some(output) = self.callee.poll_output() {
                self.callee_output(output);
            } else {
                return;
            }
        }
    }

    fn caller_output(&mut self, output: Output) {
        match output {
            Output::Send { bytes, .. } => {
                let flow = flow(5060, 5099);
                self.callee.handle_input(self.now, Input::Received { flow, bytes });
            }
            Output::Event(Event::Response { response, .. }) if response.status.is_success() => {
                match self.dialog.take() {
                    Some(_) => self.ended += 1,
                    None => self.hang_up_at_once(&response),
                }
            }
            _ => {}
        }
    }

    fn hang_up_at_once(&mut self, response: &Response) {
        let invite = self.invite.take().expect("an INVITE");
        let mut dialog = Dialog::uac(&invite, response).expect("a dialog");
        self.send(dialog.ack(dialog.local_cseq()));
        let bye = dialog.request(Method::Bye);
        self.send(bye);
        self.dialog = Some(dialog);
    }

    fn callee_output(&mut self, output: Output) {
        match output {
            Output::Send { bytes, .. } => {
                let flow = flow(5099, 5060);
                self.caller.handle_input(self.now, Input::Received { flow, bytes });
            }
            Output::Event(Event::Request { key: Some(key), request, .. }) => {
                let codes: &[_] = match request.method {
                    Method::Invite => &[StatusCode::RINGING, StatusCode::OK],
                    _ => &[StatusCode::OK],
                };
                for status in codes {
                    let mut response = Response::for_request(&request, *status).with_to_tag("b");
                    response.headers.push(HeaderName::Contact, "<sip:bob@192.0.2.1:5060>");
                    self.callee.handle_input(self.now, Input::Respond { key, response });
                }
            }
            _ => {}
        }
    }
}

fn invite(number: u64) -> Request {
    let text = format!(
        "INVITE sip:bob@192.0.2.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@acme.test>;tag=a\r\nTo: <sip:bob@acme.test>\r\n\
         Call-ID: {number:x}@192.0.2.1\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@192.0.2.1:5099>\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE\r\nContent-Type: application/sdp\r\n\
         Content-Length: {length}\r\n\r\n{SDP}",
        length = SDP.len()
    );
    match landline_sip::parse(&Bytes::from(text), &Default::default()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                   m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n\
                   a=fmtp:101 0-16\r\na=sendrecv\r\n";

fn call(c: &mut Criterion) {
    let mut group = c.benchmark_group("transaction");
    group.throughput(Throughput::Elements(1));
    group.bench_function("INVITE-180-200-ACK-BYE-200, both endpoints", |b| {
        let now = Instant::now();
        let mut pair = Pair {
            now,
            caller: endpoint(5099, now),
            callee: endpoint(5060, now),
            next: 0,
            dialog: None,
            invite: None,
            ended: 0,
        };
        let mut calls = 0;
        b.iter(|| {
            pair.call();
            calls += 1;
        });
        assert_eq!(pair.ended, calls);
    });
    group.finish();
}

criterion_group!(benches, non_invite, call);
criterion_main!(benches);
