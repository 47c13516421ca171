use anyhow::Result;
use landline_call::tenancy::{Trunk, TrunkCredentials};
use landline_region::{Personal, Secret};
use landline_store::NewTrunk;
use serde_json::{Value, json};

use super::Place;
use crate::cli::TrunkVerb;
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: TrunkVerb, style: Style) -> Result<String> {
    match verb {
        TrunkVerb::Add { account, name, args } => {
            let home = place.home(&account).await?;
            let credentials =
                args.username.zip(args.password).map(|(username, password)| TrunkCredentials {
                    username: Personal::new(username),
                    password: Secret::new(password),
                });
            let new = NewTrunk {
                name,
                send_to: args.send_to,
                accept_from: args.accept_from,
                prefixes: args.prefix,
                media: args.media,
                asserted: args.asserted,
                credentials,
            };
            let trunk = home.store.trunk_add(home.account, &new).await?;
            Ok(card(&shown(&trunk), style))
        }
        TrunkVerb::List { account } => {
            let home = place.home(&account).await?;
            let rows = home.store.trunk_list(home.account).await?.iter().map(shown).collect();
            let columns = [
                "name",
                "send_to",
                "accept_from",
                "prefixes",
                "media",
                "asserted",
                "username",
                "sid",
            ];
            Ok(Table::new(&columns, rows, "no trunks").render(style))
        }
        TrunkVerb::Remove { account, name } => {
            let home = place.home(&account).await?;
            let gone = home.store.trunk_find(home.account, &name).await?;
            home.store.trunk_remove(home.account, &name).await?;
            Ok(card(&json!({ "removed": gone.sid.to_string() }), style))
        }
    }
}

fn shown(trunk: &Trunk) -> Value {
    let accept_from: Vec<String> = trunk.accept_from.iter().map(|net| net.to_string()).collect();
    json!({
        "sid": trunk.sid.to_string(),
        "name": trunk.name,
        "send_to": trunk.send_to.to_string(),
        "accept_from": accept_from,
        "prefixes": trunk.prefixes,
        "media": trunk.media.name(),
        "asserted": trunk.asserted.name(),
        "username": trunk.credentials.as_ref().map(|credentials| credentials.username.expose()),
    })
}
