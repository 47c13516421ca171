//! A restore that is tried: into a place of its own, compared, and removed.

use std::path::{Path, PathBuf};

use super::compare::with_region;
use super::restore::{Restored, restore};
use super::{Tell, place};
use crate::error::{Result, StoreError};
use crate::keys::KeyRing;
use crate::sql::Database;
use crate::store::{Store, StoreConfig};

/// Restores beside the region's database, compares everything with the backup,
/// with its own proofs and with the region as it lives, and removes the copy.
/// `scratch` is a directory of the region, where a SQLite copy lies meanwhile;
/// on PostgreSQL the copy is a schema of its own in the region's database.
pub async fn drill(
    config: &StoreConfig,
    file: &Path,
    scratch: &Path,
    tell: Tell<'_>,
) -> Result<Restored> {
    let region = Store::open(config).await?;
    let (copy, config) = Copy::make(config, scratch).await?;
    let drilled = async {
        let mut restored = restore(&config, file, tell).await?;
        let store = Store::open(&config).await?;
        let compared = with_region(&store, &region, &mut restored.compared).await;
        store.close().await;
        compared.map(|()| restored)
    };
    let drilled = drilled.await;
    region.close().await;
    let removed = copy.remove().await;
    let restored = drilled?;
    removed.map(|()| restored)
}

enum Copy {
    Sqlite(PathBuf),
    Postgres { url: String, schema: String },
}

impl Copy {
    async fn make(config: &StoreConfig, scratch: &Path) -> Result<(Self, StoreConfig)> {
        let name = format!("landline_drill_{}", hex::encode(crate::seal::random::<6>()));
        let (copy, url) = match config.url.starts_with("sqlite") {
            true => {
                let dir = scratch.join(&name);
                place::make_private(&dir)?;
                let url = format!("sqlite:{}", dir.join("copy.sqlite").display());
                (Self::Sqlite(dir), url)
            }
            false => {
                script(&config.url, format!("CREATE SCHEMA {name}")).await?;
                let joint = if config.url.contains('?') { '&' } else { '?' };
                let url = format!("{}{joint}options[search_path]={name}", config.url);
                (Self::Postgres { url: config.url.clone(), schema: name }, url)
            }
        };
        Ok((copy, StoreConfig { url, ..config.clone() }))
    }

    async fn remove(self) -> Result<()> {
        match self {
            Self::Sqlite(dir) => {
                std::fs::remove_dir_all(&dir).map_err(|error| StoreError::file(&dir, error))
            }
            Self::Postgres { url, schema } => {
                script(&url, format!("DROP SCHEMA {schema} CASCADE")).await
            }
        }
    }
}

async fn script(url: &str, sql: String) -> Result<()> {
    let database = Database::connect(url).await?;
    let mut tx = database.begin().await?;
    let done = tx.script(sql).await;
    let done = match done {
        Ok(()) => tx.commit().await,
        Err(error) => Err(error),
    };
    database.close().await;
    done
}

/// The newest of the region's backups in a directory.
pub fn newest(config: &StoreConfig, dir: &Path) -> Result<PathBuf> {
    let keys = KeyRing::open(&config.key_ring, config.region)?;
    let newest = place::list(dir, &keys)?.pop().map(|listed| listed.file);
    newest.ok_or_else(|| StoreError::NotFound {
        what: format!("backup of region {} in {}", config.region, dir.display()),
        next: "`landline backup` makes one".to_owned(),
    })
}
