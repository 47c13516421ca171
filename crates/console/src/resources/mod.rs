//! What the API shows and takes, one file a kind of thing. The shapes are the
//! API's own: those of the core and the store are converted here.

pub mod account;
pub mod audit;
pub mod calls;
pub mod greeting;
pub mod hold_music;
pub mod keys;
pub mod numbers;
pub mod phone;
pub mod phone_voicemail;
pub mod receipts;
pub mod recordings;
pub mod region;
pub mod routes;
pub mod trunks;
pub mod usage;
pub mod users;
pub mod voicemail;
pub mod webhooks;

use landline_region::{AccountSid, Personal, UnixMillis};
use landline_store::directory;

use crate::app::App;
use crate::problem::Problem;

/// Where an account's things are.
pub fn account_uri(account: AccountSid) -> String {
    format!("/2010-04-01/Accounts/{account}")
}

pub fn rfc3339(at: Option<UnixMillis>) -> Option<String> {
    at.map(|at| at.to_string())
}

/// A policy by its name.
pub fn named<T>(field: &str, name: Option<&str>) -> Result<Option<T>, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let parsed = name.map(str::parse).transpose();
    parsed.map_err(|error: T::Err| Problem::invalid(field, error.to_string()))
}

/// A form's field that is given once is no list.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    pub fn texts(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Refuses a number that another account has, in whatever region.
pub fn number_free(app: &App, account: AccountSid, e164: &Personal<String>) -> Result<(), Problem> {
    Ok(directory::number_free(app.homes.path(), account, e164)?)
}

/// The directory's tokens follow the account's numbers.
pub async fn publish_numbers(app: &App, account: AccountSid) -> Result<(), Problem> {
    let written = app.store.publish_numbers(app.homes.path(), account).await;
    written.map(drop).map_err(|error| {
        tracing::error!(%account, %error, "numbers are not in the directory");
        Problem::unavailable(
            "the change is made, but the directory that other accounts find numbers by was not \
             written: ask again, or have `landline number publish` run",
        )
    })
}

/// What every list says of its place among the pages.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub struct Page {
    pub page_size: u32,
    pub uri: String,
    pub first_page_uri: String,
    /// `null` on the last page.
    pub next_page_uri: Option<String>,
}

/// Cuts what was asked for with one more down to a page; `token` is where the
/// page ends.
pub fn page_of<T>(
    input: &crate::input::Input,
    page_size: u32,
    items: &mut Vec<T>,
    token: impl Fn(&T) -> String,
) -> Page {
    let more = items.len() > page_size as usize;
    items.truncate(page_size as usize);
    let next = items.last().filter(|_| more).map(token);
    Page::new(input, page_size, next.as_deref())
}

/// Where the page that is asked for begins, and how much of it to read: one
/// more than is shown tells whether another follows.
pub fn list_query<S: std::str::FromStr>(
    input: &crate::input::Input,
) -> Result<(u32, landline_store::ListQuery<S>), Problem> {
    let page_size = input.query.page_size()?;
    let after = input.query.text(crate::cursor::PARAMETER).map(crate::cursor::read).transpose()?;
    Ok((page_size, landline_store::ListQuery { after, limit: page_size + 1 }))
}

impl Page {
    /// `next` is the token of what follows, if anything does.
    fn new(input: &crate::input::Input, page_size: u32, next: Option<&str>) -> Self {
        let at = |query: String| match query.is_empty() {
            true => input.path.clone(),
            false => format!("{}?{query}", input.path),
        };
        let here = input.query.text(crate::cursor::PARAMETER);
        Self {
            page_size,
            uri: at(input.query.with_token(here)),
            first_page_uri: at(input.query.with_token(None)),
            next_page_uri: next.map(|token| at(input.query.with_token(Some(token)))),
        }
    }
}
