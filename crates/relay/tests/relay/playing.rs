//! What a relay plays to phones: the tune, an account's own, and nothing over
//! what the partner says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use landline_control::{
    DtlsRole, Event, LegId, MOST_SOUNDS, Op, PayloadType, Play, Protocol, SessionId, Sound,
};
use landline_media::audio::{ToneGenerator, strongest_tone, ulaw_decode, ulaw_encode};
use landline_media::{Component, RtpInfo};
use landline_region::{AccountSid, SoundSid};
use landline_relay::{Loading, RelayConfig, SoundSource};
use landline_store::StoreError;

use crate::support::proxy::describe;
use crate::support::{A, B, Phone, Proxy, TestRelay, local, relay_with, remote, rtp, spec, until};

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
    line_at(protocol, |config| config.sounds = Some(Arc::new(Tones))).await
}

async fn line_at(protocol: Protocol, change: impl FnOnce(&mut RelayConfig)) -> Line {
    let role = DtlsRole::Server;
    let relay = relay_with(change).await;
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
        assert_eq!(line.relay.metric("players", None), 0.0);

        line.proxy.changed(1, vec![play(A, &[Sound::Own(TONE)], true)]).await;
        hears(&mut line.a, 120).await;
        line.proxy.changed(1, vec![Op::Hush(A)]).await;
        while !line.a.hears_nothing().await {}
        assert_eq!(line.relay.metric("players", None), 0.0);
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
    // One stream, in which it is told who speaks by what is said.
    let is_own = |heard: &[u8], code: u8| heard[12..] == [code; 160];
    // Silence, as some phones send while they hold.
    for sequence in 1..20 {
        line.b.say(Component::Rtp, &packet(sequence, ulaw_encode(0))).await;
        assert!(!is_own(&line.a.hear().await.packet, ulaw_encode(0)));
    }
    line.relay.metric_reaches("drops_total", Some("played_over"), 19.0).await;
    // Comfort noise is silence too, described or not.
    for sequence in 20..30 {
        let mut noise = packet(sequence, 0);
        noise.truncate(13);
        (noise[1], noise[12]) = (13, 30);
        line.b.say(Component::Rtp, &noise).await;
        assert_eq!(line.a.hear().await.packet.len(), 172);
    }
    line.relay.metric_reaches("drops_total", Some("played_over"), 29.0).await;

    // A phone with music of its own.
    let begin = Instant::now();
    let (mut own, mut sequence) = (0, 30);
    let last = line.a.hear().await.packet;
    let mut last = RtpInfo::parse(&last).unwrap();
    while begin.elapsed() < Duration::from_secs(1) {
        line.b.say(Component::Rtp, &packet(sequence, ulaw_encode(9000))).await;
        sequence += 1;
        let heard = line.a.hear().await.packet;
        match is_own(&heard, ulaw_encode(9000)) {
            true => own += 1,
            false => assert!(begin.elapsed() < Duration::from_millis(300), "it goes on"),
        }
        let info = RtpInfo::parse(&heard).unwrap();
        assert_eq!((info.ssrc, info.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
        last = info;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(own > 20, "{own}");
    // When it stops, the music comes back.
    loop {
        let heard = line.a.hear().await.packet;
        let info = RtpInfo::parse(&heard).unwrap();
        assert_eq!((info.ssrc, info.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
        last = info;
        if !is_own(&heard, ulaw_encode(9000)) {
            assert!(info.marker);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_of_what_cannot_be_had_the_tune_is_heard_and_it_is_counted() {
    let mut line = line(Protocol::Rtp).await;
    let gone = Sound::Own(SoundSid::from_u128(1));
    line.proxy.changed(1, vec![play(A, &[gone], true)]).await;
    let (_, samples) = hears(&mut line.a, 60).await;
    assert!(strongest_tone(&samples, 8000).is_some());
    assert_eq!(line.relay.metric("missing_sounds_total", None), 1.0);
    assert_eq!(line.relay.metric("players", None), 1.0);
}

/// A greeting that was taken away, and the tone, to a caller who is alone.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_greeting_is_greeted_all_the_same_and_hears_the_tone() {
    let relay = relay_with(|config| config.sounds = Some(Arc::new(Tones))).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let locals = proxy.opened(1, &[(A, spec(Protocol::Rtp))]).await;
    let at = local(&locals, A);
    let mut caller = Phone::new(Protocol::Rtp).await;
    proxy.changed(1, vec![describe(A, caller.describe(&at, DtlsRole::Server))]).await;
    caller.learn(&at, DtlsRole::Server).await;
    for own in [Some(SoundSid::from_u128(1)), Some(TONE)] {
        proxy.changed(1, vec![play(A, &[Sound::Greeting(own), Sound::Beep], false)]).await;
        let greeting = if own == Some(TONE) { 50 } else { 250 };
        let (_, samples) = hears(&mut caller, greeting).await;
        let heard = strongest_tone(&samples[160 * 10..], 8000).map(|(hz, _)| hz);
        let is_tone = heard.is_some_and(|hz| (hz - 620.0).abs() < 8.0);
        assert_eq!(is_tone, own == Some(TONE), "{heard:?}");
        let mut rest = Vec::new();
        while !caller.hears_nothing().await {
            rest.push(());
        }
        assert_eq!(played(&mut proxy).await, A);
        if own == Some(TONE) {
            assert!((30..40).contains(&rest.len()), "the tone: {}", rest.len());
        }
    }
    assert_eq!(relay.metric("missing_sounds_total", None), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_is_forgotten_in_time_though_nobody_asks_for_another() {
    let mut line = line_at(Protocol::Rtp, |config| {
        config.sounds = Some(Arc::new(Tones));
        config.limits.sound_time = Duration::from_millis(900);
    })
    .await;
    line.proxy.changed(1, vec![play(A, &[Sound::Own(TONE)], false)]).await;
    line.relay.metric_reaches("sounds", None, 1.0).await;
    hears(&mut line.a, 40).await;
    until(|| line.relay.metric("sounds", None) == 0.0).await;
}

/// Sounds that take their time, and how many were on their way at most.
#[derive(Default)]
struct Slow {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Shared(Arc<Slow>);

impl SoundSource for Shared {
    fn load(&self, _: AccountSid, _: SoundSid) -> Loading {
        let slow = Arc::clone(&self.0);
        Box::pin(async move {
            let now = slow.now.fetch_add(1, Ordering::SeqCst) + 1;
            slow.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(40)).await;
            slow.now.fetch_sub(1, Ordering::SeqCst);
            let mut samples = vec![0; 3200];
            ToneGenerator::new(620.0, 16_000).fill(&mut samples);
            Ok(samples)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sounds_are_made_at_one_time_and_the_others_in_their_turn() {
    let slow = Arc::new(Slow::default());
    let source = Shared(Arc::clone(&slow));
    let mut line = line_at(Protocol::Rtp, |it| it.sounds = Some(Arc::new(source))).await;
    let sounds: Vec<Sound> =
        (0..MOST_SOUNDS as u128).map(|it| Sound::Own(SoundSid::from_u128(it))).collect();
    line.proxy.changed(1, vec![play(A, &sounds, false)]).await;
    // Each of them is heard, once they are there.
    let (_, samples) = hears(&mut line.a, 10 * MOST_SOUNDS).await;
    let (hz, _) = strongest_tone(&samples, 8000).unwrap();
    assert!((hz - 620.0).abs() < 8.0, "{hz}");
    assert_eq!(slow.most.load(Ordering::SeqCst), 2);
    assert_eq!(line.relay.metric("missing_sounds_total", None), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clock_has_a_stream_of_its_own() {
    let mut line = line(Protocol::Rtp).await;
    line.proxy.changed(1, vec![play(A, &[Sound::Own(TONE)], true)]).await;
    let first = hears(&mut line.a, 5).await.0[0].ssrc;
    let mut described = remote(line.a.address(), line.a.rtcp_address());
    for (number, encoding, clock_rate, is_same) in
        [(8, "PCMA", 8000, true), (96, "OPUS", 48_000, false)]
    {
        let channels = if number == 96 { 2 } else { 1 };
        let encoding = encoding.to_owned();
        described.payload_types = vec![PayloadType { number, encoding, clock_rate, channels }];
        line.proxy.changed(1, vec![describe(A, described.clone())]).await;
        let info = loop {
            let info = RtpInfo::parse(&line.a.hear().await.packet).unwrap();
            if info.payload_type == number {
                break info;
            }
        };
        assert_eq!(info.ssrc == first, is_same);
    }
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
