//! What a relay plays to a phone, as the phone hears it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_media::audio::{Codec, Decoder, Encoder, ToneGenerator, strongest_tone, ulaw_encode};
use landline_media::play::{Clip, Ear, Player, SOUND_RATE, Said, Voice};
use landline_media::{PacketBuf, RtpInfo};

const CODECS: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
const VOICE: Voice = Voice { ssrc: 0xabcd, sequence: u16::MAX - 3, timestamp: u32::MAX - 1000 };
const STEP: Duration = Duration::from_millis(20);

#[test]
fn a_tone_is_heard_in_every_codec_without_a_break_from_sound_to_sound_and_around() {
    for codec in CODECS {
        let clips = vec![tone(codec, 1000.0, 1000), tone(codec, 1000.0, 340)];
        let now = Instant::now();
        let mut player = Player::new(now, VOICE, 96, clips, true);
        let heard = Heard::during(&mut player, now, 200);
        heard.is_steady(codec, 200);
        let mut decoder = Decoder::new(codec).unwrap();
        let mut samples = Vec::new();
        for (_, payload) in &heard.packets {
            decoder.decode(payload, &mut samples).unwrap();
        }
        let rate = codec.sample_rate();
        let (hz, level) = strongest_tone(&samples[..rate as usize], rate).unwrap();
        assert!((hz - 1000.0).abs() < 10.0, "{codec:?}: {hz}");
        assert!((level - -12.2).abs() < 2.0, "{codec:?}: {level}");
        assert!(!player.is_over());
    }
}

#[test]
fn what_does_not_repeat_ends_and_nothing_to_play_is_over_at_once() {
    let now = Instant::now();
    let mut player = Player::new(now, VOICE, 0, vec![tone(Codec::Pcmu, 440.0, 100)], false);
    assert_eq!(Heard::during(&mut player, now, 50).packets.len(), 5);
    assert!(player.is_over() && player.poll_timeout().is_none());
    let next = player.voice();
    assert_eq!((next.ssrc, next.sequence), (VOICE.ssrc, VOICE.sequence.wrapping_add(5)));

    let empty = Arc::new(Clip::encode(Codec::Pcmu, &[]).unwrap());
    for clips in [vec![], vec![empty.clone()], vec![empty.clone(), empty]] {
        assert!(Player::new(now, VOICE, 0, clips, true).is_over());
    }
}

#[test]
fn who_speaks_himself_goes_first_and_silence_does_not() {
    let now = Instant::now();
    let mut player = Player::new(now, VOICE, 0, vec![tone(Codec::Pcmu, 440.0, 1000)], true);
    assert!(!player.overhear(now, Said::Silence), "silence is not to come between");
    assert_eq!(Heard::during(&mut player, now, 10).packets.len(), 10);

    let mut at = now + STEP * 10;
    for _ in 0..20 {
        assert!(player.overhear(at, Said::Sound));
        assert!(player.overhear(at, Said::Silence), "a pause of his is his own");
        assert!(Heard::during(&mut player, at, 1).packets.is_empty());
        at += STEP;
    }
    let again = Heard::during(&mut player, at, 50);
    assert!((20..=30).contains(&again.packets.len()), "{}", again.packets.len());
    let (first, _) = &again.packets[0];
    assert!(first.marker);
    let silent = 10 + 20 + 50 - again.packets.len() as u32;
    assert_eq!(first.timestamp, VOICE.timestamp.wrapping_add(silent * 160), "time has passed");
    assert_eq!(first.sequence, VOICE.sequence.wrapping_add(10), "and nothing was lost");
}

#[test]
fn a_late_look_makes_no_burst() {
    let now = Instant::now();
    let mut player = Player::new(now, VOICE, 0, vec![tone(Codec::Pcmu, 440.0, 1000)], true);
    let late = now + Duration::from_secs(3600);
    let heard = Heard::at(&mut player, late);
    assert!((1..=2).contains(&heard.packets.len()), "{}", heard.packets.len());
    assert!(heard.packets[0].0.marker);
    assert!(player.poll_timeout().unwrap() > late);
}

#[test]
fn silence_is_told_from_sound_in_every_codec() {
    for codec in CODECS {
        let mut encoder = Encoder::live(codec, codec.sample_rate()).unwrap();
        let mut said = |ear: &mut Ear, hz: Option<f64>| -> Vec<(Said, usize)> {
            let mut tone = hz.map(|hz| ToneGenerator::new(hz, codec.sample_rate()));
            let frames = (0..50).map(|_| {
                let mut frame = vec![0; codec.sample_rate() as usize / 50];
                tone.iter_mut().for_each(|tone| tone.fill(&mut frame));
                let mut payload = Vec::new();
                encoder.encode(&frame, &mut payload).unwrap();
                (ear.hear(96, Some(codec.encoding()), &payload), payload.len())
            });
            frames.collect()
        };
        let mut ear = Ear::default();
        let spoken = said(&mut ear, Some(700.0));
        assert!(spoken.iter().skip(5).all(|(it, _)| *it == Said::Sound), "{codec:?}: {spoken:?}");
        // Where it ends the codec may say a little more.
        let silent = said(&mut ear, None);
        assert!(silent.iter().skip(5).all(|(it, _)| *it == Said::Silence), "{codec:?}: {silent:?}");
        // Whoever begins to listen then hears nothing at all.
        let silent = said(&mut Ear::default(), None);
        assert!(silent.iter().all(|(it, _)| *it == Said::Silence), "{codec:?}: {silent:?}");
        if codec == Codec::Opus {
            assert!(silent.iter().any(|(_, length)| *length > 8), "told by their length alone");
        }
    }
}

#[test]
fn what_no_codec_is_known_for_is_sound_unless_it_is_noise_or_keys() {
    let said = |number: u8, encoding: Option<&str>, payload: &[u8]| {
        Ear::default().hear(number, encoding, payload)
    };
    assert_eq!(said(96, Some("OPUS"), &[0xf8, 0xff, 0xfe]), Said::Silence);
    assert_eq!(said(96, Some("ILBC"), &[1]), Said::Sound);
    assert_eq!(said(96, Some("ILBC"), &[]), Said::Silence);
    // Comfort noise, whether it was described or goes by its own number.
    assert_eq!(said(96, Some("CN"), &[30]), Said::Silence);
    assert_eq!(said(13, None, &[30, 1, 2]), Said::Silence);
    assert_eq!(said(13, Some("PCMU"), &[ulaw_encode(3000); 160]), Said::Sound);
    assert_eq!(said(97, None, &[1]), Said::Sound);
    assert_eq!(said(96, Some("TELEPHONE-EVENT"), &[1, 10, 0, 160]), Said::Keys);
}

#[test]
fn keys_are_told_and_the_music_goes_on() {
    let now = Instant::now();
    let mut player = Player::new(now, VOICE, 0, vec![tone(Codec::Pcmu, 440.0, 1000)], true);
    assert!(player.overhear(now, Said::Keys));
    assert!(!player.overhear(now, Said::Silence));
    assert_eq!(Heard::during(&mut player, now, 10).packets.len(), 10);
}

struct Heard {
    packets: Vec<(RtpInfo, Vec<u8>)>,
}

impl Heard {
    fn during(player: &mut Player, from: Instant, steps: u32) -> Self {
        let each = (0..steps).map(|n| Self::at(player, from + STEP * n));
        Self { packets: each.flat_map(|it| it.packets).collect() }
    }

    fn at(player: &mut Player, now: Instant) -> Self {
        let mut packet = PacketBuf::new();
        let mut packets = Vec::new();
        while player.poll_output(now, &mut packet) {
            let info = RtpInfo::parse(packet.as_slice()).unwrap();
            packets.push((info, info.payload(packet.as_slice()).unwrap().to_vec()));
        }
        Self { packets }
    }

    /// Numbers and times without a gap, over their ends, and one beginning.
    fn is_steady(&self, codec: Codec, packets: usize) {
        assert_eq!(self.packets.len(), packets);
        let units = codec.clock_rate() / 50;
        for (n, (info, _)) in self.packets.iter().enumerate() {
            assert_eq!((info.ssrc, info.payload_type), (VOICE.ssrc, 96));
            assert_eq!(info.sequence, VOICE.sequence.wrapping_add(n as u16));
            assert_eq!(info.timestamp, VOICE.timestamp.wrapping_add(n as u32 * units));
            assert_eq!(info.marker, n == 0);
        }
    }
}

fn tone(codec: Codec, hz: f64, ms: u32) -> Arc<Clip> {
    let mut samples = vec![0; (SOUND_RATE * ms / 1000) as usize];
    ToneGenerator::new(hz, SOUND_RATE).fill(&mut samples);
    Arc::new(Clip::encode(codec, &samples).unwrap())
}
