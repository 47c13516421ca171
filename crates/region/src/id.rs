use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Entropy;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a sid of this kind: `{prefix}` and 32 hexadecimal digits")]
pub struct InvalidSid {
    prefix: &'static str,
    found: String,
}

macro_rules! sid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u128);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub fn new(entropy: &mut Entropy) -> Self {
                Self(u128::from_be_bytes(entropy.bytes()))
            }

            pub const fn from_u128(value: u128) -> Self {
                Self(value)
            }

            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidSid;

            fn from_str(text: &str) -> Result<Self, InvalidSid> {
                text.strip_prefix($prefix)
                    .filter(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|digits| u128::from_str_radix(digits, 16).ok())
                    .map(Self)
                    .ok_or_else(|| InvalidSid { prefix: $prefix, found: text.chars().take(48).collect() })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidSid;

            fn try_from(text: String) -> Result<Self, InvalidSid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(sid: $name) -> String {
                sid.to_string()
            }
        }
    };
}

sid!(
    /// The tenant.
    AccountSid, "AC"
);
sid!(
    /// A person or device of an account.
    UserSid, "US"
);
sid!(
    /// A peer we send calls to and take calls from.
    TrunkSid, "TK"
);
sid!(
    /// One attempt at a call: an A leg and its B legs.
    CallSid, "CA"
);
sid!(
    /// One leg of a call.
    LegSid, "LG"
);
sid!(
    /// What was recorded of one call.
    RecordingSid, "RE"
);

sid!(
    /// Joins the two records of a call between accounts: random, made by the
    /// caller's home region, and all that both records share.
    JoinToken, "JN"
);

sid!(
    /// Something of an account's own that is played to people on the phone.
    SoundSid, "SN"
);

sid!(
    /// A message that a caller left in a user's mailbox.
    VoicemailSid, "VM"
);

sid!(
    /// An address that an account is told events at.
    WebhookSid, "WH"
);
sid!(
    /// One event on its way to one webhook.
    EventSid, "WE"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_prints_and_parses_back() {
        let sid = CallSid::new(&mut Entropy::new([7; 32]));
        assert_eq!(sid.to_string().len(), 34);
        assert_eq!(sid.to_string().parse::<CallSid>().unwrap(), sid);
        assert!(sid.to_string().parse::<AccountSid>().is_err());
        assert!("CA+0000000000000000000000000000001".parse::<CallSid>().is_err());
    }
}
