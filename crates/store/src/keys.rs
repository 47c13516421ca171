//! The region's key ring.

use std::path::Path;

use landline_region::{PseudonymKey, RegionCode};

use crate::error::Result;
use crate::store::not_ready;

/// A region's master key and what is derived from it.
pub struct KeyRing {
    region: RegionCode,
}

impl KeyRing {
    /// Makes a new key ring file, mode 0600. Fails where one exists.
    pub fn create(path: &Path, region: RegionCode) -> Result<KeyRing> {
        let _ = region;
        Err(not_ready(&path.display().to_string()))
    }

    pub fn open(path: &Path, region: RegionCode) -> Result<KeyRing> {
        let _ = region;
        Err(not_ready(&path.display().to_string()))
    }

    pub fn region(&self) -> RegionCode {
        self.region
    }

    pub fn pseudonym_key(&self) -> PseudonymKey {
        PseudonymKey::new(&[0; 32])
    }
}
