//! The region's key ring: one file with the master key, from which everything
//! else is derived or under which it is wrapped.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};
use landline_region::catalogue::Index;
use landline_region::receipt::SigningKey;
use landline_region::{AccountSid, PseudonymKey, RegionCode};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Result, StoreError};
use crate::seal::{self, KeyBytes, Sealer};

/// A region's master key and what is derived from it (HKDF-SHA-256, RFC 5869).
pub struct KeyRing {
    region: RegionCode,
    id: String,
    /// Wraps the accounts' keys.
    wrap: KeyBytes,
    index: hmac::Key,
    pseudonym: PseudonymKey,
    /// Derives the ledger's and the spool's segment keys.
    journal: KeyBytes,
    /// Derives the keys of backups' files.
    backup: KeyBytes,
    /// Signs receipts, tree heads and residency reports.
    signing: Arc<SigningKey>,
    /// Derives the signing keys after the first.
    later: KeyBytes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    version: u32,
    region: RegionCode,
    /// 32 octets in hexadecimal.
    master: String,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.master.zeroize();
    }
}

impl KeyRing {
    /// Makes a new key ring file, mode 0600. Fails where one exists.
    pub fn create(path: &Path, region: RegionCode) -> Result<KeyRing> {
        let master = seal::random_key();
        let file = KeyFile { version: 1, region, master: hex::encode(*master) };
        let text = serde_json::to_vec_pretty(&file).map(Zeroizing::new);
        let text = text.map_err(|error| problem(path, error))?;
        crate::file::create_private(path, &text).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                problem(path, "exists already, and overwriting it would lose every record")
            }
            _ => problem(path, error),
        })?;
        Ok(Self::derive(region, &master))
    }

    pub fn open(path: &Path, region: RegionCode) -> Result<KeyRing> {
        let mut file = std::fs::File::open(path).map_err(|error| problem(path, error))?;
        let metadata = file.metadata().map_err(|error| problem(path, error))?;
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(problem(path, format!("mode {mode:o} lets others read it: chmod 600")));
        }
        let mut text = Zeroizing::new(Vec::new());
        file.read_to_end(&mut text).map_err(|error| problem(path, error))?;
        // The parser's message could quote a piece of the key.
        let parsed: KeyFile = serde_json::from_slice(&text)
            .map_err(|e| problem(path, format!("not a key ring: line {}", e.line())))?;
        if parsed.version != 1 {
            return Err(problem(path, format!("version {} is not known", parsed.version)));
        }
        if parsed.region != region {
            return Err(StoreError::KeyRingOfAnotherRegion {
                path: path.to_owned(),
                found: parsed.region,
                configured: region,
            });
        }
        let mut master = Zeroizing::new([0; 32]);
        hex::decode_to_slice(&parsed.master, &mut master[..])
            .map_err(|_| problem(path, "its master key is not 64 hexadecimal digits"))?;
        Ok(Self::derive(region, &master))
    }

    fn derive(region: RegionCode, master: &KeyBytes) -> Self {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"landline key ring 1").extract(&master[..]);
        let key = |purpose: &str| expand(&prk, &[purpose.as_bytes(), region.as_str().as_bytes()]);
        Self {
            region,
            id: hex::encode(&key("identity")[..8]),
            wrap: key("wrap"),
            index: hmac::Key::new(hmac::HMAC_SHA256, &key("index")[..]),
            pseudonym: PseudonymKey::new(&key("pseudonym")),
            journal: key("journal"),
            backup: key("backup"),
            signing: Arc::new(SigningKey::from_seed(region, &key("signing"))),
            later: key("later signing"),
        }
    }

    pub fn region(&self) -> RegionCode {
        self.region
    }

    /// Tells key rings apart and says nothing of the keys.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn pseudonym_key(&self) -> PseudonymKey {
        self.pseudonym.clone()
    }

    /// What the region's statements are signed with until the first change.
    pub fn first_signing_key(&self) -> Arc<SigningKey> {
        self.signing.clone()
    }

    /// A later signing key, by the salt that was made for it.
    pub(crate) fn later_signing_key(&self, salt: &[u8; 32]) -> SigningKey {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.later[..]);
        SigningKey::from_seed(
            self.region,
            &expand(&prk, &[b"signing", self.region.as_str().as_bytes()]),
        )
    }

    /// The look-up key of a sealed value: equal for equal values of one kind
    /// and scope (an account's sid, or empty for the whole region).
    pub(crate) fn index(&self, what: &'static Index, scope: &str, value: &str) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.index);
        for part in [what.context(), scope] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        context.update(value.as_bytes());
        context.sign().as_ref().to_vec()
    }

    /// Seals an account's own key.
    pub(crate) fn wrapper(&self, account: AccountSid) -> Sealer {
        Sealer::new(&self.wrap, self.region, account)
    }

    /// The key of one file of a backup, by the salt in its head.
    pub(crate) fn backup_key(&self, salt: &[u8; 32]) -> KeyBytes {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.backup[..]);
        expand(&prk, &[b"backup", self.region.as_str().as_bytes()])
    }

    /// The key of one journal segment, by the salt in its head.
    pub(crate) fn segment_key(&self, salt: &[u8; 32]) -> KeyBytes {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.journal[..]);
        expand(&prk, &[b"segment", self.region.as_str().as_bytes()])
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({} {})", self.region, self.id)
    }
}

fn expand(prk: &hkdf::Prk, info: &[&[u8]]) -> KeyBytes {
    let mut key = Zeroizing::new([0; 32]);
    prk.expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key[..]))
        .expect("32 octets are one block of HKDF-SHA-256");
    key
}

fn problem(path: &Path, problem: impl ToString) -> StoreError {
    StoreError::KeyRing { path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use landline_region::catalogue::sealed::{INDEX_NUMBER, INDEX_USER};

    use super::*;

    #[test]
    fn a_key_ring_opens_again_with_the_same_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ie1.keys");
        let ie1 = "ie1".parse().unwrap();
        let made = KeyRing::create(&path, ie1).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let opened = KeyRing::open(&path, ie1).unwrap();
        assert_eq!(made.id(), opened.id());
        assert_eq!(made.first_signing_key().id(), opened.first_signing_key().id());
        assert_eq!(made.index(&INDEX_NUMBER, "", "+353"), opened.index(&INDEX_NUMBER, "", "+353"));
        assert_ne!(made.index(&INDEX_NUMBER, "", "+353"), made.index(&INDEX_USER, "", "+353"));
        assert!(KeyRing::create(&path, ie1).unwrap_err().to_string().contains("exists already"));
    }

    #[test]
    fn a_key_ring_of_another_region_is_refused_by_both_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        KeyRing::create(&path, "us1".parse().unwrap()).unwrap();
        let error = KeyRing::open(&path, "ie1".parse().unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("us1") && error.contains("ie1") && error.contains("ring"),
            "{error}"
        );
    }

    #[test]
    fn a_key_ring_that_others_can_read_or_that_is_broken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        let region = "ie1".parse().unwrap();
        assert!(KeyRing::open(&path, region).unwrap_err().to_string().contains("ring"));
        KeyRing::create(&path, region).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(KeyRing::open(&path, region).unwrap_err().to_string().contains("chmod 600"));
        std::fs::write(&path, "{\n\"master\": \"00ff\"}").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = KeyRing::open(&path, region).unwrap_err().to_string();
        assert!(error.contains("not a key ring") && !error.contains("00ff"), "{error}");
    }
}
