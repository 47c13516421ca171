//! AES-256-GCM with additional data that names region, account, column and row,
//! so that a sealed value opens only where it was put.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use landline_region::catalogue::Sealed;
use landline_region::{AccountSid, RegionCode};
use zeroize::Zeroizing;

use crate::error::{Result, StoreError};

pub type KeyBytes = Zeroizing<[u8; 32]>;

/// Octets that the operating system's generator made.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // aws-lc aborts the process itself where the system has no entropy.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator");
    bytes
}

pub fn random_key() -> KeyBytes {
    Zeroizing::new(random())
}

pub fn aead(key: &KeyBytes) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).expect("32 octets are a key"))
}

/// Seals the values of one account, or of one call of it.
pub struct Sealer {
    key: LessSafeKey,
    region: RegionCode,
    account: AccountSid,
}

impl Sealer {
    pub fn new(key: &KeyBytes, region: RegionCode, account: AccountSid) -> Self {
        Self { key: aead(key), region, account }
    }

    /// Nonce, ciphertext and tag. `what` and `row` say where the value belongs.
    pub fn seal(&self, what: &'static Sealed, row: &str, plain: &[u8]) -> Vec<u8> {
        let nonce = random::<NONCE_LEN>();
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(self.context(what, row)),
            &mut sealed[NONCE_LEN..],
        );
        sealed.extend_from_slice(tag.expect("a value is shorter than 64 GiB").as_ref());
        sealed
    }

    pub fn open(&self, what: &'static Sealed, row: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let fail = |problem| self.failed(what, problem);
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(fail("it is cut short"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fail("bad nonce"))?;
        let mut plain = rest.to_vec();
        let aad = Aad::from(self.context(what, row));
        let length = match self.key.open_in_place(nonce, aad, &mut plain) {
            Ok(opened) => opened.len(),
            Err(_) => return Err(fail("it was changed or moved, or its key is another")),
        };
        plain.truncate(length);
        Ok(plain)
    }

    pub fn open_text(&self, what: &'static Sealed, row: &str, sealed: &[u8]) -> Result<String> {
        String::from_utf8(self.open(what, row, sealed)?)
            .map_err(|_| self.failed(what, "it is not text"))
    }

    fn failed(&self, what: &'static Sealed, problem: &'static str) -> StoreError {
        StoreError::Sealed { what: what.context(), account: self.account, problem }
    }

    fn context(&self, what: &Sealed, row: &str) -> Vec<u8> {
        let account = self.account.to_string();
        [self.region.as_str(), &account, what.context(), row].join("\0").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use landline_region::catalogue::sealed::{SEALED_USER_DIGEST, SEALED_USER_NAME};

    use super::*;

    #[test]
    fn a_value_opens_only_in_its_own_place() {
        let (key, region) = (random_key(), "ie1".parse().unwrap());
        let account = AccountSid::from_u128(1);
        let sealer = Sealer::new(&key, region, account);
        let mut sealed = sealer.seal(&SEALED_USER_NAME, "US1", b"alice");
        assert_eq!(sealer.open(&SEALED_USER_NAME, "US1", &sealed).unwrap(), b"alice");
        assert!(sealer.open(&SEALED_USER_NAME, "US2", &sealed).is_err());
        assert!(sealer.open(&SEALED_USER_DIGEST, "US1", &sealed).is_err());
        let other = Sealer::new(&key, "us1".parse().unwrap(), account);
        assert!(other.open(&SEALED_USER_NAME, "US1", &sealed).is_err());
        let other = Sealer::new(&key, region, AccountSid::from_u128(2));
        assert!(other.open(&SEALED_USER_NAME, "US1", &sealed).is_err());
        sealed[14] ^= 1;
        assert!(sealer.open(&SEALED_USER_NAME, "US1", &sealed).is_err());
        assert!(sealer.open(&SEALED_USER_NAME, "US1", &sealed[..5]).is_err());
    }

    /// A database that a former version wrote must open: this value was sealed
    /// before columns were declared in the catalogue.
    #[test]
    fn a_value_that_a_former_version_sealed_opens() {
        let key = KeyBytes::new([7; 32]);
        let sealer = Sealer::new(&key, "ie1".parse().unwrap(), AccountSid::from_u128(1));
        let sealed = hex::decode(FORMER).unwrap();
        assert_eq!(sealer.open_text(&SEALED_USER_NAME, "US1", &sealed).unwrap(), "alice");
    }

    const FORMER: &str = "000102030405060708090a0b79ed801378036b0d68f3c72d83a700e4d5ae7e768c";
}
