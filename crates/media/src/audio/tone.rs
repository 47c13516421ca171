use std::f64::consts::TAU;

/// About -12 dB of full scale: loud, and far from clipping.
const AMPLITUDE: f64 = 8000.0;

/// What a strongest tone must reach, in dB of full scale.
const SILENCE_DB: f64 = -50.0;

/// The longest stretch looked at: under a hertz a bin at 16 kHz.
const MAX_WINDOW: usize = 16_384;
const MIN_WINDOW: usize = 256;

/// A sine wave, continuous from one call to the next.
#[derive(Debug, Clone)]
pub struct ToneGenerator {
    phase: f64,
    step: f64,
}

impl ToneGenerator {
    /// `rate` in samples a second.
    pub fn new(hz: f64, rate: u32) -> Self {
        Self { phase: 0.0, step: TAU * hz / f64::from(rate) }
    }

    pub fn fill(&mut self, samples: &mut [i16]) {
        for sample in samples {
            *sample = (AMPLITUDE * self.phase.sin()) as i16;
            self.phase = (self.phase + self.step) % TAU;
        }
    }
}

/// The strongest frequency in Hz, and its level in dB of full scale. `None` for
/// silence, or for fewer than 256 samples. Looks at the end of what it is given.
pub fn strongest_tone(samples: &[i16], rate: u32) -> Option<(f64, f64)> {
    if samples.len() < MIN_WINDOW {
        return None;
    }
    let size = (1 << samples.len().ilog2()).min(MAX_WINDOW);
    let mut spectrum: Vec<Complex> = samples[samples.len() - size..]
        .iter()
        .enumerate()
        .map(|(n, sample)| Complex(f64::from(*sample) / 32_768.0 * hann(n, size), 0.0))
        .collect();
    transform(&mut spectrum);
    let power: Vec<f64> = spectrum[..size / 2].iter().map(|it| it.0 * it.0 + it.1 * it.1).collect();
    // The lowest bins hold the window's skirt and any constant offset.
    let (peak, _) = (3..size / 2 - 1)
        .map(|bin| (bin, power[bin]))
        .max_by(|left, right| left.1.total_cmp(&right.1))?;
    // A Hann window spreads a tone over three bins.
    let energy = power[peak - 1] + power[peak] + power[peak + 1];
    let level = 10.0 * (energy / (size as f64 * size as f64 * 0.09375)).log10();
    (level > SILENCE_DB).then(|| {
        let bin = peak as f64 + interpolate(power[peak - 1], power[peak], power[peak + 1]);
        (bin * f64::from(rate) / size as f64, level)
    })
}

fn hann(n: usize, size: usize) -> f64 {
    0.5 - 0.5 * (TAU * n as f64 / size as f64).cos()
}

/// The peak's offset from the middle bin, by a parabola through logarithms.
fn interpolate(left: f64, middle: f64, right: f64) -> f64 {
    let [left, middle, right] = [left, middle, right].map(|power| power.max(1e-30).ln());
    let curve = left - 2.0 * middle + right;
    if curve == 0.0 { 0.0 } else { (0.5 * (left - right) / curve).clamp(-0.5, 0.5) }
}

#[derive(Debug, Clone, Copy)]
struct Complex(f64, f64);

/// A radix-2 fast Fourier transform in place; the length is a power of two.
fn transform(values: &mut [Complex]) {
    let bits = values.len().trailing_zeros();
    for n in 0..values.len() {
        let mirrored = n.reverse_bits() >> (usize::BITS - bits);
        if mirrored > n {
            values.swap(n, mirrored);
        }
    }
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_mut(half * 2) {
            let (low, high) = block.split_at_mut(half);
            for (n, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let (sin, cos) = (-TAU * n as f64 / (half * 2) as f64).sin_cos();
                let turned = Complex(b.0 * cos - b.1 * sin, b.0 * sin + b.1 * cos);
                *b = Complex(a.0 - turned.0, a.1 - turned.1);
                *a = Complex(a.0 + turned.0, a.1 + turned.1);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_found_within_ten_hertz_at_its_level() {
        for rate in [8000, 16_000, 48_000] {
            for hz in [300.0, 441.3, 1004.0, 1633.7, 3100.0] {
                let mut samples = vec![0; rate as usize / 4];
                ToneGenerator::new(hz, rate).fill(&mut samples);
                let (found, level) = strongest_tone(&samples, rate).unwrap();
                assert!((found - hz).abs() < 10.0, "{rate} {hz}: {found}");
                assert!((level - -12.2).abs() < 1.0, "{level}");
            }
        }
    }

    #[test]
    fn the_louder_of_two_tones_wins() {
        let mut loud = vec![0; 4000];
        let mut soft = loud.clone();
        ToneGenerator::new(700.0, 8000).fill(&mut loud);
        ToneGenerator::new(1900.0, 8000).fill(&mut soft);
        let mixed: Vec<i16> = loud.iter().zip(&soft).map(|(a, b)| a + b / 3).collect();
        assert!((strongest_tone(&mixed, 8000).unwrap().0 - 700.0).abs() < 10.0);
    }

    #[test]
    fn silence_and_faint_noise_are_nothing() {
        assert_eq!(strongest_tone(&[0; 4000], 8000), None);
        let faint: Vec<i16> = (0..4000).map(|n| (n * 7919 % 13) as i16 - 6).collect();
        assert_eq!(strongest_tone(&faint, 8000), None);
        assert_eq!(strongest_tone(&[1000; 100], 8000), None, "too short");
    }
}
