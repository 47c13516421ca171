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

/// The whole of a sound at another rate, up or down, with a Hann-windowed sinc
/// that lets nine tenths of the narrower band pass.
pub fn resampled(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
    if from == to || from == 0 || to == 0 {
        return samples.to_vec();
    }
    let common = common_divisor(from, to);
    let (up, down) = ((to / common) as usize, (from / common) as usize);
    let pass = 0.9 * (up as f32 / down as f32).min(1.0);
    // As many zero crossings on each side whatever the rates are.
    let reach = (TAPS as f32 / 2.0 / pass).ceil() as usize;
    let phases: Vec<Vec<f32>> =
        (0..up).map(|it| phase(it as f32 / up as f32, pass, reach)).collect();
    let length = (samples.len() as u64 * up as u64 / down as u64) as usize;
    let at = |n: usize| {
        let (base, phase) = (n * down / up, n * down % up);
        let taps = phases.get(phase).into_iter().flatten().enumerate();
        let sum: f32 = taps
            .filter_map(|(tap, weight)| {
                let place = (base + tap + 1).checked_sub(reach)?;
                Some(weight * f32::from(*samples.get(place)?))
            })
            .sum();
        sum.round() as i16
    };
    (0..length).map(at).collect()
}

/// The weights of so many samples on each side of a place between two.
fn phase(place: f32, pass: f32, reach: usize) -> Vec<f32> {
    let tap = |tap: usize| {
        let x = tap as f32 + 1.0 - reach as f32 - place;
        let sinc = if x.abs() < 1e-6 { pass } else { (PI * pass * x).sin() / (PI * x) };
        sinc * (0.5 + 0.5 * (PI * x / reach as f32).cos())
    };
    let mut taps: Vec<f32> = (0..2 * reach).map(tap).collect();
    let sum: f32 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    taps
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
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
    fn a_whole_sound_keeps_its_pitch_at_any_rate_and_nothing_folds_back() {
        for (from, to) in [(44_100, 16_000), (48_000, 16_000), (16_000, 8000), (8000, 16_000)] {
            let mut sound = vec![0; from as usize];
            ToneGenerator::new(1500.0, from).fill(&mut sound);
            let out = resampled(&sound, from, to);
            assert_eq!(out.len(), to as usize);
            let (hz, level) = strongest_tone(&out, to).unwrap();
            assert!((hz - 1500.0).abs() < 5.0, "{hz}");
            assert!((level - -12.2).abs() < 1.0, "{level}");
        }
        let mut high = vec![0; 16_000];
        ToneGenerator::new(6000.0, 16_000).fill(&mut high);
        let heard = strongest_tone(&resampled(&high, 16_000, 8000), 8000);
        assert!(heard.is_none_or(|(_, level)| level < -45.0), "{heard:?}");
    }

    #[test]
    fn a_rate_that_is_no_multiple_is_refused() {
        assert!(Upsampler::new(16_000, 8000).is_none());
        assert!(Upsampler::new(0, 8000).is_none());
    }
}
