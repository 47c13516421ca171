//! What was lost of a waveform: its last period goes on and fades, after the
//! manner of ITU-T G.711 appendix I.

/// Samples kept, in milliseconds: the longest period and as long a stretch to
/// find it in.
const HISTORY_MS: usize = 40;
/// Voices' periods: 400 Hz to 66 Hz.
const SHORTEST_US: usize = 2500;
const LONGEST_US: usize = 15_000;
/// What is compared to find the period.
const WINDOW_MS: usize = 20;
/// It sounds as before for so long, and is silent at the end.
const STEADY_MS: usize = 10;
const FADED_MS: usize = 60;
/// In which the true sound takes over again.
const CROSSFADE_MS: usize = 4;

/// Fills gaps in the sound of a codec that cannot do so by itself.
pub struct Concealer {
    /// Samples of a millisecond.
    ms: usize,
    /// The latest of the true sound, the newest at the end.
    history: Vec<i16>,
    /// Of the gap that is being filled.
    gap: Option<Gap>,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    period: usize,
    /// Samples filled in so far.
    filled: usize,
}

impl Concealer {
    /// `rate` in samples a second.
    pub fn new(rate: u32) -> Self {
        let ms = rate as usize / 1000;
        Self { ms, history: vec![0; ms * HISTORY_MS], gap: None }
    }

    /// True sound has come. Behind a gap its beginning is blended with what was
    /// made up.
    pub fn heard(&mut self, sound: &mut [i16]) {
        if let Some(mut gap) = self.gap.take() {
            let length = (self.ms * CROSSFADE_MS).min(sound.len());
            for (at, sample) in sound.iter_mut().take(length).enumerate() {
                let made_up = f32::from(self.next(&mut gap));
                let share = (at + 1) as f32 / (length + 1) as f32;
                *sample = (made_up * (1.0 - share) + f32::from(*sample) * share) as i16;
            }
        }
        let length = sound.len().min(self.history.len());
        self.history.copy_within(length.., 0);
        let kept = self.history.len() - length;
        self.history[kept..].copy_from_slice(&sound[sound.len() - length..]);
    }

    /// Appends what is missing.
    pub fn fill(&mut self, samples: usize, out: &mut Vec<i16>) {
        let mut gap = self.gap.unwrap_or_else(|| Gap { period: self.period(), filled: 0 });
        for _ in 0..samples {
            let sample = self.next(&mut gap);
            out.push(sample);
        }
        self.gap = Some(gap);
    }

    fn next(&self, gap: &mut Gap) -> i16 {
        let at = self.history.len() - gap.period + gap.filled % gap.period;
        let (steady, faded) = (self.ms * STEADY_MS, self.ms * FADED_MS);
        let left = faded.saturating_sub(gap.filled).min(faded - steady);
        let gain = left as f32 / (faded - steady) as f32;
        gap.filled += 1;
        (f32::from(self.history[at]) * gain) as i16
    }

    /// Where the latest sound resembles itself most.
    fn period(&self) -> usize {
        let (shortest, longest) = (self.ms * SHORTEST_US / 1000, self.ms * LONGEST_US / 1000);
        let window = self.ms * WINDOW_MS;
        let latest = &self.history[self.history.len() - window..];
        let likeness = |lag: usize| {
            let start = self.history.len() - window - lag;
            let earlier = &self.history[start..start + window];
            let mut product = 0.0f32;
            let mut energy = 1.0f32;
            for (a, b) in latest.iter().zip(earlier) {
                product += f32::from(*a) * f32::from(*b);
                energy += f32::from(*b) * f32::from(*b);
            }
            product / energy.sqrt()
        };
        let lags = (shortest..=longest).map(|lag| (likeness(lag), lag));
        lags.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(longest, |(_, lag)| lag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{ToneGenerator, strongest_tone};

    #[test]
    fn a_tone_goes_on_through_short_gaps() {
        for rate in [8000, 16_000] {
            let frame = rate as usize / 50;
            let mut tone = ToneGenerator::new(445.0, rate);
            let mut concealer = Concealer::new(rate);
            let mut heard = Vec::new();
            for n in 0..100 {
                let mut sound = vec![0; frame];
                tone.fill(&mut sound);
                if n % 20 == 19 {
                    concealer.fill(frame, &mut heard);
                } else {
                    concealer.heard(&mut sound);
                    heard.extend(sound);
                }
            }
            let (hz, level) = strongest_tone(&heard, rate).unwrap();
            assert!((hz - 445.0).abs() < 3.0, "{hz}");
            assert!((level - -12.2).abs() < 0.5, "{level}");
            // Without a click: no step that the tone itself does not have.
            let steepest = heard.windows(2).map(|it| (it[1] - it[0]).unsigned_abs()).max().unwrap();
            assert!(steepest < 8000, "{steepest}");
        }
    }

    #[test]
    fn a_long_gap_ends_in_silence() {
        let mut concealer = Concealer::new(8000);
        let mut sound = vec![0; 800];
        ToneGenerator::new(300.0, 8000).fill(&mut sound);
        concealer.heard(&mut sound);
        let mut made_up = Vec::new();
        concealer.fill(8 * 200, &mut made_up);
        assert!(made_up[..80].iter().any(|it| it.unsigned_abs() > 7000));
        assert!(made_up[8 * FADED_MS..].iter().all(|it| *it == 0));
    }
}
