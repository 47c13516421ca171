//! What a user finds in its own mailbox, by the web phone. Nobody names the user:
//! it is the one whose password proved the request.

use std::sync::Arc;

use landline_store::{SOUND_RATE, StoreError, VoicemailRecord};
use schemars::JsonSchema;
use serde::Serialize;

use super::voicemail::VoicemailUpdate;
use super::{hold_music, voicemail};
use crate::app::App;
use crate::audio::mono_wav;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Serialize, JsonSchema)]
pub struct MailboxView {
    /// Whether calls that nobody takes are answered by it.
    pub enabled: bool,
    /// The newest first: all that the mailbox holds.
    pub messages: Vec<MessageView>,
    pub new_messages: u32,
    pub old_messages: u32,
    /// Whether callers hear a greeting of the user's own.
    pub own_greeting: bool,
    /// The region that alone holds it.
    pub storage_region: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct MessageView {
    pub sid: String,
    /// Who called, as the call's record has it; `null` where that was erased.
    pub from: Option<String>,
    /// When the caller heard the tone.
    pub left_at: String,
    pub duration_ms: u64,
    pub heard: bool,
    /// The caller did not end it: what there is of it was kept.
    pub cut_short: bool,
}

impl MessageView {
    fn new(message: &VoicemailRecord) -> Self {
        Self {
            sid: message.sid.to_string(),
            from: message.from.as_ref().map(|from| from.expose().clone()),
            left_at: message.left_at.to_string(),
            duration_ms: message.duration_ms,
            heard: message.heard_at.is_some(),
            cut_short: message.cut_short,
        }
    }
}

/// The message of the path, in the mailbox of who asks. Another's is as none.
async fn own(app: &App, input: &Input) -> Result<VoicemailRecord, Problem> {
    let (user, none) = (input.user()?, || Problem::not_found("no such message in your mailbox"));
    let sid = input.sid("voicemail").map_err(|_| none())?;
    match app.store.voicemail_show(user.account, sid).await {
        Ok(message) if message.user == user.sid => Ok(message),
        Ok(_) | Err(StoreError::NotFound { .. }) => Err(none()),
        Err(error) => Err(error.into()),
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let user = input.user()?;
    let account = app.store.account_find(&user.account.to_string()).await?;
    let messages = app.store.voicemail_list(user.account, user.sid).await?;
    Reply::json(&MailboxView {
        enabled: user.has_mailbox(&account),
        messages: messages.iter().map(MessageView::new).collect(),
        new_messages: user.mailbox.new,
        old_messages: user.mailbox.old,
        own_greeting: user.mailbox.greeting.is_some(),
        storage_region: app.region.code.to_string(),
    })
}

pub async fn media(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    voicemail::play(&app, &own(&app, &input).await?).await
}

pub async fn update(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let update: VoicemailUpdate = input.fields()?;
    let message = voicemail::mark(&app, own(&app, &input).await?, &update).await?;
    Reply::json(&MessageView::new(&message))
}

pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    voicemail::remove(&app, &input, &own(&app, &input).await?).await
}

pub async fn greeting_media(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let user = input.user()?;
    let record = app.store.greeting(user.account, Some(user.sid)).await?;
    let permit = app.renderer("files")?;
    let samples = app.store.sound_samples(user.account, record.sid).await?;
    Ok(Reply::wav(mono_wav(SOUND_RATE, &samples, permit)))
}

pub async fn greeting_put(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let user = input.user()?;
    let samples = hold_music::samples(&input, "a greeting").await?;
    app.store.greeting_put(user.account, Some(user.sid), &samples).await?;
    Ok(Reply::nothing())
}

pub async fn greeting_delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let user = input.user()?;
    app.store.greeting_remove(user.account, Some(user.sid)).await?;
    Ok(Reply::nothing())
}
