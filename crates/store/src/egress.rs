//! The audit lines of the egress gate: how often each flow left for each
//! destination or was refused, hour by hour.

use std::sync::Arc;

use landline_region::UnixMillis;
use landline_region::catalogue::CountedFlow;
use landline_region::egress::{Counted, Gate};

use crate::error::Result;
use crate::sql::{Row, values};
use crate::store::{Store, now};

const HOUR: i64 = 3_600_000;

impl Store {
    /// The gate that everything leaving this process goes through.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.inner.gate
    }

    /// Writes down what the gate decided since the last time. What cannot be
    /// written is kept and written with the next.
    pub async fn write_egress(&self) -> Result<()> {
        self.write_egress_of(self.gate()).await
    }

    /// As [`Self::write_egress`], of a gate that had no store.
    pub async fn write_egress_of(&self, gate: &Gate) -> Result<()> {
        let mut taken = Taken { gate, lines: gate.take_unwritten() };
        if taken.lines.is_empty() {
            return Ok(());
        }
        self.egress_add(&taken.lines).await?;
        taken.lines.drain(..).for_each(|line| announce(&line));
        Ok(())
    }

    /// What left the region and what was refused since `from`, by flow,
    /// destination and verdict.
    pub async fn egress_flows(&self, from: UnixMillis) -> Result<Vec<CountedFlow>> {
        let select = "SELECT flow, destination, verdict, CAST(SUM(count) AS BIGINT) AS count, \
                      MIN(first_at) AS first_at, MAX(last_at) AS last_at FROM egress \
                      WHERE last_at >= $1 GROUP BY flow, destination, verdict \
                      ORDER BY flow, destination, verdict";
        let rows = self.database().rows(select, values![from]).await?;
        rows.iter().map(flow_of).collect()
    }

    /// The group that the region's aggregates are over.
    pub async fn account_count(&self) -> Result<u64> {
        let row = self.database().row("SELECT COUNT(*) AS count FROM account", values![]).await?;
        row.map_or(Ok(0), |row| row.unsigned("count"))
    }

    async fn egress_add(&self, lines: &[Counted]) -> Result<()> {
        let at = now();
        let hour = at.0 - at.0.rem_euclid(HOUR);
        let mut tx = self.database().begin().await?;
        let upsert = "INSERT INTO egress (flow, destination, verdict, hour, count, first_at, \
                      last_at) VALUES ($1, $2, $3, $4, $5, $6, $6) \
                      ON CONFLICT (flow, destination, verdict, hour) DO UPDATE SET \
                      count = egress.count + excluded.count, last_at = excluded.last_at";
        for line in lines {
            let (flow, verdict) = (line.flow.name(), line.verdict.name());
            let count = i64::try_from(line.count).unwrap_or(i64::MAX);
            let values = values![flow, line.destination.as_str(), verdict, hour, count, at];
            tx.execute(upsert, values).await?;
        }
        tx.commit().await
    }
}

/// Lines that go back to their gate unless they were written, even when the
/// writing is cancelled: rather counted twice than not at all.
struct Taken<'a> {
    gate: &'a Gate,
    lines: Vec<Counted>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.gate.restore(std::mem::take(&mut self.lines));
    }
}

fn flow_of(row: &Row) -> Result<CountedFlow> {
    Ok(CountedFlow {
        flow: row.parse("flow")?,
        destination: row.text("destination")?,
        verdict: row.text("verdict")?,
        count: row.unsigned("count")?,
        first_at: row.time("first_at")?,
        last_at: row.time("last_at")?,
    })
}

fn announce(line: &Counted) {
    let (flow, destination, verdict) = (line.flow.name(), &line.destination, line.verdict.name());
    match line.verdict {
        landline_region::egress::Verdict::Passed => {
            tracing::info!(flow, %destination, verdict, count = line.count, "left the region");
        }
        landline_region::egress::Verdict::Refused(_) => {
            tracing::warn!(flow, %destination, verdict, count = line.count, "kept in the region");
        }
    }
}
