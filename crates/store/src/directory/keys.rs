//! The keys that the directory's readers and writers share: one file beside the
//! snapshot, the same in every region. It tells good snapshots from altered ones
//! and finds numbers; nothing of a region's own is sealed or derived with it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use landline_region::NumberKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Result, StoreError};
use crate::seal;

/// What the signature covers besides the snapshot.
const CONTEXT: &[u8] = b"landline directory 1\n";

pub(super) const MISSING: &str = "the directory's keys are missing: copy it from another machine \
                                  of this directory";

pub struct DirectoryKeys {
    numbers: NumberKey,
    verifying: [u8; 32],
    /// `None` on machines that only read the directory.
    signing: Option<Ed25519KeyPair>,
    path: PathBuf,
}

/// Each 32 octets in hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    version: u32,
    number_key: String,
    verifying_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing_key: Option<String>,
}

impl Drop for KeysFile {
    fn drop(&mut self) {
        self.number_key.zeroize();
        self.signing_key.zeroize();
    }
}

/// Where the keys of a snapshot lie: beside it, as `directory.keys`.
pub fn keys_file(snapshot: &Path) -> PathBuf {
    snapshot.with_extension("keys")
}

/// What finds numbers in the directory.
pub fn number_key(snapshot: &Path) -> Result<NumberKey> {
    let file = keys_file(snapshot);
    let keys = DirectoryKeys::open(&file)?;
    Ok(keys.ok_or_else(|| StoreError::file(file, MISSING))?.numbers)
}

impl DirectoryKeys {
    /// Makes new keys, mode 0600. Fails where there are some.
    pub fn create(path: &Path) -> Result<Self> {
        let (numbers, seed) = (seal::random_key(), seal::random_key());
        let pair = pair(&seed[..]).ok_or_else(|| problem(path, "no signing key can be made"))?;
        let file = KeysFile {
            version: 1,
            number_key: hex::encode(&numbers[..]),
            verifying_key: hex::encode(pair.public_key().as_ref()),
            signing_key: Some(hex::encode(&seed[..])),
        };
        let text = serde_json::to_vec_pretty(&file).map(Zeroizing::new);
        let text = text.map_err(|error| problem(path, error))?;
        crate::file::create_private(path, &text).map_err(|error| problem(path, error))?;
        Self::of(file, path)
    }

    /// `None` where there is no such file.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(problem(path, error)),
        };
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(problem(path, format!("mode {mode:o} lets others read it: chmod 600")));
        }
        let text = std::fs::read(path).map(Zeroizing::new);
        let text = text.map_err(|error| problem(path, error))?;
        // The parser's message could quote a piece of a key.
        let file = serde_json::from_slice::<KeysFile>(&text)
            .map_err(|e| problem(path, format!("no directory keys: line {}", e.line())))?;
        Self::of(file, path).map(Some)
    }

    fn of(file: KeysFile, path: &Path) -> Result<Self> {
        if file.version != 1 {
            return Err(problem(path, format!("version {} is not known", file.version)));
        }
        let octets = |text: &str, name: &str| {
            let mut key = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text, &mut key[..])
                .map_err(|_| problem(path, format!("{name} is not 64 hexadecimal digits")))?;
            Ok::<_, StoreError>(key)
        };
        let verifying = *octets(&file.verifying_key, "verifying_key")?;
        let signing = match &file.signing_key {
            None => None,
            Some(seed) => {
                let pair = pair(&octets(seed, "signing_key")?[..]);
                let fits = pair.filter(|pair| pair.public_key().as_ref() == verifying);
                let mismatch = "signing_key and verifying_key are no pair";
                Some(fits.ok_or_else(|| problem(path, mismatch))?)
            }
        };
        let numbers = NumberKey::new(&*octets(&file.number_key, "number_key")?);
        Ok(Self { numbers, verifying, signing, path: path.to_owned() })
    }

    pub fn numbers(&self) -> &NumberKey {
        &self.numbers
    }

    pub(super) fn sign(&self, snapshot: &[u8]) -> Result<Vec<u8>> {
        let pair = self.signing.as_ref().ok_or_else(|| {
            problem(
                &self.path,
                "it has no signing_key, so this machine only reads the directory: make the change \
                 where the signing key is, then copy the snapshot here",
            )
        })?;
        Ok(pair.sign(&[CONTEXT, snapshot].concat()).as_ref().to_vec())
    }

    pub(super) fn verify(&self, snapshot: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.verifying);
        key.verify(&[CONTEXT, snapshot].concat(), signature).is_ok()
    }
}

impl std::fmt::Debug for DirectoryKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirectoryKeys({})", hex::encode(self.verifying))
    }
}

fn pair(seed: &[u8]) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(seed).ok()
}

fn problem(path: &Path, problem: impl ToString) -> StoreError {
    StoreError::file(path, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_the_signing_key_reads_and_does_not_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory.keys");
        let whole = DirectoryKeys::create(&path).unwrap();
        assert!(DirectoryKeys::create(&path).is_err(), "keys are not overwritten");
        let signature = whole.sign(b"{}").unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
        file.as_object_mut().unwrap().remove("signing_key");
        std::fs::write(&path, file.to_string()).unwrap();
        let reader = DirectoryKeys::open(&path).unwrap().unwrap();
        assert!(reader.verify(b"{}", &signature));
        assert!(!reader.verify(b"{ }", &signature));
        assert_eq!(reader.numbers().token("+3531"), whole.numbers().token("+3531"));
        assert!(reader.sign(b"{}").unwrap_err().to_string().contains("where the signing key is"));
    }

    #[test]
    fn keys_that_others_can_read_or_that_are_broken_are_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory.keys");
        assert!(DirectoryKeys::open(&path).unwrap().is_none());
        DirectoryKeys::create(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert!(DirectoryKeys::open(&path).unwrap_err().to_string().contains("version 2"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(DirectoryKeys::open(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
