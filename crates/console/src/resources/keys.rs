use std::sync::Arc;

use landline_store::{ApiKey, ApiRole};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Page, account_uri, list_query, page_of, rfc3339};
use crate::app::App;
use crate::cursor;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyPage {
    pub keys: Vec<KeyView>,
    #[serde(flatten)]
    pub page: Page,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyView {
    pub sid: String,
    pub account_sid: String,
    pub friendly_name: String,
    pub role: &'static str,
    pub created_at: String,
    /// To the minute.
    pub last_used_at: Option<String>,
    pub revoked_at: Option<String>,
    /// Shown once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub uri: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyNew {
    #[schemars(length(min = 1, max = 128))]
    pub friendly_name: String,
    #[schemars(extend("enum" = ["admin", "operator", "auditor", "read"]))]
    pub role: String,
}

impl KeyView {
    fn new(key: &ApiKey) -> Self {
        Self {
            sid: key.sid.to_string(),
            account_sid: key.account.to_string(),
            friendly_name: key.name.expose().clone(),
            role: key.role.name(),
            created_at: key.created_at.to_string(),
            last_used_at: rfc3339(key.last_used_at),
            revoked_at: rfc3339(key.revoked_at),
            secret: None,
            uri: format!("{}/Keys/{}.json", account_uri(key.account), key.sid),
        }
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let (page_size, query) = list_query(&input)?;
    let mut keys = app.store.key_page(input.account()?, &query).await?;
    let token = |last: &ApiKey| cursor::write(last.created_at, last.sid);
    let page = page_of(&input, page_size, &mut keys, token);
    Reply::json(&KeyPage { keys: keys.iter().map(KeyView::new).collect(), page })
}

pub async fn create(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let new: KeyNew = input.fields()?;
    let role: ApiRole =
        new.role.parse().map_err(|error: String| Problem::invalid("role", error))?;
    let (key, secret) = app.store.key_create(input.account()?, role, &new.friendly_name).await?;
    let view = KeyView { secret: Some(secret.expose().clone()), ..KeyView::new(&key) };
    Reply::created(&view, &view.uri)
}

/// The key stays listed, as revoked.
pub async fn revoke(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    app.store.key_revoke(input.account()?, input.sid("key")?).await?;
    Ok(Reply::nothing())
}
