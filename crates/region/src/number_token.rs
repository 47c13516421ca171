//! What the directory says in place of a telephone number.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

/// The key under which every region finds the others' numbers in the directory.
/// All regions share it, for this purpose alone: it is derived from nothing and
/// nothing is derived from it, so it opens no region's pseudonyms and indexes.
#[derive(Clone)]
pub struct NumberKey(hmac::Key);

impl NumberKey {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// HMAC-SHA-256 of the number, E.164 with `+`, cut to 128 bits.
    pub fn token(&self, e164: &str) -> NumberToken {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"landline number 1\0");
        context.update(e164.as_bytes());
        let tag = context.sign();
        let mut token = [0; 16];
        token.copy_from_slice(&tag.as_ref()[..16]);
        NumberToken(token)
    }
}

impl fmt::Debug for NumberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NumberKey(..)")
    }
}

/// A number as the directory knows it. Without the key it says nothing of the
/// number; with it, numbers can be tried one by one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NumberToken([u8; 16]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a number's token: wanted 32 hexadecimal digits")]
pub struct InvalidNumberToken;

impl FromStr for NumberToken {
    type Err = InvalidNumberToken;

    fn from_str(text: &str) -> Result<Self, InvalidNumberToken> {
        let mut token = [0; 16];
        hex::decode_to_slice(text, &mut token).map_err(|_| InvalidNumberToken)?;
        Ok(Self(token))
    }
}

impl fmt::Display for NumberToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NumberToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for NumberToken {
    type Error = InvalidNumberToken;

    fn try_from(text: String) -> Result<Self, InvalidNumberToken> {
        text.parse()
    }
}

impl From<NumberToken> for String {
    fn from(token: NumberToken) -> Self {
        token.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_depends_on_key_and_number_and_reads_back() {
        let key = NumberKey::new(&[1; 32]);
        let token = key.token("+61255500142");
        assert_eq!(token, key.token("+61255500142"));
        assert_ne!(token, key.token("+61255500143"));
        assert_ne!(token, NumberKey::new(&[2; 32]).token("+61255500142"));
        assert_eq!(token.to_string().parse(), Ok(token));
        assert!(!token.to_string().contains("255500"));
        assert!("12".parse::<NumberToken>().is_err());
    }
}
