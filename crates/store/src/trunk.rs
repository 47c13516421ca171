use ipnet::IpNet;
use landline_call::tenancy::{
    Asserted, MediaPolicy, Trunk, TrunkAddress, TrunkCredentials, is_prefix,
};
use landline_region::catalogue::sealed::SEALED_TRUNK_CREDENTIALS;
use landline_region::{AccountSid, Personal, Secret, TrunkSid};

use crate::account::checked_label;
use crate::error::{Result, StoreError};
use crate::seal::Sealer;
use crate::sql::{Row, values};
use crate::store::{Store, bump_revision, entropy, now};

#[derive(Debug, Clone)]
pub struct NewTrunk {
    /// Unique within the account.
    pub name: String,
    pub send_to: TrunkAddress,
    pub accept_from: Vec<IpNet>,
    /// Beginnings of the numbers it carries; empty: all.
    pub prefixes: Vec<String>,
    pub media: MediaPolicy,
    pub asserted: Asserted,
    pub credentials: Option<TrunkCredentials>,
}

pub(crate) const SELECT: &str = "SELECT sid, account, name, send_to, accept_from, prefixes, media, asserted, credentials, \
     created_at, revision FROM trunk";

impl Store {
    pub async fn trunk_add(&self, account: AccountSid, new: &NewTrunk) -> Result<Trunk> {
        checked_label("trunk name", &new.name)?;
        checked_prefixes(&new.prefixes)?;
        let sealer = self.account_sealer(account).await?;
        let trunk = Trunk {
            sid: TrunkSid::new(&mut entropy()),
            account,
            name: new.name.clone(),
            send_to: new.send_to.clone(),
            accept_from: new.accept_from.clone(),
            prefixes: new.prefixes.clone(),
            media: new.media,
            asserted: new.asserted,
            credentials: new.credentials.clone(),
        };
        let networks: Vec<String> = trunk.accept_from.iter().map(IpNet::to_string).collect();
        let credentials =
            trunk.credentials.as_ref().map(|c| sealed_credentials(&sealer, trunk.sid, c));
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let inserted = tx
            .execute(
                "INSERT INTO trunk (sid, account, name, send_to, accept_from, prefixes, media, \
                 asserted, credentials, created_at, revision) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                 ON CONFLICT DO NOTHING",
                values![
                    trunk.sid,
                    account,
                    trunk.name.as_str(),
                    trunk.send_to.to_string(),
                    networks.join(" "),
                    trunk.prefixes.join(" "),
                    trunk.media.name(),
                    trunk.asserted.name(),
                    credentials,
                    now(),
                    revision,
                ],
            )
            .await?;
        if inserted == 0 {
            return Err(StoreError::Conflict {
                what: format!("trunk name `{}` in account {account}", trunk.name),
                next: "choose another, or remove the trunk that has it".to_owned(),
            });
        }
        tx.commit().await?;
        Ok(trunk)
    }

    /// By name.
    pub async fn trunk_list(&self, account: AccountSid) -> Result<Vec<Trunk>> {
        let select = format!("{SELECT} WHERE account = $1 ORDER BY name");
        let rows = self.database().rows(sqlx::AssertSqlSafe(select), values![account]).await?;
        let mut trunks = Vec::with_capacity(rows.len());
        for row in &rows {
            trunks.push(self.trunk_of(row).await?);
        }
        Ok(trunks)
    }

    /// By sid or name within the account.
    pub async fn trunk_find(&self, account: AccountSid, trunk: &str) -> Result<Trunk> {
        let select = format!("{SELECT} WHERE account = $1 AND (sid = $2 OR name = $2)");
        let values = values![account, trunk];
        let row = self.database().row(sqlx::AssertSqlSafe(select), values).await?;
        self.trunk_of(&row.ok_or_else(|| unknown(account, trunk))?).await
    }

    pub async fn trunk_remove(&self, account: AccountSid, trunk: &str) -> Result<()> {
        let mut tx = self.database().begin().await?;
        bump_revision(&mut tx).await?;
        let select = "SELECT t.sid, (SELECT COUNT(*) FROM number n WHERE n.target_trunk = t.sid) \
                      AS numbers FROM trunk t WHERE account = $1 AND (sid = $2 OR name = $2)";
        let row = tx.row(select, values![account, trunk]).await?;
        let row = row.ok_or_else(|| unknown(account, trunk))?;
        let (sid, numbers): (TrunkSid, i64) = (row.parse("sid")?, row.int("numbers")?);
        if numbers > 0 {
            return Err(StoreError::InUse {
                what: format!("trunk {sid}"),
                next: format!("{numbers} numbers lead to it; `number remove` them first"),
            });
        }
        tx.execute("DELETE FROM trunk WHERE sid = $1", values![sid]).await?;
        tx.commit().await
    }

    pub(crate) async fn trunk_rows(&self) -> Result<Vec<Row>> {
        // Of trunks that carry the same number the first by name does.
        let select = format!("{SELECT} ORDER BY name, sid");
        self.database().rows(sqlx::AssertSqlSafe(select), values![]).await
    }

    pub(crate) async fn trunk_of(&self, row: &Row) -> Result<Trunk> {
        let (sid, account): (TrunkSid, AccountSid) = (row.parse("sid")?, row.parse("account")?);
        let sealer = self.account_sealer(account).await?;
        let column = |problem: String| StoreError::Column {
            column: "trunk.accept_from".to_owned(),
            problem,
        };
        let networks = row.text("accept_from")?;
        let networks = networks.split_whitespace().map(str::parse).collect::<Result<_, _>>();
        let prefixes = row.text("prefixes")?;
        let credentials = row.bytes_or_null("credentials")?;
        Ok(Trunk {
            sid,
            account,
            name: row.text("name")?,
            send_to: row.parse("send_to")?,
            accept_from: networks.map_err(|e: ipnet::AddrParseError| column(e.to_string()))?,
            prefixes: prefixes.split_whitespace().map(str::to_owned).collect(),
            media: row.parse("media")?,
            asserted: row.parse("asserted")?,
            credentials: credentials
                .map(|sealed| opened_credentials(&sealer, sid, account, &sealed))
                .transpose()?,
        })
    }
}

/// The most prefixes of one trunk.
const MOST_PREFIXES: usize = 200;

fn checked_prefixes(prefixes: &[String]) -> Result<()> {
    let problem = match prefixes.iter().find(|prefix| !is_prefix(prefix)) {
        Some(wrong) => format!("`{wrong}`: wanted + and 1 to 15 digits, as +353"),
        None if prefixes.len() > MOST_PREFIXES => format!("more than {MOST_PREFIXES} of them"),
        None => return Ok(()),
    };
    Err(StoreError::Invalid { field: "prefixes", problem })
}

/// Username and password, a NUL between them.
fn sealed_credentials(sealer: &Sealer, trunk: TrunkSid, credentials: &TrunkCredentials) -> Vec<u8> {
    let (username, password) = (credentials.username.expose(), credentials.password.expose());
    let text = Secret::new(format!("{username}\0{password}"));
    sealer.seal(&SEALED_TRUNK_CREDENTIALS, &trunk.to_string(), text.expose().as_bytes())
}

fn opened_credentials(
    sealer: &Sealer,
    trunk: TrunkSid,
    account: AccountSid,
    sealed: &[u8],
) -> Result<TrunkCredentials> {
    let text =
        Secret::new(sealer.open_text(&SEALED_TRUNK_CREDENTIALS, &trunk.to_string(), sealed)?);
    let (username, password) = text.expose().split_once('\0').ok_or(StoreError::Sealed {
        what: "trunk.credentials",
        account,
        problem: "they are not a username and a password",
    })?;
    Ok(TrunkCredentials {
        username: Personal::new(username.to_owned()),
        password: Secret::new(password.to_owned()),
    })
}

fn unknown(account: AccountSid, trunk: &str) -> StoreError {
    let trunk: String = trunk.chars().take(64).collect();
    StoreError::NotFound {
        what: format!("trunk `{trunk}` in account {account}"),
        next: "`trunk list` shows them".to_owned(),
    }
}
