use landline_call::tenancy::{
    DigestSecrets, Forwarding, ForwardingChange, MediaPolicy, NumberTarget, RecordingPolicy, User,
    UserMailbox, VoicemailPolicy,
};
use landline_region::catalogue::sealed::{
    INDEX_USER, SEALED_NUMBER, SEALED_USER_DIGEST, SEALED_USER_NAME,
};
use landline_region::{AccountSid, Personal, Secret, UserSid};

use crate::error::{Result, StoreError};
use crate::forwarding;
use crate::number::checked_e164;
use crate::seal::Sealer;
use crate::sql::{Row, Tx, values};
use crate::store::{Store, bump_revision, entropy, now};
use crate::{sound, voicemail};

#[derive(Debug, Clone)]
pub struct NewUser {
    pub name: Personal<String>,
    /// H(user:realm:password) with the account's domain as realm.
    pub digest: DigestSecrets,
    pub number: Option<Personal<String>>,
    pub media: MediaPolicy,
    pub recording: Option<RecordingPolicy>,
}

/// What to change; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    pub digest: Option<DigestSecrets>,
    /// `Some(None)` takes the number away.
    pub number: Option<Option<Personal<String>>>,
    pub media: Option<MediaPolicy>,
    /// `Some(None)`: as the account says.
    pub recording: Option<Option<RecordingPolicy>>,
    pub forwarding: ForwardingChange,
    /// `Some(None)`: as the account says.
    pub voicemail: Option<Option<VoicemailPolicy>>,
}

/// A user with its own number. Both engines take it as a prefix of `WHERE`.
pub(crate) const SELECT: &str = "SELECT u.sid, u.account, u.name, u.digest, u.media, u.recording, u.forwarding, u.created_at, \
                      u.revision, u.voicemail, u.greeting, u.messages_new, u.messages_old, n.number, n.number_index FROM account_user u \
                      LEFT JOIN number n ON n.target_user = u.sid AND n.of_user = 1";

impl Store {
    pub async fn user_add(&self, account: AccountSid, new: &NewUser) -> Result<User> {
        checked_name(new.name.expose())?;
        if let Some(number) = &new.number {
            checked_e164(number)?;
        }
        let sealer = self.account_sealer(account).await?;
        let user = User {
            sid: UserSid::new(&mut entropy()),
            account,
            name: new.name.clone(),
            digest: new.digest.clone(),
            number: new.number.clone(),
            media: new.media,
            recording: new.recording,
            forwarding: Forwarding::default(),
            mailbox: UserMailbox::default(),
        };
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        self.user_insert(&mut tx, &sealer, &user, revision).await?;
        if let Some(number) = &user.number {
            let target = NumberTarget::User(user.sid);
            self.number_insert(&mut tx, account, number, target, true, revision).await?;
        }
        tx.commit().await?;
        Ok(user)
    }

    async fn user_insert(
        &self,
        tx: &mut Tx,
        sealer: &Sealer,
        user: &User,
        revision: i64,
    ) -> Result<()> {
        let (account, name) = (user.account.to_string(), user.name.expose());
        let inserted = tx
            .execute(
                "INSERT INTO account_user (sid, account, name, name_index, digest, media, \
                 recording, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                 ON CONFLICT DO NOTHING",
                values![
                    user.sid,
                    user.account,
                    sealer.seal(&SEALED_USER_NAME, &user.sid.to_string(), name.as_bytes()),
                    self.keys().index(&INDEX_USER, &account, name),
                    sealed_digest(sealer, user.sid, &user.digest),
                    user.media.name(),
                    user.recording.map(RecordingPolicy::name),
                    now(),
                    revision,
                ],
            )
            .await?;
        if inserted == 1 {
            return Ok(());
        }
        Err(StoreError::Conflict {
            what: format!("this user name in account {account}"),
            next: "choose another, or change the user with `user set`".to_owned(),
        })
    }

    /// Takes a sid or a name within the account.
    pub async fn user_set(
        &self,
        account: AccountSid,
        user: &str,
        change: &UserChange,
    ) -> Result<User> {
        let sealer = self.account_sealer(account).await?;
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let sid = self.user_sid(&mut tx, account, user).await?;
        let digest = change.digest.as_ref().map(|digest| sealed_digest(&sealer, sid, digest));
        self.forwarding_set(&mut tx, &sealer, account, sid, &change.forwarding).await?;
        tx.execute(
            "UPDATE account_user SET digest = COALESCE($2, digest), \
             media = COALESCE($3, media), recording = CASE WHEN $4 = 1 THEN $5 ELSE recording END, \
             voicemail = CASE WHEN $7 = 1 THEN $8 ELSE voicemail END, \
             revision = $6 WHERE sid = $1",
            values![
                sid,
                digest,
                change.media.map(MediaPolicy::name),
                change.recording.is_some(),
                change.recording.flatten().map(RecordingPolicy::name),
                revision,
                change.voicemail.is_some(),
                change.voicemail.flatten().map(VoicemailPolicy::name),
            ],
        )
        .await?;
        if let Some(number) = &change.number {
            self.number_of_user_remove(&mut tx, sid).await?;
            if let Some(number) = number {
                checked_e164(number)?;
                let target = NumberTarget::User(sid);
                self.number_insert(&mut tx, account, number, target, true, revision).await?;
            }
        }
        tx.commit().await?;
        self.user_find(account, &sid.to_string()).await
    }

    /// By name.
    pub async fn user_list(&self, account: AccountSid) -> Result<Vec<User>> {
        let select = format!("{SELECT} WHERE u.account = $1");
        let rows = self.database().rows(sqlx::AssertSqlSafe(select), values![account]).await?;
        let mut users = Vec::with_capacity(rows.len());
        for row in &rows {
            users.push(self.user_of(row).await?);
        }
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(users)
    }

    /// By sid or name within the account.
    pub async fn user_find(&self, account: AccountSid, user: &str) -> Result<User> {
        let index = self.keys().index(&INDEX_USER, &account.to_string(), user);
        let select = format!("{SELECT} WHERE u.account = $1 AND (u.sid = $2 OR u.name_index = $3)");
        let values = values![account, user, index];
        let row = self.database().row(sqlx::AssertSqlSafe(select), values).await?;
        self.user_of(&row.ok_or_else(|| unknown(account))?).await
    }

    /// Its bindings, its own number and its messages go with it. `by` is who asks, as
    /// a statement of the log names it.
    pub async fn user_remove(&self, account: AccountSid, user: &str, by: &str) -> Result<()> {
        let mut tx = self.database().begin().await?;
        bump_revision(&mut tx).await?;
        let sid = self.user_sid(&mut tx, account, user).await?;
        self.number_of_user_remove(&mut tx, sid).await?;
        let select = "SELECT COUNT(*) AS numbers FROM number WHERE target_user = $1";
        let row = tx.row(select, values![sid]).await?;
        let numbers = row.map_or(Ok(0), |row| row.int("numbers"))?;
        if numbers > 0 {
            return Err(StoreError::InUse {
                what: format!("user {sid}"),
                next: format!("{numbers} more numbers lead to it; `number remove` them first"),
            });
        }
        voicemail::leave_behind(&mut tx, sid, by).await?;
        sound::forget_greeting(&mut tx, account, sid).await?;
        tx.execute("DELETE FROM binding WHERE user_sid = $1", values![sid]).await?;
        tx.execute("DELETE FROM account_user WHERE sid = $1", values![sid]).await?;
        tx.commit().await
    }

    pub(crate) async fn user_sid(
        &self,
        tx: &mut Tx,
        account: AccountSid,
        user: &str,
    ) -> Result<UserSid> {
        let index = self.keys().index(&INDEX_USER, &account.to_string(), user);
        let select = "SELECT sid FROM account_user \
                      WHERE account = $1 AND (sid = $2 OR name_index = $3)";
        let row = tx.row(select, values![account, user, index]).await?;
        row.ok_or_else(|| unknown(account))?.parse("sid")
    }

    pub(crate) async fn user_rows(&self) -> Result<Vec<Row>> {
        self.database().rows(SELECT, values![]).await
    }

    pub(crate) async fn user_of(&self, row: &Row) -> Result<User> {
        let (sid, account): (UserSid, AccountSid) = (row.parse("sid")?, row.parse("account")?);
        let sealer = self.account_sealer(account).await?;
        let name = sealer.open_text(&SEALED_USER_NAME, &sid.to_string(), &row.bytes("name")?)?;
        let number = match (row.bytes_or_null("number")?, row.bytes_or_null("number_index")?) {
            (Some(sealed), Some(index)) => Some(Personal::new(sealer.open_text(
                &SEALED_NUMBER,
                &hex::encode(index),
                &sealed,
            )?)),
            _ => None,
        };
        Ok(User {
            sid,
            account,
            name: Personal::new(name),
            digest: opened_digest(&sealer, sid, account, &row.bytes("digest")?)?,
            number,
            media: row.parse("media")?,
            recording: row.parse_or_null("recording")?,
            forwarding: forwarding::opened(
                &sealer,
                sid,
                account,
                row.bytes_or_null("forwarding")?,
            )?,
            mailbox: UserMailbox {
                policy: row.parse_or_null("voicemail")?,
                greeting: row.parse_or_null("greeting")?,
                new: count(row, "messages_new")?,
                old: count(row, "messages_old")?,
            },
        })
    }
}

fn count(row: &Row, column: &str) -> Result<u32> {
    Ok(u32::try_from(row.unsigned(column)?).unwrap_or(u32::MAX))
}

/// Both secrets in one value, a space between them: they are hexadecimal.
fn sealed_digest(sealer: &Sealer, user: UserSid, digest: &DigestSecrets) -> Vec<u8> {
    let text = Secret::new(format!("{} {}", digest.md5.expose(), digest.sha256.expose()));
    sealer.seal(&SEALED_USER_DIGEST, &user.to_string(), text.expose().as_bytes())
}

fn opened_digest(
    sealer: &Sealer,
    user: UserSid,
    account: AccountSid,
    sealed: &[u8],
) -> Result<DigestSecrets> {
    let text = Secret::new(sealer.open_text(&SEALED_USER_DIGEST, &user.to_string(), sealed)?);
    let (md5, sha256) = text.expose().split_once(' ').ok_or(StoreError::Sealed {
        what: "user.digest",
        account,
        problem: "it is not two secrets",
    })?;
    Ok(DigestSecrets { md5: Secret::new(md5.to_owned()), sha256: Secret::new(sha256.to_owned()) })
}

fn unknown(account: AccountSid) -> StoreError {
    StoreError::NotFound {
        what: format!("such user in account {account}"),
        next: "`user list` shows them".to_owned(),
    }
}

/// The `user` of a SIP URI without escapes (RFC 3261 §25.1), as an address of
/// record and a digest username need it.
fn checked_name(name: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let problem = "wanted 1 to 64 letters, digits or -_.!~*'()&=+$,".to_owned();
    Err(StoreError::Invalid { field: "user name", problem })
}
