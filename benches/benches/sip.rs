//! SIP messages: reading and printing an INVITE and reading a REGISTER, beside
//! `rsip`, which parses into owned strings.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use landline_sip::{HeaderName, Limits, Message, sdp};

criterion_group!(benches, parse_invite, print_invite, parse_register, read_sdp);
criterion_main!(benches);

/// 877 bytes, as a softphone behind NAT sends it.
const INVITE: &str = "INVITE sip:bob@acme.test SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.168.1.44:49152;branch=z9hG4bK.tYv1~0Ksq;rport\r\n\
Max-Forwards: 70\r\n\
From: \"Alice Example\" <sip:alice@acme.test>;tag=9fxced76sl\r\n\
To: <sip:bob@acme.test>\r\n\
Call-ID: 3848276298220188511@192.168.1.44\r\n\
CSeq: 20 INVITE\r\n\
Contact: <sip:alice@192.168.1.44:49152;transport=udp>;expires=3600\r\n\
User-Agent: Softphone/4.2.1 (Linux) (Debian 12; x86_64; build 2511)\r\n\
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, INFO, UPDATE\r\n\
Supported: replaces, outbound, gruu, timer\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 297\r\n\
\r\n\
v=0\r\n\
o=alice 2890844526 2890844526 IN IP4 192.168.1.44\r\n\
s=Talk\r\n\
c=IN IP4 192.168.1.44\r\n\
t=0 0\r\n\
m=audio 49170 RTP/AVP 96 9 8 0 101\r\n\
a=rtpmap:96 opus/48000/2\r\n\
a=fmtp:96 useinbandfec=1; maxaveragebitrate=30000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-15\r\n\
a=rtcp:49171\r\n\
a=sendrecv\r\n\
a=ptime:20\r\n";

const REGISTER: &str = "REGISTER sip:acme.test SIP/2.0\r\n\
Via: SIP/2.0/TLS 192.168.1.44:49152;branch=z9hG4bK.9fQ2x;rport;alias\r\n\
Max-Forwards: 70\r\n\
From: <sip:alice@acme.test>;tag=kO1-sZ8\r\n\
To: <sip:alice@acme.test>\r\n\
Call-ID: V7nZ0Tq1xX\r\n\
CSeq: 21 REGISTER\r\n\
Contact: <sip:alice@192.168.1.44:49152;transport=tls>;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\";reg-id=1\r\n\
Expires: 3600\r\n\
Authorization: Digest username=\"alice\", realm=\"acme.test\", nonce=\"AAABjQ2xk0m5a1Xh8v3c2w\", uri=\"sip:acme.test\", response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\", algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"f2/wE4q74E6zIJEt\"\r\n\
Supported: outbound, path\r\n\
User-Agent: Softphone/4.2.1 (Linux)\r\n\
Content-Length: 0\r\n\
\r\n";

fn parse_invite(c: &mut Criterion) {
    let bytes = Bytes::from_static(INVITE.as_bytes());
    let limits = Limits::default();
    let mut group = c.benchmark_group("sip/parse_invite");
    group.throughput(Throughput::Bytes(INVITE.len() as u64));
    group.bench_function("landline", |b| {
        b.iter(|| landline_sip::parse(black_box(&bytes), &limits).unwrap());
    });
    // As a socket delivers it: the buffer is not static, so a clone counts.
    group.bench_function("landline, buffer owned", |b| {
        b.iter(|| {
            let bytes = Bytes::copy_from_slice(black_box(INVITE.as_bytes()));
            landline_sip::parse(&bytes, &limits).unwrap()
        });
    });
    // What routing an INVITE looks at.
    group.bench_function("landline, with typed headers", |b| {
        b.iter(|| {
            let Message::Request(request) =
                landline_sip::parse(black_box(&bytes), &limits).unwrap()
            else {
                unreachable!()
            };
            let headers = (request.top_via(), request.from(), request.to(), request.cseq());
            (request.contacts(), request.call_id(), headers)
        });
    });
    group.bench_function("rsip", |b| {
        b.iter(|| rsip::SipMessage::try_from(black_box(INVITE.as_bytes())).unwrap());
    });
    group.finish();
}

fn print_invite(c: &mut Criterion) {
    let own = landline_sip::parse(&Bytes::from_static(INVITE.as_bytes()), &Limits::default());
    let own = own.unwrap();
    let peer = rsip::SipMessage::try_from(INVITE.as_bytes()).unwrap();
    let mut group = c.benchmark_group("sip/print_invite");
    group.throughput(Throughput::Bytes(INVITE.len() as u64));
    group.bench_function("landline", |b| b.iter(|| black_box(&own).to_bytes()));
    group.bench_function("rsip", |b| b.iter(|| black_box(&peer).to_string().into_bytes()));
    group.finish();
}

fn parse_register(c: &mut Criterion) {
    let bytes = Bytes::from_static(REGISTER.as_bytes());
    let limits = Limits::default();
    let mut group = c.benchmark_group("sip/parse_register");
    group.throughput(Throughput::Bytes(REGISTER.len() as u64));
    group.bench_function("landline", |b| {
        b.iter(|| landline_sip::parse(black_box(&bytes), &limits).unwrap());
    });
    group.bench_function("landline, with credentials", |b| {
        b.iter(|| {
            let message = landline_sip::parse(black_box(&bytes), &limits).unwrap();
            let value = message.headers().get(&HeaderName::Authorization).unwrap();
            landline_sip::digest::Credentials::parse(value).unwrap()
        });
    });
    group.bench_function("rsip", |b| {
        b.iter(|| rsip::SipMessage::try_from(black_box(REGISTER.as_bytes())).unwrap());
    });
    group.finish();
}

fn read_sdp(c: &mut Criterion) {
    let body = INVITE.split_once("\r\n\r\n").unwrap().1.as_bytes();
    let limits = Limits::default();
    let parsed = sdp::parse(body, &limits).unwrap();
    let mut group = c.benchmark_group("sip/sdp");
    group.bench_function("parse", |b| b.iter(|| sdp::parse(black_box(body), &limits).unwrap()));
    group.bench_function("print", |b| b.iter(|| black_box(&parsed).to_bytes()));
    group.finish();
}
