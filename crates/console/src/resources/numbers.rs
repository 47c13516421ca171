use std::sync::Arc;

use landline_call::tenancy::{Number, NumberTarget};
use landline_region::Personal;
use landline_store::{Listed, NewNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Page, account_uri, list_query, number_free, page_of, publish_numbers};
use crate::app::App;
use crate::cursor;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Serialize, JsonSchema)]
pub struct NumberPage {
    pub incoming_phone_numbers: Vec<NumberView>,
    #[serde(flatten)]
    pub page: Page,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct NumberView {
    /// A keyed token of the number: the number itself is in no address.
    pub sid: String,
    pub account_sid: String,
    /// E.164.
    pub phone_number: String,
    /// The user's or trunk's sid that it leads to.
    pub user_sid: Option<String>,
    pub trunk_sid: Option<String>,
    pub uri: String,
}

/// One of `user` and `trunk`, by sid or name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberNew {
    #[schemars(regex(pattern = r"^\+[1-9][0-9]{2,14}$"))]
    pub phone_number: String,
    pub user: Option<String>,
    pub trunk: Option<String>,
}

impl NumberView {
    fn new(app: &App, number: &Number) -> Self {
        let sid = app.store.number_token(&number.e164);
        let (user_sid, trunk_sid) = match number.target {
            NumberTarget::User(user) => (Some(user.to_string()), None),
            NumberTarget::Trunk(trunk) => (None, Some(trunk.to_string())),
        };
        Self {
            uri: format!("{}/IncomingPhoneNumbers/{sid}.json", account_uri(number.account)),
            sid,
            account_sid: number.account.to_string(),
            phone_number: number.e164.expose().clone(),
            user_sid,
            trunk_sid,
        }
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let (page_size, query) = list_query(&input)?;
    let mut numbers = app.store.number_page(input.account()?, &query).await?;
    let token = |last: &Listed<Number>| {
        cursor::write(last.created_at, app.store.number_token(&last.item.e164))
    };
    let page = page_of(&input, page_size, &mut numbers, token);
    let numbers = numbers.iter().map(|listed| NumberView::new(&app, &listed.item)).collect();
    Reply::json(&NumberPage { incoming_phone_numbers: numbers, page })
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    Reply::json(&NumberView::new(&app, &own(&app, &input).await?))
}

pub async fn create(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let new: NumberNew = input.fields()?;
    let account = input.account()?;
    let target = match (new.user, new.trunk) {
        (Some(user), None) => NumberTarget::User(app.store.user_find(account, &user).await?.sid),
        (None, Some(trunk)) => {
            NumberTarget::Trunk(app.store.trunk_find(account, &trunk).await?.sid)
        }
        _ => return Err(Problem::invalid("user", "wanted one of `user` and `trunk`")),
    };
    let new = NewNumber { e164: Personal::new(new.phone_number), target };
    number_free(&app, account, &new.e164)?;
    let number = app.store.number_add(account, &new).await?;
    publish_numbers(&app, account).await?;
    let view = NumberView::new(&app, &number);
    Reply::created(&view, &view.uri)
}

pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let number = own(&app, &input).await?;
    app.store.number_remove(number.account, number.e164.expose()).await?;
    publish_numbers(&app, number.account).await?;
    Ok(Reply::nothing())
}

async fn own(app: &App, input: &Input) -> Result<Number, Problem> {
    Ok(app.store.number_by_token(input.account()?, input.part("number")).await?)
}
