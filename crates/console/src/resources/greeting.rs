//! What callers hear before they leave a message: a WAV file of an account's, or of
//! one of its users'.

use std::sync::Arc;

use landline_call::tenancy::User;
use landline_region::UserSid;
use landline_store::{SOUND_RATE, SoundRecord};
use schemars::JsonSchema;
use serde::Serialize;

use super::{account_uri, hold_music};
use crate::app::App;
use crate::audio::mono_wav;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Serialize, JsonSchema)]
pub struct GreetingView {
    pub sid: String,
    pub account_sid: String,
    /// `null`: of all users who have none of their own.
    pub user_sid: Option<String>,
    pub duration_ms: u64,
    pub created_at: String,
    /// Where it lies.
    pub storage_region: String,
    /// The sound itself: one channel at 16 kHz.
    pub media_url: String,
    pub uri: String,
}

impl GreetingView {
    fn new(app: &App, record: &SoundRecord, user: Option<UserSid>) -> Self {
        let account = account_uri(record.account);
        let uri = match user {
            Some(user) => format!("{account}/Users/{user}/Greeting"),
            None => format!("{account}/Greeting"),
        };
        Self {
            sid: record.sid.to_string(),
            account_sid: record.account.to_string(),
            user_sid: user.map(|user| user.to_string()),
            duration_ms: record.duration_ms,
            created_at: record.created_at.to_string(),
            storage_region: app.region.code.to_string(),
            media_url: format!("{uri}.wav"),
            uri: format!("{uri}.json"),
        }
    }
}

/// Whose it is: the path's user, or the whole account.
async fn whose(app: &App, input: &Input) -> Result<Option<UserSid>, Problem> {
    Ok(match input.part("user") {
        "" => None,
        user => Some(app.store.user_find(input.account()?, user).await?).map(|it: User| it.sid),
    })
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let user = whose(&app, &input).await?;
    let record = app.store.greeting(input.account()?, user).await?;
    Reply::json(&GreetingView::new(&app, &record, user))
}

pub async fn put(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let user = whose(&app, &input).await?;
    let samples = hold_music::samples(&input, "a greeting").await?;
    let record = app.store.greeting_put(input.account()?, user, &samples).await?;
    Reply::json(&GreetingView::new(&app, &record, user))
}

pub async fn media(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let (account, user) = (input.account()?, whose(&app, &input).await?);
    let record = app.store.greeting(account, user).await?;
    let permit = app.renderer("files")?;
    let samples = app.store.sound_samples(account, record.sid).await?;
    Ok(Reply::wav(mono_wav(SOUND_RATE, &samples, permit)))
}

pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let user = whose(&app, &input).await?;
    app.store.greeting_remove(input.account()?, user).await?;
    Ok(Reply::nothing())
}
