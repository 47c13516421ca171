//! Times as customers write and read them.

use std::time::{SystemTime, UNIX_EPOCH};

use landline_region::UnixMillis;

const DAY_MS: i64 = 86_400_000;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// RFC 5322 §3.3 in UTC, as `Sun, 22 Nov 2026 12:00:00 +0000`: what clients of
/// the 2010 API parse.
pub fn rfc5322(at: UnixMillis) -> String {
    // RFC 3339's text has every part but the weekday.
    let text = at.to_string();
    let mut parts = text.split(['-', 'T', ':', '.']);
    let mut next = || parts.next().unwrap_or_default();
    let (year, month, day) = (next(), next(), next());
    let (hour, minute, second) = (next(), next(), next());
    let weekday = at.0.div_euclid(DAY_MS).rem_euclid(7) as usize;
    let month = month.parse::<usize>().unwrap_or(1).saturating_sub(1) % 12;
    format!("{}, {day} {} {year} {hour}:{minute}:{second} +0000", WEEKDAYS[weekday], MONTHS[month])
}

pub fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The date alone, as `2026-11-22`.
pub fn date(at: UnixMillis) -> String {
    at.to_string().chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_2010_form_names_the_weekday() {
        assert_eq!(rfc5322(UnixMillis(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(
            rfc5322(UnixMillis(1_795_348_800_000)),
            "Sun, 22 Nov 2026 16:00:00 +0000".replace("16", "12")
        );
    }
}
