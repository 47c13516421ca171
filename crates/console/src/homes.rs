//! Which region is home to an account, from the directory's snapshot.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arc_swap::ArcSwap;
use landline_call::directory::RegionEntry;
use landline_call::tenancy::EdgePolicy;
use landline_region::{AccountSid, Jurisdiction, RegionCode};
use landline_store::directory::{self, Stamp};

use crate::StartError;

/// How often the snapshot is looked at.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub struct Homes {
    path: PathBuf,
    known: ArcSwap<Known>,
}

#[derive(Default)]
struct Known {
    stamp: Stamp,
    accounts: HashMap<AccountSid, RegionCode>,
    domains: HashMap<String, (RegionCode, EdgePolicy)>,
    regions: BTreeMap<RegionCode, RegionEntry>,
}

impl Homes {
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let known = Known::read(path)?;
        Ok(Self { path: path.to_owned(), known: ArcSwap::from_pointee(known) })
    }

    /// Reads the snapshot again where it changed. One that cannot be read
    /// changes nothing.
    pub fn refresh(&self) -> Result<(), StartError> {
        if self.known.load().stamp != Stamp::of(&self.path) {
            self.known.store(Known::read(&self.path)?.into());
        }
        Ok(())
    }

    /// `None` where the directory does not know the account: it may be of this
    /// region all the same, and new.
    pub fn of(&self, account: AccountSid) -> Option<RegionCode> {
        self.known.load().accounts.get(&account).copied()
    }

    /// The home of the account with this domain, in lower case, and what other
    /// regions' edges do for it.
    pub fn of_domain(&self, domain: &str) -> Option<(RegionCode, EdgePolicy)> {
        self.known.load().domains.get(domain).copied()
    }

    pub fn jurisdiction(&self, code: RegionCode) -> Option<Jurisdiction> {
        Some(self.known.load().regions.get(&code)?.jurisdiction)
    }

    pub fn is_region(&self, code: RegionCode) -> bool {
        self.known.load().regions.contains_key(&code)
    }

    /// Where the region's API is.
    pub fn base_url(&self, code: RegionCode) -> Option<String> {
        let known = self.known.load();
        let url = known.regions.get(&code)?.console.clone()?;
        Some(url.trim_end_matches('/').to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn regions(&self) -> BTreeMap<RegionCode, RegionEntry> {
        self.known.load().regions.clone()
    }
}

impl Known {
    fn read(path: &Path) -> Result<Self, StartError> {
        let stamp = Stamp::of(path);
        let directory = directory::read(path).map_err(|error| StartError::Directory {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
        let accounts =
            directory.accounts.values().map(|entry| (entry.sid, entry.home_region)).collect();
        let domains = directory.accounts.iter().map(|(domain, entry)| {
            (domain.to_ascii_lowercase(), (entry.home_region, entry.edge_policy))
        });
        let domains = domains.collect();
        Ok(Self { stamp, accounts, domains, regions: directory.regions })
    }
}
