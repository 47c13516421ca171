use landline_call::tenancy::{Number, NumberTarget, is_e164};
use landline_region::catalogue::sealed::{INDEX_NUMBER, SEALED_NUMBER};
use landline_region::{AccountSid, Personal, UserSid};

use crate::error::{Result, StoreError};
use crate::sql::{Row, Tx, values};
use crate::store::{Store, bump_revision, now};

#[derive(Debug, Clone)]
pub struct NewNumber {
    /// With `+`.
    pub e164: Personal<String>,
    pub target: NumberTarget,
}

pub(crate) const SELECT: &str = "SELECT number, number_index, account, target_user, target_trunk, \
                                 created_at, revision FROM number";

impl Store {
    /// Leads a number to a user or trunk of the account.
    pub async fn number_add(&self, account: AccountSid, new: &NewNumber) -> Result<Number> {
        checked_e164(&new.e164)?;
        self.account_sealer(account).await?;
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        check_target(&mut tx, account, new.target).await?;
        self.number_insert(&mut tx, account, &new.e164, new.target, false, revision).await?;
        tx.commit().await?;
        Ok(Number { e164: new.e164.clone(), account, target: new.target })
    }

    /// Stands for a number where the number itself must not be seen, as in an
    /// address: `PN` and half of its keyed index.
    pub fn number_token(&self, e164: &Personal<String>) -> String {
        let index = self.keys().index(&INDEX_NUMBER, "", e164.expose());
        format!("PN{}", hex::encode(index.get(..16).unwrap_or_default()))
    }

    /// By its token, within the account.
    pub async fn number_by_token(&self, account: AccountSid, token: &str) -> Result<Number> {
        let unknown = || StoreError::NotFound {
            what: format!("such number in account {account}"),
            next: "`number list` shows them".to_owned(),
        };
        let (first, last) = token_range(token).ok_or_else(unknown)?;
        let select =
            format!("{SELECT} WHERE account = $1 AND number_index >= $2 AND number_index <= $3");
        let row =
            self.database().row(sqlx::AssertSqlSafe(select), values![account, first, last]).await?;
        self.number_of(&row.ok_or_else(unknown)?).await
    }

    pub async fn number_list(&self, account: AccountSid) -> Result<Vec<Number>> {
        let select = format!("{SELECT} WHERE account = $1");
        let rows = self.database().rows(sqlx::AssertSqlSafe(select), values![account]).await?;
        let mut numbers = Vec::with_capacity(rows.len());
        for row in &rows {
            numbers.push(self.number_of(row).await?);
        }
        numbers.sort_by(|a, b| a.e164.cmp(&b.e164));
        Ok(numbers)
    }

    pub async fn number_remove(&self, account: AccountSid, e164: &str) -> Result<()> {
        let index = self.keys().index(&INDEX_NUMBER, "", e164);
        let mut tx = self.database().begin().await?;
        let revision = bump_revision(&mut tx).await?;
        let touch = "UPDATE account_user SET revision = $2 WHERE sid = \
                     (SELECT target_user FROM number WHERE number_index = $1 AND of_user = 1)";
        tx.execute(touch, values![index.clone(), revision]).await?;
        let delete = "DELETE FROM number WHERE number_index = $1 AND account = $2";
        if tx.execute(delete, values![index, account]).await? == 0 {
            return Err(StoreError::NotFound {
                what: format!("such number in account {account}"),
                next: "`number list` shows them".to_owned(),
            });
        }
        tx.commit().await
    }

    /// The number must have been checked, and the account's key be at hand.
    pub(crate) async fn number_insert(
        &self,
        tx: &mut Tx,
        account: AccountSid,
        e164: &Personal<String>,
        target: NumberTarget,
        of_user: bool,
        revision: i64,
    ) -> Result<()> {
        let sealer = self
            .cached_sealer(account)
            .ok_or_else(|| crate::account::unknown(&account.to_string()))?;
        let index = self.keys().index(&INDEX_NUMBER, "", e164.expose());
        let (user, trunk) = match target {
            NumberTarget::User(user) => (Some(user), None),
            NumberTarget::Trunk(trunk) => (None, Some(trunk)),
        };
        let sealed = sealer.seal(&SEALED_NUMBER, &hex::encode(&index), e164.expose().as_bytes());
        let inserted = tx
            .execute(
                "INSERT INTO number (number_index, number, account, target_user, target_trunk, \
                 of_user, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT DO NOTHING",
                values![index.clone(), sealed, account, user, trunk, of_user, now(), revision],
            )
            .await?;
        if inserted == 1 {
            return Ok(());
        }
        let select = "SELECT account FROM number WHERE number_index = $1";
        let owner = tx.row(select, values![index]).await?;
        let owner = owner.map(|row| row.text("account")).transpose()?.unwrap_or_default();
        Err(StoreError::Conflict {
            what: "this number".to_owned(),
            next: format!("it is in use in account {owner}; remove it there first"),
        })
    }

    pub(crate) async fn number_of_user_remove(&self, tx: &mut Tx, user: UserSid) -> Result<()> {
        let delete = "DELETE FROM number WHERE target_user = $1 AND of_user = 1";
        tx.execute(delete, values![user]).await.map(drop)
    }

    pub(crate) async fn number_rows(&self) -> Result<Vec<Row>> {
        self.database().rows(SELECT, values![]).await
    }

    pub(crate) async fn number_of(&self, row: &Row) -> Result<Number> {
        let account: AccountSid = row.parse("account")?;
        let sealer = self.account_sealer(account).await?;
        let index = hex::encode(row.bytes("number_index")?);
        let e164 = sealer.open_text(&SEALED_NUMBER, &index, &row.bytes("number")?)?;
        let target = match row.parse_or_null("target_user")? {
            Some(user) => NumberTarget::User(user),
            None => NumberTarget::Trunk(row.parse("target_trunk")?),
        };
        Ok(Number { e164: Personal::new(e164), account, target })
    }
}

/// The first and the last index that a token stands for.
pub(crate) fn token_range(token: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let half = hex::decode(token.strip_prefix("PN")?).ok().filter(|half| half.len() == 16)?;
    let to = |rest: u8| half.iter().copied().chain([rest; 16]).collect();
    Some((to(0), to(u8::MAX)))
}

pub(crate) fn checked_e164(number: &Personal<String>) -> Result<()> {
    if is_e164(number.expose()) {
        return Ok(());
    }
    let problem = "wanted E.164: `+`, then 3 to 15 digits, the first not 0".to_owned();
    Err(StoreError::Invalid { field: "number", problem })
}

async fn check_target(tx: &mut Tx, account: AccountSid, target: NumberTarget) -> Result<()> {
    let (select, sid, kind) = match target {
        NumberTarget::User(user) => (
            "SELECT sid FROM account_user WHERE sid = $1 AND account = $2",
            user.to_string(),
            "user",
        ),
        NumberTarget::Trunk(trunk) => {
            ("SELECT sid FROM trunk WHERE sid = $1 AND account = $2", trunk.to_string(), "trunk")
        }
    };
    if tx.row(select, values![sid.as_str(), account]).await?.is_some() {
        return Ok(());
    }
    Err(StoreError::NotFound {
        what: format!("{kind} {sid} in account {account}"),
        next: format!("a number leads to a {kind} of its own account; `{kind} list` shows them"),
    })
}
