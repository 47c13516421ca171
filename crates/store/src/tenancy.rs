use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use landline_call::tenancy::{Account, Number, Tenancy, Trunk, User};
use landline_region::{AccountSid, TrunkSid, UserSid};

use crate::error::Result;
use crate::sql::Row;
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

impl Store {
    /// All accounts, users, numbers and trunks of the region. A change that
    /// happens meanwhile raises [`Store::revision`] above the answer's.
    pub async fn tenancy(&self) -> Result<Tenancy> {
        let mut cache = self.inner.tenancy.lock().await;
        let revision = self.revision().await?;
        let (accounts, trunks) = (self.account_rows().await?, self.trunk_rows().await?);
        let (users, numbers) = (self.user_rows().await?, self.number_rows().await?);

        let sid = |row: &Row| row.parse("sid");
        let accounts =
            renew(&mut cache.accounts, accounts, sid, async |r| self.account_of(r).await).await?;
        let users =
            renew(&mut cache.users, users, |r| r.parse("sid"), async |r| self.user_of(r).await)
                .await?;
        let trunks =
            renew(&mut cache.trunks, trunks, |r| r.parse("sid"), async |r| self.trunk_of(r).await)
                .await?;
        let index = |row: &Row| row.bytes("number_index");
        let numbers =
            renew(&mut cache.numbers, numbers, index, async |r| self.number_of(r).await).await?;
        Ok(Tenancy { revision, accounts, users, numbers, trunks })
    }
}

async fn renew<K: Hash + Eq + Clone, T>(
    cache: &mut HashMap<K, (i64, Arc<T>)>,
    rows: Vec<Row>,
    key: impl Fn(&Row) -> Result<K>,
    open: impl AsyncFn(&Row) -> Result<T>,
) -> Result<Vec<Arc<T>>> {
    let mut fresh = HashMap::with_capacity(rows.len());
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        let (key, revision) = (key(row)?, row.int("revision")?);
        let item = match cache.get(&key) {
            Some((known, item)) if *known == revision => item.clone(),
            _ => Arc::new(open(row).await?),
        };
        items.push(item.clone());
        fresh.insert(key, (revision, item));
    }
    *cache = fresh;
    Ok(items)
}
