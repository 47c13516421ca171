//! The messages in a user's mailbox.

use std::sync::Arc;

use landline_call::tenancy::User;
use landline_region::receipt::DeletionReason;
use landline_store::{DeletedBy, VoicemailRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{account_uri, rfc3339};
use crate::app::App;
use crate::audio::{self, Channels};
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::time::rfc5322;

#[derive(Debug, Serialize, JsonSchema)]
pub struct VoicemailList {
    /// The newest first: all that the mailbox holds.
    pub voicemail: Vec<VoicemailView>,
    /// How many were not heard yet, and how many were.
    pub new_messages: u32,
    pub old_messages: u32,
    pub uri: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct VoicemailView {
    pub sid: String,
    pub account_sid: String,
    pub user_sid: String,
    pub call_sid: String,
    pub recording_sid: String,
    /// Who called, as the call's record has it; `null` where that was erased.
    pub from: Option<String>,
    /// RFC 5322, as the 2010 API has them.
    pub date_created: String,
    /// When the caller heard the tone.
    pub left_at: String,
    /// Whole seconds, as text.
    pub duration: String,
    pub duration_ms: u64,
    pub heard: bool,
    pub heard_at: Option<String>,
    /// The caller did not end it: what there is of it was kept.
    pub cut_short: bool,
    /// The region that alone holds it.
    pub storage_region: String,
    /// One channel: the caller.
    pub media_url: String,
    pub uri: String,
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VoicemailUpdate {
    /// `off`: it counts as new again.
    #[schemars(extend("enum" = ["on", "off"]))]
    pub heard: Option<String>,
}

impl VoicemailView {
    fn new(app: &App, message: &VoicemailRecord) -> Self {
        let account = account_uri(message.account);
        let uri = format!("{account}/Users/{}/Voicemail/{}", message.user, message.sid);
        Self {
            sid: message.sid.to_string(),
            account_sid: message.account.to_string(),
            user_sid: message.user.to_string(),
            call_sid: message.call.to_string(),
            recording_sid: message.recording.to_string(),
            from: message.from.as_ref().map(|from| from.expose().clone()),
            date_created: rfc5322(message.left_at),
            left_at: message.left_at.to_string(),
            duration: ((message.duration_ms + 500) / 1000).to_string(),
            duration_ms: message.duration_ms,
            heard: message.heard_at.is_some(),
            heard_at: rfc3339(message.heard_at),
            cut_short: message.cut_short,
            storage_region: app.region.code.to_string(),
            media_url: format!("{uri}.wav"),
            uri: format!("{uri}.json"),
        }
    }
}

async fn owner(app: &App, input: &Input) -> Result<User, Problem> {
    Ok(app.store.user_find(input.account()?, input.part("user")).await?)
}

/// The message of the path, in the mailbox of the path's user.
async fn named(app: &App, input: &Input) -> Result<VoicemailRecord, Problem> {
    let (account, user) = (input.account()?, owner(app, input).await?);
    let message = app.store.voicemail_show(account, input.sid("voicemail")?).await?;
    match message.user == user.sid {
        true => Ok(message),
        false => Err(Problem::not_found("no such message in this user's mailbox")),
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let (account, user) = (input.account()?, owner(&app, &input).await?);
    let messages = app.store.voicemail_list(account, user.sid).await?;
    Reply::json(&VoicemailList {
        voicemail: messages.iter().map(|it| VoicemailView::new(&app, it)).collect(),
        new_messages: user.mailbox.new,
        old_messages: user.mailbox.old,
        uri: format!("{}/Users/{}/Voicemail.json", account_uri(account), user.sid),
    })
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let message = named(&app, &input).await?;
    Reply::json(&VoicemailView::new(&app, &message))
}

pub async fn media(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    play(&app, &named(&app, &input).await?).await
}

pub async fn update(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let update: VoicemailUpdate = input.fields()?;
    let message = mark(&app, named(&app, &input).await?, &update).await?;
    Reply::json(&VoicemailView::new(&app, &message))
}

pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    remove(&app, &input, &named(&app, &input).await?).await
}

/// What the caller said, whoever asks for it.
pub(super) async fn play(app: &App, message: &VoicemailRecord) -> Result<Reply, Problem> {
    let permit = app.renderer("recordings")?;
    let wav = audio::wav(&app.store, message.recording, Channels::Caller, permit).await?;
    let wav = wav.ok_or_else(|| Problem::conflict("the message is too long for a WAV file"))?;
    Ok(Reply::wav(wav))
}

pub(super) async fn mark(
    app: &App,
    message: VoicemailRecord,
    update: &VoicemailUpdate,
) -> Result<VoicemailRecord, Problem> {
    let heard = match update.heard.as_deref() {
        None => return Ok(message),
        Some("on") => true,
        Some("off") => false,
        Some(_) => return Err(Problem::invalid("heard", "wanted on or off")),
    };
    Ok(app.store.voicemail_heard(message.account, message.sid, heard).await?)
}

pub(super) async fn remove(
    app: &App,
    input: &Input,
    message: &VoicemailRecord,
) -> Result<Reply, Problem> {
    let by = DeletedBy { reason: DeletionReason::Request, actor: input.actor() };
    app.store.voicemail_remove(message.account, message.sid, &by).await?;
    Ok(Reply::nothing())
}
