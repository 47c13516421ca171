use landline_call::record::{
    CallDirection, CallEvent, Cause, DivertReason, HungUpBy, LegRole, Party,
};
use landline_control::{LegStats, Protocol, RelayId};
use landline_region::catalogue::Sealed;
use landline_region::catalogue::sealed::{SEALED_CALLEE, SEALED_CALLER, SEALED_SIP_CALL_ID};
use landline_region::{
    AccountSid, CallSid, JoinToken, LegSid, Personal, RecordingSid, RegionCode, UnixMillis, UserSid,
};
use sqlx::AssertSqlSafe;

use crate::chain::hash_column;
use crate::error::{Result, StoreError};
use crate::recording::RecordingRecord;
use crate::seal::Sealer;
use crate::sql::{Row, values};
use crate::store::Store;

pub(crate) const DEFAULT_LIMIT: u32 = 100;
pub(crate) const MAX_LIMIT: u32 = 10_000;

/// What became of a batch of events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    pub applied: usize,
    /// Were there already.
    pub duplicates: usize,
    /// Belong to a call whose opening is not in the database, to an account
    /// that is not, or come after the call's end.
    pub orphans: usize,
    /// Came after their call was closed as lost: its proxy was taken for dead
    /// and was not. They are not applied.
    pub late: Vec<CallEvent>,
}

/// What [`OpenCall`] is read from, of `call c`.
pub(crate) const OPEN_CALL_COLUMNS: &str =
    "c.sid, c.account, c.proxy, c.opened_at, c.last_at, c.next_sequence, c.answered_at";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallState {
    #[default]
    Any,
    Open,
    Closed,
}

#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    pub account: Option<AccountSid>,
    /// Opened at or after.
    pub since: Option<UnixMillis>,
    pub state: CallState,
    /// At most 10 000; `None` is 100.
    pub limit: Option<u32>,
}

/// Whether the personal columns of a record could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    Yes,
    /// The key of the call or of its account was destroyed.
    Erased,
    /// The key or the columns were changed.
    Damaged,
}

impl Readable {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "readable",
            Self::Erased => "erased",
            Self::Damaged => "damaged",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct CallRecord {
    pub sid: CallSid,
    pub account: AccountSid,
    pub direction: CallDirection,
    /// Tells why personal columns, here and in the legs, are `None`.
    pub personal: Readable,
    pub from: Option<Personal<String>>,
    pub to: Option<Personal<String>>,
    pub opened_at: UnixMillis,
    pub ringing_at: Option<UnixMillis>,
    pub answered_at: Option<UnixMillis>,
    pub answered_leg: Option<LegSid>,
    pub closed_at: Option<UnixMillis>,
    pub sip_status: Option<u16>,
    pub cause: Option<Cause>,
    pub hung_up_by: Option<HungUpBy>,
    pub home_region: RegionCode,
    pub signalling_region: RegionCode,
    pub media_region: Option<RegionCode>,
    pub storage_region: RegionCode,
    pub relay: Option<RelayId>,
    /// From which relay to which the media went while the call lasted.
    pub moves: Vec<RelayMove>,
    pub proxy: String,
    pub key_id: String,
    pub contracting_entity: String,
    pub retention_until: Option<UnixMillis>,
    /// SHA-256 of the record closed before this one in the region.
    pub previous_hash: Option<[u8; 32]>,
    pub hash: Option<[u8; 32]>,
    pub recording: Option<RecordingSid>,
    /// Of a call between accounts: in the other one's record too.
    pub join: Option<JoinToken>,
    /// Filled by [`Store::call_show`].
    pub legs: Vec<LegRecord>,
    /// Filled by [`Store::call_show`].
    pub recordings: Vec<RecordingRecord>,
}

/// The media of a call went over to another relay of the region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayMove {
    pub at: UnixMillis,
    pub from: RelayId,
    pub to: RelayId,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LegRecord {
    pub sid: LegSid,
    pub role: LegRole,
    pub party: Party,
    pub sip_call_id: Option<Personal<String>>,
    pub media: Option<Protocol>,
    /// In whose stead it was rung, and why.
    pub diverted: Option<(UserSid, DivertReason)>,
    pub opened_at: UnixMillis,
    pub closed_at: Option<UnixMillis>,
    pub sip_status: Option<u16>,
    /// Codec, MOS, loss and jitter per direction.
    pub stats: Option<LegStats>,
}

/// A call that was opened and not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCall {
    pub sid: CallSid,
    pub account: AccountSid,
    pub proxy: String,
    pub opened_at: UnixMillis,
    /// The time of the last event that was written.
    pub last_at: UnixMillis,
    pub next_sequence: u32,
    pub answered: bool,
}

/// `opened = closed + open`, or records were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCounts {
    /// Every record there is.
    pub opened: u64,
    /// Those with an end.
    pub closed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainReport {
    /// Closed calls whose hashes were verified.
    pub calls: u64,
    pub head: [u8; 32],
}

impl Store {
    /// Newest first. A record whose key was destroyed is listed without its
    /// personal columns.
    pub async fn call_list(&self, filter: &CallFilter) -> Result<Vec<CallRecord>> {
        let state = match filter.state {
            CallState::Any => "",
            CallState::Open => "AND c.closed_at IS NULL",
            CallState::Closed => "AND c.closed_at IS NOT NULL",
        };
        let account = filter.account.map_or("", |_| "AND c.account = $3");
        let select = format!(
            "SELECT c.*, k.wrapped FROM call c LEFT JOIN call_key k ON k.key_id = c.key_id \
             WHERE c.opened_at >= $1 {state} {account} ORDER BY c.opened_at DESC, c.sid LIMIT $2"
        );
        let since = filter.since.map_or(i64::MIN, |since| since.0);
        let mut values = values![since, filter.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)];
        values.extend(filter.account.map(Into::into));
        let rows = self.database().rows(AssertSqlSafe(select), values).await?;
        let mut calls = Vec::with_capacity(rows.len());
        for row in &rows {
            calls.push(self.call_of(row).await?.0);
        }
        Ok(calls)
    }

    /// With its legs, the caller's first, and its recordings.
    pub async fn call_show(&self, call: CallSid) -> Result<CallRecord> {
        let (mut record, sealer) = self.call_alone(call).await?;
        let select = "SELECT * FROM call_leg WHERE call = $1 ORDER BY role, opened_at, sid";
        let legs = self.database().rows(select, values![call]).await?;
        let opened = legs.iter().map(|leg| leg_of(leg, sealer.as_ref()));
        record.legs = opened.collect::<Result<_>>()?;
        let unread = record.legs.iter().any(|leg| leg.sip_call_id.is_none());
        if unread && record.personal == Readable::Yes {
            record.personal = Readable::Damaged;
        }
        record.recordings = self.recordings_of(call).await?;
        Ok(record)
    }

    /// Without its legs and recordings.
    pub(crate) async fn call_alone(&self, call: CallSid) -> Result<(CallRecord, Option<Sealer>)> {
        let select = "SELECT c.*, k.wrapped FROM call c \
                      LEFT JOIN call_key k ON k.key_id = c.key_id WHERE c.sid = $1";
        let row = self.database().row(select, values![call]).await?;
        self.call_of(&row.ok_or_else(|| unknown(call))?).await
    }

    /// Whether this region's database has the call's record.
    pub async fn holds(&self, call: CallSid) -> Result<bool> {
        let row = self.database().row("SELECT sid FROM call WHERE sid = $1", values![call]).await?;
        Ok(row.is_some())
    }

    pub async fn call_counts(&self) -> Result<CallCounts> {
        let select = "SELECT COUNT(*) AS opened, COUNT(closed_at) AS closed FROM call";
        let row = self.database().row(select, values![]).await?;
        let count = |name| row.as_ref().map_or(Ok(0), |row| row.int(name).map(i64::unsigned_abs));
        Ok(CallCounts { opened: count("opened")?, closed: count("closed")? })
    }

    /// Open calls, of one proxy or of all, oldest first.
    pub async fn open_calls(&self, proxy: Option<&str>) -> Result<Vec<OpenCall>> {
        let mut select =
            format!("SELECT {OPEN_CALL_COLUMNS} FROM call c WHERE c.closed_at IS NULL");
        let mut values = values![];
        if let Some(proxy) = proxy {
            select.push_str(" AND c.proxy = $1");
            values = values![proxy];
        }
        select.push_str(" ORDER BY c.opened_at, c.sid");
        let rows = self.database().rows(AssertSqlSafe(select), values).await?;
        rows.iter().map(open_call_of).collect()
    }

    pub(crate) async fn call_of(&self, row: &Row) -> Result<(CallRecord, Option<Sealer>)> {
        let (sid, account): (CallSid, AccountSid) = (row.parse("sid")?, row.parse("account")?);
        let key_id = row.text("key_id")?;
        let wrapped = row.bytes_or_null("wrapped")?;
        let (mut personal, sealer) = match self.opened_key(account, &key_id, wrapped).await {
            Ok(sealer) => (Readable::Yes, Some(sealer)),
            Err(StoreError::KeyDestroyed { .. }) => (Readable::Erased, None),
            Err(StoreError::Sealed { .. }) => (Readable::Damaged, None),
            Err(error) => return Err(error),
        };
        let party = |column: &str, what| {
            opened_text(sealer.as_ref(), what, &sid.to_string(), &row.bytes(column)?)
        };
        let (from, to) = (party("party_from", &SEALED_CALLER)?, party("party_to", &SEALED_CALLEE)?);
        if sealer.is_some() && (from.is_none() || to.is_none()) {
            personal = Readable::Damaged;
        }
        let hash =
            |name: &str| row.bytes_or_null(name)?.map(|_| hash_column(row, name)).transpose();
        let record = CallRecord {
            sid,
            account,
            direction: row.parse("direction")?,
            personal,
            from,
            to,
            opened_at: row.time("opened_at")?,
            ringing_at: row.time_or_null("ringing_at")?,
            answered_at: row.time_or_null("answered_at")?,
            answered_leg: row.parse_or_null("answered_leg")?,
            closed_at: row.time_or_null("closed_at")?,
            sip_status: status(row)?,
            cause: row.parse_or_null("cause")?,
            hung_up_by: row.parse_or_null("hung_up_by")?,
            home_region: row.parse("home_region")?,
            signalling_region: row.parse("signalling_region")?,
            media_region: row.parse_or_null("media_region")?,
            storage_region: row.parse("storage_region")?,
            relay: row.text_or_null("relay_id")?.map(RelayId),
            moves: moves_of(row)?,
            proxy: row.text("proxy")?,
            key_id,
            contracting_entity: row.text("contracting_entity")?,
            retention_until: row.time_or_null("retention_until")?,
            previous_hash: hash("previous_hash")?,
            hash: hash("hash")?,
            recording: row.parse_or_null("recording")?,
            join: row.parse_or_null("join_token")?,
            legs: Vec::new(),
            recordings: Vec::new(),
        };
        Ok((record, sealer))
    }

    /// What a call's or recording's key opens.
    pub(crate) async fn opened_key(
        &self,
        account: AccountSid,
        key_id: &str,
        wrapped: Option<Vec<u8>>,
    ) -> Result<Sealer> {
        let destroyed = |what| StoreError::KeyDestroyed { what, account };
        // One that a restored backup did not have any more is empty.
        let wrapped = wrapped.filter(|wrapped| !wrapped.is_empty());
        let wrapped = wrapped.ok_or_else(|| destroyed("call_key"))?;
        let of_account = match self.account_sealer(account).await {
            // The records refer to their account: only its key can be missing.
            Err(StoreError::NotFound { .. }) => return Err(destroyed("account_key")),
            found => found?,
        };
        self.call_sealer(account, &of_account, key_id, &wrapped)
    }
}

/// `None` where there is no key, or where it does not open these octets.
fn opened_text(
    sealer: Option<&Sealer>,
    what: &'static Sealed,
    of: &str,
    sealed: &[u8],
) -> Result<Option<Personal<String>>> {
    match sealer.map(|sealer| sealer.open_text(what, of, sealed)) {
        Some(Ok(text)) => Ok(Some(Personal::new(text))),
        Some(Err(StoreError::Sealed { .. })) | None => Ok(None),
        Some(Err(error)) => Err(error),
    }
}

fn leg_of(row: &Row, sealer: Option<&Sealer>) -> Result<LegRecord> {
    let sid: LegSid = row.parse("sid")?;
    let call_id = row.bytes("sip_call_id")?;
    let call_id = opened_text(sealer, &SEALED_SIP_CALL_ID, &sid.to_string(), &call_id)?;
    let column = |name: &str, problem: String| StoreError::Column { column: name.into(), problem };
    let media = row.text_or_null("media")?.map(|name| {
        protocol_of(&name).ok_or_else(|| column("media", format!("`{name}` is no protocol")))
    });
    let stats = row.bytes_or_null("stats")?.map(|stats| {
        postcard::from_bytes::<LegStats>(&stats).map_err(|e| column("stats", e.to_string()))
    });
    let party = match (row.parse_or_null("party_user")?, row.parse_or_null("party_trunk")?) {
        (Some(user), _) => Party::User(user),
        (None, Some(trunk)) => Party::Trunk(trunk),
        (None, None) => row.parse_or_null("party_region")?.map_or(Party::Unknown, Party::Region),
    };
    Ok(LegRecord {
        sid,
        role: row.parse("role")?,
        party,
        sip_call_id: call_id,
        media: media.transpose()?,
        diverted: diverted_of(row)?,
        opened_at: row.time("opened_at")?,
        closed_at: row.time_or_null("closed_at")?,
        sip_status: status(row)?,
        stats: stats.transpose()?,
    })
}

fn diverted_of(row: &Row) -> Result<Option<(UserSid, DivertReason)>> {
    let Some(written) = row.text_or_null("diverted")? else { return Ok(None) };
    let read = |(by, reason): (&str, &str)| Some((by.parse().ok()?, reason.parse().ok()?));
    let read = written.split_once(' ').and_then(read);
    read.map(Some).ok_or_else(|| StoreError::Column {
        column: "call_leg.diverted".to_owned(),
        problem: "it does not say for whom and why".to_owned(),
    })
}

fn moves_of(row: &Row) -> Result<Vec<RelayMove>> {
    let written = row.text_or_null("moves")?.unwrap_or_default();
    let of_text = |text: &str| {
        let mut parts = text.split(' ');
        let at = parts.next()?.parse().ok().map(UnixMillis)?;
        let (from, to) = (parts.next()?, parts.next()?);
        let relay = |name: &str| RelayId(name.to_owned());
        parts.next().is_none().then(|| RelayMove { at, from: relay(from), to: relay(to) })
    };
    let moves = written.split(';').filter(|text| !text.is_empty()).map(|text| {
        of_text(text).ok_or_else(|| StoreError::Column {
            column: "call.moves".to_owned(),
            problem: "it does not say when from which relay to which".to_owned(),
        })
    });
    moves.collect()
}

pub(crate) fn open_call_of(row: &Row) -> Result<OpenCall> {
    Ok(OpenCall {
        sid: row.parse("sid")?,
        account: row.parse("account")?,
        proxy: row.text("proxy")?,
        opened_at: row.time("opened_at")?,
        last_at: row.time("last_at")?,
        next_sequence: u32::try_from(row.int("next_sequence")?).unwrap_or(u32::MAX),
        answered: row.int_or_null("answered_at")?.is_some(),
    })
}

fn status(row: &Row) -> Result<Option<u16>> {
    Ok(row.int_or_null("sip_status")?.and_then(|status| u16::try_from(status).ok()))
}

fn protocol_of(name: &str) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| protocol.name() == name)
}

fn unknown(call: CallSid) -> StoreError {
    StoreError::NotFound {
        what: format!("call {call} in this region"),
        next: "its record is in the home region of its account".to_owned(),
    }
}
