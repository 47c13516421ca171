use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use landline_call::StartCall;
use landline_call::record::{CallDirection, Party};
use landline_call::tenancy::{NumberTarget, User, is_e164};
use landline_control::{Protocol, StreamStats};
use landline_region::{AccountSid, CallSid, Entropy, Personal};
use landline_store::{
    ApiRole, CallQuery, CallRecord, CallStanding, LegRecord, Readable, RelayMove,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{Page, account_uri, page_of, rfc3339};
use crate::app::App;
use crate::cursor;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::time::rfc5322;

/// How long an answer to a hang-up waits for the record's end.
const ENDING: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize, JsonSchema)]
pub struct CallPage {
    pub calls: Vec<CallView>,
    #[serde(flatten)]
    pub page: Page,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct CallView {
    pub sid: String,
    pub account_sid: String,
    /// `null` unless `personal_data` is `readable`.
    pub from: Option<String>,
    pub to: Option<String>,
    /// `readable`; `withheld` from this key's role; `erased` with its key;
    /// `damaged`.
    pub personal_data: &'static str,
    /// `inbound`, `outbound-dial`, or `internal` between users of the account.
    pub direction: &'static str,
    /// As queued, in-progress, completed, busy, no-answer, canceled or failed.
    pub status: &'static str,
    /// RFC 5322, as the 2010 API has them.
    pub date_created: String,
    pub start_time: Option<String>,
    pub end_time: Option<String>,
    /// Whole seconds from answer to end, as text.
    pub duration: Option<String>,
    /// RFC 3339 with milliseconds.
    pub opened_at: String,
    pub ringing_at: Option<String>,
    pub answered_at: Option<String>,
    pub closed_at: Option<String>,
    pub duration_ms: Option<i64>,
    pub cause: Option<&'static str>,
    pub sip_status: Option<u16>,
    pub hung_up_by: Option<&'static str>,
    pub home_region: String,
    pub signalling_region: String,
    pub media_region: Option<String>,
    pub storage_region: String,
    pub contracting_entity: String,
    /// When the record is to be erased.
    pub retention_until: Option<String>,
    pub recording_sid: Option<String>,
    /// SHA-256 of the closed record, by which the next one is chained to it.
    pub record_hash: Option<String>,
    /// Only where one call is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legs: Option<Vec<LegView>>,
    /// From which media relay to which it went while it lasted; where one call
    /// is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<Vec<MoveView>>,
    pub uri: String,
    pub subresource_uris: CallUris,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct CallUris {
    pub recordings: String,
    /// There once the call is closed and its recording finished.
    pub receipt: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct MoveView {
    pub at: String,
    /// The relays' names within the region.
    pub from: String,
    pub to: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct LegView {
    pub sid: String,
    /// `a` for the caller's, `b` for the others.
    pub role: &'static str,
    /// The user's or trunk's sid.
    pub party_sid: Option<String>,
    /// How its media is protected: rtp, sdes or dtls.
    pub media: Option<&'static str>,
    /// The sid of the user in whose stead it was rung, or whose place it took.
    pub diverted_by: Option<String>,
    /// As RFC 5806 names it: unconditional, user-busy, no-answer, …; or pickup, replaced.
    pub diverted_because: Option<&'static str>,
    pub opened_at: String,
    pub closed_at: Option<String>,
    pub sip_status: Option<u16>,
    pub codec: Option<String>,
    /// Mean opinion score, 1 to 5.
    pub mos: Option<f64>,
    pub received: Option<StreamView>,
    pub sent: Option<StreamView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamView {
    pub packets: u64,
    pub lost: u64,
    pub jitter_us: u64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallUpdate {
    /// `completed`: hang up.
    #[schemars(extend("enum" = ["completed"]))]
    pub status: String,
}

/// The 2010 API's form: `From` is rung first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallNew {
    /// Rung first: a user of the account by name or sid, or a number that leads
    /// to one.
    pub from: String,
    /// Rung when the first has answered: a user's name or sid, or a number with
    /// `+`, as the first party would dial it.
    pub to: String,
}

/// Whether a key's holder may see who called whom.
fn sees_parties(input: &Input) -> bool {
    let role = input.key.as_ref().map(|key| key.role);
    matches!(role, Some(ApiRole::Operator | ApiRole::Read))
}

impl CallView {
    pub fn new(call: &CallRecord, parties: bool) -> Self {
        let shown = |party: &Option<Personal<String>>| {
            party.as_ref().filter(|_| parties).map(|party| party.expose().clone())
        };
        let duration = call.answered_at.zip(call.closed_at).map(|(from, to)| to.0 - from.0);
        let uri = format!("{}/Calls/{}", account_uri(call.account), call.sid);
        Self {
            sid: call.sid.to_string(),
            account_sid: call.account.to_string(),
            from: shown(&call.from),
            to: shown(&call.to),
            personal_data: match (parties, call.personal) {
                (false, Readable::Yes) => "withheld",
                (_, readable) => readable.name(),
            },
            direction: direction(call.direction),
            status: CallStanding::of(call).name(),
            date_created: rfc5322(call.opened_at),
            start_time: call.answered_at.map(rfc5322),
            end_time: call.closed_at.map(rfc5322),
            duration: duration.map(|millis| ((millis + 500) / 1000).to_string()),
            opened_at: call.opened_at.to_string(),
            ringing_at: rfc3339(call.ringing_at),
            answered_at: rfc3339(call.answered_at),
            closed_at: rfc3339(call.closed_at),
            duration_ms: duration,
            cause: call.cause.map(|cause| cause.name()),
            sip_status: call.sip_status,
            hung_up_by: call.hung_up_by.map(|by| by.name()),
            home_region: call.home_region.to_string(),
            signalling_region: call.signalling_region.to_string(),
            media_region: call.media_region.map(|region| region.to_string()),
            storage_region: call.storage_region.to_string(),
            contracting_entity: call.contracting_entity.clone(),
            retention_until: rfc3339(call.retention_until),
            // Its sid is known from the start; what was never answered was never recorded.
            recording_sid: call.answered_at.and(call.recording).map(|sid| sid.to_string()),
            record_hash: call.hash.map(hex::encode),
            legs: None,
            moves: None,
            subresource_uris: CallUris {
                recordings: format!("{uri}/Recordings.json"),
                receipt: format!("{uri}/Receipt.json"),
            },
            uri: format!("{uri}.json"),
        }
    }

    fn with_legs(call: &CallRecord, parties: bool) -> Self {
        let legs = call.legs.iter().map(LegView::new).collect();
        let moves = call.moves.iter().map(MoveView::new).collect();
        Self { legs: Some(legs), moves: Some(moves), ..Self::new(call, parties) }
    }
}

impl MoveView {
    fn new(moved: &RelayMove) -> Self {
        let (from, to) = (moved.from.to_string(), moved.to.to_string());
        Self { at: moved.at.to_string(), from, to }
    }
}

impl LegView {
    fn new(leg: &LegRecord) -> Self {
        let stats = leg.stats.as_ref();
        Self {
            sid: leg.sid.to_string(),
            role: leg.role.name(),
            party_sid: match leg.party {
                Party::User(sid) => Some(sid.to_string()),
                Party::Trunk(sid) => Some(sid.to_string()),
                _ => None,
            },
            media: leg.media.map(Protocol::name),
            diverted_by: leg.diverted.map(|(by, _)| by.to_string()),
            diverted_because: leg.diverted.map(|(_, reason)| reason.name()),
            opened_at: leg.opened_at.to_string(),
            closed_at: rfc3339(leg.closed_at),
            sip_status: leg.sip_status,
            codec: stats.and_then(|stats| stats.codec.clone()),
            mos: stats.and_then(|stats| stats.mos_x100).map(|mos| f64::from(mos) / 100.0),
            received: stats.map(|stats| stream(&stats.received)),
            sent: stats.map(|stats| stream(&stats.sent)),
        }
    }
}

fn stream(stats: &StreamStats) -> StreamView {
    StreamView { packets: stats.packets, lost: stats.lost, jitter_us: stats.jitter_us.into() }
}

pub const fn direction(direction: CallDirection) -> &'static str {
    match direction {
        CallDirection::Internal => "internal",
        CallDirection::Inbound => "inbound",
        CallDirection::Outbound => "outbound-dial",
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let query = &input.query;
    let page_size = query.page_size()?;
    let party = |name| query.text(name).map(|text| Personal::new(text.to_owned()));
    let parties = sees_parties(&input);
    if !parties && (query.text("From").is_some() || query.text("To").is_some()) {
        // The answer would tell who called, one guess at a time.
        return Err(Problem::invalid(
            "From",
            "calls are found by their parties by operator and read only",
        ));
    }
    let wanted = CallQuery {
        since: query.time("StartTime>")?,
        before: query.time("StartTime<")?,
        standing: standing(&input)?,
        from: party("From"),
        to: party("To"),
        after: query.text(cursor::PARAMETER).map(cursor::read).transpose()?,
        // One more than asked for tells whether another page follows.
        limit: page_size + 1,
    };
    let mut calls = app.store.call_page(input.account()?, &wanted).await?;
    let token = |last: &CallRecord| cursor::write(last.opened_at, last.sid);
    let page = page_of(&input, page_size, &mut calls, token);
    Reply::json(&CallPage {
        calls: calls.iter().map(|call| CallView::new(call, parties)).collect(),
        page,
    })
}

fn standing(input: &Input) -> Result<Option<CallStanding>, Problem> {
    let Some(text) = input.query.text("Status") else { return Ok(None) };
    let found = CallStanding::ALL.into_iter().find(|standing| standing.name() == text);
    let names: Vec<&str> = CallStanding::ALL.iter().map(|standing| standing.name()).collect();
    let wanted = || Problem::invalid("Status", format!("wanted one of {}", names.join(", ")));
    found.map(Some).ok_or_else(wanted)
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let call = own(&app, input.account()?, input.sid("call")?).await?;
    Reply::json(&CallView::with_legs(&call, sees_parties(&input)))
}

/// The account's call. Another account's is as unknown as one that never was.
pub async fn own(app: &App, account: AccountSid, sid: CallSid) -> Result<CallRecord, Problem> {
    let unknown = || Problem::not_found(format!("no call {sid} in account {account}"));
    match app.store.call_show(sid).await {
        Ok(call) if call.account == account => Ok(call),
        Ok(_) | Err(landline_store::StoreError::NotFound { .. }) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

/// 201 with the record, which is there before anybody is rung.
pub async fn create(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let new: CallNew = input.fields()?;
    let account = input.account()?;
    let Some(calls) = &app.calls else { return Err(apart()) };
    let from = party(&app, account, "from", &new.from).await?;
    let to = match is_e164(&new.to) {
        true => Personal::new(new.to),
        false => party(&app, account, "to", &new.to).await?.name,
    };
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| Problem::internal())?;
    let sid = CallSid::new(&mut Entropy::new(seed));
    if !calls.start(StartCall { sid, account, from: from.sid, to }) {
        return Err(busy());
    }
    let until = Instant::now() + ENDING;
    loop {
        match app.store.call_show(sid).await {
            Ok(call) => {
                let view = CallView::with_legs(&call, true);
                return Reply::created(&view, &view.uri);
            }
            Err(landline_store::StoreError::NotFound { .. }) if Instant::now() < until => {
                sleep(LOOK_AGAIN).await;
            }
            Err(landline_store::StoreError::NotFound { .. }) => {
                let problem = Problem::unavailable("no record of the call is there yet");
                return Err(problem.with("call_sid", sid.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A user of the account: by name, by sid, or by a number of his.
async fn party(
    app: &App,
    account: AccountSid,
    field: &'static str,
    text: &str,
) -> Result<User, Problem> {
    let unknown = || Problem::invalid(field, "no such user, and no number that leads to one");
    let user = match is_e164(text) {
        false => text.to_owned(),
        true => {
            let token = app.store.number_token(&Personal::new(text.to_owned()));
            match app.store.number_by_token(account, &token).await.map(|number| number.target) {
                Ok(NumberTarget::User(user)) => user.to_string(),
                Ok(NumberTarget::Trunk(_)) => return Err(unknown()),
                Err(landline_store::StoreError::NotFound { .. }) => return Err(unknown()),
                Err(error) => return Err(error.into()),
            }
        }
    };
    match app.store.user_find(account, &user).await {
        Err(landline_store::StoreError::NotFound { .. }) => Err(unknown()),
        found => Ok(found?),
    }
}

fn apart() -> Problem {
    Problem::conflict(
        "this console runs apart from the proxy that carries calls: ask the one that `landline up` runs",
    )
}

fn busy() -> Problem {
    Problem::unavailable("the proxy takes no requests at the moment")
}

pub async fn hang_up(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let update: CallUpdate = input.fields()?;
    if update.status != "completed" {
        return Err(Problem::invalid("status", "wanted `completed`, which ends the call"));
    }
    let account = input.account()?;
    let mut call = own(&app, account, input.sid("call")?).await?;
    if call.closed_at.is_some() {
        return Reply::json(&CallView::with_legs(&call, true));
    }
    let Some(calls) = &app.calls else {
        return Err(apart());
    };
    if !calls.hang_up(call.sid) {
        return Err(busy());
    }
    let until = Instant::now() + ENDING;
    while call.closed_at.is_none() && Instant::now() < until {
        sleep(LOOK_AGAIN).await;
        call = own(&app, account, call.sid).await?;
    }
    let status = if call.closed_at.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Reply::with_status(status, &CallView::with_legs(&call, true))
}
