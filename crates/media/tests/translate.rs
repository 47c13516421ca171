//! What one side of a call says, as the other hears it, where they share no
//! codec.

use std::time::{Duration, Instant};

use landline_control::{PayloadType, Spoken};
use landline_media::audio::{Codec, Decoder, Encoder, ToneGenerator, strongest_tone};
use landline_media::rtp::write_header;
use landline_media::translate::{Figures, Routes, Translator};
use landline_media::{PacketBuf, RtpInfo, rtcp};

const CODECS: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
const EVENTS: u8 = 101;

#[test]
fn a_tone_keeps_its_pitch_and_level_between_any_two_codecs() {
    for from in CODECS {
        for to in CODECS.into_iter().filter(|to| *to != from) {
            let mut speaker = Speaker::new(from, 1000.0);
            let mut line = Line::new(from, to, None);
            for _ in 0..75 {
                line.say(speaker.packet());
            }
            let heard = line.heard(to);
            let (hz, level) = strongest_tone(&heard, to.sample_rate()).unwrap();
            assert!((hz - 1000.0).abs() < 5.0, "{from:?} to {to:?}: {hz} Hz");
            assert!((level - -12.2).abs() < 2.0, "{from:?} to {to:?}: {level} dB");
            line.assert_steady(to, 20);
            assert_eq!(line.packets.len(), 75, "{from:?} to {to:?}");
        }
    }
}

#[test]
fn a_twentieth_of_the_packets_lost_is_made_up_for() {
    for from in CODECS {
        for to in CODECS.into_iter().filter(|to| *to != from) {
            let mut speaker = Speaker::new(from, 700.0);
            let mut line = Line::new(from, to, None);
            for n in 0..200 {
                let packet = speaker.packet();
                if n % 20 != 10 {
                    line.say(packet);
                }
            }
            line.wait(Duration::from_secs(1));
            line.assert_steady(to, 20);
            assert_eq!(line.packets.len(), 200, "{from:?} to {to:?}: a packet for each");
            assert_eq!(line.figures.concealed, 10, "{from:?} to {to:?}");
            let heard = line.heard(to);
            let (hz, level) = strongest_tone(&heard, to.sample_rate()).unwrap();
            assert!((hz - 700.0).abs() < 5.0, "{from:?} to {to:?}: {hz} Hz");
            assert!((level - -12.2).abs() < 2.5, "{from:?} to {to:?}: {level} dB");
            // The gaps are not silent: no stretch of a packet is.
            let packet = to.sample_rate() as usize / 50;
            for (n, part) in heard.chunks(packet).enumerate().skip(3) {
                let loudest = part.iter().map(|it| it.unsigned_abs()).max().unwrap();
                assert!(loudest > 2000, "{from:?} to {to:?}: silent at packet {n}");
            }
        }
    }
}

#[test]
fn what_was_overtaken_or_repeated_is_put_right() {
    let mut speaker = Speaker::new(Codec::Pcmu, 900.0);
    let packets: Vec<_> = (0..100).map(|_| speaker.packet()).collect();
    let mut straight = Line::new(Codec::Pcmu, Codec::Opus, None);
    let mut crooked = Line::new(Codec::Pcmu, Codec::Opus, None);
    for pair in packets.chunks(2) {
        straight.say(pair[0].clone());
        straight.say(pair[1].clone());
        crooked.say(pair[1].clone());
        crooked.say(pair[0].clone());
        crooked.say(pair[1].clone());
    }
    assert_eq!(crooked.figures.concealed, 0);
    let payloads = |line: &Line| -> Vec<_> { line.packets.iter().map(|it| it.1.clone()).collect() };
    // The very first was not known to be the second.
    assert_eq!(payloads(&crooked)[4..].len() + 1, payloads(&straight)[4..].len());
    crooked.assert_steady(Codec::Opus, 20);
}

#[test]
fn packets_of_any_length_become_such_as_were_asked_for() {
    for (from, to, asked, ms, said_ms) in [
        (Codec::Pcmu, Codec::G722, Some(30), 30, 20),
        (Codec::Opus, Codec::Pcma, Some(10), 10, 20),
        (Codec::Pcma, Codec::Opus, Some(40), 40, 20),
        (Codec::Pcma, Codec::Opus, Some(30), 20, 30),
        (Codec::G722, Codec::Pcmu, None, 20, 60),
        (Codec::Pcmu, Codec::Opus, Some(500), 60, 20),
    ] {
        let mut speaker = Speaker::new(from, 800.0);
        speaker.ms = said_ms;
        let mut line = Line::new(from, to, asked);
        for _ in 0..60 {
            line.say(speaker.packet());
        }
        line.assert_steady(to, ms);
        assert!(line.packets.len() as u32 >= 60 * said_ms / ms - 2, "{from:?} to {to:?}");
        let (hz, _) = strongest_tone(&line.heard(to), to.sample_rate()).unwrap();
        assert!((hz - 800.0).abs() < 5.0, "{from:?} to {to:?}: {hz} Hz");
    }
}

#[test]
fn a_pause_is_a_pause_of_its_length_and_speech_after_it_begins_anew() {
    for (from, to) in [(Codec::Opus, Codec::Pcmu), (Codec::Pcmu, Codec::Opus)] {
        let mut speaker = Speaker::new(from, 600.0);
        // Packets that do not divide into those that are made.
        speaker.ms = 20;
        let mut line = Line::new(from, to, Some(40));
        for _ in 0..25 {
            line.say(speaker.packet());
        }
        speaker.pause(2000);
        line.wait(Duration::from_millis(2000));
        for _ in 0..25 {
            line.say(speaker.packet());
        }
        let marked: Vec<_> = line.packets.iter().map(|(info, _)| info.marker).collect();
        assert_eq!(marked.iter().filter(|it| **it).count(), 2, "{from:?}: {marked:?}");
        let at = marked.iter().rposition(|it| *it).unwrap();
        let (first, again) = (line.packets[0].0, line.packets[at].0);
        let apart = again.timestamp.wrapping_sub(first.timestamp);
        assert_eq!(apart, to.clock_rate() / 1000 * (500 + 2000), "{from:?}");
        assert_eq!(again.sequence, first.sequence.wrapping_add(at as u16), "no number is left out");
        assert_eq!(line.figures.concealed, 0);
    }
}

#[test]
fn a_long_loss_is_a_pause_too() {
    let mut speaker = Speaker::new(Codec::Pcmu, 600.0);
    let mut line = Line::new(Codec::Pcmu, Codec::Opus, None);
    for n in 0..100 {
        let packet = speaker.packet();
        match (40..60).contains(&n) {
            true => line.now += Duration::from_millis(20),
            false => line.say(packet),
        }
    }
    line.wait(Duration::from_secs(1));
    assert_eq!(line.figures.concealed, 0);
    assert_eq!(line.packets.len(), 80);
    let last = line.packets.last().unwrap().0.timestamp;
    assert_eq!(last.wrapping_sub(line.packets[0].0.timestamp), 99 * 960);
}

#[test]
fn a_source_that_begins_anew_is_followed() {
    let mut speaker = Speaker::new(Codec::Pcmu, 600.0);
    let mut line = Line::new(Codec::Pcmu, Codec::Opus, None);
    for n in 0..100 {
        match n {
            // Its clock, its numbers, its name.
            25 => speaker.timestamp = speaker.timestamp.wrapping_add(1 << 30),
            50 => speaker.sequence = speaker.sequence.wrapping_add(20_000),
            75 => speaker.ssrc = 77,
            _ => {}
        }
        line.say(speaker.packet());
    }
    assert_eq!(line.packets.len(), 100);
    let (before, after) = line.packets.split_at(75);
    for pair in before.windows(2) {
        assert_eq!(pair[1].0.sequence, pair[0].0.sequence.wrapping_add(1));
        let step = pair[1].0.timestamp.wrapping_sub(pair[0].0.timestamp);
        assert_eq!(step, 960, "the clock goes on");
    }
    assert!(after.iter().all(|(info, _)| info.ssrc == 77));
    assert!(after[0].0.marker);
}

#[test]
fn events_go_on_under_the_other_sides_number_and_clock() {
    let mut speaker = Speaker::new(Codec::Pcmu, 600.0);
    let mut line = Line::new(Codec::Pcmu, Codec::Opus, None);
    for _ in 0..10 {
        line.say(speaker.packet());
    }
    for digit in [5, 5] {
        let begun = speaker.timestamp;
        for (n, end) in [(1u16, 0), (2, 0), (3, 0), (3, 0x80), (3, 0x80), (3, 0x80)] {
            let duration = (n * 160).to_be_bytes();
            line.say(speaker.event(n == 1, begun, [digit, end | 10, duration[0], duration[1]]));
        }
        speaker.timestamp = begun.wrapping_add(640);
    }
    speaker.packet();
    for _ in 0..10 {
        line.say(speaker.packet());
    }
    let events: Vec<_> =
        line.packets.iter().filter(|(info, _)| info.payload_type == EVENTS + 1).collect();
    assert_eq!(events.len(), 12);
    let (first, second) = events.split_at(6);
    for event in [first, second] {
        assert!(event[0].0.marker && !event[1].0.marker);
        assert!(event.iter().all(|it| it.0.timestamp == event[0].0.timestamp));
        assert_eq!(event[5].1, [5, 0x80 | 10, (2880u16 >> 8) as u8, 2880u16 as u8]);
    }
    let apart = second[0].0.timestamp.wrapping_sub(first[0].0.timestamp);
    assert!((960..200_000).contains(&apart), "two events: {apart}");
    let sequences: Vec<_> = line.packets.iter().map(|it| it.0.sequence).collect();
    assert!(sequences.windows(2).all(|it| it[1] == it[0].wrapping_add(1)), "{sequences:?}");
    assert_eq!(line.figures.concealed, 0);
}

#[test]
fn reports_are_true_on_both_sides() {
    let mut speaker = Speaker::new(Codec::Pcmu, 600.0);
    let begun = speaker.timestamp;
    let mut line = Line::new(Codec::Pcmu, Codec::Opus, Some(40));
    for _ in 0..50 {
        line.say(speaker.packet());
    }
    let mut report = rtcp::write_sender_report(7, begun.wrapping_add(49 * 160), 50, 8000);
    line.translator.tell(&mut report);
    let word = |at: usize| u32::from_be_bytes(report[at..at + 4].try_into().unwrap());
    let first = line.packets[0].0;
    assert_eq!(word(16).wrapping_sub(first.timestamp), 49 * 960);
    assert_eq!(word(20), 25);
    let octets: usize = line.packets.iter().map(|it| it.1.len()).sum();
    assert_eq!(word(24), octets as u32);

    // A receiver report on it: the highest number heard becomes the source's own.
    let highest = u32::from(line.packets.last().unwrap().0.sequence);
    let words = [0x81c9_0007, 9, 7, 0, highest, 0, 0, 0];
    let mut report: Vec<u8> = words.iter().flat_map(|it| it.to_be_bytes()).collect();
    line.translator.restore(&mut report);
    let restored = u32::from_be_bytes(report[16..20].try_into().unwrap());
    assert_eq!(restored as u16, speaker.sequence.wrapping_sub(1));
}

#[test]
fn a_call_that_comes_to_share_a_codec_goes_on_by_its_numbers() {
    let mut speaker = Speaker::new(Codec::Pcmu, 600.0);
    let mut line = Line::new(Codec::Pcmu, Codec::Opus, Some(40));
    for _ in 0..50 {
        line.say(speaker.packet());
    }
    line.translator.set_routes(None);
    for _ in 0..50 {
        line.say(speaker.packet());
    }
    let sequences: Vec<_> = line.packets.iter().map(|it| it.0.sequence).collect();
    assert!(sequences.windows(2).all(|it| it[1] == it[0].wrapping_add(1)), "{sequences:?}");
    assert_eq!(line.packets.last().unwrap().1.len(), 160, "as it was said");
    assert_eq!(line.packets.last().unwrap().0.payload_type, number(Codec::Pcmu));
}

#[test]
fn nonsense_is_refused_and_costs_no_more_than_a_packet() {
    let mut line = Line::new(Codec::Opus, Codec::Pcmu, None);
    let mut state = 1u64;
    for n in 0..20_000u32 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let length = (state >> 33) as usize % 200;
        let kind = [number(Codec::Opus), EVENTS, 55][(state >> 20) as usize % 3];
        let (sequence, timestamp) = match n % 7 {
            0 => ((state >> 40) as u16, (state >> 8) as u32),
            _ => (n as u16, n.wrapping_mul(960)),
        };
        let mut packet = write_header(false, kind, sequence, timestamp, 7).to_vec();
        packet.extend((0..length).map(|it| (state >> (it % 57)) as u8));
        line.say(packet);
    }
    assert!(line.figures.refused > 1000);
    for (_, payload) in &line.packets {
        assert!(payload.len() <= 480, "{}", payload.len());
    }
}

/// Who speaks by RTP, in packets of 20 ms.
struct Speaker {
    codec: Codec,
    tone: ToneGenerator,
    encoder: Encoder,
    ms: u32,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
}

impl Speaker {
    fn new(codec: Codec, hz: f64) -> Self {
        Self {
            codec,
            tone: ToneGenerator::new(hz, codec.sample_rate()),
            encoder: Encoder::new(codec).unwrap(),
            ms: 20,
            ssrc: 7,
            sequence: 65_500,
            timestamp: u32::MAX - 5000,
        }
    }

    fn packet(&mut self) -> Vec<u8> {
        let mut frame = vec![0; (self.codec.sample_rate() / 1000 * self.ms) as usize];
        self.tone.fill(&mut frame);
        let number = number(self.codec);
        let header = write_header(false, number, self.sequence, self.timestamp, self.ssrc);
        let mut packet = header.to_vec();
        // Opus has no frames of 30 ms: such packets are not asked for here.
        self.encoder.encode(&frame, &mut packet).unwrap();
        self.sequence = self.sequence.wrapping_add(1);
        self.pause(self.ms);
        packet
    }

    fn event(&mut self, marker: bool, begun: u32, payload: [u8; 4]) -> Vec<u8> {
        let header = write_header(marker, EVENTS, self.sequence, begun, self.ssrc);
        self.sequence = self.sequence.wrapping_add(1);
        [&header[..], &payload].concat()
    }

    fn pause(&mut self, ms: u32) {
        self.timestamp = self.timestamp.wrapping_add(self.codec.clock_rate() / 1000 * ms);
    }
}

/// A translator between two sides, and what comes out of it.
struct Line {
    now: Instant,
    translator: Translator,
    packets: Vec<(RtpInfo, Vec<u8>)>,
    figures: Figures,
}

impl Line {
    fn new(from: Codec, to: Codec, packet_ms: Option<u16>) -> Self {
        let says = spoken(from, EVENTS, None);
        let takes = spoken(to, EVENTS + 1, packet_ms);
        let routes = Routes::new(&says, &takes).expect("no codec in common");
        Self {
            now: Instant::now(),
            translator: Translator::new(routes),
            packets: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// A packet comes, 20 ms after the last.
    fn say(&mut self, packet: Vec<u8>) {
        self.wait(Duration::from_millis(20));
        let info = RtpInfo::parse(&packet).unwrap();
        self.translator.receive(self.now, &info, &packet);
        self.drain();
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.translator.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        let mut packet = PacketBuf::new();
        while self.translator.poll_output(self.now, &mut packet) {
            let info = RtpInfo::parse(packet.as_slice()).unwrap();
            self.packets.push((info, info.payload(packet.as_slice()).unwrap().to_vec()));
        }
        let figures = self.translator.take_figures();
        self.figures.made += figures.made;
        self.figures.concealed += figures.concealed;
        self.figures.late += figures.late;
        self.figures.refused += figures.refused;
    }

    /// Without its first packets, in which filters begin.
    fn heard(&self, codec: Codec) -> Vec<i16> {
        let mut decoder = Decoder::new(codec).unwrap();
        let mut heard = Vec::new();
        for (info, payload) in &self.packets {
            assert_eq!(info.payload_type, number(codec));
            decoder.decode(payload, &mut heard).unwrap();
        }
        heard.split_off(codec.sample_rate() as usize / 10)
    }

    /// Every packet has the next number, and the time at which the one before
    /// it ends.
    fn assert_steady(&self, codec: Codec, ms: u32) {
        assert!(self.packets[0].0.marker);
        for pair in self.packets.windows(2) {
            let (before, after) = (pair[0].0, pair[1].0);
            assert_eq!((after.ssrc, after.payload_type), (before.ssrc, number(codec)));
            assert_eq!(after.sequence, before.sequence.wrapping_add(1));
            let step = after.timestamp.wrapping_sub(before.timestamp);
            assert_eq!(step, codec.clock_rate() / 1000 * ms, "{codec:?}");
            assert!(!after.marker);
        }
    }
}

fn number(codec: Codec) -> u8 {
    codec.payload_type().unwrap_or(111)
}

fn spoken(codec: Codec, events: u8, packet_ms: Option<u16>) -> Spoken {
    let kind = |number, encoding: &str| PayloadType {
        number,
        encoding: encoding.to_owned(),
        clock_rate: codec.clock_rate(),
        channels: 1,
    };
    let types = vec![kind(number(codec), codec.encoding()), kind(events, "TELEPHONE-EVENT")];
    Spoken { says: types.clone(), takes: types, packet_ms }
}
