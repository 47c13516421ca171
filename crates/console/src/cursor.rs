//! Where a page ended, as clients carry it to the next.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landline_region::UnixMillis;

use crate::problem::Problem;

pub const PARAMETER: &str = "PageToken";

/// The last row's time and sid: what was added or removed since moves no page.
pub fn write(at: UnixMillis, sid: impl std::fmt::Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{sid}", at.0))
}

pub fn read<T: FromStr>(token: &str) -> Result<(UnixMillis, T), Problem> {
    let parse = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (at, sid) = text.split_once('.')?;
        Some((UnixMillis(at.parse().ok()?), sid.parse().ok()?))
    };
    parse().ok_or_else(|| {
        Problem::invalid(PARAMETER, "this is no token of a former page; follow `next_page_uri`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use landline_region::CallSid;

    #[test]
    fn a_token_is_read_back_and_no_other_text_is_one() {
        let place = (UnixMillis(-5), CallSid::from_u128(7));
        assert_eq!(read(&write(place.0, place.1)).unwrap(), place);
        for bad in ["", "x", "MTIz", &write(UnixMillis(1), "RE1")] {
            assert!(read::<CallSid>(bad).is_err(), "{bad}");
        }
    }
}
