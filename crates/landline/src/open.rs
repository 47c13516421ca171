//! Opening what a region keeps: its key ring, its database, its copy of the
//! directory. Roles and admin commands come in by the same door.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use landline_call::directory::{Directory, InterRegionAddress, RegionEntry};
use landline_region::egress::{Declared, Gate, Registry};
use landline_store::{KeyRing, Store, StoreConfig, directory};

use crate::config::{Config, Regions, subprocessors as registry};

/// Opens the region's database. A SQLite database that does not exist yet is
/// made, and its key ring with it.
pub async fn store(config: &Config) -> Result<Store> {
    let sqlite = config.database.url.as_ref().and_then(|url| url.sqlite_path());
    // The region's other process may be doing the same at this moment.
    let _lock = match sqlite {
        Some(file) if !file.exists() => Some(lock(file)?),
        _ => None,
    };
    if !config.key_ring.exists() {
        // A ring made anew for a database that was sealed under a lost one
        // would hide the loss until somebody needs the data.
        match sqlite {
            Some(file) if !file.exists() => create_key_ring(config)?,
            _ => bail!(
                "key ring {} does not exist: restore the one that region {}'s database was made with, or, for a new database, run `landline keys create --config FILE`",
                config.key_ring.display(),
                config.region.code
            ),
        }
    }
    let settings = settings(config)?;
    Store::open(&settings).await.with_context(|| format!("region {}", config.region.code))
}

/// What the region's database is opened with.
pub fn settings(config: &Config) -> Result<StoreConfig> {
    let retention = Duration::from_secs(u64::from(config.database.retention_days) * 86_400);
    Ok(StoreConfig {
        retention,
        egress: declared(config)?,
        ..StoreConfig::new(config.database_url(), config.region.code, &config.key_ring)
    })
}

/// A gate for what is done without the region's database.
pub fn gate(config: &Config) -> Result<Gate> {
    Ok(Gate::new(config.region.code, declared(config)?))
}

/// The registry of sub-processors; empty where none is configured.
pub fn subprocessors(config: &Config) -> Result<Registry> {
    let file = config.egress.subprocessors.as_deref();
    Ok(file.map(registry::load).transpose()?.unwrap_or_default())
}

/// Whom the configuration lets anything leave the region for.
fn declared(config: &Config) -> Result<Declared> {
    let regions = Regions::load(&config.directory.regions)?.regions;
    Ok(Declared {
        regions: regions.iter().map(|item| item.code).collect(),
        subprocessors: subprocessors(config)?,
        minimum_group: config.egress.minimum_group,
        account_countries: config
            .egress
            .account_countries
            .as_ref()
            .map(|countries| countries.iter().copied().collect()),
    })
}

fn lock(database: &Path) -> Result<File> {
    make_parent(database)?;
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let path = database.with_file_name(name);
    let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    file.lock().with_context(|| format!("{}", path.display()))?;
    Ok(file)
}

/// Makes a new key ring; fails where there is one.
pub fn create_key_ring(config: &Config) -> Result<()> {
    make_parent(&config.key_ring)?;
    KeyRing::create(&config.key_ring, config.region.code)?;
    Ok(())
}

/// Reads the directory's snapshot, with the list of regions entered into it.
pub fn directory(config: &Config, gate: &Gate) -> Result<Directory> {
    let file = &config.directory.snapshot;
    make_parent(file)?;
    directory::prepare(file)?;
    let known = match file.exists() {
        true => directory::read(file)?,
        false => Directory::default(),
    };
    let mut changed = false;
    for item in Regions::load(&config.directory.regions)?.regions {
        let proxies = item
            .proxies
            .into_iter()
            .map(|proxy| InterRegionAddress { host: proxy.host, port: proxy.port })
            .collect();
        let entry = RegionEntry {
            jurisdiction: item.jurisdiction,
            proxies,
            public_uri: item.public_uri,
            console: item.console,
        };
        if known.regions.get(&item.code) != Some(&entry) {
            directory::region_add(gate, file, item.code, entry)?;
            changed = true;
        }
    }
    match changed {
        true => Ok(directory::read(file)?),
        false => Ok(known),
    }
}

fn make_parent(file: &Path) -> Result<()> {
    match file.parent() {
        Some(dir) => std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display())),
        None => Ok(()),
    }
}
