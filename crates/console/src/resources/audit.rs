use std::sync::Arc;

use landline_store::{AuditFilter, AuditRecord};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Page, page_of};
use crate::app::App;
use crate::cursor;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditPage {
    pub audit: Vec<AuditView>,
    #[serde(flatten)]
    pub page: Page,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditView {
    pub sid: String,
    pub at: String,
    /// The key's sid.
    pub actor: String,
    pub role: String,
    /// The `operationId` of what was asked.
    pub operation: String,
    /// The sid of what it was asked of.
    pub subject: Option<String>,
    /// The address it was asked from.
    pub source: String,
    /// The answer's status; `null` where the process ended before there was one.
    pub status: Option<u16>,
}

impl AuditView {
    fn new(record: &AuditRecord) -> Self {
        Self {
            sid: record.sid.clone(),
            at: record.at.to_string(),
            actor: record.actor.clone(),
            role: record.role.clone(),
            operation: record.operation.clone(),
            subject: record.subject.clone(),
            source: record.source.expose().clone(),
            status: record.status,
        }
    }
}

pub async fn list(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let query = &input.query;
    let page_size = query.page_size()?;
    let filter = AuditFilter {
        since: query.time("StartTime>")?,
        before: query.time("StartTime<")?,
        after: query.text(cursor::PARAMETER).map(cursor::read).transpose()?,
        limit: Some(page_size + 1),
    };
    let mut records = app.store.audit_list(input.account()?, &filter).await?;
    let token = |last: &AuditRecord| cursor::write(last.at, &last.sid);
    let page = page_of(&input, page_size, &mut records, token);
    Reply::json(&AuditPage { audit: records.iter().map(AuditView::new).collect(), page })
}
