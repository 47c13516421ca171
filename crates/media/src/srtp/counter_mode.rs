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
            cipher: Aes128::new_from_slice(&keys.encryption).map_err(|_| SrtpError::KeyLength)?,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 appendix B.2: the keystream at SSRC 0, index 0.
    #[test]
    fn the_keystream_matches_the_rfc_s_vectors() {
        let mut keys =
            SessionKeys { encryption: vec![0; 16], authentication: [0; 20], salt: [0; 14] };
        hex::decode_to_slice("2B7E151628AED2A6ABF7158809CF4F3C", &mut keys.encryption).unwrap();
        hex::decode_to_slice("F0F1F2F3F4F5F6F7F8F9FAFBFCFD", &mut keys.salt).unwrap();
        let mut stream = [0; 48];
        CounterMode::new(&keys).unwrap().apply(0, 0, &mut stream);
        let expected = "E03EAD0935C95E80E166B16DD92B4EB4\
                        D23513162B02D0F72A43A2FE4A5F97AB\
                        41E95B3BB0A2E8DD477901E4FCA894C0";
        assert_eq!(hex::encode_upper(stream), expected);
    }
}
