use std::sync::Arc;

use axum::http::header;
use ipnet::IpNet;
use landline_call::tenancy::{Asserted, MediaPolicy, Trunk, TrunkCredentials};
use landline_region::{Personal, Secret, TrunkSid};
use landline_store::{Listed, NewTrunk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OneOrMany, Page, account_uri, list_query, named, page_of};
use crate::app::App;
use crate::cursor;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::{Reply, check_unchanged};

#[derive(Debug, Serialize, JsonSchema)]
pub struct TrunkPage {
    pub trunks: Vec<TrunkView>,
    #[serde(flatten)]
    pub page: Page,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct TrunkView {
    pub sid: String,
    pub account_sid: String,
    pub friendly_name: String,
    /// Where calls go, as `udp:carrier.example:5060`.
    pub send_to: String,
    /// Networks that may send calls in.
    pub accept_from: Vec<String>,
    /// Beginnings of the numbers that go out by it, as `+353`; empty: all.
    pub prefixes: Vec<String>,
    /// How its media is protected.
    pub media: &'static str,
    /// Between whom and us an asserted identity counts (RFC 3325): in, the carrier is
    /// believed who calls; out, it is told; both or none of it.
    pub asserted: &'static str,
    /// For the carrier's digest challenge; its password is never shown.
    pub username: Option<String>,
    pub uri: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrunkNew {
    #[schemars(length(min = 1, max = 128))]
    pub friendly_name: String,
    pub send_to: String,
    #[serde(default)]
    pub accept_from: OneOrMany,
    /// Beginnings of the numbers that go out by it, as `+353`; all if none.
    #[serde(default)]
    pub prefixes: OneOrMany,
    #[schemars(extend("enum" = MediaPolicy::NAMES))]
    pub media: Option<String>,
    /// both if left out.
    #[schemars(extend("enum" = Asserted::NAMES))]
    pub asserted: Option<String>,
    /// Both or neither.
    pub username: Option<String>,
    pub password: Option<String>,
}

fn networks(texts: Vec<String>) -> Result<Vec<IpNet>, Problem> {
    let network = |text: String| {
        let parsed = text.parse::<IpNet>().or_else(|error| match text.parse() {
            Ok(address) => Ok(IpNet::from(std::net::IpAddr::to_canonical(&address))),
            Err(_) => Err(error),
        });
        parsed.map_err(|error| Problem::invalid("accept_from", format!("{error}, as 192.0.2.0/24")))
    };
    texts.into_iter().map(network).collect()
}

impl TrunkView {
    fn new(trunk: &Trunk) -> Self {
        let credentials = trunk.credentials.as_ref();
        Self {
            sid: trunk.sid.to_string(),
            account_sid: trunk.account.to_string(),
            friendly_name: trunk.name.clone(),
            send_to: trunk.send_to.to_string(),
            accept_from: trunk.accept_from.iter().map(IpNet::to_string).collect(),
            prefixes: trunk.prefixes.clone(),
            media: trunk.media.name(),
            asserted: trunk.asserted.name(),
            username: credentials.map(|credentials| credentials.username.expose().clone()),
            uri: format!("{}/Trunks/{}.json", account_uri(trunk.account), trunk.sid),
        }
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let (page_size, query) = list_query(&input)?;
    let mut trunks = app.store.trunk_page(input.account()?, &query).await?;
    let token = |last: &Listed<Trunk>| cursor::write(last.created_at, last.item.sid);
    let page = page_of(&input, page_size, &mut trunks, token);
    let trunks = trunks.iter().map(|listed| TrunkView::new(&listed.item)).collect();
    Reply::json(&TrunkPage { trunks, page })
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    Reply::json(&TrunkView::new(&own(&app, &input).await?))
}

pub async fn create(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let new: TrunkNew = input.fields()?;
    let credentials = match (new.username, new.password) {
        (None, None) => None,
        (Some(username), Some(password)) => Some(TrunkCredentials {
            username: Personal::new(username),
            password: Secret::new(password),
        }),
        _ => return Err(Problem::invalid("password", "wanted with `username`, or neither")),
    };
    let invalid = |error: landline_call::tenancy::InvalidTrunkAddress| {
        Problem::invalid("send_to", error.to_string())
    };
    let trunk = NewTrunk {
        name: new.friendly_name,
        send_to: new.send_to.parse().map_err(invalid)?,
        accept_from: networks(new.accept_from.texts())?,
        prefixes: new.prefixes.texts(),
        media: named("media", new.media.as_deref())?.unwrap_or_default(),
        asserted: named("asserted", new.asserted.as_deref())?.unwrap_or_default(),
        credentials,
    };
    let trunk = app.store.trunk_add(input.account()?, &trunk).await?;
    let view = TrunkView::new(&trunk);
    Reply::created(&view, &view.uri)
}

pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let known = own(&app, &input).await?;
    check_unchanged(input.header(&header::IF_MATCH), &TrunkView::new(&known))?;
    app.store.trunk_remove(known.account, &known.sid.to_string()).await?;
    Ok(Reply::nothing())
}

/// By its sid alone: a name may look like anything.
async fn own(app: &App, input: &Input) -> Result<Trunk, Problem> {
    let sid: TrunkSid = input.sid("trunk")?;
    Ok(app.store.trunk_find(input.account()?, &sid.to_string()).await?)
}
