use std::f64::consts::TAU;
use std::path::Path;

/// A WAV file of 16 bit for somebody to play.
pub struct Wav {
    pub rate: u32,
    pub channels: u16,
    pub seconds: u32,
    pub peak: f64,
}

impl Wav {
    /// One tone, the same in each channel.
    pub fn write(&self, path: &Path, hz: u32) {
        let spec = hound::WavSpec {
            channels: self.channels,
            sample_rate: self.rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(path, spec).unwrap();
        for n in 0..self.seconds * self.rate {
            let phase = f64::from(n) * f64::from(hz) / f64::from(self.rate);
            let sample = ((phase * TAU).sin() * self.peak) as i16;
            (0..self.channels).for_each(|_| wav.write_sample(sample).unwrap());
        }
        wav.finalize().unwrap();
    }
}

/// The dominant tone of a 16-bit PCM WAV file's last second but a quarter (the
/// very end may hold the hang-up), in Hz. `None`: too short, or silent.
pub fn of_wav(path: &Path) -> Option<f64> {
    // A file still being written has a length of zero in its header.
    let bytes = std::fs::read(path).ok()?;
    let rate = u32::from_le_bytes(bytes.get(24..28)?.try_into().ok()?);
    let channels = usize::from(u16::from_le_bytes(bytes.get(22..24)?.try_into().ok()?)).max(1);
    let samples: Vec<i16> = bytes
        .get(44..)?
        .chunks_exact(2 * channels)
        .map(|frame| i16::from_le_bytes([frame[0], frame[1]]))
        .collect();
    dominant(&samples, rate)
}

/// The first channel of a recording that may still be written.
pub fn samples(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let channels = bytes.get(22..24).map_or(1, |it| usize::from(it[0]).max(1));
    let frames = bytes.get(44..).unwrap_or_default().chunks_exact(2 * channels);
    frames.map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect()
}

/// As [`of_wav`], of samples in memory.
pub fn dominant(samples: &[i16], rate: u32) -> Option<f64> {
    let quarter = rate as usize / 4;
    let end = samples.len().saturating_sub(quarter);
    let window = &samples[end.saturating_sub(3 * quarter)..end];
    if window.len() < quarter {
        return None;
    }
    let level =
        (window.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / window.len() as f64).sqrt();
    if level < 50.0 {
        return None;
    }
    // Goertzel at every 5 Hz of the telephone band: slow and certain.
    (40..=680)
        .map(|step| f64::from(step) * 5.0)
        .map(|hz| (power(window, rate, hz), hz))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, hz)| hz)
}

fn power(samples: &[i16], rate: u32, hz: f64) -> f64 {
    let coefficient = 2.0 * (std::f64::consts::TAU * hz / f64::from(rate)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for &sample in samples {
        let next = f64::from(sample) + coefficient * last - before;
        before = last;
        last = next;
    }
    last * last + before * before - coefficient * last * before
}

/// Whether a tone was heard as sent, within what codecs and resampling bend.
pub fn same(heard: Option<f64>, sent: u32) -> bool {
    heard.is_some_and(|hz| (hz - f64::from(sent)).abs() <= 12.0)
}

#[test]
fn the_detector_hears_the_tone_and_not_silence() {
    let tone: Vec<i16> = (0..8000)
        .map(|n| ((f64::from(n) * std::f64::consts::TAU * 440.0 / 8000.0).sin() * 8000.0) as i16)
        .collect();
    assert!(same(dominant(&tone, 8000), 440));
    assert!(!same(dominant(&tone, 8000), 600));
    assert_eq!(dominant(&[0; 8000], 8000), None);
}
