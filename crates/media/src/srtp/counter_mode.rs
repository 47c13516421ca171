//! AES-CM with HMAC-SHA1-80 (RFC 3711 §4.1.1, §4.2.1).

use aes::Aes128;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::SrtpError;
use super::keys::SessionKeys;

pub const TAG: usize = 10;

/// One session key: AES schedule and keyed HMAC state, computed once.
pub struct CounterMode {
    cipher: Aes128,
    authentication: Hmac<Sha1>,
    salt: [u8; 14],
}

impl CounterMode {
    pub fn new(keys: &SessionKeys) -> Result<Self, SrtpError> {
        let authentication = <Hmac<Sha1> as Mac>::new_from_slice(&keys.authentication);
        Ok(Self {
            cipher: Aes128::new(&keys.encryption.into()),
            authentication: authentication.map_err(|_| SrtpError::KeyLength)?,
            salt: keys.salt,
        })
    }

    /// Encrypts or decrypts: the keystream is the same.
    pub fn apply(&self, ssrc: u32, index: u64, payload: &mut [u8]) {
        let mut counter = [0; 16];
        counter[..14].copy_from_slice(&self.salt);
        for (octet, value) in counter[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
            *octet ^= value;
        }
        for (octet, value) in
            counter[6..14].iter_mut().zip((index & 0xffff_ffff_ffff).to_be_bytes())
        {
            *octet ^= value;
        }
        let core = ctr::CtrCore::<&Aes128, Ctr128BE>::inner_iv_init(&self.cipher, &counter.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(payload);
    }

    /// The tag over the packet and what is authenticated beside it.
    pub fn tag(&self, packet: &[u8], beside: &[u8]) -> [u8; TAG] {
        let mut mac = self.authentication.clone();
        mac.update(packet);
        mac.update(beside);
        let full = mac.finalize().into_bytes();
        let mut tag = [0; TAG];
        tag.copy_from_slice(&full[..TAG]);
        tag
    }

    /// Compares in constant time.
    pub fn check(&self, packet: &[u8], beside: &[u8], tag: &[u8]) -> Result<(), SrtpError> {
        let mut mac = self.authentication.clone();
        mac.update(packet);
        mac.update(beside);
        mac.verify_truncated_left(tag).map_err(|_| SrtpError::Authentication)
    }
}
