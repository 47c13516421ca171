//! Calls and recordings of one account in pages: by time, newest first, each
//! page beginning where the former ended, whatever was added meanwhile.

use landline_region::catalogue::sealed::INDEX_PARTY;
use landline_region::{AccountSid, CallSid, Personal, RecordingSid, UnixMillis};
use sqlx::AssertSqlSafe;

use crate::call::{CallRecord, MAX_LIMIT};
use crate::error::Result;
use crate::recording::{FIRST_PARTS, RecordingRecord, SELECT as RECORDINGS};
use crate::sql::{Value, values};
use crate::store::Store;

/// How a call stands, as customers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStanding {
    Queued,
    Ringing,
    InProgress,
    Completed,
    Busy,
    NoAnswer,
    Canceled,
    Failed,
}

impl CallStanding {
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Ringing,
        Self::InProgress,
        Self::Completed,
        Self::Busy,
        Self::NoAnswer,
        Self::Canceled,
        Self::Failed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }

    pub fn of(call: &CallRecord) -> Self {
        match (call.closed_at, call.answered_at, call.cause.map(|cause| cause.name())) {
            (None, Some(_), _) => Self::InProgress,
            (None, None, _) if call.ringing_at.is_some() => Self::Ringing,
            (None, None, _) => Self::Queued,
            (Some(_), Some(_), _) => Self::Completed,
            (Some(_), None, Some("busy" | "declined")) => Self::Busy,
            (Some(_), None, Some("no_answer")) => Self::NoAnswer,
            (Some(_), None, Some("caller_cancelled")) => Self::Canceled,
            (Some(_), None, _) => Self::Failed,
        }
    }

    /// The same, as a condition on rows.
    const fn condition(self) -> &'static str {
        match self {
            Self::Queued => {
                "c.closed_at IS NULL AND c.answered_at IS NULL AND c.ringing_at IS NULL"
            }
            Self::Ringing => {
                "c.closed_at IS NULL AND c.answered_at IS NULL AND c.ringing_at IS NOT NULL"
            }
            Self::InProgress => "c.closed_at IS NULL AND c.answered_at IS NOT NULL",
            Self::Completed => "c.closed_at IS NOT NULL AND c.answered_at IS NOT NULL",
            Self::Busy => "c.answered_at IS NULL AND c.cause IN ('busy', 'declined')",
            Self::NoAnswer => "c.answered_at IS NULL AND c.cause = 'no_answer'",
            Self::Canceled => "c.answered_at IS NULL AND c.cause = 'caller_cancelled'",
            Self::Failed => {
                "c.closed_at IS NOT NULL AND c.answered_at IS NULL AND (c.cause IS NULL OR \
                 c.cause NOT IN ('busy', 'declined', 'no_answer', 'caller_cancelled'))"
            }
        }
    }
}

/// Which calls, and from where on. Times are of the opening.
#[derive(Debug, Clone, Default)]
pub struct CallQuery {
    pub since: Option<UnixMillis>,
    pub before: Option<UnixMillis>,
    pub standing: Option<CallStanding>,
    /// Found by its keyed index; the column itself is sealed.
    pub from: Option<Personal<String>>,
    pub to: Option<Personal<String>>,
    pub after: Option<(UnixMillis, CallSid)>,
    pub limit: u32,
}

#[derive(Debug, Clone, Default)]
pub struct RecordingQuery {
    pub since: Option<UnixMillis>,
    pub before: Option<UnixMillis>,
    pub call: Option<CallSid>,
    pub after: Option<(UnixMillis, RecordingSid)>,
    pub limit: u32,
}

/// A statement that grows by conditions.
struct Select {
    text: String,
    values: Vec<Value>,
}

impl Select {
    /// `$` in the condition stands for each value's placeholder in turn.
    fn and(&mut self, condition: &str, values: Vec<Value>) {
        self.text.push_str(" AND ");
        let mut next = self.values.len();
        for piece in condition.split_inclusive('$') {
            self.text.push_str(piece);
            if piece.ends_with('$') {
                next += 1;
                self.text.push_str(&next.to_string());
            }
        }
        debug_assert_eq!(next, self.values.len() + values.len());
        self.values.extend(values);
    }
}

impl Store {
    pub async fn call_page(
        &self,
        account: AccountSid,
        query: &CallQuery,
    ) -> Result<Vec<CallRecord>> {
        let text = "SELECT c.*, k.wrapped FROM call c LEFT JOIN call_key k \
                    ON k.key_id = c.key_id WHERE c.account = $1";
        let mut select = Select { text: text.to_owned(), values: values![account] };
        if let Some(since) = query.since {
            select.and("c.opened_at >= $", values![since]);
        }
        if let Some(before) = query.before {
            select.and("c.opened_at < $", values![before]);
        }
        if let Some(standing) = query.standing {
            select.and(standing.condition(), values![]);
        }
        let scope = account.to_string();
        for (column, party) in [("c.from_index = $", &query.from), ("c.to_index = $", &query.to)] {
            if let Some(party) = party {
                select
                    .and(column, values![self.keys().index(&INDEX_PARTY, &scope, party.expose())]);
            }
        }
        if let Some((at, sid)) = query.after {
            let condition = "(c.opened_at < $ OR (c.opened_at = $ AND c.sid > $))";
            select.and(condition, values![at, at, sid]);
        }
        let limit = query.limit.clamp(1, MAX_LIMIT);
        let _ = std::fmt::Write::write_fmt(
            &mut select.text,
            format_args!(" ORDER BY c.opened_at DESC, c.sid LIMIT {limit}"),
        );
        let rows = self.database().rows(AssertSqlSafe(select.text), select.values).await?;
        let mut calls = Vec::with_capacity(rows.len());
        for row in &rows {
            calls.push(self.call_of(row).await?.0);
        }
        Ok(calls)
    }

    /// Deleted ones are left out.
    pub async fn recording_page(
        &self,
        account: AccountSid,
        query: &RecordingQuery,
    ) -> Result<Vec<RecordingRecord>> {
        let text =
            format!("{RECORDINGS} WHERE r.account = $1 AND r.deleted_at IS NULL AND {FIRST_PARTS}");
        let mut select = Select { text, values: values![account] };
        if let Some(since) = query.since {
            select.and("r.started_at >= $", values![since]);
        }
        if let Some(before) = query.before {
            select.and("r.started_at < $", values![before]);
        }
        if let Some(call) = query.call {
            select.and("r.call = $", values![call]);
        }
        if let Some((at, sid)) = query.after {
            let condition = "(r.started_at < $ OR (r.started_at = $ AND r.sid > $))";
            select.and(condition, values![at, at, sid]);
        }
        let limit = query.limit.clamp(1, MAX_LIMIT);
        let _ = std::fmt::Write::write_fmt(
            &mut select.text,
            format_args!(" ORDER BY r.started_at DESC, r.sid LIMIT {limit}"),
        );
        let rows = self.database().rows(AssertSqlSafe(select.text), select.values).await?;
        self.recordings_of_rows(&rows).await
    }
}
