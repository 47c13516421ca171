use std::path::PathBuf;

use landline_region::{AccountSid, CallSid, RecordingSid, RegionCode, UnixMillis};

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What went wrong, and where it helps what to do next. Holds no personal data.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "database {database} belongs to region {found}, but the configuration says {configured}: \
         open it under region {found}, or give region {configured} a database of its own"
    )]
    DatabaseOfAnotherRegion { database: String, found: RegionCode, configured: RegionCode },
    #[error(
        "key ring {} belongs to region {found}, but the configuration says {configured}: name \
         region {configured}'s own key ring", path.display()
    )]
    KeyRingOfAnotherRegion { path: PathBuf, found: RegionCode, configured: RegionCode },
    #[error(
        "database {database} was written with key ring {wanted}, but {} holds {found}: restore the \
         key ring that the database was created with", path.display()
    )]
    WrongKeyRing { database: String, path: PathBuf, wanted: String, found: String },
    #[error("key ring {}: {problem}", path.display())]
    KeyRing { path: PathBuf, problem: String },
    #[error("{what} is tagged with home region {found}, but this store is region {ours}'s")]
    ForeignRecord { what: String, found: RegionCode, ours: RegionCode },
    #[error("database url `{url}`: {problem}")]
    Url { url: String, problem: String },
    #[error("database {database} cannot be opened: {source}")]
    Connect {
        database: String,
        #[source]
        source: sqlx::Error,
    },
    #[error("database {database}: {problem}")]
    Schema { database: String, problem: String },
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error("{what} is taken: {next}")]
    Conflict { what: String, next: String },
    #[error("no {what}: {next}")]
    NotFound { what: String, next: String },
    #[error("{what} was deleted at {at}")]
    Deleted { what: String, at: UnixMillis },
    #[error("{what} is in use: {next}")]
    InUse { what: String, next: String },
    #[error("recording {recording}, chunk {chunk}: {problem}")]
    Chunk { recording: RecordingSid, chunk: i64, problem: String },
    #[error("call {call}: {problem}")]
    Chain { call: CallSid, problem: String },
    #[error("the region's log of receipts: {problem}")]
    Log { problem: String },
    #[error("{what} of account {account} cannot be opened: {problem}")]
    Sealed { what: &'static str, account: AccountSid, problem: &'static str },
    #[error("{what} of account {account} was destroyed")]
    KeyDestroyed { what: &'static str, account: AccountSid },
    #[error("column {column}: {problem}")]
    Column { column: String, problem: String },
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    #[error("backup {}, at octet {offset}: {problem}", path.display())]
    Backup { path: PathBuf, offset: u64, problem: String },
    #[error(
        "backup {} belongs to region {found}, but the configuration says {configured}: restore it \
         in region {found}", path.display()
    )]
    BackupOfAnotherRegion { path: PathBuf, found: RegionCode, configured: RegionCode },
    #[error(
        "backup {} was sealed with key ring {wanted}, and this is {found}: bring the key ring that \
         the region had then", path.display()
    )]
    BackupOfOtherKeys { path: PathBuf, wanted: String, found: String },
    #[error("directory {} holds backups of region {owner}: {error}", dir.display())]
    BackupRefused {
        dir: PathBuf,
        owner: RegionCode,
        #[source]
        error: landline_region::egress::Refused,
    },
    #[error("kept in the region: {0}")]
    Egress(#[from] landline_region::egress::Refused),
    #[error("the database cannot be reached or did not answer: {0}")]
    Unavailable(#[source] sqlx::Error),
    #[error("the database refused a statement: {0}")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Connect { .. })
    }

    pub(crate) fn file(path: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self::File { path: path.into(), problem: problem.to_string() }
    }
}
