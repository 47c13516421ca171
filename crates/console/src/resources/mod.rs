//! What the API shows and takes, one file a kind of thing. The shapes are the
//! API's own: those of the core and the store are converted here.

pub mod account;
pub mod audit;
pub mod calls;
pub mod keys;
pub mod numbers;
pub mod recordings;
pub mod region;
pub mod trunks;
pub mod usage;
pub mod users;

use landline_region::{AccountSid, UnixMillis};

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

/// What every list says of its place among the pages.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub struct Page {
    pub page_size: u32,
    pub uri: String,
    pub first_page_uri: String,
    /// `null` on the last page.
    pub next_page_uri: Option<String>,
}

impl Page {
    /// `next` is the token of what follows, if anything does.
    pub fn new(input: &crate::input::Input, page_size: u32, next: Option<&str>) -> Self {
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
