use std::sync::Arc;

use landline_region::receipt::DeletionReason;
use landline_region::{AccountSid, CallSid, RecordingSid};
use landline_store::{DeletedBy, RecordingGap, RecordingQuery, RecordingRecord, StoreError};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Page, account_uri, page_of, rfc3339};
use crate::app::App;
use crate::audio::{self, Channels};
use crate::cursor;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::time::rfc5322;

#[derive(Debug, Serialize, JsonSchema)]
pub struct RecordingPage {
    pub recordings: Vec<RecordingView>,
    #[serde(flatten)]
    pub page: Page,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RecordingView {
    pub sid: String,
    pub account_sid: String,
    pub call_sid: String,
    /// `in-progress`, `completed`, or `deleted`.
    pub status: &'static str,
    /// Two: the caller left, the callee right.
    pub channels: u8,
    /// Whole seconds, as text.
    pub duration: String,
    pub duration_ms: u64,
    /// RFC 5322, as the 2010 API has them.
    pub date_created: String,
    pub start_time: String,
    pub started_at: String,
    pub finished_at: Option<String>,
    pub deleted_at: Option<String>,
    /// Packets that arrived while it ran, and those of them that were kept.
    pub expected_packets: u64,
    pub stored_packets: u64,
    /// Where nothing was recorded: the call went from one relay to another, or
    /// its relay died with what it had. Silence when it is played.
    pub gaps: Vec<GapView>,
    pub consent: ConsentView,
    /// The region that alone holds it.
    pub storage_region: String,
    pub media_url: String,
    pub uri: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct GapView {
    /// After the recording's start.
    pub at_ms: u64,
    pub duration_ms: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ConsentView {
    pub by_policy: bool,
    pub granted_at: String,
}

impl RecordingView {
    fn new(app: &App, recording: &RecordingRecord) -> Self {
        let uri = format!("{}/Recordings/{}", account_uri(recording.account), recording.sid);
        Self {
            sid: recording.sid.to_string(),
            account_sid: recording.account.to_string(),
            call_sid: recording.call.to_string(),
            status: match (recording.deleted_at, recording.finished_at) {
                (Some(_), _) => "deleted",
                (None, Some(_)) => "completed",
                (None, None) => "in-progress",
            },
            channels: 2,
            duration: ((recording.duration_ms + 500) / 1000).to_string(),
            duration_ms: recording.duration_ms,
            date_created: rfc5322(recording.started_at),
            start_time: rfc5322(recording.started_at),
            started_at: recording.started_at.to_string(),
            finished_at: rfc3339(recording.finished_at),
            deleted_at: rfc3339(recording.deleted_at),
            expected_packets: recording.expected_packets,
            stored_packets: recording.stored_packets,
            gaps: recording.gaps().into_iter().map(GapView::new).collect(),
            consent: ConsentView {
                by_policy: recording.consent.by_policy,
                granted_at: recording.consent.granted_at.to_string(),
            },
            storage_region: app.region.code.to_string(),
            media_url: format!("{uri}.wav"),
            uri: format!("{uri}.json"),
        }
    }
}

impl GapView {
    const fn new(gap: RecordingGap) -> Self {
        Self { at_ms: gap.at_ms, duration_ms: gap.duration_ms }
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    page(app, input, None).await
}

/// The recordings of one call.
pub async fn of_call(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let call: CallSid = input.sid("call")?;
    page(app, input, Some(call)).await
}

async fn page(app: Arc<App>, input: Input, call: Option<CallSid>) -> Result<Reply, Problem> {
    let query = &input.query;
    let page_size = query.page_size()?;
    let wanted = RecordingQuery {
        since: query.time("DateCreated>")?,
        before: query.time("DateCreated<")?,
        call,
        after: query.text(cursor::PARAMETER).map(cursor::read).transpose()?,
        limit: page_size + 1,
    };
    let mut recordings = app.store.recording_page(input.account()?, &wanted).await?;
    // By the part that stands for it in the database's order.
    let token = |last: &RecordingRecord| {
        let first = last.parts.first();
        cursor::write(
            first.map_or(last.started_at, |it| it.started_at),
            first.map_or(last.sid, |it| it.sid),
        )
    };
    let page = page_of(&input, page_size, &mut recordings, token);
    let recordings = recordings.iter().map(|it| RecordingView::new(&app, it)).collect();
    Reply::json(&RecordingPage { recordings, page })
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let recording = own(&app, input.account()?, input.sid("recording")?).await?;
    Reply::json(&RecordingView::new(&app, &recording))
}

/// The account's recording, deleted or not.
async fn own(
    app: &App,
    account: AccountSid,
    sid: RecordingSid,
) -> Result<RecordingRecord, Problem> {
    let unknown = || Problem::not_found(format!("no recording {sid} in account {account}"));
    match app.store.recording_show(sid).await {
        Ok(recording) if recording.account == account => Ok(recording),
        Ok(_) | Err(StoreError::NotFound { .. }) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

pub async fn media(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let recording = own(&app, input.account()?, input.sid("recording")?).await?;
    let permit = app.renderer("recordings")?;
    let wav = audio::wav(&app.store, recording.sid, Channels::Both, permit).await?;
    let wav = wav.ok_or_else(|| {
        Problem::conflict("the recording is longer than a WAV file can be: 4 GiB")
    })?;
    Ok(Reply::wav(wav))
}

pub async fn delete(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let account = input.account()?;
    let recording = own(&app, account, input.sid("recording")?).await?;
    let by = DeletedBy { reason: DeletionReason::Request, actor: input.actor() };
    app.store.recording_delete(account, recording.sid, &by).await?;
    Ok(Reply::nothing())
}
