//! AES-128 in Galois/counter mode (RFC 7714).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::SrtpError;
use super::keys::SessionKeys;

pub const TAG: usize = 16;

pub struct Gcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Gcm {
    pub fn new(keys: &SessionKeys) -> Result<Self, SrtpError> {
        let key = UnboundKey::new(&AES_128_GCM, &keys.encryption);
        let mut salt = [0; 12];
        salt.copy_from_slice(&keys.salt[..12]);
        Ok(Self { key: LessSafeKey::new(key.map_err(|_| SrtpError::KeyLength)?), salt })
    }

    /// RFC 7714 §8.1: two zero octets, SSRC, rollover counter and sequence
    /// number, XOR salt. For SRTCP (§9.1) the 48 bits are `0 ‖ index`.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        for (octet, salt) in nonce.iter_mut().zip(self.salt) {
            *octet ^= salt;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    pub fn seal(
        &self,
        ssrc: u32,
        index: u64,
        clear: &[u8],
        payload: &mut [u8],
    ) -> Result<[u8; TAG], SrtpError> {
        let nonce = self.nonce(ssrc, index);
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(clear), payload);
        let mut tag = [0; TAG];
        tag.copy_from_slice(sealed.map_err(|_| SrtpError::TooLong)?.as_ref());
        Ok(tag)
    }

    /// Opens `payload`, whose last 16 octets are the tag.
    pub fn open(
        &self,
        ssrc: u32,
        index: u64,
        clear: &[u8],
        payload: &mut [u8],
    ) -> Result<(), SrtpError> {
        let nonce = self.nonce(ssrc, index);
        let opened = self.key.open_in_place(nonce, Aad::from(clear), payload);
        opened.map(drop).map_err(|_| SrtpError::Authentication)
    }
}
