use std::fmt;

use aws_lc_rs::hmac;

use crate::DataClass;

/// A region's key for pseudonyms. It never leaves the region, so neither does
/// the way back from a token to the person.
#[derive(Clone)]
pub struct PseudonymKey(hmac::Key);

impl PseudonymKey {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The token of a value: HMAC-SHA-256 over its class and itself, cut to
    /// 128 bits. Equal values of one class have equal tokens under one key.
    pub fn token(&self, class: DataClass, value: &str) -> Token {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[class as u8]);
        context.update(value.as_bytes());
        let tag = context.sign();
        let mut token = [0; 16];
        token.copy_from_slice(&tag.as_ref()[..16]);
        Token(token)
    }
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PseudonymKey(..)")
    }
}

/// What stands in for a person in logs, metrics and messages between regions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token([u8; 16]);

impl Token {
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_by_key_class_and_value() {
        let key = PseudonymKey::new(&[1; 32]);
        let token = key.token(DataClass::Number, "+35312345678");
        assert_eq!(token, key.token(DataClass::Number, "+35312345678"));
        assert_ne!(token, key.token(DataClass::Identity, "+35312345678"));
        assert_ne!(token, key.token(DataClass::Number, "+35312345679"));
        assert_ne!(token, PseudonymKey::new(&[2; 32]).token(DataClass::Number, "+35312345678"));
        assert!(!token.to_string().contains("353"));
    }
}
