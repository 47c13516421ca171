//! What comes to a leg's sockets.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use landline_control::{
    Direction, DtlsParameters, DtlsRole, Fingerprint, HashFunction, IpFamily, LegSpec, PayloadType,
    Protocol, Remote, SrtpSuite,
};
use landline_media::audio::Renderer;
use landline_media::framing::{Deframer, TooLong};
use landline_media::srtp::Context;
use landline_media::stun::{Class, Message, receiver};
use landline_media::{
    Component, Identity, Leg, LegConfig, LegOutput, PacketBuf, Received, RtpInfo, rtcp,
};

/// A STUN datagram: looked at for whose it is, parsed, checked, and given to an ICE-lite leg, which never
/// takes it for an authentic check and whose answers are small and parse.
pub fn stun(input: &[u8]) {
    let named = receiver(input);
    assert!(named.is_none_or(|fragment| fragment.len() < input.len() && !fragment.contains(':')));
    if let Ok(message) = Message::parse(input) {
        assert!(!message.is_authentic("a password that no input knows"));
        assert!(named.is_none() || message.class == Class::Request, "no check finds a leg");
    }
    let Some(mut packet) = PacketBuf::from_slice(input) else { return };
    let now = Instant::now();
    let mut leg = leg(Protocol::Rtp, true);
    let received = leg.receive(now, Component::Rtp, address(2), &mut packet);
    while let Some(output) = leg.poll_output() {
        let LegOutput::Transmit { bytes, .. } = output else { continue };
        let answer = Message::parse(&bytes).expect("an answer of ours parses");
        assert_eq!(answer.class, Class::Error, "nobody knows the password");
        assert!(bytes.len() <= input.len() + 48, "an answer that amplifies");
    }
    assert!(!matches!(received, Received::Rtp(_)), "a stranger was heard");
}

/// An RTP packet: its parts lie inside of it, and a plain leg and the renderer
/// of recordings take it or leave it.
pub fn rtp(input: &[u8]) {
    if let Ok(info) = RtpInfo::parse(input) {
        assert!(info.header_len <= input.len() && info.header_len >= 12);
        if let Ok(payload) = info.payload(input) {
            assert!(payload.len() + info.header_len <= input.len());
        }
    }
    let Some(mut packet) = PacketBuf::from_slice(input) else { return };
    let now = Instant::now();
    let mut leg = described(Protocol::Rtp);
    if let Received::Rtp(info) = leg.receive(now, Component::Rtp, address(2), &mut packet) {
        assert_eq!(packet.as_slice(), input);
        assert_eq!(RtpInfo::parse(input), Ok(info));
        assert_eq!(leg.stats(now).received.packets, 1);
    }
    let _ = leg.send(now, Component::Rtp, &mut packet);
    let mut renderer = Renderer::new(8000);
    renderer.payload_types(0, &payload_types());
    let mut out = Vec::new();
    renderer.push(0, 0, input, &mut out);
    renderer.push(20, 0, input, &mut out);
    renderer.finish(&mut out);
}

/// An RTCP packet: what passes the check passes a plain leg unchanged.
pub fn rtcp_packet(input: &[u8]) {
    let sound = rtcp::check(input).is_ok() && rtcp::looks_like_rtcp(input);
    let Some(mut packet) = PacketBuf::from_slice(input) else { return };
    let mut leg = described(Protocol::Rtp);
    let received = leg.receive(Instant::now(), Component::Rtcp, address(3), &mut packet);
    assert_eq!(received == Received::Rtcp, sound);
    assert_eq!(packet.as_slice(), input);
}

/// The first octet picks suite and protocol, the rest is a packet: it does not
/// authenticate unless we made it, and protecting it can be undone.
pub fn srtp(input: &[u8]) {
    let Some((choice, input)) = input.split_first() else { return };
    let suite = match choice & 1 {
        0 => SrtpSuite::AesCm128HmacSha1_80,
        _ => SrtpSuite::AeadAes128Gcm,
    };
    let context = || Context::new(suite, &vec![7; suite.key_and_salt_len()]).expect("the length");
    let Some(packet) = PacketBuf::from_slice(input) else { return };
    let (mut protected, mut received) = (packet.clone(), packet);
    if choice & 2 == 0 {
        if context().protect_rtp(&mut protected).is_ok() {
            let info = context().unprotect_rtp(&mut protected).expect("we protected it");
            assert_eq!(protected.as_slice(), input);
            assert_eq!(RtpInfo::parse(input), Ok(info));
        }
        if context().unprotect_rtp(&mut received).is_ok() {
            context().protect_rtp(&mut received).expect("it was protected before");
            assert_eq!(received.as_slice(), input);
        }
    } else {
        if context().protect_rtcp(&mut protected).is_ok() {
            context().unprotect_rtcp(&mut protected).expect("we protected it");
            assert_eq!(protected.as_slice(), input);
        }
        if context().unprotect_rtcp(&mut received).is_ok() {
            assert!(received.len() < input.len());
        }
    }
}

/// What a connection brings (RFC 4571), in whole and cut by the first octet: the
/// same packets, none longer than there is room for.
pub fn framing(input: &[u8]) {
    let Some((cut, octets)) = input.split_first() else { return };
    let whole = packets(octets, octets.len().max(1));
    assert_eq!(packets(octets, usize::from(*cut).max(1)), whole);
}

/// What is in a stream that comes in parts of such a length, and how it ends.
fn packets(octets: &[u8], part: usize) -> (Vec<Vec<u8>>, Result<(), TooLong>) {
    let (mut deframer, mut packets) = (Deframer::default(), Vec::new());
    let mut accept = |packet: &[u8]| {
        assert!(!packet.is_empty() && PacketBuf::from_slice(packet).is_some());
        packets.push(packet.to_vec());
        true
    };
    let end = octets.chunks(part).try_for_each(|part| deframer.push(part, &mut accept));
    (packets, end)
}

/// The first octet picks our role; then datagrams, each behind two octets of
/// length. No keys come of them, and the leg lives on.
pub fn dtls(input: &[u8]) {
    let Some((choice, mut rest)) = input.split_first() else { return };
    let role = if choice & 1 == 0 { DtlsRole::Server } else { DtlsRole::Client };
    let mut now = Instant::now();
    let mut leg = leg(Protocol::Dtls, false);
    let mut remote = remote();
    let fingerprint = Fingerprint { hash: HashFunction::Sha256, digest: vec![0; 32] };
    remote.dtls = Some(DtlsParameters { fingerprints: vec![fingerprint], role });
    leg.set_remote(now, &remote).expect("a complete description");
    for _ in 0..16 {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (datagram, after) = after.split_at(length);
        rest = after;
        if let Some(mut packet) = PacketBuf::from_slice(datagram) {
            leg.receive(now, Component::Rtp, address(2), &mut packet);
        }
        now += Duration::from_millis(100);
        leg.handle_timeout(now);
        while leg.poll_output().is_some() {}
    }
    assert_eq!(leg.suite(), None, "keys with a peer that was not signalled");
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4000))
}

fn identity() -> Arc<Identity> {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    IDENTITY.get_or_init(|| Arc::new(Identity::generate().expect("an identity"))).clone()
}

fn leg(protocol: Protocol, ice: bool) -> Leg {
    let family = IpFamily::V4;
    let spec = LegSpec { protocol, ice, rtcp_mux: true, family, suites: Vec::new() };
    let identity = (protocol == Protocol::Dtls).then(identity);
    Leg::new(LegConfig::new(spec, identity, [3; 32]), Instant::now())
}

fn described(protocol: Protocol) -> Leg {
    let mut leg = leg(protocol, false);
    leg.set_remote(Instant::now(), &remote()).expect("a complete description");
    leg
}

fn remote() -> Remote {
    Remote {
        rtp: address(2),
        rtcp: address(3),
        rtcp_mux: false,
        ice: None,
        dtls: None,
        sdes: None,
        direction: Direction::SendReceive,
        payload_types: payload_types(),
    }
}

fn payload_types() -> Vec<PayloadType> {
    [(0, "PCMU"), (9, "G722"), (101, "TELEPHONE-EVENT")]
        .map(|(number, encoding)| PayloadType {
            number,
            encoding: encoding.to_owned(),
            clock_rate: 8000,
            channels: 1,
        })
        .to_vec()
}
