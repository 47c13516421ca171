//! What an administrator set up, in pages: the newest first, each page
//! beginning where the former ended, whatever was added meanwhile.

use landline_call::tenancy::{Number, Trunk, User};
use landline_region::{AccountSid, ApiKeySid, TrunkSid, UnixMillis, UserSid};
use sqlx::AssertSqlSafe;

use crate::api_key::ApiKey;
use crate::call::MAX_LIMIT;
use crate::error::Result;
use crate::number::{SELECT as NUMBERS, token_range};
use crate::sql::{Row, Value, values};
use crate::store::Store;
use crate::trunk::SELECT as TRUNKS;
use crate::user::SELECT as USERS;

/// From where on, and how many. `S` names a thing of the list.
#[derive(Debug, Clone)]
pub struct ListQuery<S> {
    /// The last thing of the former page, and when it was made.
    pub after: Option<(UnixMillis, S)>,
    pub limit: u32,
}

/// A thing of a list, and when it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    pub created_at: UnixMillis,
    pub item: T,
}

/// Opens each row with its time. A macro for the reason of `tenancy::renew`.
macro_rules! listed {
    ($rows:expr, |$row:ident| $open:expr) => {{
        let mut items = Vec::with_capacity($rows.len());
        for $row in &$rows {
            items.push(Listed { created_at: $row.time("created_at")?, item: $open.await? });
        }
        Ok(items)
    }};
}

impl Store {
    pub async fn user_page(
        &self,
        account: AccountSid,
        query: &ListQuery<UserSid>,
    ) -> Result<Vec<Listed<User>>> {
        let last = query.after.map(|(at, sid)| (at, sid.to_string().into()));
        let rows = self.page(USERS, "u.", "sid", account, last, query.limit).await?;
        listed!(rows, |row| self.user_of(row))
    }

    pub async fn trunk_page(
        &self,
        account: AccountSid,
        query: &ListQuery<TrunkSid>,
    ) -> Result<Vec<Listed<Trunk>>> {
        let last = query.after.map(|(at, sid)| (at, sid.to_string().into()));
        let rows = self.page(TRUNKS, "", "sid", account, last, query.limit).await?;
        listed!(rows, |row| self.trunk_of(row))
    }

    /// Revoked ones included.
    pub async fn key_page(
        &self,
        account: AccountSid,
        query: &ListQuery<ApiKeySid>,
    ) -> Result<Vec<ApiKey>> {
        let last = query.after.map(|(at, sid)| (at, sid.to_string().into()));
        let keys = "SELECT * FROM api_key";
        let rows = self.page(keys, "", "sid", account, last, query.limit).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            keys.push(self.key_of(row).await?);
        }
        Ok(keys)
    }

    /// By [`Store::number_token`]; what is no such token is at no place.
    pub async fn number_page(
        &self,
        account: AccountSid,
        query: &ListQuery<String>,
    ) -> Result<Vec<Listed<Number>>> {
        let last = query.after.as_ref().and_then(|(at, token)| {
            let (_, last) = token_range(token)?;
            Some((*at, last.into()))
        });
        let rows = self.page(NUMBERS, "", "number_index", account, last, query.limit).await?;
        listed!(rows, |row| self.number_of(row))
    }

    /// `select` is a statement without conditions, `key` the column that tells
    /// its rows apart, both columns of the table named by `prefix`.
    pub(crate) async fn page(
        &self,
        select: &str,
        prefix: &str,
        key: &str,
        account: AccountSid,
        last: Option<(UnixMillis, Value)>,
        limit: u32,
    ) -> Result<Vec<Row>> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let mut text = format!("{select} WHERE {prefix}account = $1");
        let mut values = values![account];
        if let Some((at, sid)) = last {
            text.push_str(&format!(
                " AND ({prefix}created_at < $2 OR ({prefix}created_at = $2 AND {prefix}{key} > $3))"
            ));
            values.extend(values![at, sid]);
        }
        text.push_str(&format!(" ORDER BY {prefix}created_at DESC, {prefix}{key} LIMIT {limit}"));
        self.database().rows(AssertSqlSafe(text), values).await
    }
}
