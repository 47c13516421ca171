//! Where the web phone of an address connects: found by the domain alone, which
//! is no personal data.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use landline_call::tenancy::EdgePolicy;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

/// The longest name that DNS has (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

#[derive(Debug, Serialize, JsonSchema)]
pub struct PhoneView {
    /// As the directory writes it.
    pub domain: String,
    /// Where the account's calls are carried, recorded and written down.
    pub home: HomeView,
    /// Where this console's phones connect.
    pub edge: EdgeView,
    /// What a user dials to listen to the own mailbox; `null` where nothing does it.
    pub voicemail_code: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct HomeView {
    pub region: String,
    /// A country code of ISO 3166-1.
    pub jurisdiction: Option<String>,
    /// The web phone of the home region, where that has an HTTPS address.
    pub phone_url: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct EdgeView {
    pub region: String,
    pub jurisdiction: String,
    /// SIP over WebSocket (RFC 7118), the first to be tried first.
    pub wss: Vec<String>,
    /// Whether the account may be used here: always at home, elsewhere where its
    /// policy is that an edge forwards.
    pub serves: bool,
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let source = crate::auth::network(input.source);
    app.lookups.take(source, Instant::now()).map_err(|wait| {
        Problem::too_many(wait, "this address asks for more domains than a person does")
    })?;
    let edges = app.edges.as_deref().ok_or_else(|| {
        Problem::not_found(
            "this region has no SIP over WebSocket: `console.phone.edges` names none",
        )
    })?;
    let domain = input.query.text("Domain").unwrap_or_default().trim().to_ascii_lowercase();
    if domain.is_empty() || domain.len() > LONGEST {
        return Err(Problem::invalid("Domain", "wanted the part of a SIP address after the `@`"));
    }
    let Some((home, policy)) = app.homes.of_domain(&domain) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-domain",
            "No account has this domain",
            "no account has this domain: look at the part of the address after the `@`",
        ));
    };
    let jurisdiction = app.homes.jurisdiction(home).map(|law| law.to_string());
    let phone_url = app.homes.base_url(home).map(|base| format!("{base}/phone/"));
    Reply::json(&PhoneView {
        domain,
        voicemail_code: app.voicemail_code.clone(),
        home: HomeView { region: home.to_string(), jurisdiction, phone_url },
        edge: EdgeView {
            region: app.region.code.to_string(),
            jurisdiction: app.region.jurisdiction.to_string(),
            wss: edges.to_vec(),
            serves: home == app.region.code || policy == EdgePolicy::Forward,
        },
    })
}
