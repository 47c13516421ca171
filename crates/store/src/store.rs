use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landline_call::tenancy::Tenancy;
use landline_region::{PseudonymKey, RegionCode};

use crate::error::{Result, StoreError};

#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `sqlite:PATH` or `postgres://USER@HOST:PORT/DATABASE?sslmode=…`.
    pub url: String,
    pub region: RegionCode,
    pub key_ring: PathBuf,
    /// How long a closed call is kept.
    pub retention: Duration,
}

impl StoreConfig {
    /// With the default retention of 90 days.
    pub fn new(url: impl Into<String>, region: RegionCode, key_ring: impl Into<PathBuf>) -> Self {
        Self {
            url: url.into(),
            region,
            key_ring: key_ring.into(),
            retention: Duration::from_secs(90 * 86_400),
        }
    }
}

/// One region's database. Clones share one pool.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    region: RegionCode,
}

/// Counted since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Records refused because they are tagged with another region.
    pub foreign_records: u64,
    pub events_applied: u64,
    pub events_duplicate: u64,
    /// Events of calls whose opening never arrived.
    pub events_orphaned: u64,
}

impl Store {
    /// Opens the region's database, bringing its schema up to date. Creates and
    /// stamps it where it is new; refuses one that is stamped otherwise.
    pub async fn open(config: &StoreConfig) -> Result<Store> {
        Err(not_ready(&config.url))
    }

    pub fn region(&self) -> RegionCode {
        self.inner.region
    }

    /// The key of this region's pseudonyms, for logs, metrics and other regions.
    pub fn pseudonym_key(&self) -> PseudonymKey {
        PseudonymKey::new(&[0; 32])
    }

    pub fn counters(&self) -> StoreCounters {
        StoreCounters::default()
    }

    /// Rises with every administrative change.
    pub async fn revision(&self) -> Result<i64> {
        Err(not_ready("revision"))
    }

    /// All accounts, users, numbers and trunks of the region.
    pub async fn tenancy(&self) -> Result<Tenancy> {
        Err(not_ready("tenancy"))
    }

    pub async fn close(&self) {}
}

pub(crate) fn not_ready(what: &str) -> StoreError {
    StoreError::Schema { database: what.to_owned(), problem: "not built yet".to_owned() }
}
