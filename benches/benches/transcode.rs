//! What transcoding costs: one direction of a call, a second of it in packets of
//! 20 ms, from the packet that came to the packet that goes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use landline_benches::speech::{Voice, number, speaks};
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

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = transcode
}
criterion_main!(benches);
