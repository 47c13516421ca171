use aes::cipher::consts::U16;
use aes::cipher::{BlockEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Aes256};
use landline_control::SrtpSuite;
use zeroize::Zeroize;

use super::SrtpError;

/// The key derivation labels of RFC 3711 §4.3.2: RTP's three, then RTCP's.
const RTP_LABELS: [u8; 3] = [0x00, 0x01, 0x02];
const RTCP_LABELS: [u8; 3] = [0x03, 0x04, 0x05];

/// The session keys of RTP or of RTCP under one master key.
pub struct SessionKeys {
    /// As long as the master key.
    pub encryption: Vec<u8>,
    pub authentication: [u8; 20],
    /// 14 octets are used with counter mode, 12 with GCM.
    pub salt: [u8; 14],
}

/// A master key and salt, as `inline:` carries them and DTLS exports them.
pub struct MasterKey {
    key: Vec<u8>,
    /// A 12-octet salt of GCM is followed by zeros (RFC 7714 §11).
    salt: [u8; 14],
}

impl Drop for SessionKeys {
    fn drop(&mut self) {
        self.encryption.zeroize();
        self.authentication.zeroize();
        self.salt.zeroize();
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

impl MasterKey {
    pub fn new(suite: SrtpSuite, key_and_salt: &[u8]) -> Result<Self, SrtpError> {
        if key_and_salt.len() != suite.key_and_salt_len() {
            return Err(SrtpError::KeyLength);
        }
        let (key, short_salt) = key_and_salt.split_at(suite.key_len());
        let mut salt = [0; 14];
        salt[..short_salt.len()].copy_from_slice(short_salt);
        Ok(Self { key: key.to_vec(), salt })
    }

    pub fn rtp(&self) -> SessionKeys {
        self.derive(RTP_LABELS)
    }

    pub fn rtcp(&self) -> SessionKeys {
        self.derive(RTCP_LABELS)
    }

    fn derive(&self, [encryption, authentication, salt]: [u8; 3]) -> SessionKeys {
        let encryption_key = vec![0; self.key.len()];
        let mut keys =
            SessionKeys { encryption: encryption_key, authentication: [0; 20], salt: [0; 14] };
        self.expand(encryption, &mut keys.encryption);
        self.expand(authentication, &mut keys.authentication);
        self.expand(salt, &mut keys.salt);
        keys
    }

    fn expand(&self, label: u8, out: &mut [u8]) {
        if let Ok(cipher) = Aes256::new_from_slice(&self.key) {
            self.expand_by(&cipher, label, out);
        } else if let Ok(cipher) = Aes128::new_from_slice(&self.key) {
            self.expand_by(&cipher, label, out);
        }
    }

    /// AES in counter mode over zeros, from `(label ‖ 0) XOR salt` (RFC 3711
    /// §4.3.1 and §4.3.3, RFC 6188 §2); the key derivation rate is zero.
    fn expand_by<C>(&self, cipher: &C, label: u8, out: &mut [u8])
    where
        C: BlockEncrypt + BlockSizeUser<BlockSize = U16>,
    {
        let mut counter = [0; 16];
        counter[..14].copy_from_slice(&self.salt);
        counter[7] ^= label;
        for (number, chunk) in out.chunks_mut(16).enumerate() {
            counter[15] = number as u8;
            let mut block = counter.into();
            cipher.encrypt_block(&mut block);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 appendix B.3.
    #[test]
    fn session_keys_match_the_rfc_s_vectors() {
        let master = hex::decode("E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6");
        let master =
            MasterKey::new(SrtpSuite::AesCm128HmacSha1_80, &master.unwrap()).unwrap().rtp();
        assert_eq!(hex::encode_upper(&master.encryption), "C61E7A93744F39EE10734AFE3FF7A087");
        assert_eq!(hex::encode_upper(master.salt), "30CBBC08863D8C85D49DB34A9AE1");
        assert_eq!(
            hex::encode_upper(master.authentication),
            "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"
        );
    }

    /// RFC 6188 §7.4.
    #[test]
    fn session_keys_of_aes_256_match_the_rfc_s_vector() {
        let key = "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6";
        let mut salt = [0; 14];
        salt.copy_from_slice(&hex::decode("3b04803de51ee7c96423ab5b78d2").unwrap());
        let session = MasterKey { key: hex::decode(key).unwrap(), salt }.rtp();
        let expected = "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4";
        assert_eq!(hex::encode(&session.encryption), expected);
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused() {
        for suite in [SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AeadAes128Gcm] {
            for length in [0, 16, 29, 31] {
                assert!(MasterKey::new(suite, &vec![0; length]).is_err());
            }
        }
    }
}
