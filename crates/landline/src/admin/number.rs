use anyhow::Result;
use landline_call::tenancy::{Number, NumberTarget};
use landline_region::Personal;
use landline_store::NewNumber;
use serde_json::{Value, json};

use super::place::{Home, Place};
use crate::cli::{NumberTargetArg, NumberVerb};
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: NumberVerb, style: Style) -> Result<String> {
    match verb {
        NumberVerb::Add { account, number, to } => {
            let home = place.home(&account).await?;
            let target = match &to {
                NumberTargetArg::User(name) => {
                    NumberTarget::User(home.store.user_find(home.account, name).await?.sid)
                }
                NumberTargetArg::Trunk(name) => {
                    NumberTarget::Trunk(home.store.trunk_find(home.account, name).await?.sid)
                }
            };
            let new = NewNumber { e164: Personal::new(number), target };
            home.number_free(&new.e164)?;
            let number = home.store.number_add(home.account, &new).await?;
            home.publish_numbers().await?;
            Ok(card(&shown(&number, &home).await, style))
        }
        NumberVerb::List { account } => {
            let home = place.home(&account).await?;
            let mut rows = Vec::new();
            for number in home.store.number_list(home.account).await? {
                rows.push(shown(&number, &home).await);
            }
            Ok(Table::new(&["number", "to", "target"], rows, "no numbers").render(style))
        }
        NumberVerb::Publish { account } => {
            let home = place.home(&account).await?;
            let published = home.publish_numbers().await?;
            Ok(card(&json!({ "account": home.account.to_string(), "published": published }), style))
        }
        NumberVerb::Remove { account, number } => {
            let home = place.home(&account).await?;
            home.store.number_remove(home.account, &number).await?;
            home.publish_numbers().await?;
            Ok(card(&json!({ "removed": number }), style))
        }
    }
}

async fn shown(number: &Number, home: &Home) -> Value {
    let (sid, name) = match number.target {
        NumberTarget::User(sid) => {
            let user = home.store.user_find(home.account, &sid.to_string()).await;
            (sid.to_string(), user.map(|user| format!("user:{}", user.name.expose())))
        }
        NumberTarget::Trunk(sid) => {
            let trunk = home.store.trunk_find(home.account, &sid.to_string()).await;
            (sid.to_string(), trunk.map(|trunk| format!("trunk:{}", trunk.name)))
        }
    };
    json!({ "number": number.e164.expose(), "to": name.ok(), "target": sid })
}
