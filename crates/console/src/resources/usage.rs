use std::sync::Arc;

use landline_region::UnixMillis;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::time::{date, wall_clock};

const DAY_MS: i64 = 86_400_000;
/// What is counted where nothing is said, and the most that is counted at once.
const USUAL_DAYS: i64 = 30;
const MOST_DAYS: i64 = 400;

#[derive(Debug, Serialize, JsonSchema)]
pub struct UsageView {
    /// One for each day and direction with calls; days are of UTC.
    pub usage_records: Vec<UsageRecord>,
    pub start_date: String,
    /// The last day, which counts.
    pub end_date: String,
    /// Where it was computed.
    pub region: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct UsageRecord {
    /// `calls-inbound`, `calls-outbound` or `calls-internal`.
    pub category: String,
    pub start_date: String,
    pub end_date: String,
    /// Calls, answered or not, as text.
    pub count: String,
    /// Minutes begun of answered calls, as text.
    pub usage: String,
    pub usage_unit: &'static str,
    pub calls: u64,
    pub answered: u64,
    pub duration_ms: u64,
    pub minutes_begun: u64,
}

pub async fn show(app: Arc<App>, input: Input) -> Result<Reply, Problem> {
    let today = wall_clock().0.div_euclid(DAY_MS);
    let day = |name| -> Result<Option<i64>, Problem> {
        Ok(input.query.time(name)?.map(|at| at.0.div_euclid(DAY_MS)))
    };
    let last = day("EndDate")?.unwrap_or(today);
    let first = day("StartDate")?.unwrap_or(last - USUAL_DAYS + 1);
    if !(0..MOST_DAYS).contains(&(last - first)) {
        let wanted = format!("wanted no later than `EndDate`, and at most {MOST_DAYS} days before");
        return Err(Problem::invalid("StartDate", wanted));
    }
    let (begin, end) = (UnixMillis(first * DAY_MS), UnixMillis((last + 1) * DAY_MS));
    let days = app.store.usage(input.account()?, begin, end).await?;
    let usage_records = days.into_iter().map(|day| UsageRecord {
        category: format!("calls-{}", day.direction),
        start_date: date(day.day),
        end_date: date(day.day),
        count: day.calls.to_string(),
        usage: day.minutes_begun.to_string(),
        usage_unit: "minutes",
        calls: day.calls,
        answered: day.answered,
        duration_ms: day.duration_ms,
        minutes_begun: day.minutes_begun,
    });
    Reply::json(&UsageView {
        usage_records: usage_records.collect(),
        start_date: date(begin),
        end_date: date(UnixMillis(last * DAY_MS)),
        region: app.region.code.to_string(),
    })
}
