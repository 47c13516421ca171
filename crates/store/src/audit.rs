//! Who did what with an account by the API, from where. Kept in the account's
//! region; the source address is sealed.

use landline_region::catalogue::sealed::SEALED_AUDIT_SOURCE;
use landline_region::{AccountSid, Personal, UnixMillis};
use sqlx::AssertSqlSafe;

use crate::call::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::error::Result;
use crate::sql::{Row, values};
use crate::store::{Store, entropy, now};

/// One act, before its outcome is known.
#[derive(Debug, Clone)]
pub struct NewAudit {
    pub account: AccountSid,
    /// The key's sid.
    pub actor: String,
    pub role: &'static str,
    /// The route's name, as `call_show`.
    pub operation: &'static str,
    /// The sid of what it was done to; never a name or number.
    pub subject: Option<String>,
    pub source: Personal<String>,
    /// `None` before the outcome is known.
    pub status: Option<u16>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    pub sid: String,
    pub account: AccountSid,
    pub at: UnixMillis,
    pub actor: String,
    pub role: String,
    pub operation: String,
    pub subject: Option<String>,
    pub source: Personal<String>,
    /// `None` where the process ended before it could say.
    pub status: Option<u16>,
}

#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub since: Option<UnixMillis>,
    pub before: Option<UnixMillis>,
    /// Only what follows this row, newest first.
    pub after: Option<(UnixMillis, String)>,
    /// At most 10 000; `None` is 100.
    pub limit: Option<u32>,
}

impl Store {
    /// Gives the row's sid.
    pub async fn audit_add(&self, new: &NewAudit) -> Result<String> {
        let sid = format!("AE{}", entropy().hex::<16>());
        let sealer = self.account_sealer(new.account).await?;
        let mut tx = self.database().begin().await?;
        tx.execute(
            "INSERT INTO audit (sid, account, at, actor, role, operation, subject, source, \
             status) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            values![
                sid.as_str(),
                new.account,
                now(),
                new.actor.as_str(),
                new.role,
                new.operation,
                new.subject.clone(),
                sealer.seal(&SEALED_AUDIT_SOURCE, &sid, new.source.expose().as_bytes()),
                new.status,
            ],
        )
        .await?;
        tx.commit().await?;
        Ok(sid)
    }

    pub async fn audit_finish(&self, sid: &str, status: u16) -> Result<()> {
        let update = "UPDATE audit SET status = $2 WHERE sid = $1";
        self.database().execute(update, values![sid, status]).await.map(drop)
    }

    /// Newest first.
    pub async fn audit_list(
        &self,
        account: AccountSid,
        filter: &AuditFilter,
    ) -> Result<Vec<AuditRecord>> {
        let mut select =
            "SELECT * FROM audit WHERE account = $1 AND at >= $2 AND at < $3".to_owned();
        let since = filter.since.map_or(i64::MIN, |at| at.0);
        let before = filter.before.map_or(i64::MAX, |at| at.0);
        let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
        let mut values = values![account, since, before, limit];
        if let Some((at, sid)) = &filter.after {
            select.push_str(" AND (at < $5 OR (at = $5 AND sid > $6))");
            values.extend(values![*at, sid.as_str()]);
        }
        select.push_str(" ORDER BY at DESC, sid LIMIT $4");
        let rows = self.database().rows(AssertSqlSafe(select), values).await?;
        let sealer = self.account_sealer(account).await?;
        rows.iter().map(|row| audit_of(row, &sealer)).collect()
    }
}

fn audit_of(row: &Row, sealer: &crate::seal::Sealer) -> Result<AuditRecord> {
    let sid = row.text("sid")?;
    let source = sealer.open_text(&SEALED_AUDIT_SOURCE, &sid, &row.bytes("source")?)?;
    Ok(AuditRecord {
        account: row.parse("account")?,
        at: row.time("at")?,
        actor: row.text("actor")?,
        role: row.text("role")?,
        operation: row.text("operation")?,
        subject: row.text_or_null("subject")?,
        source: Personal::new(source),
        status: row.int_or_null("status")?.and_then(|status| u16::try_from(status).ok()),
        sid,
    })
}
