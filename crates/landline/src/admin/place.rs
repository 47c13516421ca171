//! Which regions a command may work on, and which of them is an account's home.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use landline_call::directory::{AccountEntry, Directory};
use landline_region::egress::Gate;
use landline_region::{AccountSid, Personal, RegionCode};
use landline_store::{Store, directory};

use crate::cli::Where;
use crate::config::Config;
use crate::open;

/// The regions whose configuration is at hand: one, or all of a demo.
pub struct Place {
    configs: Vec<Config>,
    /// For what is entered into the directory without a region's database.
    gate: Gate,
}

/// An account with the store of its home region.
pub struct Home {
    pub store: Store,
    pub account: AccountSid,
    pub domain: String,
    snapshot: PathBuf,
}

impl Place {
    pub fn open(place: &Where) -> Result<Self> {
        let configs = match (&place.config, &place.data) {
            (Some(file), _) => vec![Config::load(file)?],
            (None, Some(dir)) => demo_configs(dir)?,
            (None, None) => bail!(Nowhere),
        };
        let gate = open::gate(&configs[0])?;
        Ok(Self { configs, gate })
    }

    pub fn configs(&self) -> &[Config] {
        &self.configs
    }

    pub fn directory_file(&self) -> &Path {
        // One snapshot serves every region of a demo.
        &self.configs[0].directory.snapshot
    }

    pub fn directory(&self) -> Result<Directory> {
        open::directory(&self.configs[0], &self.gate)
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Writes down what this command sent out of a region.
    pub async fn write_egress(&self) -> Result<()> {
        if self.gate.counted().is_empty() {
            return Ok(());
        }
        let store = open::store(&self.configs[0]).await?;
        Ok(store.write_egress_of(&self.gate).await?)
    }

    /// The configuration of `region`, or an error that says where to go.
    pub fn config_of(&self, region: RegionCode, what: &str) -> Result<&Config> {
        self.configs.iter().find(|config| config.region.code == region).ok_or_else(|| {
            anyhow!(
                "{what} belongs to region {region}, and this is {}: run the command in {region}, with --config of that region's file",
                self.shown()
            )
        })
    }

    /// The account, by sid or domain, with its home region's store.
    pub async fn home(&self, account: &str) -> Result<Home> {
        let directory = self.directory()?;
        let (domain, entry) = find(&directory, account).ok_or_else(|| {
            anyhow!(
                "no account {account} in the directory {}: `landline account list` shows those of this region",
                self.directory_file().display()
            )
        })?;
        let config = self.config_of(entry.home_region, &format!("account {domain}"))?;
        Ok(Home {
            store: open::store(config).await?,
            account: entry.sid,
            domain: domain.to_owned(),
            snapshot: config.directory.snapshot.clone(),
        })
    }

    /// Every region's store.
    pub async fn stores(&self) -> Result<Vec<(RegionCode, Store)>> {
        let mut stores = Vec::new();
        for config in &self.configs {
            stores.push((config.region.code, open::store(config).await?));
        }
        Ok(stores)
    }

    /// The stores to list from: the account's home, or every region at hand.
    pub async fn scope(
        &self,
        account: Option<&str>,
    ) -> Result<(Vec<(RegionCode, Store)>, Option<AccountSid>)> {
        match account {
            Some(account) => {
                let home = self.home(account).await?;
                Ok((vec![(home.store.region(), home.store)], Some(home.account)))
            }
            None => Ok((self.stores().await?, None)),
        }
    }

    /// As `region ie1` or `regions au1, ie1`.
    pub fn shown(&self) -> String {
        let codes: Vec<String> =
            self.configs.iter().map(|config| config.region.code.to_string()).collect();
        format!("region{} {}", if codes.len() == 1 { "" } else { "s" }, codes.join(", "))
    }
}

impl Home {
    /// Refuses a number that an account of whatever region has.
    pub fn number_free(&self, number: &Personal<String>) -> Result<()> {
        Ok(directory::number_free(&self.snapshot, self.account, number)?)
    }

    /// The directory's tokens follow the account's numbers; how many there are.
    pub async fn publish_numbers(&self) -> Result<usize> {
        publish_numbers(&self.snapshot, &self.store, self.account).await
    }
}

pub async fn publish_numbers(snapshot: &Path, store: &Store, account: AccountSid) -> Result<usize> {
    store.publish_numbers(snapshot, account).await.with_context(|| {
        format!(
            "the numbers of {account} are in its home region's database, but not in the directory: `landline number publish {account}` enters them"
        )
    })
}

/// Neither `--config` nor `--data` was given: a mistake of usage.
#[derive(Debug, thiserror::Error)]
#[error("which region? Wanted --config FILE of a region, or --data DIR of a demo")]
pub struct Nowhere;

fn demo_configs(dir: &Path) -> Result<Vec<Config>> {
    let listed = std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?;
    let mut files: Vec<PathBuf> = listed
        .flatten()
        .map(|entry| entry.path().join(crate::demo::CONFIG_FILE))
        .filter(|file| file.exists())
        .collect();
    files.sort();
    if files.is_empty() {
        bail!(
            "{}: no region's {} here; `landline demo --data DIR` makes such a directory",
            dir.display(),
            crate::demo::CONFIG_FILE
        );
    }
    files.iter().map(|file| Ok(Config::load(file)?)).collect()
}

fn find<'a>(directory: &'a Directory, account: &str) -> Option<(&'a str, &'a AccountEntry)> {
    let sid = account.parse::<AccountSid>().ok();
    directory
        .accounts
        .iter()
        .find(|(domain, entry)| Some(entry.sid) == sid || domain.eq_ignore_ascii_case(account))
        .map(|(domain, entry)| (domain.as_str(), entry))
}
