use landline_call::tenancy::{DigestSecrets, MediaPolicy, RecordingPolicy, User};
use landline_region::{AccountSid, Personal};

use crate::error::Result;
use crate::store::{Store, not_ready};

#[derive(Debug, Clone)]
pub struct NewUser {
    pub name: Personal<String>,
    /// By `landline_sip::digest::ha1` with the account's domain as realm.
    pub digest: DigestSecrets,
    pub number: Option<Personal<String>>,
    pub media: MediaPolicy,
    pub recording: Option<RecordingPolicy>,
}

/// What to change; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    pub digest: Option<DigestSecrets>,
    /// `Some(None)` takes the number away.
    pub number: Option<Option<Personal<String>>>,
    pub media: Option<MediaPolicy>,
    /// `Some(None)`: as the account says.
    pub recording: Option<Option<RecordingPolicy>>,
}

impl Store {
    pub async fn user_add(&self, account: AccountSid, new: &NewUser) -> Result<User> {
        let _ = (account, new);
        Err(not_ready("user"))
    }

    pub async fn user_set(
        &self,
        account: AccountSid,
        user: &str,
        change: &UserChange,
    ) -> Result<User> {
        let _ = (account, user, change);
        Err(not_ready("user"))
    }

    pub async fn user_list(&self, account: AccountSid) -> Result<Vec<User>> {
        let _ = account;
        Err(not_ready("user"))
    }

    /// By sid or name within the account.
    pub async fn user_find(&self, account: AccountSid, user: &str) -> Result<User> {
        let _ = (account, user);
        Err(not_ready("user"))
    }

    /// Its bindings and its own number go with it.
    pub async fn user_remove(&self, account: AccountSid, user: &str) -> Result<()> {
        let _ = (account, user);
        Err(not_ready("user"))
    }
}
