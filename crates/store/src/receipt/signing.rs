//! The key that the region signs with now, those that it signed with before,
//! and the change from one to the next.

use std::sync::{Arc, PoisonError};

use landline_region::UnixMillis;
use landline_region::receipt::{KeyChange, KeyChangeType, SigningKey, VerifyingKey};

use super::facts::Reader;
use super::log::{Growth, broken};
use super::statement::{KEY, bad_key};
use crate::error::Result;
use crate::seal;
use crate::sql::values;
use crate::store::{Store, now};

/// One of a region's signing keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionKey {
    pub key: VerifyingKey,
    /// `None` of the first, which is as old as the key ring.
    pub since: Option<UnixMillis>,
    /// `None` of the one that signs now.
    pub until: Option<UnixMillis>,
}

impl Store {
    /// The public half of the key that this region's statements are signed with.
    pub async fn verifying_key(&self) -> Result<VerifyingKey> {
        Ok(self.signing_key().await?.verifying_key())
    }

    /// Every key that the region signs and signed with, the first one first.
    pub async fn signing_keys(&self) -> Result<Vec<RegionKey>> {
        let first = self.keys().first_signing_key().verifying_key();
        let mut keys = vec![RegionKey { key: first, since: None, until: None }];
        for change in self.key_changes().await? {
            let at = Some(change.body.changed_at);
            if let Some(former) = keys.last_mut() {
                former.until = at;
            }
            let key = change.body.next().map_err(bad_key)?;
            keys.push(RegionKey { key, since: at, until: None });
        }
        Ok(keys)
    }

    /// Makes a new signing key, certified by the present one in the log, and
    /// destroys what the present one is derived from. The first key is derived
    /// from the key ring alone and cannot be destroyed.
    pub async fn signing_key_rotate(&self) -> Result<RegionKey> {
        let now = now();
        let mut tx = self.database().begin().await?;
        let mut growth = Growth::begin(&mut tx, self).await?;
        let salt = seal::random::<32>();
        let next = Arc::new(self.keys().later_signing_key(&salt));
        let change = |log_index| KeyChange {
            r#type: KeyChangeType::V1,
            region: self.region(),
            log_index,
            changed_at: now,
            former: growth.key.verifying_key().to_hex(),
            next: next.verifying_key().to_hex(),
        };
        let change = change(growth.frontier.size());
        growth.enter(KEY, &next.id().to_string(), None, &change)?;
        growth.key = next.clone();
        let row = "SELECT key_generation FROM receipt_log";
        let row = tx.row(row, values![]).await?.ok_or_else(|| broken("it has no row"))?;
        let generation = row.int("key_generation")? + 1;
        tx.execute("UPDATE signing_key SET salt = NULL", values![]).await?;
        let insert = "INSERT INTO signing_key (generation, ed25519, salt, created_at) \
                      VALUES ($1, $2, $3, $4)";
        let values = values![generation, change.next, salt, now];
        tx.execute(insert, values).await?;
        let update = "UPDATE receipt_log SET key_generation = $1";
        tx.execute(update, values![generation]).await?;
        growth.write(&mut tx, self, now).await?;
        tx.commit().await?;
        Ok(RegionKey { key: next.verifying_key(), since: Some(now), until: None })
    }

    pub(super) async fn signing_key(&self) -> Result<Arc<SigningKey>> {
        let select = "SELECT key_generation FROM receipt_log";
        let row = self.database().row(select, values![]).await?;
        let generation = row.ok_or_else(|| broken("it has no row"))?.int("key_generation")?;
        self.signing_key_of(generation, &mut Reader::Database(self.database())).await
    }

    /// From memory where it was used before: the key changes once in months.
    pub(super) async fn signing_key_of(
        &self,
        generation: i64,
        reader: &mut Reader<'_>,
    ) -> Result<Arc<SigningKey>> {
        if generation == 0 {
            return Ok(self.keys().first_signing_key());
        }
        let known = self.inner.signing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, key)) = known.filter(|(known, _)| *known == generation) {
            return Ok(key);
        }
        let select = "SELECT salt, ed25519 FROM signing_key WHERE generation = $1";
        let rows = reader.rows(select.to_owned(), values![generation]).await?;
        let row = rows.first().ok_or_else(|| broken("its signing key is missing"))?;
        let salt = row.bytes_or_null("salt")?.unwrap_or_default();
        let salt: [u8; 32] =
            salt.try_into().map_err(|_| broken("its signing key was destroyed"))?;
        let key = Arc::new(self.keys().later_signing_key(&salt));
        if key.verifying_key().to_hex() != row.text("ed25519")? {
            return Err(broken("its signing key was changed"));
        }
        let mut cached = self.inner.signing.lock().unwrap_or_else(PoisonError::into_inner);
        *cached = Some((generation, key.clone()));
        Ok(key)
    }
}
