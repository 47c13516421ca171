use landline_call::tenancy::{Account, EdgePolicy, EncryptionPolicy, RecordingPolicy};
use landline_region::{AccountSid, Personal, RegionCode};

use crate::error::Result;
use crate::store::{Store, not_ready};

#[derive(Debug, Clone)]
pub struct NewAccount {
    pub name: Personal<String>,
    /// Any case; kept in lower case.
    pub domain: String,
    /// Must be the store's own.
    pub home_region: RegionCode,
    pub edge_policy: EdgePolicy,
    pub recording: RecordingPolicy,
    pub encryption: EncryptionPolicy,
    /// `None`: the region's own entity, `landline-REGION`.
    pub contracting_entity: Option<String>,
}

impl NewAccount {
    pub fn new(
        name: impl Into<String>,
        domain: impl Into<String>,
        home_region: RegionCode,
    ) -> Self {
        Self {
            name: Personal::new(name.into()),
            domain: domain.into(),
            home_region,
            edge_policy: EdgePolicy::default(),
            recording: RecordingPolicy::default(),
            encryption: EncryptionPolicy::default(),
            contracting_entity: None,
        }
    }
}

/// What to change; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    pub edge_policy: Option<EdgePolicy>,
    pub recording: Option<RecordingPolicy>,
    pub encryption: Option<EncryptionPolicy>,
}

impl Store {
    pub async fn account_create(&self, new: &NewAccount) -> Result<Account> {
        Err(not_ready(&new.domain))
    }

    pub async fn account_list(&self) -> Result<Vec<Account>> {
        Err(not_ready("account"))
    }

    /// By sid or domain.
    pub async fn account_find(&self, sid_or_domain: &str) -> Result<Account> {
        Err(not_ready(sid_or_domain))
    }

    pub async fn account_set(
        &self,
        account: AccountSid,
        change: &AccountChange,
    ) -> Result<Account> {
        let _ = change;
        Err(not_ready(&account.to_string()))
    }
}
