//! Relays that an administrator wants empty. A relay looks for its own name
//! here, and says how many sessions it still has.

use landline_control::RelayId;
use landline_region::UnixMillis;

use crate::error::Result;
use crate::sql::{Row, values};
use crate::store::{Store, now};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayDrain {
    pub relay: RelayId,
    pub asked_at: UnixMillis,
    /// What the relay said last, since it was asked; `None` before it heard of it.
    pub sessions: Option<u64>,
    pub reported_at: Option<UnixMillis>,
}

impl Store {
    /// Asks a relay to be left by its calls and to take no others. Asked again,
    /// it is to say anew how far it is.
    pub async fn relay_drain(&self, relay: &RelayId) -> Result<RelayDrain> {
        let asked = now();
        let insert = "INSERT INTO relay_drain (relay, asked_at) VALUES ($1, $2) ON CONFLICT (relay) \
                      DO UPDATE SET asked_at = $2, sessions = NULL, reported_at = NULL";
        self.database().execute(insert, values![relay.0.as_str(), asked]).await?;
        let relay = relay.clone();
        Ok(RelayDrain { relay, asked_at: asked, sessions: None, reported_at: None })
    }

    /// Takes that back. False where it was not asked.
    pub async fn relay_resume(&self, relay: &RelayId) -> Result<bool> {
        let delete = "DELETE FROM relay_drain WHERE relay = $1";
        Ok(self.database().execute(delete, values![relay.0.as_str()]).await? > 0)
    }

    /// `None` for a relay that is not asked to be empty.
    pub async fn relay_drain_of(&self, relay: &RelayId) -> Result<Option<RelayDrain>> {
        let select = "SELECT * FROM relay_drain WHERE relay = $1";
        let row = self.database().row(select, values![relay.0.as_str()]).await?;
        row.map(|row| drain_of(&row)).transpose()
    }

    /// The relay says how many sessions it has.
    pub async fn relay_report(&self, relay: &RelayId, sessions: u64) -> Result<()> {
        let update = "UPDATE relay_drain SET sessions = $2, reported_at = $3 WHERE relay = $1";
        let report = values![relay.0.as_str(), sessions, now()];
        self.database().execute(update, report).await.map(drop)
    }
}

fn drain_of(row: &Row) -> Result<RelayDrain> {
    let sessions = row.int_or_null("sessions")?;
    Ok(RelayDrain {
        relay: RelayId(row.text("relay")?),
        asked_at: row.time("asked_at")?,
        sessions: sessions.map(i64::unsigned_abs),
        reported_at: row.time_or_null("reported_at")?,
    })
}
