//! What an account's callers hear on hold: a WAV file of its own.

use std::sync::Arc;

use axum::http::StatusCode;
use landline_media::audio::read_wav;
use landline_store::{MOST_SOUND_SECONDS, SOUND_RATE, SoundRecord};
use schemars::JsonSchema;
use serde::Serialize;

use super::account_uri;
use crate::app::App;
use crate::audio::mono_wav;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Serialize, JsonSchema)]
pub struct HoldMusicView {
    pub sid: String,
    pub account_sid: String,
    pub duration_ms: u64,
    pub created_at: String,
    /// Where it lies.
    pub storage_region: String,
    /// The sound itself: one channel at 16 kHz.
    pub media_url: String,
    pub uri: String,
}

impl HoldMusicView {
    fn new(app: &App, record: &SoundRecord) -> Self {
        let uri = format!("{}/HoldMusic", account_uri(record.account));
        Self {
            sid: record.sid.to_string(),
            account_sid: record.account.to_string(),
            duration_ms: record.duration_ms,
            created_at: record.created_at.to_string(),
            storage_region: app.region.code.to_string(),
            media_url: format!("{uri}.wav"),
            uri: format!("{uri}.json"),
        }
    }
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let record = app.store.hold_music(input.account()?).await?;
    Reply::json(&HoldMusicView::new(&app, &record))
}

pub async fn put(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let samples = samples(&input, "music on hold").await?;
    let record = app.store.hold_music_put(input.account()?, &samples).await?;
    Reply::json(&HoldMusicView::new(&app, &record))
}

/// The WAV file of the body, at the rate that sounds are kept at.
pub async fn samples(input: &Input, what: &str) -> Result<Vec<i16>, Problem> {
    if !matches!(
        input.media_type().as_str(),
        "audio/wav" | "audio/x-wav" | "audio/wave" | "application/octet-stream"
    ) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "The body's type is not known here",
            format!("{what} is put as audio/wav"),
        ));
    }
    // Making one rate of another is work, and others wait for this thread.
    let file = input.body.clone();
    let read = tokio::task::spawn_blocking(move || read_wav(&file, SOUND_RATE, MOST_SOUND_SECONDS));
    let samples = read.await.map_err(|_| Problem::internal())?;
    samples.map_err(|error| Problem::invalid("body", error.to_string()))
}

pub async fn media(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let account = input.account()?;
    let record = app.store.hold_music(account).await?;
    let permit = app.renderer("files")?;
    let samples = app.store.sound_samples(account, record.sid).await?;
    Ok(Reply::wav(mono_wav(SOUND_RATE, &samples, permit)))
}

pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    app.store.hold_music_remove(input.account()?).await?;
    Ok(Reply::nothing())
}
