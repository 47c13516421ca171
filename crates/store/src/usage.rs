//! What an account used, by day (UTC): computed in its region, from records
//! whose parties stay sealed.

use landline_region::{AccountSid, UnixMillis};

use crate::error::Result;
use crate::sql::values;
use crate::store::Store;

const DAY_MS: i64 = 86_400_000;

/// One day's calls of one direction, by the day of their opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageDay {
    /// The day's midnight.
    pub day: UnixMillis,
    pub direction: String,
    pub calls: u64,
    pub answered: u64,
    /// From answer to end, of answered and closed calls.
    pub duration_ms: u64,
    /// Each call's duration in minutes begun.
    pub minutes_begun: u64,
}

impl Store {
    /// Days with calls in `[since, before)`, the oldest first.
    pub async fn usage(
        &self,
        account: AccountSid,
        since: UnixMillis,
        before: UnixMillis,
    ) -> Result<Vec<UsageDay>> {
        let select = "SELECT opened_at / 86400000 AS day, direction, COUNT(*) AS calls, \
            COUNT(answered_at) AS answered, \
            CAST(COALESCE(SUM(closed_at - answered_at), 0) AS BIGINT) AS duration, \
            CAST(COALESCE(SUM((closed_at - answered_at + 59999) / 60000), 0) AS BIGINT) AS minutes \
            FROM call WHERE account = $1 AND opened_at >= $2 AND opened_at < $3 \
            GROUP BY opened_at / 86400000, direction ORDER BY 1, 2";
        let rows = self.database().rows(select, values![account, since, before]).await?;
        let days = rows.iter().map(|row| {
            Ok(UsageDay {
                day: UnixMillis(row.int("day")? * DAY_MS),
                direction: row.text("direction")?,
                calls: row.unsigned("calls")?,
                answered: row.unsigned("answered")?,
                duration_ms: row.unsigned("duration")?,
                minutes_begun: row.unsigned("minutes")?,
            })
        });
        days.collect()
    }
}
