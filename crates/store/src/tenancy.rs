use std::collections::HashMap;
use std::sync::Arc;

use landline_call::tenancy::{Account, Number, Tenancy, Trunk, User};
use landline_region::{AccountSid, TrunkSid, UserSid};

use crate::error::Result;
use crate::store::Store;

/// What was loaded before, by key and row revision: a row that did not change
/// is neither opened again nor allocated again.
#[derive(Default)]
pub struct TenancyCache {
    accounts: HashMap<AccountSid, (i64, Arc<Account>)>,
    users: HashMap<UserSid, (i64, Arc<User>)>,
    numbers: HashMap<Vec<u8>, (i64, Arc<Number>)>,
    trunks: HashMap<TrunkSid, (i64, Arc<Trunk>)>,
}

/// Opens the rows that changed and takes the others from the cache. A macro,
/// because a future that holds an async closure over the store is not `Send`
/// in the compiler's eyes.
macro_rules! renew {
    ($cache:expr, $rows:expr, $column:literal, $read:ident, |$row:ident| $open:expr) => {{
        let mut fresh = HashMap::with_capacity($rows.len());
        let mut items = Vec::with_capacity($rows.len());
        for $row in &$rows {
            let (key, revision) = ($row.$read($column)?, $row.int("revision")?);
            let item = match $cache.get(&key) {
                Some((known, item)) if *known == revision => Arc::clone(item),
                _ => Arc::new($open.await?),
            };
            items.push(Arc::clone(&item));
            fresh.insert(key, (revision, item));
        }
        $cache = fresh;
        items
    }};
}

impl Store {
    /// All accounts, users, numbers and trunks of the region. A change that
    /// happens meanwhile raises [`Store::revision`] above the answer's.
    pub async fn tenancy(&self) -> Result<Tenancy> {
        let mut cache = self.inner.tenancy.lock().await;
        let revision = self.revision().await?;
        let (accounts, trunks) = (self.account_rows().await?, self.trunk_rows().await?);
        let (users, numbers) = (self.user_rows().await?, self.number_rows().await?);

        let accounts = renew!(cache.accounts, accounts, "sid", parse, |row| self.account_of(row));
        let users = renew!(cache.users, users, "sid", parse, |row| self.user_of(row));
        let trunks = renew!(cache.trunks, trunks, "sid", parse, |row| self.trunk_of(row));
        let numbers =
            renew!(cache.numbers, numbers, "number_index", bytes, |row| self.number_of(row));
        Ok(Tenancy { revision, accounts, users, numbers, trunks })
    }
}
