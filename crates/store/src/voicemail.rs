//! The messages in users' mailboxes. What was said is a recording of its call, and
//! who said it stands in the call's record; here is whose message it is, and whether
//! it was heard. How many a user has stands beside the user too, so that the
//! region's proxies see it with everything else they know of the user.

use landline_call::record::Cause;
use landline_region::receipt::DeletionReason;
use landline_region::{
    AccountSid, CallSid, Personal, RecordingSid, UnixMillis, UserSid, VoicemailSid,
};
use sqlx::AssertSqlSafe;

use crate::error::{Result, StoreError};
use crate::receipt::DeletedBy;
use crate::sql::{Database, Row, Tx, values};
use crate::store::{Store, bump_revision, now};

/// Of one mailbox that are listed: more than it holds.
const MOST_LISTED: i64 = 1000;
/// Of those that were removed that one sweep takes.
const SWEPT: i64 = 64;
/// What is shorter is no message: somebody heard the tone and hung up.
const SHORTEST_MS: i64 = 1000;
/// What a relay has not brought into the database by then, after the call's end, is
/// not going to come.
const LATEST_MS: i64 = 24 * 3600 * 1000;

/// Of `voicemail v` and `call c`: the message is a part of what is recorded of the call
/// anyhow, and the recording is not the message's to delete.
const BY_POLICY: &str = "(COALESCE(c.consent_by_policy, 0) = 1 AND c.recording = v.recording)";
const IS_STORED: &str = "EXISTS (SELECT 1 FROM recording r WHERE r.sid = v.recording)";

#[derive(Debug, Clone, PartialEq)]
pub struct VoicemailRecord {
    pub sid: VoicemailSid,
    pub account: AccountSid,
    pub user: UserSid,
    pub call: CallSid,
    pub recording: RecordingSid,
    /// As the call's record names the caller; `None` where that was erased.
    pub from: Option<Personal<String>>,
    /// When the caller heard the tone.
    pub left_at: UnixMillis,
    pub duration_ms: u64,
    /// The caller did not end it: the relay, the proxy or the media were lost.
    pub cut_short: bool,
    pub heard_at: Option<UnixMillis>,
}

/// What a phone plays of a mailbox: who called is not unsealed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoicemailToPlay {
    pub sid: VoicemailSid,
    pub recording: RecordingSid,
    pub is_new: bool,
}

/// A message that a caller leaves, as the ledger tells of it.
pub(crate) struct Begun {
    pub sid: VoicemailSid,
    pub account: AccountSid,
    pub user: UserSid,
    pub call: CallSid,
    pub recording: RecordingSid,
    pub at: UnixMillis,
}

const SELECT: &str = "SELECT c.*, k.wrapped, v.sid AS message, v.user_sid, \
    v.recording AS message_recording, v.left_at, v.duration_ms AS message_ms, v.cut_short, \
    v.heard_at FROM voicemail v JOIN call c ON c.sid = v.call \
    LEFT JOIN call_key k ON k.key_id = c.key_id \
    WHERE v.removed_at IS NULL AND v.duration_ms IS NOT NULL";

impl Store {
    /// What a user's mailbox holds, the newest first.
    pub async fn voicemail_list(
        &self,
        account: AccountSid,
        user: UserSid,
    ) -> Result<Vec<VoicemailRecord>> {
        let select = format!(
            "{SELECT} AND v.account = $1 AND v.user_sid = $2 \
             ORDER BY v.left_at DESC, v.sid LIMIT {MOST_LISTED}"
        );
        let rows = self.database().rows(AssertSqlSafe(select), values![account, user]).await?;
        let mut messages = Vec::with_capacity(rows.len());
        for row in &rows {
            messages.push(self.voicemail_of(row).await?);
        }
        Ok(messages)
    }

    /// Those that are new first, and of all the oldest.
    pub async fn voicemail_to_play(
        &self,
        account: AccountSid,
        user: UserSid,
    ) -> Result<Vec<VoicemailToPlay>> {
        let select = format!(
            "SELECT sid, recording, heard_at FROM voicemail WHERE account = $1 \
             AND user_sid = $2 AND removed_at IS NULL AND duration_ms IS NOT NULL \
             ORDER BY CASE WHEN heard_at IS NULL THEN 0 ELSE 1 END, left_at, sid \
             LIMIT {MOST_LISTED}"
        );
        let rows = self.database().rows(AssertSqlSafe(select), values![account, user]).await?;
        let of = |row: &Row| {
            Ok(VoicemailToPlay {
                sid: row.parse("sid")?,
                recording: row.parse("recording")?,
                is_new: row.time_or_null("heard_at")?.is_none(),
            })
        };
        rows.iter().map(of).collect()
    }

    pub async fn voicemail_show(
        &self,
        account: AccountSid,
        message: VoicemailSid,
    ) -> Result<VoicemailRecord> {
        let select = format!("{SELECT} AND v.account = $1 AND v.sid = $2");
        let row = self.database().row(AssertSqlSafe(select), values![account, message]).await?;
        self.voicemail_of(&row.ok_or_else(|| unknown(message))?).await
    }

    /// The message was listened to, or is to count as new again.
    pub async fn voicemail_heard(
        &self,
        account: AccountSid,
        message: VoicemailSid,
        heard: bool,
    ) -> Result<VoicemailRecord> {
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let update = "UPDATE voicemail SET heard_at = CASE WHEN $3 = 1 \
                      THEN COALESCE(heard_at, $4) ELSE NULL END WHERE sid = $1 AND account = $2 \
                      AND removed_at IS NULL AND duration_ms IS NOT NULL RETURNING user_sid";
        let row = tx.row(update, values![message, account, heard, now()]).await?;
        let user = row.ok_or_else(|| unknown(message))?.parse("user_sid")?;
        recount(&mut tx, &[user], revision).await?;
        tx.commit().await?;
        self.voicemail_show(account, message).await
    }

    /// Removes the message, and what was recorded of it unless the account has its calls
    /// recorded anyhow: then that stays the call's.
    pub async fn voicemail_remove(
        &self,
        account: AccountSid,
        message: VoicemailSid,
        by: &DeletedBy,
    ) -> Result<VoicemailRecord> {
        let found = self.voicemail_show(account, message).await?;
        let select = format!(
            "SELECT CASE WHEN {BY_POLICY} THEN 1 ELSE 0 END AS by_policy \
             FROM voicemail v JOIN call c ON c.sid = v.call WHERE v.sid = $1"
        );
        let row = self.database().row(AssertSqlSafe(select), values![message]).await?;
        let by_policy = row.ok_or_else(|| unknown(message))?.int("by_policy")? == 1;
        if !by_policy {
            match self.recording_delete(account, found.recording, by).await {
                Ok(_) => {}
                // The relay is still to bring it: it is deleted when it is here.
                Err(StoreError::NotFound { .. }) => {
                    self.voicemail_put_off(message, by).await?;
                    return Ok(found);
                }
                Err(error) => return Err(error),
            }
        }
        self.voicemail_forget(message).await?;
        Ok(found)
    }

    /// Nobody sees it any more, and the sweep looks for what was recorded.
    async fn voicemail_put_off(&self, message: VoicemailSid, by: &DeletedBy) -> Result<()> {
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let update = "UPDATE voicemail SET removed_at = $2, removed_by = $3, removed_for = $4 \
                      WHERE sid = $1 AND removed_at IS NULL RETURNING user_sid";
        let values = values![message, now(), by.actor.as_str(), by.reason.name()];
        if let Some(row) = tx.row(update, values).await? {
            recount(&mut tx, &[row.parse("user_sid")?], revision).await?;
        }
        tx.commit().await
    }

    async fn voicemail_forget(&self, message: VoicemailSid) -> Result<()> {
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let delete = "DELETE FROM voicemail WHERE sid = $1 RETURNING user_sid";
        if let Some(row) = tx.row(delete, values![message]).await? {
            recount(&mut tx, &[row.parse("user_sid")?], revision).await?;
        }
        tx.commit().await
    }

    /// Deletes what was recorded of messages that are nobody's any more: those that
    /// were removed or too short, and those of users that are gone. How many there
    /// were; those whose recording is still on its way are left for later.
    pub async fn voicemail_sweep(&self) -> Result<u64> {
        let late = UnixMillis(now().0.saturating_sub(LATEST_MS));
        self.voicemail_complete().await?;
        let select = format!(
            "SELECT v.sid, v.account, v.recording, v.removed_by, v.removed_for, \
             CASE WHEN {IS_STORED} AND NOT {BY_POLICY} THEN 1 ELSE 0 END AS goes_too \
             FROM voicemail v JOIN call c ON c.sid = v.call WHERE c.closed_at IS NOT NULL \
             AND (v.removed_at IS NOT NULL OR (v.duration_ms IS NULL AND c.closed_at < $1) \
             OR NOT EXISTS (SELECT 1 FROM account_user u WHERE u.sid = v.user_sid)) \
             AND ({IS_STORED} OR {BY_POLICY} OR c.closed_at < $1) LIMIT {SWEPT}"
        );
        let rows = self.database().rows(AssertSqlSafe(select), values![late]).await?;
        for row in &rows {
            if row.int("goes_too")? == 1 {
                let by = removed_by(row)?;
                let (account, recording) = (row.parse("account")?, row.parse("recording")?);
                self.recording_delete(account, recording, &by).await?;
            }
            self.voicemail_forget(row.parse("sid")?).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Messages of lost calls of which nothing was stored at their end, and is now.
    async fn voicemail_complete(&self) -> Result<()> {
        let select = format!(
            "SELECT v.call FROM voicemail v JOIN call c ON c.sid = v.call \
             WHERE v.duration_ms IS NULL AND v.removed_at IS NULL AND c.closed_at IS NOT NULL \
             AND EXISTS (SELECT 1 FROM recording_chunk k WHERE k.recording = v.recording) \
             LIMIT {SWEPT}"
        );
        let rows = self.database().rows(AssertSqlSafe(select), values![]).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let calls = rows.iter().map(|row| row.text("call")).collect::<Result<_>>()?;
        let mut tx = self.database().begin().await?;
        finish(&mut tx, self.database(), calls).await?;
        tx.commit().await
    }

    async fn voicemail_of(&self, row: &Row) -> Result<VoicemailRecord> {
        let (call, _) = self.call_of(row).await?;
        Ok(VoicemailRecord {
            sid: row.parse("message")?,
            account: call.account,
            user: row.parse("user_sid")?,
            call: call.sid,
            recording: row.parse("message_recording")?,
            from: call.from,
            left_at: row.time("left_at")?,
            duration_ms: row.unsigned("message_ms")?,
            cut_short: row.int("cut_short")? == 1,
            heard_at: row.time_or_null("heard_at")?,
        })
    }
}

/// Who had it removed, as the log is to state it.
fn removed_by(row: &Row) -> Result<DeletedBy> {
    let reason = match row.text_or_null("removed_for")?.as_deref() {
        Some("request") => DeletionReason::Request,
        Some("erasure") => DeletionReason::Erasure,
        // It was no message, or nobody's: there is no time for which it is kept.
        _ => DeletionReason::Retention,
    };
    let actor = row.text_or_null("removed_by")?;
    Ok(DeletedBy { reason, actor: actor.unwrap_or_else(|| "voicemail".to_owned()) })
}

/// A caller speaks to the mailbox. Of a user who is gone since, it is nobody's. The
/// call is a recorded one from here on, by the caller's consent, if it was none before.
pub(crate) async fn begin(tx: &mut Tx, begun: &Begun) -> Result<()> {
    let insert = "INSERT INTO voicemail (sid, account, user_sid, call, recording, left_at, \
                  removed_at) VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN EXISTS \
                  (SELECT 1 FROM account_user u WHERE u.sid = $3) THEN NULL ELSE $6 END) \
                  ON CONFLICT (sid) DO NOTHING";
    let Begun { sid, account, user, call, recording, at } = begun;
    let values = values![*sid, *account, *user, *call, *recording, *at];
    tx.execute(insert, values).await?;
    // A record that is chained stays as it is.
    let update = "UPDATE call SET recording = $2, consent_by_policy = 0, \
                  consent_granted_at = $3 WHERE sid = $1 AND recording IS NULL \
                  AND chain_position IS NULL";
    tx.execute(update, values![*call, *recording, *at]).await.map(drop)
}

/// It was none.
pub(crate) async fn drop_message(tx: &mut Tx, message: VoicemailSid, at: UnixMillis) -> Result<()> {
    let revision = bump_revision(tx).await?;
    let update = "UPDATE voicemail SET removed_at = $2 WHERE sid = $1 AND removed_at IS NULL \
                  RETURNING user_sid";
    match tx.row(update, values![message, at]).await? {
        Some(row) => recount(tx, &[row.parse("user_sid")?], revision).await,
        None => Ok(()),
    }
}

/// Its owner has heard it on the phone, or removed it: what was recorded follows.
pub(crate) async fn listened(
    tx: &mut Tx,
    account: AccountSid,
    message: VoicemailSid,
    at: UnixMillis,
    is_removed: bool,
) -> Result<()> {
    let update = match is_removed {
        true => {
            "UPDATE voicemail SET removed_at = $3, removed_by = user_sid, \
             removed_for = 'request' WHERE sid = $1 AND account = $2 \
             AND removed_at IS NULL RETURNING user_sid"
        }
        false => {
            "UPDATE voicemail SET heard_at = COALESCE(heard_at, $3) WHERE sid = $1 \
             AND account = $2 AND removed_at IS NULL RETURNING user_sid"
        }
    };
    let revision = bump_revision(tx).await?;
    match tx.row(update, values![message, account, at]).await? {
        Some(row) => recount(tx, &[row.parse("user_sid")?], revision).await,
        None => Ok(()),
    }
}

/// Their calls are over: the messages are there. One of a lost call waits until
/// something of it is stored.
pub(crate) async fn finish(tx: &mut Tx, database: &Database, closed: Vec<String>) -> Result<()> {
    if closed.is_empty() {
        return Ok(());
    }
    let select = format!(
        "SELECT v.sid, v.user_sid, v.left_at, c.closed_at, c.cause, \
         (SELECT MAX(k.last_ms) FROM recording_chunk k WHERE k.recording = v.recording) AS stored, \
         (SELECT r.started_at FROM recording r WHERE r.sid = v.recording AND {BY_POLICY}) \
         AS recorded_since FROM voicemail v JOIN call c ON c.sid = v.call \
         WHERE v.duration_ms IS NULL AND v.removed_at IS NULL AND {}",
        database.among("v.call", 1)
    );
    let rows = tx.rows(AssertSqlSafe(select), values![closed]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let revision = bump_revision(tx).await?;
    let mut users = Vec::with_capacity(rows.len());
    for row in &rows {
        let cause: Option<Cause> = row.parse_or_null("cause")?;
        let (left_at, closed_at) = (row.time("left_at")?, row.time("closed_at")?);
        let since = row.time_or_null("recorded_since")?;
        let lead = since.map_or(0, |since| left_at.0.saturating_sub(since.0).max(0));
        // Nobody knows when the end of a lost call was: what is stored counts.
        let duration = match (cause == Some(Cause::Lost), row.int_or_null("stored")?) {
            (true, Some(stored)) => stored.saturating_sub(lead),
            (true, None) => continue,
            (false, _) => closed_at.0.saturating_sub(left_at.0),
        };
        let duration = duration.max(0);
        let removed_at = (duration < SHORTEST_MS).then_some(closed_at);
        let cut_short = !matches!(cause, Some(Cause::CallerHungUp | Cause::Voicemail));
        let update = "UPDATE voicemail SET duration_ms = $2, cut_short = $3, removed_at = $4 \
                      WHERE sid = $1 AND removed_at IS NULL";
        let values = values![row.text("sid")?, duration, cut_short, removed_at];
        tx.execute(update, values).await?;
        users.push(row.parse("user_sid")?);
    }
    recount(tx, &users, revision).await
}

/// With the recording that it is goes a message.
pub(crate) async fn forget_recording(tx: &mut Tx, recording: RecordingSid) -> Result<()> {
    let delete = "DELETE FROM voicemail WHERE recording = $1 RETURNING user_sid";
    let select = "SELECT 1 AS one FROM voicemail WHERE recording = $1";
    forget(tx, select, delete, recording.to_string()).await
}

/// And with the call that it came by.
pub(crate) async fn forget_call(tx: &mut Tx, call: CallSid) -> Result<()> {
    let delete = "DELETE FROM voicemail WHERE call = $1 RETURNING user_sid";
    let select = "SELECT 1 AS one FROM voicemail WHERE call = $1";
    forget(tx, select, delete, call.to_string()).await
}

/// Everybody who changes messages takes the revision first, and so nobody waits for
/// another in a circle.
async fn forget(tx: &mut Tx, select: &'static str, delete: &'static str, of: String) -> Result<()> {
    if tx.row(select, values![of.as_str()]).await?.is_none() {
        return Ok(());
    }
    let revision = bump_revision(tx).await?;
    let rows = tx.rows(delete, values![of]).await?;
    let users = rows.iter().map(|row| row.parse("user_sid")).collect::<Result<Vec<_>>>()?;
    recount(tx, &users, revision).await
}

/// The user goes: what was recorded for it follows.
pub(crate) async fn leave_behind(tx: &mut Tx, user: UserSid, by: &str) -> Result<()> {
    let update = "UPDATE voicemail SET removed_at = $2, removed_by = $3, \
                  removed_for = 'request' WHERE user_sid = $1 AND removed_at IS NULL";
    tx.execute(update, values![user, now(), by]).await.map(drop)
}

/// How many messages these users have, where the region's proxies see it.
async fn recount(tx: &mut Tx, users: &[UserSid], revision: i64) -> Result<()> {
    for user in users {
        let count = "(SELECT COUNT(*) FROM voicemail v WHERE v.user_sid = $1 \
                     AND v.removed_at IS NULL AND v.duration_ms IS NOT NULL AND v.heard_at IS";
        let update = format!(
            "UPDATE account_user SET messages_new = {count} NULL), \
             messages_old = {count} NOT NULL), revision = $2 WHERE sid = $1"
        );
        tx.execute(AssertSqlSafe(update), values![*user, revision]).await?;
    }
    Ok(())
}

fn unknown(message: VoicemailSid) -> StoreError {
    StoreError::NotFound {
        what: format!("voicemail {message}"),
        next: "`voicemail list` shows what a user's mailbox holds".to_owned(),
    }
}
