use landline_call::tenancy::{
    Account, AccountMailbox, CallsFrom, EdgePolicy, EncryptionPolicy, HoldMusic, RecordingPolicy,
    VoicemailPolicy,
};
use landline_region::catalogue::sealed::SEALED_ACCOUNT_NAME;
use landline_region::{AccountSid, Personal, RegionCode};

use crate::error::{Result, StoreError};
use crate::sql::{Row, values};
use crate::store::{Store, bump_revision, entropy, now};

#[derive(Debug, Clone)]
pub struct NewAccount {
    pub name: Personal<String>,
    /// Any case; kept in lower case.
    pub domain: String,
    /// Must be the store's own.
    pub home_region: RegionCode,
    pub edge_policy: EdgePolicy,
    pub recording: RecordingPolicy,
    pub encryption: EncryptionPolicy,
    pub calls_from: CallsFrom,
    /// There is none of its own yet.
    pub hold_music: HoldMusic,
    pub voicemail: VoicemailPolicy,
    /// `None`: the region's own entity, `landline-REGION`.
    pub contracting_entity: Option<String>,
}

impl NewAccount {
    pub fn new(
        name: impl Into<String>,
        domain: impl Into<String>,
        home_region: RegionCode,
    ) -> Self {
        Self {
            name: Personal::new(name.into()),
            domain: domain.into(),
            home_region,
            edge_policy: EdgePolicy::default(),
            recording: RecordingPolicy::default(),
            encryption: EncryptionPolicy::default(),
            calls_from: CallsFrom::default(),
            hold_music: HoldMusic::default(),
            voicemail: VoicemailPolicy::default(),
            contracting_entity: None,
        }
    }
}

/// What to change; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    pub edge_policy: Option<EdgePolicy>,
    pub recording: Option<RecordingPolicy>,
    pub encryption: Option<EncryptionPolicy>,
    pub calls_from: Option<CallsFrom>,
    /// Its own only where it has some.
    pub hold_music: Option<HoldMusic>,
    pub voicemail: Option<VoicemailPolicy>,
}

const COLUMNS: &str = "sid, name, domain, home_region, edge_policy, recording, encryption, \
                       contracting_entity, calls_from, hold_music, hold_sound, voicemail, \
                       greeting, revision";

impl Store {
    pub async fn account_create(&self, new: &NewAccount) -> Result<Account> {
        let account = Account {
            sid: AccountSid::new(&mut entropy()),
            name: new.name.clone(),
            domain: checked_domain(&new.domain)?,
            home_region: new.home_region,
            edge_policy: new.edge_policy,
            recording: new.recording,
            encryption: new.encryption,
            calls_from: new.calls_from,
            hold_music: new.hold_music,
            hold_sound: None,
            mailbox: AccountMailbox { policy: new.voicemail, greeting: None },
            contracting_entity: new
                .contracting_entity
                .clone()
                .unwrap_or_else(|| format!("landline-{}", self.region())),
        };
        if account.hold_music == HoldMusic::Own {
            return Err(no_music_of_its_own());
        }
        checked_label("account name", account.name.expose())?;
        self.check_home(&format!("account {}", account.sid), account.home_region)?;
        self.account_insert(&account).await?;
        Ok(account)
    }

    async fn account_insert(&self, account: &Account) -> Result<()> {
        let sid = account.sid.to_string();
        let (sealer, wrapped) = self.new_account_key(account.sid);
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let inserted = tx
            .execute(
                "INSERT INTO account (sid, name, domain, home_region, edge_policy, recording, \
                 encryption, contracting_entity, calls_from, created_at, revision, \
                 hold_music, voicemail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
                 $13) ON CONFLICT DO NOTHING",
                values![
                    account.sid,
                    sealer.seal(&SEALED_ACCOUNT_NAME, &sid, account.name.expose().as_bytes()),
                    account.domain.as_str(),
                    account.home_region,
                    account.edge_policy.name(),
                    account.recording.name(),
                    account.encryption.name(),
                    account.contracting_entity.as_str(),
                    account.calls_from.name(),
                    now(),
                    revision,
                    account.hold_music.name(),
                    account.mailbox.policy.name(),
                ],
            )
            .await?;
        if inserted == 0 {
            return Err(StoreError::Conflict {
                what: format!("domain {}", account.domain),
                next: "choose another, or change its account with `account set`".to_owned(),
            });
        }
        let insert = "INSERT INTO account_key (account, wrapped, created_at) VALUES ($1, $2, $3)";
        tx.execute(insert, values![account.sid, wrapped, now()]).await?;
        tx.commit().await
    }

    /// By domain.
    pub async fn account_list(&self) -> Result<Vec<Account>> {
        let select = format!("SELECT {COLUMNS} FROM account ORDER BY domain");
        let rows = self.database().rows(sqlx::AssertSqlSafe(select), values![]).await?;
        let mut accounts = Vec::with_capacity(rows.len());
        for row in &rows {
            accounts.push(self.account_of(row).await?);
        }
        Ok(accounts)
    }

    /// By sid or domain.
    pub async fn account_find(&self, sid_or_domain: &str) -> Result<Account> {
        let select = format!("SELECT {COLUMNS} FROM account WHERE sid = $1 OR domain = $2");
        let values = values![sid_or_domain, sid_or_domain.to_ascii_lowercase()];
        let row = self.database().row(sqlx::AssertSqlSafe(select), values).await?;
        self.account_of(&row.ok_or_else(|| unknown(sid_or_domain))?).await
    }

    pub async fn account_set(
        &self,
        account: AccountSid,
        change: &AccountChange,
    ) -> Result<Account> {
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let changed = tx
            .execute(
                "UPDATE account SET edge_policy = COALESCE($2, edge_policy), \
                 recording = COALESCE($3, recording), encryption = COALESCE($4, encryption), \
                 calls_from = COALESCE($5, calls_from), hold_music = COALESCE($7, hold_music), \
                 voicemail = COALESCE($8, voicemail), \
                 revision = $6 WHERE sid = $1 AND ($7 IS NULL OR $7 <> 'own' \
                 OR hold_sound IS NOT NULL)",
                values![
                    account,
                    change.edge_policy.map(EdgePolicy::name),
                    change.recording.map(RecordingPolicy::name),
                    change.encryption.map(EncryptionPolicy::name),
                    change.calls_from.map(CallsFrom::name),
                    revision,
                    change.hold_music.map(HoldMusic::name),
                    change.voicemail.map(VoicemailPolicy::name),
                ],
            )
            .await?;
        if changed == 0 {
            drop(tx);
            self.account_find(&account.to_string()).await?;
            return Err(no_music_of_its_own());
        }
        tx.commit().await?;
        self.account_find(&account.to_string()).await
    }

    pub(crate) async fn account_rows(&self) -> Result<Vec<Row>> {
        let select = format!("SELECT {COLUMNS} FROM account");
        self.database().rows(sqlx::AssertSqlSafe(select), values![]).await
    }

    pub(crate) async fn account_of(&self, row: &Row) -> Result<Account> {
        let sid: AccountSid = row.parse("sid")?;
        let sealer = self.account_sealer(sid).await?;
        let name = sealer.open_text(&SEALED_ACCOUNT_NAME, &sid.to_string(), &row.bytes("name")?)?;
        Ok(Account {
            sid,
            name: Personal::new(name),
            domain: row.text("domain")?,
            home_region: row.parse("home_region")?,
            edge_policy: row.parse("edge_policy")?,
            recording: row.parse("recording")?,
            encryption: row.parse("encryption")?,
            calls_from: row.parse("calls_from")?,
            hold_music: row.parse("hold_music")?,
            hold_sound: row.parse_or_null("hold_sound")?,
            mailbox: AccountMailbox {
                policy: row.parse("voicemail")?,
                greeting: row.parse_or_null("greeting")?,
            },
            contracting_entity: row.text("contracting_entity")?,
        })
    }
}

fn no_music_of_its_own() -> StoreError {
    let problem = "the account has no music of its own: put a WAV file first".to_owned();
    StoreError::Invalid { field: "hold_music", problem }
}

pub(crate) fn unknown(account: &str) -> StoreError {
    StoreError::NotFound {
        what: format!("account `{}`", account.chars().take(64).collect::<String>()),
        next: "`account list` shows this region's; others are in their home regions".to_owned(),
    }
}

/// A host name (RFC 1123 §2.1) in lower case.
fn checked_domain(domain: &str) -> Result<String> {
    let domain = domain.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = domain.len() <= 253 && domain.split('.').all(label);
    let address = domain.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if host && !address {
        return Ok(domain);
    }
    let found: String = domain.chars().take(64).collect();
    let problem = format!("`{found}` is not a domain name: wanted one as `acme.example`");
    Err(StoreError::Invalid { field: "domain", problem })
}

/// Something that people call a thing: 1 to 128 characters, none of them control.
pub(crate) fn checked_label(field: &'static str, text: &str) -> Result<()> {
    let length = text.chars().count();
    if (1..=128).contains(&length) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let problem = "wanted 1 to 128 characters without control characters".to_owned();
    Err(StoreError::Invalid { field, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_host_name_and_not_an_address() {
        assert_eq!(checked_domain("Acme.Test").unwrap(), "acme.test");
        assert!(checked_domain("a-1.x").is_ok() && checked_domain("localhost").is_ok());
        for bad in ["", "a..b", "-a.b", "a b.c", "1.2.3.4", "sip:a.b", "ümlaut.de", "a.b."] {
            assert!(checked_domain(bad).is_err(), "{bad}");
        }
    }
}
