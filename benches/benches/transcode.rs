//! What transcoding costs: one direction of a call, a second of it in packets of
//! 20 ms, from the packet that came to the packet that goes.

use std::f32::consts::TAU;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use landline_control::{PayloadType, Spoken};
use landline_media::audio::{Codec, Encoder};
use landline_media::rtp::write_header;
use landline_media::translate::{Routes, Translator};
use landline_media::{PacketBuf, RtpInfo};

const CODECS: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
const PACKETS: u64 = 50;

fn transcode(c: &mut Criterion) {
    let mut group = c.benchmark_group("transcode");
    for from in CODECS {
        for to in CODECS.into_iter().filter(|to| *to != from) {
            let name = BenchmarkId::new(from.encoding(), to.encoding());
            // Of a call that has gone on for a while: nothing is at its beginning.
            let mut line = Line::new(from, to);
            line.second();
            group.bench_function(name, |b| {
                b.iter_custom(|seconds| (0..seconds).map(|_| line.second()).sum());
            });
        }
    }
    group.finish();
}

/// One who speaks, and the relay between that one and the hearer.
struct Line {
    from: Codec,
    voice: Voice,
    encoder: Encoder,
    sequence: u16,
    timestamp: u32,
    now: Instant,
    translator: Translator,
    packet: PacketBuf,
}

impl Line {
    fn new(from: Codec, to: Codec) -> Self {
        let routes = Routes::new(&speaks(from), &speaks(to)).expect("two codecs");
        Self {
            from,
            voice: Voice::default(),
            encoder: Encoder::new(from).expect("an encoder"),
            sequence: 1,
            timestamp: 1,
            now: Instant::now(),
            translator: Translator::new(routes),
            packet: PacketBuf::new(),
        }
    }

    /// Says a second and carries it; how long the latter took.
    fn second(&mut self) -> Duration {
        let packets: Vec<_> = (0..PACKETS).map(|_| self.say()).collect();
        let began = Instant::now();
        for packet in &packets {
            self.now += Duration::from_millis(20);
            let info = RtpInfo::parse(packet).expect("a packet");
            self.translator.receive(self.now, &info, packet);
            while self.translator.poll_output(self.now, &mut self.packet) {
                black_box(self.packet.as_slice());
            }
        }
        began.elapsed()
    }

    fn say(&mut self) -> Vec<u8> {
        let rate = self.from.sample_rate();
        let frame: Vec<i16> = (0..rate / 50).map(|_| self.voice.next(rate)).collect();
        let mut packet =
            write_header(false, number(self.from), self.sequence, self.timestamp, 7).to_vec();
        self.encoder.encode(&frame, &mut packet).expect("a frame");
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.from.clock_rate() / 50);
        packet
    }
}

/// Harmonics of a pitch that wanders, in syllables, with some noise: what keeps a
/// speech codec as busy as speech.
struct Voice {
    time: f32,
    phase: f32,
    noise: u32,
}

impl Default for Voice {
    fn default() -> Self {
        Self { time: 0.0, phase: 0.0, noise: 1 }
    }
}

impl Voice {
    fn next(&mut self, rate: u32) -> i16 {
        let step = 1.0 / rate as f32;
        self.time = (self.time + step) % 10.0;
        let pitch = 140.0 + 30.0 * (TAU * 0.7 * self.time).sin();
        self.phase = (self.phase + TAU * pitch * step) % TAU;
        let loudness = (0.5 + 0.5 * (TAU * 3.0 * self.time).sin()).powi(2);
        let harmonics: f32 = (1..12).map(|n| (self.phase * n as f32).sin() / n as f32).sum();
        self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (self.noise >> 16) as f32 / 65_536.0 - 0.5;
        (5000.0 * loudness * (harmonics + 0.2 * noise)) as i16
    }
}

fn number(codec: Codec) -> u8 {
    codec.payload_type().unwrap_or(111)
}

fn speaks(codec: Codec) -> Spoken {
    let kind = PayloadType {
        number: number(codec),
        encoding: codec.encoding().to_owned(),
        clock_rate: codec.clock_rate(),
        channels: 1,
    };
    Spoken { says: vec![kind.clone()], takes: vec![kind], packet_ms: None }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = transcode
}
criterion_main!(benches);
