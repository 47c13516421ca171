//! Keys of the HTTPS API: who may do what with one account of this region.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landline_region::catalogue::sealed::{INDEX_API_KEY, SEALED_API_KEY_NAME};
use landline_region::{AccountSid, ApiKeySid, Personal, Secret, UnixMillis};

use crate::account::checked_label;
use crate::error::{Result, StoreError};
use crate::seal;
use crate::sql::{Row, values};
use crate::store::{Store, entropy, now};

/// What a key's holder may do. Rights to administer and rights to use are
/// apart: no role has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiRole {
    /// Sets up users, numbers, trunks, keys; sees nobody's calls in clear.
    Admin,
    /// Works with calls and recordings.
    Operator,
    /// Sees who did what, and that calls were, without their parties.
    Auditor,
    /// Looks at calls and never changes anything.
    Read,
}

impl ApiRole {
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Auditor, Self::Read];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Read => "read",
        }
    }
}

impl fmt::Display for ApiRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ApiRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let found: String = text.chars().take(32).collect();
            format!("`{found}` is none of admin, operator, auditor, read")
        })
    }
}

/// A key without its secret, which is not kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    pub sid: ApiKeySid,
    pub account: AccountSid,
    /// What people call it; often a person's or a machine's name.
    pub name: Personal<String>,
    pub role: ApiRole,
    pub created_at: UnixMillis,
    /// To the minute.
    pub last_used_at: Option<UnixMillis>,
    pub revoked_at: Option<UnixMillis>,
}

/// An account has no more keys in use than this.
const MAX_KEYS: usize = 100;
/// How exact `last_used_at` is: each change is a write.
const USED_EVERY_MS: i64 = 60_000;

impl Store {
    /// The secret is given here once: the database keeps an HMAC of it.
    pub async fn key_create(
        &self,
        account: AccountSid,
        role: ApiRole,
        name: &str,
    ) -> Result<(ApiKey, Secret<String>)> {
        checked_label("key name", name)?;
        let sealer = self.account_sealer(account).await?;
        let in_use = self.key_list(account).await?;
        if in_use.iter().filter(|key| key.revoked_at.is_none()).count() >= MAX_KEYS {
            return Err(StoreError::InUse {
                what: format!("every key that account {account} may have"),
                next: format!("{MAX_KEYS} are in use; revoke one first"),
            });
        }
        let sid = ApiKeySid::new(self.region(), &mut entropy());
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(seal::random::<32>()));
        let key = ApiKey {
            sid,
            account,
            name: Personal::new(name.to_owned()),
            role,
            created_at: now(),
            last_used_at: None,
            revoked_at: None,
        };
        let mut tx = self.database().begin().await?;
        tx.execute(
            "INSERT INTO api_key (sid, account, name, role, digest, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            values![
                sid.to_string(),
                account,
                sealer.seal(&SEALED_API_KEY_NAME, &sid.to_string(), name.as_bytes()),
                role.name(),
                self.key_digest(sid, secret.expose()),
                key.created_at,
            ],
        )
        .await?;
        tx.commit().await?;
        Ok((key, secret))
    }

    /// The oldest first, revoked ones included.
    pub async fn key_list(&self, account: AccountSid) -> Result<Vec<ApiKey>> {
        let select = "SELECT * FROM api_key WHERE account = $1 ORDER BY created_at, sid";
        let rows = self.database().rows(select, values![account]).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            keys.push(self.key_of(row).await?);
        }
        Ok(keys)
    }

    /// A revoked key stays listed and opens nothing from here on.
    pub async fn key_revoke(&self, account: AccountSid, key: ApiKeySid) -> Result<ApiKey> {
        let mut tx = self.database().begin().await?;
        let update = "UPDATE api_key SET revoked_at = COALESCE(revoked_at, $3) \
                      WHERE sid = $1 AND account = $2";
        let found = tx.execute(update, values![key.to_string(), account, now()]).await?;
        if found == 0 {
            return Err(StoreError::NotFound {
                what: format!("key {key} in account {account}"),
                next: "`key list` shows them".to_owned(),
            });
        }
        tx.commit().await?;
        let select = "SELECT * FROM api_key WHERE sid = $1";
        let row = self.database().row(select, values![key.to_string()]).await?;
        match row {
            Some(row) => self.key_of(&row).await,
            None => Err(crate::account::unknown(&account.to_string())),
        }
    }

    /// The key, if the secret is its own and it was not revoked. Notes that it
    /// was used.
    pub async fn key_check(&self, key: ApiKeySid, secret: &str) -> Result<Option<ApiKey>> {
        let select = "SELECT * FROM api_key WHERE sid = $1 AND revoked_at IS NULL";
        let row = self.database().row(select, values![key.to_string()]).await?;
        let Some(row) = row else { return Ok(None) };
        let digest = self.key_digest(key, secret);
        if verify_slices_are_equal(&digest, &row.bytes("digest")?).is_err() {
            return Ok(None);
        }
        let found = self.key_of(&row).await?;
        let at = now();
        if found.last_used_at.is_none_or(|used| used.0 + USED_EVERY_MS <= at.0) {
            let mut tx = self.database().begin().await?;
            let update = "UPDATE api_key SET last_used_at = $2 WHERE sid = $1";
            tx.execute(update, values![key.to_string(), at]).await?;
            tx.commit().await?;
        }
        Ok(Some(found))
    }

    /// HMAC-SHA-256 under a key of the region. The secret is 256 random bits,
    /// which nobody finds by trying: a slow hash such as Argon2id would add
    /// cost to every request and no safety. The HMAC's key keeps a copy of the
    /// table useless for checking a secret elsewhere.
    fn key_digest(&self, key: ApiKeySid, secret: &str) -> Vec<u8> {
        self.keys().index(&INDEX_API_KEY, &key.to_string(), secret)
    }

    pub(crate) async fn key_of(&self, row: &Row) -> Result<ApiKey> {
        let (sid, account): (ApiKeySid, AccountSid) = (row.parse("sid")?, row.parse("account")?);
        let sealer = self.account_sealer(account).await?;
        let name = sealer.open_text(&SEALED_API_KEY_NAME, &sid.to_string(), &row.bytes("name")?)?;
        Ok(ApiKey {
            sid,
            account,
            name: Personal::new(name),
            role: row.parse("role")?,
            created_at: row.time("created_at")?,
            last_used_at: row.time_or_null("last_used_at")?,
            revoked_at: row.time_or_null("revoked_at")?,
        })
    }
}
