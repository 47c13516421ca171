use anyhow::Result;
use landline_store::ApiKey;
use serde_json::{Value, json};

use super::Place;
use super::calls::time;
use crate::cli::KeyVerb;
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: KeyVerb, style: Style) -> Result<String> {
    match verb {
        KeyVerb::Create { account, role, name } => {
            let home = place.home(&account).await?;
            let (key, secret) = home.store.key_create(home.account, role, &name).await?;
            let mut answer = shown(&key);
            answer["secret"] = Value::String(secret.expose().clone());
            Ok(card(&answer, style))
        }
        KeyVerb::List { account } => {
            let home = place.home(&account).await?;
            let rows = home.store.key_list(home.account).await?.iter().map(shown).collect();
            let columns = ["name", "role", "created_at", "last_used_at", "revoked_at", "sid"];
            Ok(Table::new(&columns, rows, "no keys").render(style))
        }
        KeyVerb::Revoke { account, key } => {
            let home = place.home(&account).await?;
            Ok(card(&shown(&home.store.key_revoke(home.account, key).await?), style))
        }
    }
}

fn shown(key: &ApiKey) -> Value {
    json!({
        "sid": key.sid.to_string(),
        "name": key.name.expose(),
        "role": key.role.name(),
        "account": key.account.to_string(),
        "created_at": key.created_at.to_string(),
        "last_used_at": time(key.last_used_at),
        "revoked_at": time(key.revoked_at),
    })
}
