//! Which trunk a number goes out by that no user has: what the account's trunks
//! say of it, put in the order in which it is looked for.

use std::sync::Arc;

use landline_call::tenancy::{Trunk, is_e164};
use schemars::JsonSchema;
use serde::Serialize;

use super::account_uri;
use crate::app::App;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Serialize, JsonSchema)]
pub struct RouteList {
    /// The first that fits is the one.
    pub routes: Vec<RouteView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RouteView {
    /// How the number begins, as `+353`; `+` is every number.
    pub prefix: String,
    pub trunk_sid: String,
    pub friendly_name: String,
    /// The trunk, whose prefixes these are.
    pub trunk_uri: String,
}

impl RouteView {
    fn new(prefix: &str, trunk: &Trunk) -> Self {
        Self {
            prefix: prefix.to_owned(),
            trunk_sid: trunk.sid.to_string(),
            friendly_name: trunk.name.clone(),
            trunk_uri: format!("{}/Trunks/{}.json", account_uri(trunk.account), trunk.sid),
        }
    }
}

/// All of them, or those that fit a number.
pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let to = input.query.text("To");
    if to.is_some_and(|to| !is_e164(to)) {
        return Err(Problem::invalid("To", "wanted an E.164 number, as +35312345678"));
    }
    let account = input.account()?;
    // By name, as the proxy has them: it decides between equals.
    let trunks = app.store.trunk_list(account).await?;
    let mut routes: Vec<RouteView> = trunks.iter().flat_map(of_trunk).collect();
    routes.retain(|route| to.is_none_or(|to| to.starts_with(&route.prefix)));
    routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
    Reply::json(&RouteList { routes })
}

fn of_trunk(trunk: &Trunk) -> Vec<RouteView> {
    match trunk.prefixes.is_empty() {
        true => vec![RouteView::new("+", trunk)],
        false => trunk.prefixes.iter().map(|prefix| RouteView::new(prefix, trunk)).collect(),
    }
}
