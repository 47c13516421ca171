//! Brings a database's schema up to date and holds it to its region.

use landline_region::RegionCode;

use crate::error::{Result, StoreError};
use crate::keys::KeyRing;
use crate::sql::{Database, Tx, values};
use crate::store::{StoreConfig, now};

/// In order; a migration that was released is never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_region.sql"),
    include_str!("../migrations/0002_receipts.sql"),
    include_str!("../migrations/0003_api.sql"),
    include_str!("../migrations/0004_egress.sql"),
    include_str!("../migrations/0005_join.sql"),
    include_str!("../migrations/0006_webhooks.sql"),
    include_str!("../migrations/0007_log.sql"),
    include_str!("../migrations/0008_usage.sql"),
    include_str!("../migrations/0009_routes.sql"),
    include_str!("../migrations/0010_moves.sql"),
    include_str!("../migrations/0011_proxies.sql"),
    include_str!("../migrations/0012_forwarding.sql"),
    include_str!("../migrations/0013_sounds.sql"),
    include_str!("../migrations/0015_identity.sql"),
    // Numbered before the one that came first.
    include_str!("../migrations/0014_voicemail.sql"),
    include_str!("../migrations/0016_removed_by.sql"),
];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)";

/// Held while migrating, so that processes that start together take turns.
const ADVISORY_LOCK: i64 = 0x6c61_6e64_6c69_6e65;

pub async fn prepare(database: &Database, config: &StoreConfig, keys: &KeyRing) -> Result<()> {
    let shown = crate::sql::shown(&config.url);
    let mut tx = database.begin().await?;
    if database.is_postgres() {
        tx.execute("SELECT pg_advisory_xact_lock($1)", values![ADVISORY_LOCK]).await?;
    }
    tx.execute(VERSIONS, values![]).await?;
    let version = tx.row("SELECT MAX(version) AS version FROM schema_version", values![]).await?;
    let version = version.map(|row| row.int_or_null("version")).transpose()?.flatten().unwrap_or(0);
    if version > MIGRATIONS.len() as i64 {
        let problem = format!(
            "its schema is version {version}, this program knows {}: run a newer Landline",
            MIGRATIONS.len()
        );
        return Err(StoreError::Schema { database: shown, problem });
    }
    // Before anything is changed in a database that is not ours.
    if version > 0 {
        check_stamp(&mut tx, config, keys).await?;
    }
    migrate(&mut tx, version, MIGRATIONS.len() as i64).await?;
    if version == 0 {
        enter(&mut tx, config, keys).await?;
    }
    tx.commit().await
}

/// Makes the schema of this version in a database that must be empty.
pub async fn create_at(
    tx: &mut Tx,
    config: &StoreConfig,
    keys: &KeyRing,
    version: i64,
) -> Result<()> {
    let database = crate::sql::shown(&config.url);
    if version > MIGRATIONS.len() as i64 {
        let problem = format!(
            "the backup's schema is version {version}, this program knows {}: run a newer Landline",
            MIGRATIONS.len()
        );
        return Err(StoreError::Schema { database, problem });
    }
    tx.execute(VERSIONS, values![]).await?;
    let found = tx.row("SELECT COUNT(*) AS migrations FROM schema_version", values![]).await?;
    if found.map_or(Ok(0), |row| row.int("migrations"))? > 0 {
        let problem = "it holds a region's records already: restore into an empty database, and \
                       rename or remove this one yourself if it is lost"
            .to_owned();
        return Err(StoreError::Schema { database, problem });
    }
    migrate(tx, 0, version).await?;
    enter(tx, config, keys).await
}

async fn migrate(tx: &mut Tx, from: i64, to: i64) -> Result<()> {
    let wanted = MIGRATIONS.iter().enumerate().take(to as usize).skip(from as usize);
    for (index, migration) in wanted {
        let text = match tx {
            Tx::Postgres(_) => (*migration).to_owned(),
            Tx::Sqlite(_) => migration.replace("BYTEA", "BLOB"),
        };
        tx.script(text).await?;
        let insert = "INSERT INTO schema_version (version) VALUES ($1)";
        tx.execute(insert, values![index as i64 + 1]).await?;
    }
    Ok(())
}

/// Whose database it is, and where its chain begins.
async fn enter(tx: &mut Tx, config: &StoreConfig, keys: &KeyRing) -> Result<()> {
    let insert = "INSERT INTO region_stamp (id, region, key_ring, created_at) \
                  VALUES (1, $1, $2, $3)";
    tx.execute(insert, values![config.region, keys.id(), now()]).await?;
    let insert = "INSERT INTO call_chain (id, position, head) VALUES (1, 0, $1)";
    tx.execute(insert, values![crate::chain::origin(config.region)]).await.map(drop)
}

async fn check_stamp(tx: &mut Tx, config: &StoreConfig, keys: &KeyRing) -> Result<()> {
    let database = crate::sql::shown(&config.url);
    let stamp = tx.row("SELECT region, key_ring FROM region_stamp", values![]).await?;
    let Some(stamp) = stamp else {
        let problem = "it has tables and no region stamp: not a Landline database".to_owned();
        return Err(StoreError::Schema { database, problem });
    };
    let found: RegionCode = stamp.parse("region")?;
    if found != config.region {
        let configured = config.region;
        return Err(StoreError::DatabaseOfAnotherRegion { database, found, configured });
    }
    let wanted = stamp.text("key_ring")?;
    if wanted != keys.id() {
        let (path, found) = (config.key_ring.clone(), keys.id().to_owned());
        return Err(StoreError::WrongKeyRing { database, path, wanted, found });
    }
    Ok(())
}
