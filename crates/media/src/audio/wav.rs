//! WAV files that people put to be played.

use super::resampled;

/// What a WAV file may be to be played.
const RATES: std::ops::RangeInclusive<u32> = 8000..=48_000;
const CHANNELS: std::ops::RangeInclusive<u16> = 1..=2;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    #[error("it is no WAV file of uncompressed samples: {0}")]
    Unreadable(String),
    #[error("it has {0} samples a second: wanted 8000 to 48000")]
    Rate(u32),
    #[error("it has {0} channels: wanted one or two")]
    Channels(u16),
    #[error("it is longer than {0} seconds")]
    TooLong(usize),
}

/// One channel of a WAV file's sound, both mixed, at `rate`. Takes its time.
pub fn read_wav(file: &[u8], rate: u32, most_seconds: usize) -> Result<Vec<i16>, WavError> {
    let unreadable = |error: hound::Error| WavError::Unreadable(error.to_string());
    let mut reader = hound::WavReader::new(file).map_err(unreadable)?;
    let hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
    if !RATES.contains(&sample_rate) {
        return Err(WavError::Rate(sample_rate));
    }
    if !CHANNELS.contains(&channels) {
        return Err(WavError::Channels(channels));
    }
    if reader.duration() as usize > most_seconds * sample_rate as usize {
        return Err(WavError::TooLong(most_seconds));
    }
    let samples: Result<Vec<f32>, _> = match sample_format {
        hound::SampleFormat::Float => reader.samples::<f32>().collect(),
        hound::SampleFormat::Int => {
            let full = (1i64 << (bits_per_sample.clamp(1, 32) - 1)) as f32;
            reader.samples::<i32>().map(|it| it.map(|it| it as f32 / full)).collect()
        }
    };
    let samples = samples.map_err(unreadable)?;
    let channels = usize::from(channels);
    let mono: Vec<i16> = samples
        .chunks_exact(channels)
        .map(|frame| (frame.iter().sum::<f32>() / channels as f32 * 32_767.0) as i16)
        .collect();
    Ok(resampled(&mono, sample_rate, rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{ToneGenerator, strongest_tone};

    fn file(spec: hound::WavSpec, samples: &[i16]) -> Vec<u8> {
        let mut out = std::io::Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut out, spec).unwrap();
        for sample in samples {
            for _ in 0..spec.channels {
                match spec.sample_format {
                    hound::SampleFormat::Float => {
                        writer.write_sample(f32::from(*sample) / 32_768.0).unwrap();
                    }
                    hound::SampleFormat::Int => {
                        let shift = spec.bits_per_sample as i32 - 16;
                        let sample = i32::from(*sample);
                        let sample = if shift < 0 { sample >> -shift } else { sample << shift };
                        writer.write_sample(sample).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        out.into_inner()
    }

    fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16) -> hound::WavSpec {
        let sample_format = hound::SampleFormat::Int;
        hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format }
    }

    #[test]
    fn files_as_people_have_them_keep_their_tone() {
        let float =
            hound::WavSpec { sample_format: hound::SampleFormat::Float, ..spec(2, 44_100, 32) };
        for spec in
            [spec(1, 8000, 16), spec(2, 44_100, 16), spec(1, 48_000, 24), spec(1, 16_000, 8), float]
        {
            let mut samples = vec![0; spec.sample_rate as usize];
            ToneGenerator::new(900.0, spec.sample_rate).fill(&mut samples);
            let read = read_wav(&file(spec, &samples), 16_000, 5).unwrap();
            assert_eq!(read.len(), 16_000);
            let (hz, level) = strongest_tone(&read, 16_000).unwrap();
            assert!(
                (hz - 900.0).abs() < 5.0 && (level - -12.2).abs() < 1.0,
                "{spec:?} {hz} {level}"
            );
        }
    }

    #[test]
    fn what_cannot_be_played_says_why() {
        let second = vec![0; 8000];
        let long = read_wav(&file(spec(1, 8000, 16), &second), 16_000, 0);
        assert_eq!(long, Err(WavError::TooLong(0)));
        let many = read_wav(&file(spec(6, 8000, 16), &second), 16_000, 5);
        assert_eq!(many, Err(WavError::Channels(6)));
        let slow = read_wav(&file(spec(1, 4000, 16), &second), 16_000, 5);
        assert_eq!(slow, Err(WavError::Rate(4000)));
        let whole = file(spec(2, 8000, 16), &second);
        for length in 0..64 {
            assert!(read_wav(&whole[..length], 16_000, 5).is_err(), "{length}");
        }
        assert!(read_wav(b"ID3\x04 a song", 16_000, 5).is_err());
    }
}
