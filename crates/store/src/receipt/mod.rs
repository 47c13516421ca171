//! Receipts of closed calls and the region's log of them.
//!
//! A call's end puts it among those that wait; the issuer takes them from
//! there, a batch in one transaction: statement, signature, the log's nodes
//! and a signed head. So no closed call stays without a receipt and none has
//! two, wherever a process dies.

mod check;
mod deletion;
mod facts;
mod issue;
mod issuer;
mod log;
mod read;
mod retention;
mod signing;
mod statement;

pub use check::{Fault, ResidencyCheck};
pub use deletion::{DeletedBy, Swept};
pub use issue::Issued;
pub use issuer::{Issuer, IssuerConfig, IssuerCounters};
pub use retention::Retention;
pub use signing::RegionKey;
pub(crate) use statement::statement_of;
