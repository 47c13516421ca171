//! Keys that the relay presses for a phone, and those that it tells of one.

use landline_control::{DtlsRole, Event, Key, Op, PayloadType, Protocol, Remote, SessionId};
use landline_media::{Component, RtpInfo};

use crate::support::proxy::describe;
use crate::support::{A, B, Phone, Proxy, local, relay, rtp, spec};

fn with_events(mut remote: Remote) -> Remote {
    remote.payload_types.push(PayloadType {
        number: 101,
        encoding: "TELEPHONE-EVENT".into(),
        clock_rate: 8000,
        channels: 1,
    });
    remote
}

fn event(sequence: u16, end: bool) -> Vec<u8> {
    let mut packet = rtp(0xb, sequence);
    packet.truncate(12);
    packet[1] = 101;
    packet[4..8].copy_from_slice(&4242u32.to_be_bytes());
    packet.extend([9, if end { 0x8a } else { 10 }, 3, 32]);
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_pressed_towards_one_side_and_told_of_the_other() {
    for protocol in [Protocol::Rtp, Protocol::Sdes] {
        let role = DtlsRole::Server;
        let relay = relay().await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        let locals = proxy.opened(1, &[(A, spec(Protocol::Rtp)), (B, spec(protocol))]).await;
        let (at_a, at_b) = (local(&locals, A), local(&locals, B));
        let (mut a, mut b) = (Phone::new(Protocol::Rtp).await, Phone::new(protocol).await);
        let joined = vec![
            describe(A, a.describe(&at_a, role)),
            describe(B, with_events(b.describe(&at_b, role))),
            Op::Join(A, B),
            Op::TellKeys(B),
        ];
        proxy.changed(1, joined).await;
        a.learn(&at_a, role).await;
        b.learn(&at_b, role).await;

        a.say(Component::Rtp, &rtp(0xa, 1)).await;
        assert_eq!(b.hear().await.packet, rtp(0xa, 1));
        proxy.changed(1, vec![Op::Press(B, Key { event: 11, duration_ms: 100 })]).await;
        let mut began = None;
        for n in 0..7u16 {
            let heard = b.hear().await.packet;
            let info = RtpInfo::parse(&heard).unwrap();
            assert_eq!((info.payload_type, info.ssrc), (101, 0xa));
            assert_eq!((info.sequence, info.marker), (2 + n, n == 0));
            let said = RtpInfo::parse(&rtp(0xa, 1)).unwrap().timestamp;
            let began = *began.get_or_insert(info.timestamp);
            assert_eq!(info.timestamp, began, "when it began");
            assert!((0..8000 * 60).contains(&began.wrapping_sub(said)), "on the sound's clock");
            let payload = info.payload(&heard).unwrap();
            let units = (160 * (n + 1)).min(800).to_be_bytes();
            assert_eq!(payload, [11, if n >= 4 { 0x8a } else { 10 }, units[0], units[1]]);
        }
        // What is said then goes on by these numbers.
        a.say(Component::Rtp, &rtp(0xa, 2)).await;
        let heard = b.hear().await.packet;
        assert_eq!(RtpInfo::parse(&heard).unwrap().sequence, 9);
        assert_eq!(heard[12..], rtp(0xa, 2)[12..]);
        assert_eq!(relay.metric("transcoders", None), 0.0, "nothing is transcoded");

        for (sequence, end) in [(1, false), (2, true), (3, true), (4, true)] {
            b.say(Component::Rtp, &event(sequence, end)).await;
        }
        b.say(Component::Rtp, &rtp(0xb, 5)).await;
        assert_eq!(a.hear().await.packet, rtp(0xb, 5), "its sound, and no key");
        let told = loop {
            match proxy.event().await {
                (SessionId(1), Event::Key(leg, key)) => break (leg, key),
                (_, Event::MediaStarted(_) | Event::Keyed(..)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told, (B, Key { event: 9, duration_ms: 100 }));

        // To one who has no events nothing is pressed, and it is counted.
        proxy.changed(1, vec![Op::Press(A, Key { event: 1, duration_ms: 100 })]).await;
        assert!(a.hears_nothing().await);
        relay.metric_reaches("drops_total", Some("no_codec"), 1.0).await;
        proxy.close(1).await;
    }
}
