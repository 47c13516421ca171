use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as i64))
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl fmt::Display for UnixMillis {
    /// RFC 3339 in UTC, as `2026-11-22T12:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, millis) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let seconds = millis / 1000;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            millis % 1000
        )
    }
}

/// The proleptic Gregorian date of a day number counted from 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time in UTC: as 2026-11-22 or 2026-11-22T12:00:00Z")]
pub struct InvalidTime(String);

impl FromStr for UnixMillis {
    type Err = InvalidTime;

    /// A date, which is its first moment, or a date and time of RFC 3339 in UTC.
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let parsed = match text.split_once('T') {
            None => days_of(text).map(|days| days * 86_400_000),
            Some((date, time)) => days_of(date)
                .zip(time.strip_suffix('Z').and_then(millis_of))
                .map(|(days, millis)| days * 86_400_000 + millis),
        };
        parsed.map(Self).ok_or_else(|| InvalidTime(text.chars().take(48).collect()))
    }
}

/// The day number of `YYYY-MM-DD`, if that day exists.
fn days_of(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    // Counted from March, the day that leap years add is the last.
    let (shifted_year, shifted_month) = (year - i64::from(month <= 2), (month + 9) % 12);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100
        + (153 * shifted_month + 2) / 5
        + day
        - 1;
    let days = era * 146_097 + day_of_era - 719_468;
    (parts.next().is_none() && civil_from_days(days) == (year, month, day)).then_some(days)
}

/// Of `HH:MM:SS` with up to three decimals.
fn millis_of(time: &str) -> Option<i64> {
    let (time, decimals) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.split(':');
    let (hour, minute, second) =
        (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let within = parts.next().is_none() && hour < 24 && minute < 60 && second < 60;
    let length = decimals.len();
    let scale = *[0, 100, 10, 1].get(length)?;
    let millis = digits(decimals, length)? * scale;
    within.then_some(((hour * 60 + minute) * 60 + second) * 1000 + millis)
}

fn digits(text: &str, length: usize) -> Option<i64> {
    let fine = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    fine.then(|| text.parse().ok()).flatten()
}

/// The two readings of the clock that a shell passes to a pure machine: the
/// monotonic one for timers, the wall clock for what is written down.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub instant: Instant,
    pub unix: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(UnixMillis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(UnixMillis(951_826_000_123).to_string(), "2000-02-29T12:06:40.123Z");
        assert_eq!(UnixMillis(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }
    #[test]
    fn a_time_is_read_as_it_is_printed() {
        for millis in [0, 951_826_000_123, 1_763_812_800_000, -1, 1_709_164_800_000] {
            let time = UnixMillis(millis);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        assert_eq!("2000-02-29".parse(), Ok(UnixMillis(951_782_400_000)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(UnixMillis(1000)));
        assert_eq!("1970-01-01T00:00:00.5Z".parse(), Ok(UnixMillis(500)));
        for bad in [
            "",
            "2001-02-29",
            "2001-13-01",
            "2001-1-1",
            "2001-01-01T24:00:00Z",
            "2001-01-01T00:00:00",
            "2001-01-01T00:00:00.1234Z",
            "0x-01-01",
        ] {
            assert!(bad.parse::<UnixMillis>().is_err(), "{bad}");
        }
    }
}
