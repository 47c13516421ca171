//! The messages in users' mailboxes. What was said is a recording of its call, and
//! who said it stands in the call's record; here is whose message it is, and whether
//! it was heard. How many a user has stands beside the user too, so that the
//! region's proxies see it with everything else they know of the user.

use landline_call::record::Cause;
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
        let update = "UPDATE voicemail SET heard_at = CASE WHEN $3 = 1 \
                      THEN COALESCE(heard_at, $4) ELSE NULL END WHERE sid = $1 AND account = $2 \
                      AND removed_at IS NULL AND duration_ms IS NOT NULL RETURNING user_sid";
        let row = tx.row(update, values![message, account, heard, now()]).await?;
        let user = row.ok_or_else(|| unknown(message))?.parse("user_sid")?;
        recount(&mut tx, &[user]).await?;
        tx.commit().await?;
        self.voicemail_show(account, message).await
    }

    /// Removes the message with what was recorded of it.
    pub async fn voicemail_remove(
        &self,
        account: AccountSid,
        message: VoicemailSid,
        by: &DeletedBy,
    ) -> Result<VoicemailRecord> {
        let found = self.voicemail_show(account, message).await?;
        self.voicemail_delete(account, message, found.recording, by).await?;
        Ok(found)
    }

    /// A recording that is deleted takes its message with it.
    async fn voicemail_delete(
        &self,
        account: AccountSid,
        message: VoicemailSid,
        recording: RecordingSid,
        by: &DeletedBy,
    ) -> Result<()> {
        match self.recording_delete(account, recording, by).await {
            // Nothing of it was stored.
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut tx = self.database().begin().await?;
        let delete = "DELETE FROM voicemail WHERE sid = $1 RETURNING user_sid";
        if let Some(row) = tx.row(delete, values![message]).await? {
            recount(&mut tx, &[row.parse("user_sid")?]).await?;
        }
        tx.commit().await
    }

    /// Deletes what was recorded of messages that are nobody's any more: those that
    /// were too short, and those of users that are gone.
    pub async fn voicemail_sweep(&self, by: &DeletedBy) -> Result<u64> {
        let select = format!(
            "SELECT v.sid, v.account, v.recording FROM voicemail v JOIN call c ON c.sid = v.call \
             WHERE v.removed_at IS NOT NULL AND c.closed_at IS NOT NULL LIMIT {SWEPT}"
        );
        let rows = self.database().rows(AssertSqlSafe(select), values![]).await?;
        for row in &rows {
            let (account, message) = (row.parse("account")?, row.parse("sid")?);
            self.voicemail_delete(account, message, row.parse("recording")?, by).await?;
        }
        Ok(rows.len() as u64)
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

/// A caller speaks to the mailbox. Of a user who is gone since, it is nobody's.
pub(crate) async fn begin(tx: &mut Tx, begun: &Begun) -> Result<()> {
    let insert = "INSERT INTO voicemail (sid, account, user_sid, call, recording, left_at, \
                  removed_at) VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN EXISTS \
                  (SELECT 1 FROM account_user u WHERE u.sid = $3) THEN NULL ELSE $6 END) \
                  ON CONFLICT (sid) DO NOTHING";
    let Begun { sid, account, user, call, recording, at } = begun;
    let values = values![*sid, *account, *user, *call, *recording, *at];
    tx.execute(insert, values).await.map(drop)
}

/// It was none.
pub(crate) async fn drop_message(tx: &mut Tx, message: VoicemailSid, at: UnixMillis) -> Result<()> {
    let update = "UPDATE voicemail SET removed_at = $2 WHERE sid = $1";
    tx.execute(update, values![message, at]).await.map(drop)
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
            "UPDATE voicemail SET removed_at = $3 WHERE sid = $1 AND account = $2 \
             AND removed_at IS NULL RETURNING user_sid"
        }
        false => {
            "UPDATE voicemail SET heard_at = COALESCE(heard_at, $3) WHERE sid = $1 \
             AND account = $2 AND removed_at IS NULL RETURNING user_sid"
        }
    };
    match tx.row(update, values![message, account, at]).await? {
        Some(row) => recount(tx, &[row.parse("user_sid")?]).await,
        None => Ok(()),
    }
}

/// Their calls are over: the messages are there.
pub(crate) async fn finish(tx: &mut Tx, database: &Database, closed: Vec<String>) -> Result<()> {
    let select = format!(
        "SELECT v.sid, v.user_sid, v.left_at, c.closed_at, c.cause, \
         (SELECT MAX(k.last_ms) FROM recording_chunk k WHERE k.recording = v.recording) AS stored \
         FROM voicemail v JOIN call c ON c.sid = v.call \
         WHERE v.duration_ms IS NULL AND v.removed_at IS NULL AND {}",
        database.among("v.call", 1)
    );
    let rows = tx.rows(AssertSqlSafe(select), values![closed]).await?;
    let mut users = Vec::with_capacity(rows.len());
    for row in &rows {
        let cause: Option<Cause> = row.parse_or_null("cause")?;
        let is_lost = cause == Some(Cause::Lost);
        let lasted = row.time("closed_at")?.0.saturating_sub(row.time("left_at")?.0).max(0);
        // Nobody knows when the end was: what is stored counts.
        let duration = match row.int_or_null("stored")? {
            Some(stored) if is_lost => stored,
            _ => lasted,
        };
        let cut_short =
            matches!(cause, Some(Cause::Lost | Cause::MediaLost | Cause::SignallingLost));
        let update = "UPDATE voicemail SET duration_ms = $2, cut_short = $3 WHERE sid = $1";
        tx.execute(update, values![row.text("sid")?, duration, cut_short]).await?;
        users.push(row.parse("user_sid")?);
    }
    recount(tx, &users).await
}

/// With the recording that it is goes a message.
pub(crate) async fn forget_recording(tx: &mut Tx, recording: RecordingSid) -> Result<()> {
    let delete = "DELETE FROM voicemail WHERE recording = $1 RETURNING user_sid";
    forget(tx, delete, recording.to_string()).await
}

/// And with the call that it came by.
pub(crate) async fn forget_call(tx: &mut Tx, call: CallSid) -> Result<()> {
    let delete = "DELETE FROM voicemail WHERE call = $1 RETURNING user_sid";
    forget(tx, delete, call.to_string()).await
}

async fn forget(tx: &mut Tx, delete: &'static str, of: String) -> Result<()> {
    let rows = tx.rows(delete, values![of]).await?;
    let users = rows.iter().map(|row| row.parse("user_sid")).collect::<Result<Vec<_>>>()?;
    recount(tx, &users).await
}

/// The user goes: what was recorded for it follows.
pub(crate) async fn leave_behind(tx: &mut Tx, user: UserSid) -> Result<()> {
    let update = "UPDATE voicemail SET removed_at = $2 WHERE user_sid = $1 AND removed_at IS NULL";
    tx.execute(update, values![user, now()]).await.map(drop)
}

/// How many messages these users have, where the region's proxies see it.
async fn recount(tx: &mut Tx, users: &[UserSid]) -> Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    let revision = bump_revision(tx).await?;
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
