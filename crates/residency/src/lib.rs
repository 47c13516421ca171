//! The search behind `cargo xtask residency`: given canaries (words, numbers
//! and tones that belong to one region each) and what the regions hold (files,
//! databases, dumps, captures), it says which region holds what of another's,
//! in which encoding and where.
//!
//! Nothing in it knows Landline: `landline-residency search` runs against
//! anybody's regions. See docs/residency-conformance.md.

mod canary;
mod capture;
mod database;
mod decrypt;
mod encoding;
mod files;
mod plant;
mod report;
mod scanner;
mod search;
mod tone;

pub use canary::{Canary, CanaryError, CanaryList, Exception, Word, WordKind};
pub use capture::{Flow, FlowKey, read_flows};
pub use database::{plant_in_database, scan_database};
pub use decrypt::{Stream, decrypted_streams};
pub use encoding::Encoding;
pub use files::kind_of;
pub use plant::{Planted, audio_leaks, text_leaks};
pub use report::{Declared, Fact, FlowLine, Place, Report};
pub use scanner::{Scan, Scanner, Sighting};
pub use search::{Hit, PlaceKind, Search, Searched};
pub use tone::AudioForm;
