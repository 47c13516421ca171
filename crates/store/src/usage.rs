//! What an account used, by day (UTC): computed in its region, from records
//! whose parties stay sealed.

use landline_region::{AccountSid, CallSid, UnixMillis};
use sqlx::AssertSqlSafe;

use crate::error::Result;
use crate::sql::{Tx, values};
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

/// What one call used.
const USED: &str = "opened_at / 86400000 AS day, direction, 1 AS calls, \
    CASE WHEN answered_at IS NULL THEN 0 ELSE 1 END AS answered, \
    COALESCE(closed_at - answered_at, 0) AS duration_ms, \
    COALESCE((closed_at - answered_at + 59999) / 60000, 0) AS minutes_begun";

/// Adds a call's usage to what is kept of the deleted ones. Before the call is.
pub(crate) async fn keep(tx: &mut Tx, call: CallSid) -> Result<()> {
    let insert = format!(
        "INSERT INTO usage_of_deleted \
         (account, day, direction, calls, answered, duration_ms, minutes_begun) \
         SELECT account, {USED} FROM call WHERE sid = $1 \
         ON CONFLICT (account, day, direction) DO UPDATE SET \
         calls = usage_of_deleted.calls + excluded.calls, \
         answered = usage_of_deleted.answered + excluded.answered, \
         duration_ms = usage_of_deleted.duration_ms + excluded.duration_ms, \
         minutes_begun = usage_of_deleted.minutes_begun + excluded.minutes_begun"
    );
    tx.execute(AssertSqlSafe(insert), values![call]).await.map(drop)
}

impl Store {
    /// Days with calls in `[since, before)`, the oldest first.
    pub async fn usage(
        &self,
        account: AccountSid,
        since: UnixMillis,
        before: UnixMillis,
    ) -> Result<Vec<UsageDay>> {
        let select = format!(
            "SELECT day, direction, CAST(SUM(calls) AS BIGINT) AS calls, \
             CAST(SUM(answered) AS BIGINT) AS answered, \
             CAST(SUM(duration_ms) AS BIGINT) AS duration_ms, \
             CAST(SUM(minutes_begun) AS BIGINT) AS minutes_begun \
             FROM (SELECT {USED} FROM call \
             WHERE account = $1 AND opened_at >= $2 AND opened_at < $3 \
             UNION ALL SELECT day, direction, calls, answered, duration_ms, minutes_begun \
             FROM usage_of_deleted \
             WHERE account = $1 AND day * 86400000 >= $2 AND day * 86400000 < $3) AS used \
             GROUP BY day, direction ORDER BY day, direction"
        );
        let select = AssertSqlSafe(select);
        let rows = self.database().rows(select, values![account, since, before]).await?;
        let days = rows.iter().map(|row| {
            Ok(UsageDay {
                day: UnixMillis(row.int("day")? * DAY_MS),
                direction: row.text("direction")?,
                calls: row.unsigned("calls")?,
                answered: row.unsigned("answered")?,
                duration_ms: row.unsigned("duration_ms")?,
                minutes_begun: row.unsigned("minutes_begun")?,
            })
        });
        days.collect()
    }
}
