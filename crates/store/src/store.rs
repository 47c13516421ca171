use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use landline_region::catalogue::sealed::SEALED_ACCOUNT_KEY;
use landline_region::egress::{Declared, Gate};
use landline_region::receipt::SigningKey;
use landline_region::{AccountSid, Entropy, PseudonymKey, RegionCode, UnixMillis};
use zeroize::Zeroizing;

use crate::error::{Result, StoreError};
use crate::keys::KeyRing;
use crate::schema;
use crate::seal::{self, KeyBytes, Sealer};
use crate::sql::{Database, Tx, values};
use crate::tenancy::TenancyCache;

/// Beyond this many account keys in memory they are read anew.
const CACHED_ACCOUNT_KEYS: usize = 10_000;

#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `sqlite:PATH` or `postgres://USER@HOST:PORT/DATABASE?sslmode=…`.
    pub url: String,
    pub region: RegionCode,
    pub key_ring: PathBuf,
    /// How long a closed call is kept.
    pub retention: Duration,
    /// Whom anything may leave the region for.
    pub egress: Declared,
}

impl StoreConfig {
    /// With the default retention of 90 days, and nobody outside declared.
    pub fn new(url: impl Into<String>, region: RegionCode, key_ring: impl Into<PathBuf>) -> Self {
        Self {
            url: url.into(),
            region,
            key_ring: key_ring.into(),
            retention: Duration::from_secs(90 * 86_400),
            egress: Declared::default(),
        }
    }
}

/// One region's database. Clones share one pool.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub database: Database,
    pub region: RegionCode,
    pub keys: Arc<KeyRing>,
    pub retention: Duration,
    pub counts: Counts,
    pub gate: Arc<Gate>,
    pub tenancy: tokio::sync::Mutex<TenancyCache>,
    account_keys: Mutex<HashMap<AccountSid, Arc<Sealer>>>,
    /// The signing key after the first that was used last, and which it is.
    pub signing: Mutex<Option<(i64, Arc<SigningKey>)>>,
}

/// Counted since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Records refused because they are tagged with another region.
    pub foreign_records: u64,
    pub events_applied: u64,
    pub events_duplicate: u64,
    /// Events of calls whose opening never arrived, or of unknown accounts.
    pub events_orphaned: u64,
    /// Messages that were removed could not be deleted: tried again.
    pub voicemail_sweeps_failed: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub foreign_records: AtomicU64,
    pub events_applied: AtomicU64,
    pub events_duplicate: AtomicU64,
    pub events_orphaned: AtomicU64,
    pub voicemail_sweeps_failed: AtomicU64,
}

impl Store {
    /// Opens the region's database, bringing its schema up to date. Creates and
    /// stamps it where it is new; refuses one that is stamped otherwise.
    pub async fn open(config: &StoreConfig) -> Result<Store> {
        let keys = KeyRing::open(&config.key_ring, config.region)?;
        let database = Database::connect(&config.url).await?;
        if let Err(error) = schema::prepare(&database, config, &keys).await {
            database.close().await;
            return Err(match error {
                StoreError::Unavailable(source) | StoreError::Database(source) => {
                    StoreError::Connect { database: crate::sql::shown(&config.url), source }
                }
                other => other,
            });
        }
        let inner = Inner {
            database,
            region: config.region,
            keys: Arc::new(keys),
            retention: config.retention,
            counts: Counts::default(),
            gate: Arc::new(Gate::new(config.region, config.egress.clone())),
            tenancy: tokio::sync::Mutex::default(),
            account_keys: Mutex::default(),
            signing: Mutex::default(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    pub fn region(&self) -> RegionCode {
        self.inner.region
    }

    /// The key of this region's pseudonyms, for logs, metrics and other regions.
    pub fn pseudonym_key(&self) -> PseudonymKey {
        self.inner.keys.pseudonym_key()
    }

    pub fn counters(&self) -> StoreCounters {
        let counts = &self.inner.counts;
        StoreCounters {
            foreign_records: counts.foreign_records.load(Relaxed),
            events_applied: counts.events_applied.load(Relaxed),
            events_duplicate: counts.events_duplicate.load(Relaxed),
            events_orphaned: counts.events_orphaned.load(Relaxed),
            voicemail_sweeps_failed: counts.voicemail_sweeps_failed.load(Relaxed),
        }
    }

    /// Rises with every administrative change.
    pub async fn revision(&self) -> Result<i64> {
        let row = self.database().row("SELECT value FROM revision", values![]).await?;
        row.map_or(Ok(0), |row| row.int("value"))
    }

    /// Waits for running statements and closes the connections.
    pub async fn close(&self) {
        self.database().close().await;
    }

    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    pub(crate) fn keys(&self) -> &Arc<KeyRing> {
        &self.inner.keys
    }

    /// Refuses and counts what belongs to another region.
    pub(crate) fn check_home(&self, what: &str, found: RegionCode) -> Result<()> {
        let ours = self.inner.region;
        if found == ours {
            return Ok(());
        }
        self.inner.counts.foreign_records.fetch_add(1, Relaxed);
        Err(StoreError::ForeignRecord { what: what.to_owned(), found, ours })
    }

    /// Opens and seals the account's values; from memory where it was used before.
    pub(crate) async fn account_sealer(&self, account: AccountSid) -> Result<Arc<Sealer>> {
        if let Some(sealer) = self.cached_sealer(account) {
            return Ok(sealer);
        }
        let select = "SELECT wrapped FROM account_key WHERE account = $1";
        let row = self.database().row(select, values![account]).await?;
        let row = row.ok_or_else(|| crate::account::unknown(&account.to_string()))?;
        let key = self.inner.keys.wrapper(account).open(
            &SEALED_ACCOUNT_KEY,
            &account.to_string(),
            &row.bytes("wrapped")?,
        )?;
        let sealer = Sealer::new(&key_bytes(account, key)?, self.inner.region, account);
        Ok(self.cache_sealer(account, sealer))
    }

    pub(crate) fn cached_sealer(&self, account: AccountSid) -> Option<Arc<Sealer>> {
        let keys = self.inner.account_keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(&account).cloned()
    }

    fn cache_sealer(&self, account: AccountSid, sealer: Sealer) -> Arc<Sealer> {
        let sealer = Arc::new(sealer);
        let mut keys = self.inner.account_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= CACHED_ACCOUNT_KEYS {
            keys.clear();
        }
        keys.insert(account, sealer.clone());
        sealer
    }

    /// Makes a new account's key: what seals with it, and what the table keeps.
    pub(crate) fn new_account_key(&self, account: AccountSid) -> (Sealer, Vec<u8>) {
        let key = seal::random_key();
        let wrapped = self.inner.keys.wrapper(account).seal(
            &SEALED_ACCOUNT_KEY,
            &account.to_string(),
            &key[..],
        );
        (Sealer::new(&key, self.inner.region, account), wrapped)
    }
}

pub(crate) fn key_bytes(account: AccountSid, key: Vec<u8>) -> Result<KeyBytes> {
    let key = Zeroizing::new(key);
    let bytes: [u8; 32] = key[..].try_into().map_err(|_| StoreError::Sealed {
        what: "a key",
        account,
        problem: "it is not 32 octets long",
    })?;
    Ok(Zeroizing::new(bytes))
}

/// The first statement of every administrative change: takes the lock that
/// orders them, and gives the revision that the changed rows carry.
pub(crate) async fn bump_revision(tx: &mut Tx) -> Result<i64> {
    let update = "UPDATE revision SET value = value + 1 RETURNING value";
    let row = tx.row(update, values![]).await?;
    row.map_or(Ok(0), |row| row.int("value"))
}

pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// For sids of what an administrator makes.
pub(crate) fn entropy() -> Entropy {
    Entropy::new(seal::random())
}
