//! What an account has of its own to be played to people, sealed.

use landline_call::tenancy::HoldMusic;
use landline_region::catalogue::sealed::SEALED_SOUND;
use landline_region::{AccountSid, SoundSid, UnixMillis, UserSid};

use crate::error::{Result, StoreError};
use crate::sql::{Row, Tx, values};
use crate::store::{Store, bump_revision, entropy, now};

/// Samples a second of every sound that is kept; one channel of 16 bits.
pub const SOUND_RATE: u32 = 16_000;
/// No sound is longer: five minutes are about 10 MB.
pub const MOST_SOUND_SECONDS: usize = 300;
/// Shorter, nobody would know it for a sound.
const LEAST_SAMPLES: usize = SOUND_RATE as usize / 10;

const HOLD_MUSIC: &str = "hold-music";
/// An account's; a user's has its sid behind it.
const GREETING: &str = "greeting";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoundRecord {
    pub sid: SoundSid,
    pub account: AccountSid,
    pub duration_ms: u64,
    pub created_at: UnixMillis,
}

impl Store {
    /// The account's own music on hold from now on, in place of what it had.
    pub async fn hold_music_put(
        &self,
        account: AccountSid,
        samples: &[i16],
    ) -> Result<SoundRecord> {
        let put = self.sealed_sound(account, "hold music", samples).await?;
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let record = put.store(&mut tx, HOLD_MUSIC).await?;
        hears(&mut tx, account, HoldMusic::Own, Some(record.sid), revision).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Takes the account's own music away. Who heard it hears the built-in one.
    pub async fn hold_music_remove(&self, account: AccountSid) -> Result<()> {
        let known = self.account_find(&account.to_string()).await?;
        let music = match known.hold_music {
            HoldMusic::Own => HoldMusic::BuiltIn,
            other => other,
        };
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        if forget(&mut tx, account, HOLD_MUSIC).await? == 0 {
            return Err(none(account, "music on hold"));
        }
        hears(&mut tx, account, music, None, revision).await?;
        tx.commit().await
    }

    /// The account's own music on hold.
    pub async fn hold_music(&self, account: AccountSid) -> Result<SoundRecord> {
        self.sound_of(account, HOLD_MUSIC, "music on hold").await
    }

    /// What callers hear from now on before they leave a message: for one user, or for
    /// all of the account's that have none of their own.
    pub async fn greeting_put(
        &self,
        account: AccountSid,
        user: Option<UserSid>,
        samples: &[i16],
    ) -> Result<SoundRecord> {
        let put = self.sealed_sound(account, "greeting", samples).await?;
        let mut tx = self.database().begin().await?;
        let record = put.store(&mut tx, &greeting_of(user)).await?;
        greets(&mut tx, account, user, Some(record.sid)).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Callers hear the account's, or the built-in one, then.
    pub async fn greeting_remove(&self, account: AccountSid, user: Option<UserSid>) -> Result<()> {
        let mut tx = self.database().begin().await?;
        greets(&mut tx, account, user, None).await?;
        if forget(&mut tx, account, &greeting_of(user)).await? == 0 {
            return Err(none(account, "greeting"));
        }
        tx.commit().await
    }

    pub async fn greeting(
        &self,
        account: AccountSid,
        user: Option<UserSid>,
    ) -> Result<SoundRecord> {
        self.sound_of(account, &greeting_of(user), "greeting").await
    }

    async fn sound_of(&self, account: AccountSid, kind: &str, what: &str) -> Result<SoundRecord> {
        let select = "SELECT sid, account, duration_ms, created_at FROM sound \
                      WHERE account = $1 AND kind = $2";
        let row = self.database().row(select, values![account, kind]).await?;
        record_of(&row.ok_or_else(|| none(account, what))?)
    }

    async fn sealed_sound(
        &self,
        account: AccountSid,
        field: &'static str,
        samples: &[i16],
    ) -> Result<Put> {
        if !(LEAST_SAMPLES..=MOST_SOUND_SECONDS * SOUND_RATE as usize).contains(&samples.len()) {
            let problem = format!("wanted a tenth of a second to {MOST_SOUND_SECONDS} seconds");
            return Err(StoreError::Invalid { field, problem });
        }
        let sealer = self.account_sealer(account).await?;
        let record = SoundRecord {
            sid: SoundSid::new(&mut entropy()),
            account,
            duration_ms: samples.len() as u64 * 1000 / u64::from(SOUND_RATE),
            created_at: now(),
        };
        let plain: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let sealed = sealer.seal(&SEALED_SOUND, &record.sid.to_string(), &plain);
        Ok(Put { record, sealed })
    }

    /// At [`SOUND_RATE`].
    pub async fn sound_samples(&self, account: AccountSid, sound: SoundSid) -> Result<Vec<i16>> {
        let select = "SELECT sealed FROM sound WHERE sid = $1 AND account = $2";
        let row = self.database().row(select, values![sound, account]).await?;
        let row = row.ok_or_else(|| none(account, "such sound"))?;
        let sealer = self.account_sealer(account).await?;
        let plain = sealer.open(&SEALED_SOUND, &sound.to_string(), &row.bytes("sealed")?)?;
        let pairs = plain.as_chunks::<2>().0;
        Ok(pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect())
    }
}

/// A sound that is to be kept.
struct Put {
    record: SoundRecord,
    sealed: Vec<u8>,
}

impl Put {
    /// In place of what there was of this kind.
    async fn store(self, tx: &mut Tx, kind: &str) -> Result<SoundRecord> {
        let Self { record, sealed } = self;
        forget(tx, record.account, kind).await?;
        let insert = "INSERT INTO sound (sid, account, kind, duration_ms, created_at, sealed) \
                      VALUES ($1, $2, $3, $4, $5, $6)";
        let duration = record.duration_ms as i64;
        let values = values![record.sid, record.account, kind, duration, record.created_at, sealed];
        tx.execute(insert, values).await?;
        Ok(record)
    }
}

async fn forget(tx: &mut Tx, account: AccountSid, kind: &str) -> Result<u64> {
    let delete = "DELETE FROM sound WHERE account = $1 AND kind = $2";
    tx.execute(delete, values![account, kind]).await
}

/// The user goes, and the greeting too.
pub(crate) async fn forget_greeting(tx: &mut Tx, account: AccountSid, user: UserSid) -> Result<()> {
    forget(tx, account, &greeting_of(Some(user))).await.map(drop)
}

fn greeting_of(user: Option<UserSid>) -> String {
    user.map_or_else(|| GREETING.to_owned(), |user| format!("{GREETING}-{user}"))
}

async fn greets(
    tx: &mut Tx,
    account: AccountSid,
    user: Option<UserSid>,
    sound: Option<SoundSid>,
) -> Result<()> {
    let revision = bump_revision(tx).await?;
    let update = match user {
        Some(_) => {
            "UPDATE account_user SET greeting = $2, revision = $3 WHERE account = $1 AND sid = $4"
        }
        None => "UPDATE account SET greeting = $2, revision = $3 WHERE sid = $1",
    };
    let mut values = values![account, sound.map(|sid| sid.to_string()), revision];
    values.extend(user.map(Into::into));
    tx.execute(update, values).await.map(drop)
}

async fn hears(
    tx: &mut Tx,
    account: AccountSid,
    music: HoldMusic,
    sound: Option<SoundSid>,
    revision: i64,
) -> Result<()> {
    let update =
        "UPDATE account SET hold_music = $2, hold_sound = $3, revision = $4 WHERE sid = $1";
    let sound = sound.map(|sid| sid.to_string());
    tx.execute(update, values![account, music.name(), sound, revision]).await.map(drop)
}

fn record_of(row: &Row) -> Result<SoundRecord> {
    Ok(SoundRecord {
        sid: row.parse("sid")?,
        account: row.parse("account")?,
        duration_ms: row.unsigned("duration_ms")?,
        created_at: row.time("created_at")?,
    })
}

fn none(account: AccountSid, what: &str) -> StoreError {
    StoreError::NotFound {
        what: format!("{what} of account {account}"),
        next: "put a WAV file first".to_owned(),
    }
}
