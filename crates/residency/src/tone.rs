//! Voices: steady tones in whatever lies in a file, a dump or a capture as
//! G.711 or 16-bit samples. A sine obeys x[n+1] + x[n-1] = 2 cos(w) x[n]; the
//! best w and how badly it fits are found in one pass over a short window, so
//! the frames of single RTP packets with their headers between are enough.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fmt;

/// Samples a window, and from one window's start to the next. A 20 ms frame of
/// G.711 (160 octets) holds a whole window wherever it starts.
const WINDOW: usize = 64;
const STEP: usize = 96;

/// Windows of a tone in one form before it counts: 0.1 s of G.711.
const ENOUGH: u64 = 8;

/// The windows must lie near each other.
const NEAR: u64 = 16 * 1024;

/// What is left of the energy when the sine is taken out, at most: of a tone
/// through G.711 under 0.01, of noise about 2.
const RESIDUE: f64 = 0.04;

/// Mean square of a sample, about -46 dB of full scale.
const FAINT: f64 = 26_000.0;

/// How far a tone may be from its nominal frequency.
const TOLERANCE_HZ: f64 = 9.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AudioForm {
    Ulaw,
    Alaw,
    /// 16-bit samples.
    Linear {
        big_endian: bool,
        channels: u8,
        rate: u32,
    },
}

impl fmt::Display for AudioForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ulaw => f.write_str("audio, G.711 µ-law"),
            Self::Alaw => f.write_str("audio, G.711 A-law"),
            Self::Linear { big_endian, channels, rate } => {
                let order = if *big_endian { "big" } else { "little" };
                write!(f, "audio, 16 bits {order}-endian, {channels} channel(s), {rate} Hz")
            }
        }
    }
}

pub(crate) struct Tones {
    hz: Vec<f64>,
    ulaw: [i16; 256],
    alaw: [i16; 256],
}

impl Tones {
    pub fn new(hz: &[u32]) -> Self {
        let mut tables = ([0; 256], [0; 256]);
        for code in 0..=255u8 {
            tables.0[usize::from(code)] = ulaw(code);
            tables.1[usize::from(code)] = alaw(code);
        }
        Self { hz: hz.iter().map(|&hz| f64::from(hz)).collect(), ulaw: tables.0, alaw: tables.1 }
    }

    pub fn listen(&self) -> Listener<'_> {
        Listener { tones: self, pending: Vec::new(), at: 0, heard: BTreeMap::new() }
    }

    fn tone(&self, cosine: f64, rate: u32) -> Option<usize> {
        let hz = cosine.clamp(-1.0, 1.0).acos() * f64::from(rate) / TAU;
        self.hz.iter().position(|tone| (tone - hz).abs() < TOLERANCE_HZ)
    }
}

/// Listens to octets as they come.
pub(crate) struct Listener<'a> {
    tones: &'a Tones,
    pending: Vec<u8>,
    /// Of `pending`'s first octet, from the start.
    at: u64,
    heard: BTreeMap<(usize, AudioForm), Streak>,
}

#[derive(Default)]
struct Streak {
    windows: u64,
    first: u64,
    last: u64,
    /// Windows of the streaks that were long enough, and where they began.
    counted: u64,
    began: Option<u64>,
}

/// Octets that the widest form needs for one window, and those before its first sample.
const WIDEST: usize = WINDOW * 4 + 3;

impl Listener<'_> {
    pub fn push(&mut self, chunk: &[u8]) {
        if self.tones.hz.is_empty() {
            return;
        }
        self.pending.extend_from_slice(chunk);
        let pending = std::mem::take(&mut self.pending);
        let mut start = 0;
        while start + WIDEST <= pending.len() {
            self.window(&pending[start..start + WIDEST], self.at + start as u64);
            start += STEP;
        }
        self.at += start.min(pending.len()) as u64;
        self.pending = pending[start.min(pending.len())..].to_vec();
    }

    /// Octets that are silence whatever they are.
    pub fn skip(&mut self, octets: u64) {
        self.at += self.pending.len() as u64 + octets;
        self.pending.clear();
    }

    /// Every tone with its form, windows and place.
    pub fn finish(mut self) -> Vec<(usize, AudioForm, u64, u64)> {
        if !self.pending.is_empty() {
            // The last window of what ends here must not be cut off.
            let quiet = vec![0; WIDEST];
            self.push(&quiet);
        }
        let heard = self.heard.into_iter();
        heard
            .filter_map(|((tone, form), mut streak)| {
                streak.close();
                Some((tone, form, streak.counted, streak.began?))
            })
            .collect()
    }

    fn window(&mut self, octets: &[u8], at: u64) {
        let first = octets[0];
        if octets.iter().all(|&octet| octet == first) {
            return;
        }
        let tones = self.tones;
        let mut samples = [0.0; WINDOW];
        for (form, table) in [(AudioForm::Ulaw, &tones.ulaw), (AudioForm::Alaw, &tones.alaw)] {
            for (sample, &code) in samples.iter_mut().zip(octets) {
                *sample = f64::from(table[usize::from(code)]);
            }
            if let Some(tone) = sine(&samples).and_then(|cosine| tones.tone(cosine, 8000)) {
                self.note(tone, form, at);
            }
        }
        for (parity, big_endian, channels) in LINEAR {
            let stride = usize::from(channels) * 2;
            for (n, sample) in samples.iter_mut().enumerate() {
                let pair = [octets[parity + n * stride], octets[parity + n * stride + 1]];
                let value =
                    if big_endian { i16::from_be_bytes(pair) } else { i16::from_le_bytes(pair) };
                *sample = f64::from(value);
            }
            let Some(cosine) = sine(&samples) else { continue };
            for rate in [8000, 16_000, 48_000] {
                if let Some(tone) = tones.tone(cosine, rate) {
                    self.note(tone, AudioForm::Linear { big_endian, channels, rate }, at);
                }
            }
        }
    }

    fn note(&mut self, tone: usize, form: AudioForm, at: u64) {
        let streak = self.heard.entry((tone, form)).or_default();
        if streak.windows > 0 && at - streak.last > NEAR {
            streak.close();
        }
        if streak.windows == 0 {
            streak.first = at;
        }
        streak.windows += 1;
        streak.last = at;
    }
}

impl Streak {
    fn close(&mut self) {
        if self.windows >= ENOUGH {
            self.counted += self.windows;
            self.began.get_or_insert(self.first);
        }
        self.windows = 0;
    }
}

/// Octets before the first sample, byte order and channels of the linear forms.
const LINEAR: [(usize, bool, u8); 8] = [
    (0, false, 1),
    (1, false, 1),
    (0, true, 1),
    (1, true, 1),
    (0, false, 2),
    (1, false, 2),
    (2, false, 2),
    (3, false, 2),
];

/// The cosine of the sine wave that these samples are; `None` if they are none.
fn sine(samples: &[f64; WINDOW]) -> Option<f64> {
    let (mut energy, mut product, mut square) = (0.0, 0.0, 0.0);
    for three in samples.windows(3) {
        let &[before, here, after] = three else { continue };
        let sum = before + after;
        energy += here * here;
        product += here * sum;
        square += sum * sum;
    }
    let count = (WINDOW - 2) as f64;
    if energy < FAINT * count {
        return None;
    }
    let cosine = product / (2.0 * energy);
    // Of the sum of squares of (sum - 2 c here), at its best c. A slow wave fits
    // by being smooth: what it may leave shrinks with its step.
    let residue = (square - product * product / energy) / energy;
    let step = 4.0 * (1.0 - cosine * cosine);
    (residue < RESIDUE * step.min(1.0)).then_some(cosine)
}

/// ITU-T G.711.
fn ulaw(code: u8) -> i16 {
    let bits = !code;
    let magnitude = ((i16::from(bits & 0x0f) << 3) + 0x84) << ((bits & 0x70) >> 4);
    if bits & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }
}

fn alaw(code: u8) -> i16 {
    let bits = code ^ 0x55;
    let mantissa = i16::from(bits & 0x0f) << 4;
    let segment = (bits & 0x70) >> 4;
    let magnitude = if segment == 0 { mantissa + 8 } else { (mantissa + 0x108) << (segment - 1) };
    if bits & 0x80 != 0 { magnitude } else { -magnitude }
}
