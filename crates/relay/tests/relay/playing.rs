//! What a relay plays to phones: the tune, an account's own, and nothing over
//! what the partner says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_control::{DtlsRole, Event, LegId, Op, Play, Protocol, SessionId, Sound};
use landline_media::audio::{ToneGenerator, strongest_tone, ulaw_decode, ulaw_encode};
use landline_media::{Component, RtpInfo};
use landline_region::{AccountSid, SoundSid};
use landline_relay::{Loading, SoundSource};
use landline_store::StoreError;

use crate::support::proxy::describe;
use crate::support::{A, B, Phone, Proxy, TestRelay, local, relay_with, rtp, spec};

/// A second of a tone, and nothing else to be had.
struct Tones;

const TONE: SoundSid = SoundSid::from_u128(620);

impl SoundSource for Tones {
    fn load(&self, _: AccountSid, sound: SoundSid) -> Loading {
        Box::pin(async move {
            if sound != TONE {
                let (what, next) = ("a sound".to_owned(), String::new());
                return Err(StoreError::NotFound { what, next });
            }
            let mut samples = vec![0; 16_000];
            ToneGenerator::new(620.0, 16_000).fill(&mut samples);
            Ok(samples)
        })
    }
}

struct Line {
    relay: TestRelay,
    proxy: Proxy,
    a: Phone,
    b: Phone,
}

/// Two phones that are joined, the first of this kind.
async fn line(protocol: Protocol) -> Line {
    let role = DtlsRole::Server;
    let relay = relay_with(|config| config.sounds = Some(Arc::new(Tones))).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let locals = proxy.opened(1, &[(A, spec(protocol)), (B, spec(Protocol::Rtp))]).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let (mut a, mut b) = (Phone::new(protocol).await, Phone::new(Protocol::Rtp).await);
    let joined = vec![
        describe(A, a.describe(&at_a, role)),
        describe(B, b.describe(&at_b, role)),
        Op::Join(A, B),
    ];
    proxy.changed(1, joined).await;
    a.learn(&at_a, role).await;
    b.learn(&at_b, role).await;
    Line { relay, proxy, a, b }
}

fn play(leg: LegId, sounds: &[Sound], repeats: bool) -> Op {
    Op::Play(leg, Box::new(Play { sounds: sounds.to_vec(), repeats }))
}

/// So many packets of it, without a gap; its sound.
async fn hears(phone: &mut Phone, packets: usize) -> (Vec<RtpInfo>, Vec<i16>) {
    let (mut infos, mut samples) = (Vec::<RtpInfo>::new(), Vec::new());
    while infos.len() < packets {
        let packet = phone.hear().await.packet;
        let info = RtpInfo::parse(&packet).unwrap();
        if let Some(last) = infos.last() {
            assert_eq!((info.ssrc, info.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
        }
        infos.push(info);
        samples.extend(info.payload(&packet).unwrap().iter().map(|code| ulaw_decode(*code)));
    }
    (infos, samples)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tune_and_an_accounts_own_are_heard_and_end_when_they_are_to() {
    for protocol in [Protocol::Rtp, Protocol::Sdes] {
        let mut line = line(protocol).await;
        line.proxy.changed(1, vec![play(A, &[Sound::Tune], true)]).await;
        let (infos, samples) = hears(&mut line.a, 60).await;
        assert!(infos[0].marker && infos[1..].iter().all(|info| !info.marker));
        assert!(strongest_tone(&samples, 8000).is_some());
        assert_eq!(line.relay.metric("players", None), 1.0);

        // Another in its place goes on as the same stream, and ends by itself.
        line.proxy.changed(1, vec![play(A, &[Sound::Own(TONE)], false)]).await;
        let mut rest = Vec::new();
        let mut last = infos[59];
        while rest.len() < 50 {
            let packet = line.a.hear().await.packet;
            let info = RtpInfo::parse(&packet).unwrap();
            assert_eq!((info.ssrc, info.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
            last = info;
            rest.push(info.payload(&packet).unwrap().to_vec());
            // What was left of the tune comes first.
            if info.marker {
                rest = rest.split_off(rest.len() - 1);
            }
        }
        let samples: Vec<i16> = rest.iter().flatten().map(|code| ulaw_decode(*code)).collect();
        let (hz, _) = strongest_tone(&samples, 8000).unwrap();
        assert!((hz - 620.0).abs() < 8.0, "{hz}");
        assert_eq!(played(&mut line.proxy).await, A);
        assert!(line.a.hears_nothing().await);

        line.proxy.changed(1, vec![play(A, &[Sound::Own(TONE)], true)]).await;
        hears(&mut line.a, 120).await;
        line.proxy.changed(1, vec![Op::Hush(A)]).await;
        while !line.a.hears_nothing().await {}
        // To hush who hears nothing is nothing.
        line.proxy.changed(1, vec![Op::Hush(A), Op::Hush(B)]).await;
        line.proxy.close(1).await;
        assert_eq!(line.relay.metric("players", None), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_speaks_is_heard_and_its_silence_is_not() {
    let mut line = line(Protocol::Rtp).await;
    line.proxy.changed(1, vec![play(A, &[Sound::Own(TONE)], true)]).await;
    hears(&mut line.a, 10).await;
    let packet = |sequence: u16, code: u8| {
        let mut packet = rtp(0xb, sequence);
        packet.truncate(12);
        packet.extend([code; 160]);
        packet
    };
    // Silence, as some phones send while they hold.
    for sequence in 1..20 {
        line.b.say(Component::Rtp, &packet(sequence, ulaw_encode(0))).await;
        let heard = RtpInfo::parse(&line.a.hear().await.packet).unwrap();
        assert_ne!(heard.ssrc, 0xb);
    }
    line.relay.metric_reaches("drops_total", Some("played_over"), 19.0).await;

    // A phone with music of its own.
    let begin = Instant::now();
    let (mut own, mut sequence) = (0, 20);
    while begin.elapsed() < Duration::from_secs(1) {
        line.b.say(Component::Rtp, &packet(sequence, ulaw_encode(9000))).await;
        sequence += 1;
        let heard = RtpInfo::parse(&line.a.hear().await.packet).unwrap();
        match heard.ssrc {
            0xb => own += 1,
            _ => assert!(begin.elapsed() < Duration::from_millis(300), "it goes on"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(own > 20, "{own}");
    // When it stops, the music comes back.
    loop {
        let heard = RtpInfo::parse(&line.a.hear().await.packet).unwrap();
        if heard.ssrc != 0xb {
            assert!(heard.marker);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_told_and_counted_and_does_not_keep_the_rest_back() {
    let mut line = line(Protocol::Rtp).await;
    let gone = Sound::Own(SoundSid::from_u128(1));
    line.proxy.changed(1, vec![play(A, &[gone], true)]).await;
    assert_eq!(played(&mut line.proxy).await, A);
    assert!(line.a.hears_nothing().await);
    assert_eq!(line.relay.metric("missing_sounds_total", None), 1.0);

    line.proxy.changed(1, vec![play(A, &[gone, Sound::Own(TONE)], false)]).await;
    let (_, samples) = hears(&mut line.a, 50).await;
    let (hz, _) = strongest_tone(&samples, 8000).unwrap();
    assert!((hz - 620.0).abs() < 8.0, "{hz}");
    assert_eq!(played(&mut line.proxy).await, A);
}

async fn played(proxy: &mut Proxy) -> LegId {
    loop {
        match proxy.event().await {
            (SessionId(1), Event::Played(leg)) => return leg,
            (_, Event::MediaStarted(_) | Event::Keyed(..)) => {}
            other => panic!("{other:?}"),
        }
    }
}
