use ipnet::IpNet;
use landline_call::tenancy::{MediaPolicy, Trunk, TrunkAddress, TrunkCredentials};
use landline_region::AccountSid;

use crate::error::Result;
use crate::store::{Store, not_ready};

#[derive(Debug, Clone)]
pub struct NewTrunk {
    /// Unique within the account.
    pub name: String,
    pub send_to: TrunkAddress,
    pub accept_from: Vec<IpNet>,
    pub media: MediaPolicy,
    pub credentials: Option<TrunkCredentials>,
}

impl Store {
    pub async fn trunk_add(&self, account: AccountSid, new: &NewTrunk) -> Result<Trunk> {
        let _ = (account, new);
        Err(not_ready("trunk"))
    }

    pub async fn trunk_list(&self, account: AccountSid) -> Result<Vec<Trunk>> {
        let _ = account;
        Err(not_ready("trunk"))
    }

    /// By sid or name within the account.
    pub async fn trunk_find(&self, account: AccountSid, trunk: &str) -> Result<Trunk> {
        let _ = (account, trunk);
        Err(not_ready("trunk"))
    }

    pub async fn trunk_remove(&self, account: AccountSid, trunk: &str) -> Result<()> {
        let _ = (account, trunk);
        Err(not_ready("trunk"))
    }
}
