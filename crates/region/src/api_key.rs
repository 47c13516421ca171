use std::fmt;
use std::str::FromStr;

use crate::{Entropy, RegionCode};

/// Names a key of the HTTPS API: `AK`, its region and 32 hexadecimal digits.
///
/// The region stands in it so that any region can say where a key belongs
/// without knowing the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKeySid {
    region: RegionCode,
    number: u128,
}

const DIGITS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a key's sid: wanted `AK`, a region and 32 hexadecimal digits")]
pub struct InvalidApiKeySid;

impl ApiKeySid {
    pub fn new(region: RegionCode, entropy: &mut Entropy) -> Self {
        Self { region, number: u128::from_be_bytes(entropy.bytes()) }
    }

    pub const fn region(self) -> RegionCode {
        self.region
    }
}

impl fmt::Display for ApiKeySid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AK{}{:032x}", self.region, self.number)
    }
}

impl fmt::Debug for ApiKeySid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ApiKeySid {
    type Err = InvalidApiKeySid;

    fn from_str(text: &str) -> Result<Self, InvalidApiKeySid> {
        let parse = || {
            let rest = text.strip_prefix("AK").filter(|rest| rest.is_ascii())?;
            let (region, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
            let hexadecimal = digits.bytes().all(|b| b.is_ascii_hexdigit());
            let number = u128::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)?;
            Some(Self { region: region.parse().ok()?, number })
        };
        parse().ok_or(InvalidApiKeySid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_region() {
        for code in ["ie1", "au12"] {
            let sid = ApiKeySid::new(code.parse().unwrap(), &mut Entropy::new([7; 32]));
            let again: ApiKeySid = sid.to_string().parse().unwrap();
            assert_eq!((again, again.region().as_str()), (sid, code));
        }
        for bad in ["", "AK", "AKie1", "ie100000000000000000000000000000001", "AKié1"] {
            assert!(bad.parse::<ApiKeySid>().is_err(), "{bad}");
        }
        assert!("AKie1+0000000000000000000000000000001".parse::<ApiKeySid>().is_err());
    }
}
