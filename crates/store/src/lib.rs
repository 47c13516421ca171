//! One region's database, keys, sealed recordings and the ledger.
//!
//! Everything personal is sealed before it reaches a table or a file: the
//! region's master key wraps a key per account, which wraps a key per call.

mod account;
mod answer;
mod api_key;
mod apply;
mod audit;
pub mod backup;
mod binding;
mod call;
mod chain;
mod chunk;
mod delivery;
pub mod directory;
mod disk;
mod drain;
mod egress;
mod error;
mod event;
mod file;
mod forwarding;
pub mod keys;
pub mod ledger;
mod list;
mod number;
mod page;
mod part;
pub mod password;
mod playback;
mod proxies;
mod receipt;
mod recorder;
mod recording;
mod schema;
mod seal;
mod segment;

mod sound;
mod sql;
mod store;
mod tenancy;
mod trunk;
mod usage;
mod user;
mod voicemail;
mod webhook;

pub use account::{AccountChange, NewAccount};
pub use answer::{Claim, RequestName};
pub use api_key::{ApiKey, ApiRole};
pub use audit::{AuditFilter, AuditRecord, NewAudit};
pub use call::{
    Applied, CallCounts, CallFilter, CallRecord, CallState, ChainReport, LegRecord, OpenCall,
    Readable, RelayMove,
};
pub use delivery::{Delivery, Told};
pub use drain::RelayDrain;
pub use error::{Result, StoreError};
pub use keys::KeyRing;
pub use ledger::{AppendError, KeptCall, Ledger, LedgerConfig, LedgerCounters};
pub use list::{ListQuery, Listed};
pub use number::NewNumber;
pub use page::{CallQuery, CallStanding, RecordingQuery};
pub use part::Part;
pub use playback::{RecordedEntry, RecordingReader};
pub use proxies::Abandoned;
pub use receipt::{
    DeletedBy, Fault, Issued, Issuer, IssuerConfig, IssuerCounters, RegionKey, ResidencyCheck,
    Retention, Swept,
};
pub use recorder::{
    Full, Recorder, RecorderConfig, RecorderCounters, RecordingSink, RecordingStart,
};
pub use recording::{RecordingFilter, RecordingGap, RecordingPart, RecordingRecord};
pub use sound::{MOST_SOUND_SECONDS, SOUND_RATE, SoundRecord};
pub use store::{Store, StoreConfig, StoreCounters};
pub use trunk::NewTrunk;
pub use usage::UsageDay;
pub use user::{NewUser, UserChange};
pub use voicemail::{VoicemailRecord, VoicemailToPlay};
pub use webhook::{HookEvent, NewWebhook, Webhook};
