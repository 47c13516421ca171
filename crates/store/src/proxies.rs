//! Which proxies of the region live, as far as its database was told, and the
//! calls that those which do not have left open.

use landline_region::UnixMillis;

use crate::call::{OPEN_CALL_COLUMNS, OpenCall, open_call_of};
use crate::error::Result;
use crate::sql::values;
use crate::store::Store;

/// Calls that one sweep looks at; the next takes up what it left.
const SWEEP: i64 = 1000;

/// A call whose proxy is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    pub call: OpenCall,
    /// The last sign of life of its proxy, if it ever gave one.
    pub alive_at: Option<UnixMillis>,
}

impl Store {
    /// Notes that the proxy lives. Told every few seconds; the last one stands.
    pub async fn proxy_alive(&self, proxy: &str, at: UnixMillis) -> Result<()> {
        let upsert = "INSERT INTO proxy (name, alive_at) VALUES ($1, $2) \
                      ON CONFLICT (name) DO UPDATE SET alive_at = excluded.alive_at";
        self.database().execute(upsert, values![proxy, at]).await.map(drop)
    }

    /// Open calls of proxies other than this one, none of which gave a sign of
    /// life since, oldest first.
    pub async fn abandoned_calls(&self, but: &str, since: UnixMillis) -> Result<Vec<Abandoned>> {
        let select = format!(
            "SELECT {OPEN_CALL_COLUMNS}, p.alive_at FROM call c \
             LEFT JOIN proxy p ON p.name = c.proxy \
             WHERE c.closed_at IS NULL AND c.proxy <> $1 AND c.last_at < $2 \
             AND COALESCE(p.alive_at, 0) < $2 ORDER BY c.opened_at, c.sid LIMIT $3"
        );
        let rows = self.database().rows(sqlx::AssertSqlSafe(select), values![but, since, SWEEP]);
        let abandoned = |row| {
            let (call, alive_at) = (open_call_of(row)?, row.time_or_null("alive_at")?);
            Ok(Abandoned { call, alive_at })
        };
        rows.await?.iter().map(abandoned).collect()
    }
}
