//! A region's signing key: Ed25519, RFC 8032.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::RegionCode;
use crate::merkle::Sha256;

/// RFC 8410 §4: what stands before the 32 octets of an Ed25519 key in its
/// SubjectPublicKeyInfo, which is of fixed length.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// Names a signing key: the region it signs for, and the first 16 octets of
/// SHA-256 over its SubjectPublicKeyInfo in hexadecimal, as `ie1-9f…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId {
    region: RegionCode,
    fingerprint: [u8; 16],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("not the name of a signing key: a region and 32 hexadecimal digits, as `ie1-9f…`")]
    Name,
    #[error("not an Ed25519 public key in PEM (RFC 8410): {0}")]
    Pem(&'static str),
    #[error("not an Ed25519 public key in hexadecimal")]
    Hex,
}

impl KeyId {
    pub fn region(self) -> RegionCode {
        self.region
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.region, hex::encode(self.fingerprint))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (region, digits) = text.split_once('-').ok_or(InvalidKey::Name)?;
        let region = region.parse().map_err(|_| InvalidKey::Name)?;
        let mut fingerprint = [0; 16];
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return Err(InvalidKey::Name);
        }
        hex::decode_to_slice(digits, &mut fingerprint).map_err(|_| InvalidKey::Name)?;
        Ok(Self { region, fingerprint })
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

/// Signs what a region states. Lies in the region's key ring and nowhere else.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifyingKey,
}

impl SigningKey {
    /// From the 32 octets that RFC 8032 §5.1.5 calls the private key.
    pub fn from_seed(region: RegionCode, seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("32 octets are a private key");
        let mut octets = [0; 32];
        octets.copy_from_slice(pair.public_key().as_ref());
        Self { pair, public: VerifyingKey { region, octets } }
    }

    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    pub fn region(&self) -> RegionCode {
        self.public.region
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        self.public
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

/// The public half of a region's signing key, and which region it speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey {
    region: RegionCode,
    octets: [u8; 32],
}

impl VerifyingKey {
    pub fn new(region: RegionCode, octets: [u8; 32]) -> Self {
        Self { region, octets }
    }

    pub fn id(&self) -> KeyId {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&Sha256::of(&self.spki()).0[..16]);
        KeyId { region: self.region, fingerprint }
    }

    pub fn region(&self) -> RegionCode {
        self.region
    }

    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.octets).verify(message, &signature.0).is_ok()
    }

    fn spki(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.octets].concat()
    }

    /// RFC 7468 §13, readable by any other tool.
    pub fn to_pem(&self) -> String {
        format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", base64(&self.spki()))
    }

    /// A PEM file does not say which region its key speaks for: who trusts it does.
    pub fn from_pem(region: RegionCode, text: &str) -> Result<Self, InvalidKey> {
        let (_, rest) = text.split_once(PEM_BEGIN).ok_or(InvalidKey::Pem("no public key in it"))?;
        let (body, _) = rest.split_once(PEM_END).ok_or(InvalidKey::Pem("it has no end"))?;
        let spki = unbase64(body).ok_or(InvalidKey::Pem("its base64 is broken"))?;
        let octets =
            spki.strip_prefix(&SPKI_PREFIX).ok_or(InvalidKey::Pem("another kind of key"))?;
        let octets = octets.try_into().map_err(|_| InvalidKey::Pem("it is not 32 octets long"))?;
        Ok(Self { region, octets })
    }

    pub fn to_hex(&self) -> String {
        hex::encode(self.octets)
    }

    pub fn from_hex(region: RegionCode, text: &str) -> Result<Self, InvalidKey> {
        let mut octets = [0; 32];
        hex::decode_to_slice(text, &mut octets).map_err(|_| InvalidKey::Hex)?;
        Ok(Self { region, octets })
    }
}

/// An Ed25519 signature, written as 128 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature(pub [u8; 64]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 signature: 128 lower-case hexadecimal digits")]
pub struct InvalidSignature;

impl TryFrom<String> for Signature {
    type Error = InvalidSignature;

    fn try_from(text: String) -> Result<Self, InvalidSignature> {
        let mut signature = [0; 64];
        if text.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return Err(InvalidSignature);
        }
        hex::decode_to_slice(&text, &mut signature).map_err(|_| InvalidSignature)?;
        Ok(Self(signature))
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> String {
        hex::encode(signature.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4, for the 44 octets of a key: no need of a crate.
fn base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place > group.len() { '=' } else { char::from(ALPHABET[digit]) });
        }
    }
    text
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let (mut octets, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|digit| !digit.is_ascii_whitespace() && *digit != b'=') {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            octets.push((bits >> held) as u8);
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn key() -> SigningKey {
        SigningKey::from_seed(
            "ie1".parse().unwrap(),
            &hex::decode(SEED).unwrap().try_into().unwrap(),
        )
    }

    #[test]
    fn a_signature_is_rfc_8032s() {
        assert_eq!(key().verifying_key().to_hex(), PUBLIC);
        let signature = key().sign(&[0x72]);
        assert_eq!(String::from(signature), SIGNATURE);
        assert!(key().verifying_key().verifies(&[0x72], &signature));
        assert!(!key().verifying_key().verifies(&[0x73], &signature));
    }

    #[test]
    fn a_public_key_goes_into_pem_and_comes_back() {
        let key = key().verifying_key();
        // As `openssl pkey -pubout` prints it.
        let wanted = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n\
                      -----END PUBLIC KEY-----\n";
        assert_eq!(key.to_pem(), wanted);
        assert_eq!(VerifyingKey::from_pem(key.region(), &key.to_pem()), Ok(key));
        assert_eq!(VerifyingKey::from_hex(key.region(), PUBLIC), Ok(key));
        assert_eq!(key.id().to_string().parse(), Ok(key.id()));
        for bad in ["", PEM_BEGIN, &wanted.replace("MCow", "MCox"), &wanted.replace("Zgw=", "")] {
            assert!(VerifyingKey::from_pem(key.region(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signing_key_does_not_show_itself() {
        let shown = format!("{:?}", key());
        assert!(shown.starts_with("SigningKey(ie1-") && !shown.contains(&SEED[..8]), "{shown}");
    }
}
