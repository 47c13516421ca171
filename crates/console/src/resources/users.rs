use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use landline_call::tenancy::{ForwardingChange, MediaPolicy, RecordingPolicy, User};
use landline_region::Personal;
use landline_store::{Listed, NewUser, UserChange, password};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Page, account_uri, list_query, named, number_free, page_of, publish_numbers};
use crate::app::App;
use crate::cursor;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::{Reply, check_unchanged};

#[derive(Debug, Serialize, JsonSchema)]
pub struct UserPage {
    pub users: Vec<UserView>,
    #[serde(flatten)]
    pub page: Page,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct UserView {
    pub sid: String,
    pub account_sid: String,
    /// The user part of its SIP address.
    pub user: String,
    pub sip_uri: String,
    /// E.164.
    pub number: Option<String>,
    /// How its media is protected.
    pub media: &'static str,
    /// `null`: as the account says.
    pub recording: Option<&'static str>,
    /// Where all calls go in the user's stead: a user of the account, E.164, or `voicemail` for the user's own mailbox, or several: `&` stands between those that ring at once, a comma between those that ring one after the other.
    pub forward_always: Option<String>,
    /// When the user is busy or declines.
    pub forward_busy: Option<String>,
    pub forward_no_answer: Option<String>,
    /// When no phone of the user is registered, or none can be reached.
    pub forward_unreachable: Option<String>,
    /// How long the user's phones ring; `null`: as the region's proxy has it.
    pub ring_seconds: Option<u64>,
    /// No phone rings; callers hear busy, or go where busy calls go.
    pub do_not_disturb: bool,
    /// Whether callers may leave messages; `null`: as the account says.
    pub voicemail: Option<&'static str>,
    /// Messages in the mailbox that were not heard yet, and that were.
    pub new_messages: u32,
    pub old_messages: u32,
    /// A password that was made here; shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    pub uri: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserNew {
    pub user: String,
    /// Made and shown once when left out.
    #[schemars(length(min = 8, max = 128))]
    pub password: Option<String>,
    /// E.164.
    pub number: Option<String>,
    #[schemars(extend("enum" = MediaPolicy::NAMES))]
    pub media: Option<String>,
    #[schemars(extend("enum" = RecordingPolicy::NAMES))]
    pub recording: Option<String>,
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserUpdate {
    #[schemars(length(min = 8, max = 128))]
    pub password: Option<String>,
    /// E.164; empty takes it away.
    pub number: Option<String>,
    #[schemars(extend("enum" = MediaPolicy::NAMES))]
    pub media: Option<String>,
    /// Empty: as the account says.
    #[schemars(extend("enum" = ["off", "all", ""]))]
    pub recording: Option<String>,
    /// A user of the account, or E.164; several with `&` between those that ring at once and commas between those that ring one after the other; empty takes it away. So with the others.
    pub forward_always: Option<String>,
    pub forward_busy: Option<String>,
    pub forward_no_answer: Option<String>,
    pub forward_unreachable: Option<String>,
    /// 5 to 300; 0: as the region's proxy has it.
    pub ring_seconds: Option<Seconds>,
    #[schemars(extend("enum" = ["on", "off"]))]
    pub do_not_disturb: Option<String>,
    /// Empty: as the account says.
    #[schemars(extend("enum" = ["off", "on", ""]))]
    pub voicemail: Option<String>,
}

/// A number, or what a form writes for it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Seconds {
    Number(u64),
    Text(String),
}

impl UserView {
    fn new(user: &User, domain: &str) -> Self {
        let name = user.name.expose();
        Self {
            sid: user.sid.to_string(),
            account_sid: user.account.to_string(),
            user: name.clone(),
            sip_uri: format!("sip:{name}@{domain}"),
            number: user.number.as_ref().map(|number| number.expose().clone()),
            media: user.media.name(),
            recording: user.recording.map(|policy| policy.name()),
            forward_always: place(&user.forwarding.always),
            forward_busy: place(&user.forwarding.busy),
            forward_no_answer: place(&user.forwarding.no_answer),
            forward_unreachable: place(&user.forwarding.unreachable),
            ring_seconds: user.forwarding.ring.map(|ring| ring.as_secs()),
            do_not_disturb: user.forwarding.do_not_disturb,
            voicemail: user.mailbox.policy.map(|policy| policy.name()),
            new_messages: user.mailbox.new,
            old_messages: user.mailbox.old,
            password: None,
            uri: format!("{}/Users/{}.json", account_uri(user.account), user.sid),
        }
    }
}

fn place(place: &Option<Personal<String>>) -> Option<String> {
    place.as_ref().map(|it| it.expose().clone())
}

impl UserUpdate {
    fn forwarding(&self) -> Result<ForwardingChange, Problem> {
        let place = |change: &Option<String>| {
            change.clone().map(|to| Some(to).filter(|to| !to.is_empty()).map(Personal::new))
        };
        let seconds = self.ring_seconds.as_ref().map(|seconds| match seconds {
            Seconds::Number(seconds) => Ok(*seconds),
            Seconds::Text(text) => text.parse(),
        });
        let seconds = seconds
            .transpose()
            .map_err(|_| Problem::invalid("ring_seconds", "wanted whole seconds, or 0"))?;
        let do_not_disturb = match self.do_not_disturb.as_deref() {
            None => None,
            Some("on") => Some(true),
            Some("off") => Some(false),
            Some(_) => return Err(Problem::invalid("do_not_disturb", "wanted on or off")),
        };
        Ok(ForwardingChange {
            always: place(&self.forward_always),
            busy: place(&self.forward_busy),
            no_answer: place(&self.forward_no_answer),
            unreachable: place(&self.forward_unreachable),
            ring: seconds.map(|it| Some(it).filter(|it| *it > 0).map(Duration::from_secs)),
            do_not_disturb,
        })
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let account = input.account()?;
    let domain = domain(&app, &input).await?;
    let (page_size, query) = list_query(&input)?;
    let mut users = app.store.user_page(account, &query).await?;
    let token = |last: &Listed<User>| cursor::write(last.created_at, last.item.sid);
    let page = page_of(&input, page_size, &mut users, token);
    let users = users.iter().map(|listed| UserView::new(&listed.item, &domain)).collect();
    Reply::json(&UserPage { users, page })
}

/// By sid or by name.
pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let user = app.store.user_find(input.account()?, input.part("user")).await?;
    Reply::json(&UserView::new(&user, &domain(&app, &input).await?))
}

pub async fn create(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let new: UserNew = input.fields()?;
    let account = input.account()?;
    let domain = domain(&app, &input).await?;
    let (given, made) = match new.password {
        Some(given) => (checked_password(given)?, None),
        None => {
            let made = password::generate();
            (made.clone(), Some(made))
        }
    };
    let user = NewUser {
        digest: password::digest_secrets(&new.user, &domain, &given),
        name: Personal::new(new.user),
        number: new.number.map(Personal::new),
        media: named("media", new.media.as_deref())?.unwrap_or_default(),
        recording: named("recording", new.recording.as_deref())?,
    };
    if let Some(number) = &user.number {
        number_free(&app, account, number)?;
    }
    let user = app.store.user_add(account, &user).await?;
    if user.number.is_some() {
        publish_numbers(&app, account).await?;
    }
    let view = UserView { password: made, ..UserView::new(&user, &domain) };
    Reply::created(&view, &view.uri)
}

pub async fn update(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let update: UserUpdate = input.fields()?;
    let account = input.account()?;
    let domain = domain(&app, &input).await?;
    let known = app.store.user_find(account, input.part("user")).await?;
    check_unchanged(input.header(&header::IF_MATCH), &UserView::new(&known, &domain))?;
    let forwarding = update.forwarding()?;
    let password = update.password.map(checked_password).transpose()?;
    let recording = match update.recording.as_deref() {
        Some("") => Some(None),
        other => named("recording", other)?.map(Some),
    };
    let voicemail = match update.voicemail.as_deref() {
        Some("") => Some(None),
        other => named("voicemail", other)?.map(Some),
    };
    let change = UserChange {
        // The digest is over the name as it was given, not as it stands in the path.
        digest: password
            .map(|password| password::digest_secrets(known.name.expose(), &domain, &password)),
        number: update.number.map(|text| Some(text).filter(|it| !it.is_empty()).map(Personal::new)),
        media: named("media", update.media.as_deref())?,
        recording,
        forwarding,
        voicemail,
    };
    if let Some(Some(number)) = &change.number {
        number_free(&app, account, number)?;
    }
    let user = app.store.user_set(account, &known.sid.to_string(), &change).await?;
    if change.number.is_some() {
        publish_numbers(&app, account).await?;
    }
    Reply::json(&UserView::new(&user, &domain))
}

pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let account = input.account()?;
    let known = app.store.user_find(account, input.part("user")).await?;
    let domain = domain(&app, &input).await?;
    check_unchanged(input.header(&header::IF_MATCH), &UserView::new(&known, &domain))?;
    app.store.user_remove(account, &known.sid.to_string(), &input.actor()).await?;
    if known.number.is_some() {
        publish_numbers(&app, account).await?;
    }
    Ok(Reply::nothing())
}

async fn domain(app: &App, input: &Input) -> Result<String, Problem> {
    Ok(app.store.account_find(&input.account()?.to_string()).await?.domain)
}

fn checked_password(password: String) -> Result<String, Problem> {
    let length = password.chars().count();
    match (8..=128).contains(&length) && !password.chars().any(char::is_control) {
        true => Ok(password),
        false => {
            Err(Problem::invalid("password", "wanted 8 to 128 characters, none of them control"))
        }
    }
}
