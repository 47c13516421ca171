use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A region's code: two lower-case letters and one or two digits, as `ie1`.
///
/// Which codes exist is configuration; this type only says what one looks like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegionCode {
    bytes: [u8; 4],
    length: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a region code: two lower-case letters and one or two digits, as `ie1`")]
pub struct InvalidRegion(String);

impl RegionCode {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl FromStr for RegionCode {
    type Err = InvalidRegion;

    fn from_str(text: &str) -> Result<Self, InvalidRegion> {
        let bytes = text.as_bytes();
        let well_formed = matches!(bytes.len(), 3 | 4)
            && bytes[..2].iter().all(u8::is_ascii_lowercase)
            && bytes[2..].iter().all(u8::is_ascii_digit);
        if !well_formed {
            return Err(InvalidRegion(text.chars().take(32).collect()));
        }
        let mut code = Self { bytes: [0; 4], length: bytes.len() as u8 };
        code.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(code)
    }
}

impl TryFrom<String> for RegionCode {
    type Error = InvalidRegion;

    fn try_from(text: String) -> Result<Self, InvalidRegion> {
        text.parse()
    }
}

impl From<RegionCode> for String {
    fn from(code: RegionCode) -> String {
        code.as_str().to_owned()
    }
}

impl fmt::Display for RegionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for RegionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The law a region stands under: an ISO 3166-1 alpha-2 country code, as `IE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Jurisdiction([u8; 2]);

impl FromStr for Jurisdiction {
    type Err = InvalidRegion;

    fn from_str(text: &str) -> Result<Self, InvalidRegion> {
        match text.as_bytes() {
            &[a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err(InvalidRegion(text.chars().take(32).collect())),
        }
    }
}

impl TryFrom<String> for Jurisdiction {
    type Error = InvalidRegion;

    fn try_from(text: String) -> Result<Self, InvalidRegion> {
        text.parse()
    }
}

impl From<Jurisdiction> for String {
    fn from(jurisdiction: Jurisdiction) -> String {
        jurisdiction.to_string()
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_two_letters_and_digits() {
        for good in ["ie1", "us1", "au12"] {
            assert_eq!(good.parse::<RegionCode>().unwrap().to_string(), good);
        }
        for bad in ["", "ie", "IE1", "1ie", "ie123", "ieé", "i\u{e9}1"] {
            assert!(bad.parse::<RegionCode>().is_err(), "{bad}");
        }
    }
}
