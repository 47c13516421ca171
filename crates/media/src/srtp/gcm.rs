//! AES-128 and AES-256 in Galois/counter mode (RFC 7714).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::SrtpError;
use super::keys::SessionKeys;
use crate::packet::MAX_PACKET;

pub const TAG: usize = 16;

pub struct Gcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Gcm {
    pub fn new(keys: &SessionKeys) -> Result<Self, SrtpError> {
        let cipher = if keys.encryption.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        let key = UnboundKey::new(cipher, &keys.encryption);
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

    /// Whether `payload` opens, without opening it in place: what fails to open
    /// is lost to a further try.
    pub fn authenticates(
        &self,
        ssrc: u32,
        index: u64,
        clear: &[u8],
        payload: &[u8],
        tag: &[u8],
    ) -> bool {
        let mut opened = [0; MAX_PACKET];
        let Some(opened) = opened.get_mut(..payload.len()) else { return false };
        let nonce = self.nonce(ssrc, index);
        self.key.open_separate_gather(nonce, Aad::from(clear), payload, tag, opened).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gcm(length: u8) -> Gcm {
        let mut salt = [0; 14];
        salt[..12].copy_from_slice(b"Quid pro quo");
        let encryption = (0..length).collect();
        Gcm::new(&SessionKeys { encryption, authentication: [0; 20], salt }).unwrap()
    }

    /// RFC 7714 §16.1.1, §16.1.2, §16.2.1 and §16.2.2.
    #[test]
    fn an_rtp_packet_matches_the_rfc_s_vector() {
        let header = hex::decode("8040f17b8041f8d35501a0b2").unwrap();
        let plain = b"Gallia est omnis divisa in partes tres";
        for (length, expected) in [
            (
                16,
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a\
                 51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
            ),
            (
                32,
                "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a02\
                 76ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
            ),
        ] {
            let mut payload = plain.to_vec();
            let gcm = gcm(length);
            let tag = gcm.seal(0x5501_a0b2, 0xf17b, &header, &mut payload).unwrap();
            let sealed = [&payload[..], &tag].concat();
            assert_eq!(hex::encode(&sealed), expected);

            let mut opened = sealed;
            gcm.open(0x5501_a0b2, 0xf17b, &header, &mut opened).unwrap();
            assert_eq!(&opened[..38], plain);
        }
    }

    /// RFC 7714 §17.1: what is authenticated is the header and the ESRTCP word.
    #[test]
    fn an_rtcp_packet_matches_the_rfc_s_vector() {
        let clear = hex::decode("81c8000d4d617273800005d4").unwrap();
        let plain = "4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef \
                     deadbeef deadbeef deadbeef";
        let mut payload = hex::decode(plain.replace(' ', "")).unwrap();
        let tag = gcm(16).seal(0x4d61_7273, 0x5d4, &clear, &mut payload).unwrap();
        let expected = "63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda\
                        4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade";
        assert_eq!(hex::encode([&payload[..], &tag].concat()), expected);
    }
}
