//! Two phones that share no codec, and the same two once they do.

use crate::support::proxy::describe;
use crate::support::{A, B, Phone, Proxy, local, relay, rtcp, rtp, spec};
use landline_control::{DtlsRole, Op, PayloadType, Protocol, Spoken};
use landline_media::audio::{alaw_encode, ulaw_decode};
use landline_media::{Component, RtpInfo};

const PCMU: (u8, &str) = (0, "PCMU");
const PCMA: (u8, &str) = (8, "PCMA");

fn speaks((number, encoding): (u8, &str)) -> Spoken {
    let kind = PayloadType { number, encoding: encoding.into(), clock_rate: 8000, channels: 1 };
    Spoken { says: vec![kind.clone()], takes: vec![kind], packet_ms: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hears_the_other_in_its_own_codec_until_they_share_one() {
    let role = DtlsRole::Server;
    let relay = relay().await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let specs = [(A, spec(Protocol::Sdes)), (B, spec(Protocol::Rtp))];
    let locals = proxy.opened(1, &specs).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let (mut a, mut b) = (Phone::new(Protocol::Sdes).await, Phone::new(Protocol::Rtp).await);
    let described =
        || vec![describe(A, a.describe(&at_a, role)), describe(B, b.describe(&at_b, role))];
    let mut joined = described();
    joined.push(Op::Join(A, B));
    joined.push(Op::Speak(Box::new([(A, speaks(PCMU)), (B, speaks(PCMA))])));
    let shared = described();
    proxy.changed(1, joined).await;
    a.learn(&at_a, role).await;
    b.learn(&at_b, role).await;
    assert_eq!(relay.metric("transcoders", None), 0.0, "nobody has spoken");

    for n in 1..20 {
        let said = rtp(0xa, n);
        a.say(Component::Rtp, &said).await;
        let heard = b.hear().await;
        assert_eq!(heard.from, at_b.rtp);
        let (before, after) = (RtpInfo::parse(&said), RtpInfo::parse(&heard.packet).unwrap());
        let before = before.unwrap();
        assert_eq!((after.payload_type, after.ssrc), (8, 0xa));
        assert_eq!((after.sequence, after.timestamp), (before.sequence, before.timestamp));
        let wanted: Vec<_> = said[12..].iter().map(|it| alaw_encode(ulaw_decode(*it))).collect();
        assert_eq!(heard.packet[12..], wanted);
    }
    relay.metric_reaches("transcoded_packets_total", None, 19.0).await;
    assert_eq!(relay.metric("transcoders", None), 1.0, "only one has spoken");

    // Its reports count what was made of its packets.
    a.say(Component::Rtcp, &rtcp(0xa, 7)).await;
    let report = b.hear().await.packet;
    assert_eq!(u32::from_be_bytes(report[20..24].try_into().unwrap()), 19);

    // A description without another codec: as it was said, by its own numbers.
    proxy.changed(1, shared).await;
    for n in 20..30 {
        let said = rtp(0xa, n);
        a.say(Component::Rtp, &said).await;
        assert_eq!(b.hear().await.packet[..4], [&[0x80][..], &said[1..4]].concat()[..]);
    }
    // The other never was at work, and its packets pass as they are.
    let said = rtp(0xb, 1);
    b.say(Component::Rtp, &said).await;
    assert_eq!(a.hear().await.packet, said);
    proxy.close(1).await;
    assert_eq!(relay.metric("transcoders", None), 0.0);
}
