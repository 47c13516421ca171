//! The music on hold of those who have put none of their own: plucked chords,
//! made by this code.

use std::f64::consts::TAU;

/// Seconds from one note to the next.
const STEP: f64 = 0.3;
/// How long a note rings.
const RING: f64 = 1.5;
/// Of a note's first swing; several ring at a time.
const LEVEL: f64 = 2600.0;

/// Eight notes each, in semitones from the A below middle C: one chord after the
/// other, and a last line that leads back to the first.
const LINES: [[i32; 8]; 8] = [
    [3, 10, 15, 19, 22, 19, 15, 10],
    [0, 7, 12, 15, 19, 15, 12, 7],
    [8, 15, 20, 24, 27, 24, 20, 15],
    [10, 14, 17, 22, 26, 22, 17, 14],
    [3, 10, 15, 22, 27, 22, 19, 15],
    [0, 7, 15, 19, 24, 19, 15, 12],
    [5, 12, 17, 20, 24, 20, 17, 12],
    [10, 17, 22, 26, 29, 26, 22, 17],
];

/// About twenty seconds at so many samples a second, whose end joins its
/// beginning.
pub fn tune(rate: u32) -> Vec<i16> {
    let notes = LINES.iter().flatten();
    let step = (STEP * f64::from(rate)) as usize;
    let mut sound = vec![0.0; step * LINES.len() * LINES[0].len()];
    for (place, semitones) in notes.enumerate() {
        let hz = 220.0 * (f64::from(*semitones) / 12.0).exp2();
        let ring = (RING * f64::from(rate)) as usize;
        for n in 0..ring {
            let at = (place * step + n) % sound.len();
            sound[at] += plucked(hz, n as f64 / f64::from(rate));
        }
    }
    sound.iter().map(|sample| *sample as i16).collect()
}

/// A string's swing so many seconds after it was plucked.
fn plucked(hz: f64, at: f64) -> f64 {
    let rise = (at / 0.008).min(1.0);
    let fade = ((RING - at) / 0.1).clamp(0.0, 1.0);
    let overtones = [(1.0, 1.0, 2.6), (2.0, 0.35, 4.5), (3.0, 0.12, 7.0)];
    let swing: f64 = overtones
        .iter()
        .map(|(times, share, decay)| share * (-at * decay).exp() * (TAU * hz * times * at).sin())
        .sum();
    LEVEL * rise * fade * swing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::strongest_tone;

    #[test]
    fn it_is_audible_throughout_and_never_clips() {
        for rate in [8000, 16_000] {
            let sound = tune(rate);
            assert!((15.0..30.0).contains(&(sound.len() as f64 / f64::from(rate))));
            assert!(sound.iter().all(|it| it.unsigned_abs() < 24_000));
            for second in sound.chunks_exact(rate as usize) {
                let (_, level) = strongest_tone(second, rate).unwrap();
                assert!(level > -40.0, "{level}");
            }
        }
    }
}
