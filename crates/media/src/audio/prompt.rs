//! What callers and users of mailboxes hear who have put nothing of their own.

use super::{ToneGenerator, read_wav};

/// English, by a synthetic voice whose makers let it be used for anything: it says
/// that nobody takes the call, that a message may be left after the tone, and that
/// it is recorded.
const GREETING: &[u8] = include_bytes!("../../sounds/greeting.wav");

/// By the same voice.
const NO_MESSAGES: &[u8] = include_bytes!("../../sounds/no-messages.wav");
const NO_MORE_MESSAGES: &[u8] = include_bytes!("../../sounds/no-more-messages.wav");

/// No prompt is longer.
const MOST_SECONDS: usize = 10;

/// About six seconds at so many samples a second.
pub fn greeting(rate: u32) -> Vec<i16> {
    spoken(GREETING, rate)
}

/// Who listens to a mailbox that is empty.
pub fn no_messages(rate: u32) -> Vec<i16> {
    spoken(NO_MESSAGES, rate)
}

/// And who has heard all that there is.
pub fn no_more_messages(rate: u32) -> Vec<i16> {
    spoken(NO_MORE_MESSAGES, rate)
}

/// A third of a second between two silences: whoever waits for it hears it begin
/// and end.
pub fn beep(rate: u32) -> Vec<i16> {
    let part = |seconds: f64| (seconds * f64::from(rate)) as usize;
    let mut tone = vec![0; part(0.35)];
    ToneGenerator::new(BEEP_HZ, rate).fill(&mut tone);
    [vec![0; part(0.25)], tone, vec![0; part(0.1)]].concat()
}

const BEEP_HZ: f64 = 1000.0;

fn spoken(file: &[u8], rate: u32) -> Vec<i16> {
    read_wav(file, rate, MOST_SECONDS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::strongest_tone;

    #[test]
    fn the_greeting_is_speech_and_the_beep_a_tone() {
        for rate in [8000, 16_000] {
            let said = greeting(rate);
            let seconds = said.len() as f64 / f64::from(rate);
            assert!((4.0..9.0).contains(&seconds), "{seconds}");
            assert!(said.iter().any(|it| it.unsigned_abs() > 8000));
            for said in [no_messages(rate), no_more_messages(rate)] {
                let seconds = said.len() as f64 / f64::from(rate);
                assert!((0.8..2.5).contains(&seconds), "{seconds}");
                assert!(said.iter().any(|it| it.unsigned_abs() > 8000));
            }
            let heard = beep(rate);
            let middle = &heard[heard.len() / 2 - rate as usize / 10..][..rate as usize / 5];
            let (hz, level) = strongest_tone(middle, rate).unwrap();
            assert!((hz - BEEP_HZ).abs() < 10.0 && level > -16.0, "{hz} {level}");
        }
    }
}
