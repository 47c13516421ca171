use std::f32::consts::PI;

/// Input samples each output sample is made from.
const TAPS: usize = 24;

/// Raises the sample rate by a whole factor, with a windowed sinc in as many
/// phases; continuous from one call to the next.
pub struct Upsampler {
    phases: Vec<[f32; TAPS]>,
    history: [f32; TAPS],
}

impl Upsampler {
    /// `None` unless `to` is a multiple of `from`.
    pub fn new(from: u32, to: u32) -> Option<Self> {
        if from == 0 || !to.is_multiple_of(from) {
            return None;
        }
        let factor = (to / from) as usize;
        let phases = (0..factor).map(|phase| coefficients(phase, factor)).collect();
        Some(Self { phases, history: [0.0; TAPS] })
    }

    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        if self.phases.len() == 1 {
            out.extend_from_slice(samples);
            return;
        }
        for sample in samples {
            self.history.copy_within(1.., 0);
            self.history[TAPS - 1] = f32::from(*sample);
            out.extend(self.phases.iter().map(|taps| {
                let sum: f32 = taps.iter().zip(&self.history).map(|(tap, x)| tap * x).sum();
                // A cast saturates.
                sum.round() as i16
            }));
        }
    }
}

/// One phase of a Hann-windowed sinc that lets nine tenths of the band pass.
fn coefficients(phase: usize, factor: usize) -> [f32; TAPS] {
    const PASS: f32 = 0.9;
    let middle = TAPS as f32 / 2.0;
    let mut taps: [f32; TAPS] = std::array::from_fn(|tap| {
        let x = tap as f32 - middle + 1.0 - phase as f32 / factor as f32;
        let sinc = if x == 0.0 { PASS } else { (PI * PASS * x).sin() / (PI * x) };
        sinc * (0.5 + 0.5 * (PI * x / middle).cos())
    });
    let sum: f32 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    taps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{ToneGenerator, strongest_tone};

    #[test]
    fn a_tone_keeps_its_pitch_and_level_at_a_higher_rate() {
        for (from, to) in [(8000, 16_000), (8000, 48_000), (16_000, 48_000), (8000, 8000)] {
            let mut tone = ToneGenerator::new(1500.0, from);
            let mut upsampler = Upsampler::new(from, to).unwrap();
            let mut out = Vec::new();
            for _ in 0..50 {
                let mut frame = vec![0; from as usize / 50];
                tone.fill(&mut frame);
                upsampler.push(&frame, &mut out);
            }
            assert_eq!(out.len(), to as usize);
            let (hz, level) = strongest_tone(&out, to).unwrap();
            assert!((hz - 1500.0).abs() < 5.0, "{hz}");
            assert!((level - -12.2).abs() < 1.0, "{level}");
        }
    }

    #[test]
    fn a_rate_that_is_no_multiple_is_refused() {
        assert!(Upsampler::new(16_000, 8000).is_none());
        assert!(Upsampler::new(0, 8000).is_none());
    }
}
