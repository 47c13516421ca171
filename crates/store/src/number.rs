use landline_call::tenancy::{Number, NumberTarget};
use landline_region::{AccountSid, Personal};

use crate::error::Result;
use crate::store::{Store, not_ready};

#[derive(Debug, Clone)]
pub struct NewNumber {
    /// With `+`.
    pub e164: Personal<String>,
    pub target: NumberTarget,
}

impl Store {
    pub async fn number_add(&self, account: AccountSid, new: &NewNumber) -> Result<Number> {
        let _ = (account, new);
        Err(not_ready("number"))
    }

    pub async fn number_list(&self, account: AccountSid) -> Result<Vec<Number>> {
        let _ = account;
        Err(not_ready("number"))
    }

    pub async fn number_remove(&self, account: AccountSid, e164: &str) -> Result<()> {
        let _ = (account, e164);
        Err(not_ready("number"))
    }
}
