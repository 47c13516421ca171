//! A fresh region per test, on SQLite always and on PostgreSQL where
//! `LANDLINE_TEST_POSTGRES` names a server that lets us create databases, as
//! `postgres://postgres@127.0.0.1:5432`.
#![allow(dead_code)]

pub mod database;
pub mod receipts;

use std::future::Future;
use std::path::{Path, PathBuf};

use database::TestDatabase;
use landline_call::tenancy::{Account, DigestSecrets, MediaPolicy, User};
use landline_region::{Personal, RegionCode, Secret, UnixMillis};
use landline_store::{KeyRing, NewAccount, NewUser, Store, StoreConfig};
use sqlx::{AssertSqlSafe, Connection as _};
use tempfile::TempDir;

/// Runs each test on both engines, as `NAME::sqlite` and `NAME::postgres`.
#[macro_export]
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($region:ident: Region) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn check($region: common::Region) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check(common::Region::sqlite("ie1").await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(region) = common::Region::postgres("ie1").await {
                    check(region).await;
                }
            }
        }
    )+};
}

pub struct Region {
    pub dir: TempDir,
    pub config: StoreConfig,
    pub store: Store,
    database: Option<TestDatabase>,
}

impl Region {
    pub async fn sqlite(code: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("region.db").display());
        Self::open(dir, url, code, None).await
    }

    pub async fn postgres(code: &str) -> Option<Self> {
        let database = TestDatabase::create().await?;
        let dir = tempfile::tempdir().unwrap();
        let url = database.url.clone();
        Some(Self::open(dir, url, code, Some(database)).await)
    }

    async fn open(dir: TempDir, url: String, code: &str, database: Option<TestDatabase>) -> Self {
        let code: RegionCode = code.parse().unwrap();
        let key_ring = dir.path().join("keys");
        KeyRing::create(&key_ring, code).unwrap();
        let config = StoreConfig::new(url, code, key_ring);
        let store = Store::open(&config).await.unwrap();
        Self { dir, config, store, database }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn account(&self) -> Account {
        let new = NewAccount::new("Acme Ltd", "acme.test", self.config.region);
        self.store.account_create(&new).await.unwrap()
    }

    pub async fn user(&self, account: &Account, name: &str) -> User {
        self.store.user_add(account.sid, &new_user(name)).await.unwrap()
    }

    /// Runs a statement behind the store's back.
    pub async fn tamper(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        let url = &self.config.url;
        if url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected()
        } else {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected()
        }
    }

    /// The one text column of a query's rows, read behind the store's back.
    pub async fn texts(&self, sql: &'static str) -> Vec<String> {
        let url = &self.config.url;
        if url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
            sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
        } else {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
        }
    }
}

pub fn new_user(name: &str) -> NewUser {
    NewUser {
        name: Personal::new(name.to_owned()),
        digest: DigestSecrets {
            md5: Secret::new("0123456789abcdef0123456789abcdef".to_owned()),
            sha256: Secret::new("feed".repeat(16)),
        },
        number: None,
        media: MediaPolicy::Auto,
        recording: None,
    }
}

pub fn personal(text: &str) -> Personal<String> {
    Personal::new(text.to_owned())
}

pub fn at(ms: i64) -> UnixMillis {
    UnixMillis(1_700_000_000_000 + ms)
}

/// Every file below a directory, read whole.
pub fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push((entry.path(), std::fs::read(entry.path()).unwrap())),
        }
    }
    found
}

pub fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Waits up to five seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not within five seconds: {what}");
}
