//! Recorded packets to two channels that are aligned in time.
//!
//! A channel's first packet lies where it arrived; those that follow lie where
//! their RTP timestamps say, so that the network's jitter is not heard. When
//! timestamps and arrival drift apart, or another stream begins, arrival counts
//! again. What is missing is silence.

use std::collections::BTreeMap;

use landline_control::PayloadType;

use super::{Codec, Decoder, Upsampler};
use crate::rtp::RtpInfo;

/// How long packets wait for earlier ones that are late.
const REORDER_MS: u64 = 200;
/// Timestamps further than this from arrival no longer count.
const MAX_DRIFT_MS: i64 = 400;
/// How far ahead of the finished part a packet may lie: a clock gone wrong must
/// not fill memory.
const MAX_AHEAD_S: usize = 30;
/// The longest pause without any packet that is written out as silence.
const MAX_PAUSE_MS: u64 = 4 * 3_600_000;

/// The whole of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Samples a second.
    pub rate: u32,
    pub samples: Vec<[i16; 2]>,
}

/// The sample rate that loses nothing of the given codecs.
pub fn best_rate<'a>(encodings: impl IntoIterator<Item = &'a str>) -> u32 {
    let rates = encodings.into_iter().filter_map(Codec::from_encoding).map(Codec::sample_rate);
    rates.max().unwrap_or(8000)
}

/// Renders frames in order of their arrival: milliseconds since the start, the
/// channel (0 or 1), and the plain RTP packet.
pub fn render<'a>(
    frames: impl IntoIterator<Item = (u64, usize, &'a [u8])> + Clone,
    payload_types: [&[PayloadType]; 2],
) -> Rendered {
    let used = frames.clone().into_iter().filter_map(|(_, channel, packet)| {
        let number = RtpInfo::parse(packet).ok()?.payload_type;
        let kind = payload_types.get(channel)?.iter().find(|kind| kind.number == number)?;
        Some(kind.encoding.as_str())
    });
    let rate = best_rate(used);
    let mut renderer = Renderer::new(rate);
    for (channel, types) in payload_types.into_iter().enumerate() {
        renderer.payload_types(channel, types);
    }
    let mut samples = Vec::new();
    for (at_ms, channel, packet) in frames {
        renderer.push(at_ms, channel, packet, &mut samples);
    }
    renderer.finish(&mut samples);
    Rendered { rate, samples }
}

/// Renders a recording as it is read, with little of it in memory.
pub struct Renderer {
    rate: u32,
    channels: [Channel; 2],
    /// Samples from `base` on, unfinished.
    pending: Vec<[i16; 2]>,
    base: usize,
    latest_ms: u64,
}

#[derive(Default)]
struct Channel {
    payload_types: Vec<PayloadType>,
    stream: Option<Stream>,
}

/// One synchronisation source with one codec.
struct Stream {
    ssrc: u32,
    codec: Codec,
    decoder: Decoder,
    upsampler: Upsampler,
    /// Packets by extended sequence number, until their turn comes.
    waiting: BTreeMap<u64, Waiting>,
    highest: u64,
    decoded: Option<u64>,
    anchor: Anchor,
}

struct Waiting {
    at_ms: u64,
    timestamp: u32,
    payload: Vec<u8>,
}

/// This timestamp lies at this sample.
#[derive(Clone, Copy)]
struct Anchor {
    timestamp: u32,
    sample: usize,
}

impl Renderer {
    /// `rate` as by [`best_rate`]: 8000, 16000 or 48000.
    pub fn new(rate: u32) -> Self {
        Self { rate, channels: Default::default(), pending: Vec::new(), base: 0, latest_ms: 0 }
    }

    /// From now on the channel's payload types mean this.
    pub fn payload_types(&mut self, channel: usize, types: &[PayloadType]) {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.payload_types = types.to_vec();
        }
    }

    /// Takes a plain RTP packet that arrived `at_ms` after the start. What is
    /// no audio of a known codec is silence. Appends to `out` what is finished
    /// by now: nothing that comes will change it.
    pub fn push(&mut self, at_ms: u64, channel: usize, packet: &[u8], out: &mut Vec<[i16; 2]>) {
        if at_ms > self.latest_ms + MAX_PAUSE_MS {
            return;
        }
        self.latest_ms = self.latest_ms.max(at_ms);
        self.take_in(at_ms, channel, packet);
        self.take(out);
    }

    fn take_in(&mut self, at_ms: u64, channel: usize, packet: &[u8]) {
        let rate = self.rate;
        let Some(of) = self.channels.get_mut(channel) else { return };
        let Ok(info) = RtpInfo::parse(packet) else { return };
        let Ok(payload) = info.payload(packet) else { return };
        let kind = of.payload_types.iter().find(|kind| kind.number == info.payload_type);
        let Some(codec) = kind.and_then(|kind| Codec::from_encoding(&kind.encoding)) else {
            return;
        };
        let same = of.stream.as_ref().is_some_and(|it| it.ssrc == info.ssrc && it.codec == codec);
        if !same {
            self.drain(channel, u64::MAX);
            self.channels[channel].stream = Stream::new(&info, codec, at_ms, rate);
        }
        if let Some(stream) = &mut self.channels[channel].stream {
            stream.hold(&info, at_ms, payload);
        }
        self.drain(channel, self.latest_ms.saturating_sub(REORDER_MS));
    }

    /// Decodes what waited for long enough.
    fn drain(&mut self, channel: usize, until_ms: u64) {
        let rate = self.rate;
        let Some(stream) = self.channels.get_mut(channel).and_then(|it| it.stream.as_mut()) else {
            return;
        };
        let mut decoded = Vec::new();
        while let Some(entry) = stream.waiting.first_entry() {
            if entry.get().at_ms > until_ms {
                break;
            }
            let (sequence, waiting) = entry.remove_entry();
            decoded.push(stream.decode(sequence, &waiting, rate));
        }
        for (at, samples) in decoded {
            self.mix(channel, at, &samples);
        }
    }

    fn mix(&mut self, channel: usize, at: usize, samples: &[i16]) {
        // Overlap with what was given out already is lost.
        let skip = self.base.saturating_sub(at);
        let start = (at + skip) - self.base;
        let samples = samples.get(skip..).unwrap_or_default();
        let end = start + samples.len();
        if end > self.rate as usize * MAX_AHEAD_S {
            return;
        }
        if self.pending.len() < end {
            self.pending.resize(end, [0; 2]);
        }
        for (slot, sample) in self.pending[start..end].iter_mut().zip(samples) {
            slot[channel] = *sample;
        }
    }

    fn take(&mut self, out: &mut Vec<[i16; 2]>) {
        let margin = REORDER_MS + MAX_DRIFT_MS as u64;
        let finished = samples_at(self.latest_ms.saturating_sub(margin), self.rate);
        let Some(count) = finished.checked_sub(self.base).filter(|count| *count > 0) else {
            return;
        };
        if self.pending.len() < count {
            self.pending.resize(count, [0; 2]);
        }
        out.extend(self.pending.drain(..count));
        self.base += count;
    }

    /// Appends the rest.
    pub fn finish(mut self, out: &mut Vec<[i16; 2]>) {
        self.drain(0, u64::MAX);
        self.drain(1, u64::MAX);
        out.append(&mut self.pending);
    }
}

impl Stream {
    fn new(info: &RtpInfo, codec: Codec, at_ms: u64, rate: u32) -> Option<Self> {
        Some(Self {
            ssrc: info.ssrc,
            codec,
            decoder: Decoder::new(codec).ok()?,
            upsampler: Upsampler::new(codec.sample_rate(), rate)?,
            waiting: BTreeMap::new(),
            highest: 1 << 16 | u64::from(info.sequence),
            decoded: None,
            anchor: Anchor { timestamp: info.timestamp, sample: samples_at(at_ms, rate) },
        })
    }

    fn hold(&mut self, info: &RtpInfo, at_ms: u64, payload: &[u8]) {
        let ahead = info.sequence.wrapping_sub(self.highest as u16) as i16;
        let sequence = self.highest.saturating_add_signed(i64::from(ahead));
        self.highest = self.highest.max(sequence);
        // A repeat, or later than its turn.
        if self.decoded.is_some_and(|decoded| sequence <= decoded) {
            return;
        }
        self.waiting.entry(sequence).or_insert_with(|| Waiting {
            at_ms,
            timestamp: info.timestamp,
            payload: payload.to_vec(),
        });
    }

    /// The packet's samples, and where they lie.
    fn decode(&mut self, sequence: u64, waiting: &Waiting, rate: u32) -> (usize, Vec<i16>) {
        self.decoded = Some(sequence);
        let elapsed = i64::from(waiting.timestamp.wrapping_sub(self.anchor.timestamp) as i32);
        let elapsed = elapsed * i64::from(rate) / i64::from(self.codec.clock_rate());
        let by_clock = self.anchor.sample as i64 + elapsed;
        let arrived = samples_at(waiting.at_ms, rate);
        let drift = i64::from(rate) * MAX_DRIFT_MS / 1000;
        let at = match usize::try_from(by_clock) {
            Ok(at) if (by_clock - arrived as i64).abs() <= drift => at,
            _ => {
                self.anchor = Anchor { timestamp: waiting.timestamp, sample: arrived };
                arrived
            }
        };
        let (mut decoded, mut samples) = (Vec::new(), Vec::new());
        if self.decoder.decode(&waiting.payload, &mut decoded).is_ok() {
            self.upsampler.push(&decoded, &mut samples);
        }
        (at, samples)
    }
}

fn samples_at(ms: u64, rate: u32) -> usize {
    (ms.saturating_mul(u64::from(rate)) / 1000) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Encoder, ToneGenerator, strongest_tone};
    use crate::rtp::write_header;

    struct Speaker {
        codec: Codec,
        tone: ToneGenerator,
        encoder: Encoder,
        sequence: u16,
        timestamp: u32,
    }

    impl Speaker {
        fn new(codec: Codec, hz: f64) -> Self {
            Self {
                codec,
                tone: ToneGenerator::new(hz, codec.sample_rate()),
                encoder: Encoder::new(codec).unwrap(),
                sequence: 65_500,
                timestamp: u32::MAX - 5000,
            }
        }

        fn packet(&mut self) -> Vec<u8> {
            let mut frame = vec![0; self.codec.sample_rate() as usize / 50];
            self.tone.fill(&mut frame);
            let mut packet = write_header(false, 96, self.sequence, self.timestamp, 7).to_vec();
            self.encoder.encode(&frame, &mut packet).unwrap();
            self.sequence = self.sequence.wrapping_add(1);
            self.timestamp = self.timestamp.wrapping_add(self.codec.clock_rate() / 50);
            packet
        }
    }

    fn types(codec: Codec) -> Vec<PayloadType> {
        let encoding = codec.encoding().to_owned();
        vec![PayloadType { number: 96, encoding, clock_rate: codec.clock_rate(), channels: 1 }]
    }

    fn render_all(frames: &[(u64, usize, Vec<u8>)], codecs: [Codec; 2]) -> Rendered {
        let [left, right] = codecs.map(types);
        render(frames.iter().map(|(at, channel, it)| (*at, *channel, &it[..])), [&left, &right])
    }

    fn channel(rendered: &Rendered, channel: usize, from_ms: usize, to_ms: usize) -> Vec<i16> {
        let at = |ms: usize| ms * rendered.rate as usize / 1000;
        rendered.samples[at(from_ms)..at(to_ms)].iter().map(|it| it[channel]).collect()
    }

    #[test]
    fn each_party_is_heard_in_its_channel_at_the_better_rate() {
        let mut left = Speaker::new(Codec::Pcmu, 500.0);
        let mut right = Speaker::new(Codec::Opus, 1200.0);
        let mut frames = Vec::new();
        for n in 0..100 {
            frames.push((n * 20, 0, left.packet()));
            frames.push((n * 20 + 5, 1, right.packet()));
        }
        let rendered = render_all(&frames, [Codec::Pcmu, Codec::Opus]);
        assert_eq!(rendered.rate, 48_000);
        assert!(rendered.samples.len().abs_diff(96_000) < 2000, "{}", rendered.samples.len());
        for (number, hz) in [(0, 500.0), (1, 1200.0)] {
            let heard = strongest_tone(&channel(&rendered, number, 500, 1500), 48_000).unwrap();
            assert!((heard.0 - hz).abs() < 10.0, "{number}: {heard:?}");
        }
    }

    #[test]
    fn a_gap_is_silence_of_its_length() {
        let mut speaker = Speaker::new(Codec::Pcma, 800.0);
        let frames: Vec<_> = (0..150)
            .map(|n| (1000 + n * 20, 0, speaker.packet()))
            .filter(|(at, ..)| !(2000..3000).contains(at))
            .collect();
        let rendered = render_all(&frames, [Codec::Pcma; 2]);
        assert_eq!(rendered.samples.len(), 4 * 8000);
        assert_eq!(strongest_tone(&channel(&rendered, 0, 0, 990), 8000), None);
        assert!(strongest_tone(&channel(&rendered, 0, 1100, 1900), 8000).is_some());
        assert_eq!(strongest_tone(&channel(&rendered, 0, 2010, 2990), 8000), None);
        assert!(strongest_tone(&channel(&rendered, 0, 3100, 3900), 8000).is_some());
        assert_eq!(strongest_tone(&channel(&rendered, 1, 0, 4000), 8000), None);
    }

    #[test]
    fn jitter_reordering_and_repeats_are_not_heard() {
        let mut speaker = Speaker::new(Codec::G722, 1000.0);
        let mut frames: Vec<_> =
            (0..100u64).map(|n| (100 + n * 20 + n * 7919 % 60, 0, speaker.packet())).collect();
        frames.push(frames[10].clone());
        frames.sort_by_key(|(at, ..)| *at);
        let jittered = render_all(&frames, [Codec::G722; 2]);
        let mut speaker = Speaker::new(Codec::G722, 1000.0);
        let calm: Vec<_> = (0..100).map(|n| (100 + n * 20, 0, speaker.packet())).collect();
        assert_eq!(jittered, render_all(&calm, [Codec::G722; 2]));
    }

    #[test]
    fn audio_after_a_long_hold_lies_where_it_arrived() {
        let mut speaker = Speaker::new(Codec::Pcmu, 1000.0);
        let mut frames: Vec<_> = (0..50).map(|n| (n * 20, 0, speaker.packet())).collect();
        speaker.timestamp = speaker.timestamp.wrapping_add(120 * 8000);
        frames.extend((0..50).map(|n| (121_000 + n * 20, 0, speaker.packet())));
        let rendered = render_all(&frames, [Codec::Pcmu; 2]);
        assert_eq!(rendered.samples.len(), 122 * 8000);
        assert!(strongest_tone(&channel(&rendered, 0, 121_100, 121_900), 8000).is_some());
        assert_eq!(strongest_tone(&channel(&rendered, 0, 60_000, 120_900), 8000), None);
    }

    #[test]
    fn a_clock_gone_wrong_neither_panics_nor_fills_memory() {
        let mut speaker = Speaker::new(Codec::Pcmu, 1000.0);
        let mut renderer = Renderer::new(8000);
        renderer.payload_types(0, &types(Codec::Pcmu));
        let mut state = 1u64;
        let mut out = Vec::new();
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            speaker.timestamp = (state >> 20) as u32;
            speaker.sequence = (state >> 40) as u16;
            let at_ms = if state.is_multiple_of(3) { u64::MAX - 5 } else { state >> 50 };
            renderer.push(at_ms, (state >> 60) as usize % 3, &speaker.packet(), &mut out);
        }
        renderer.push(0, 0, &[0x80; 3], &mut out);
        renderer.finish(&mut out);
        assert!(out.len() <= 8000 * 60, "{}", out.len());
    }
}
