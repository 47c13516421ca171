//! Registration, routing and the B2BUA: decisions only.
//!
//! Pure: time and randomness are passed in; what the core needs from outside it
//! asks for as an output and gets back as an input.

pub mod binding;
pub mod crossing;
pub mod directory;
pub mod record;
pub mod tenancy;

mod auth;
mod between;
mod call;
mod calls;
mod config;
mod context;
mod core;
mod counters;
mod diversion;
mod edge;
mod gruu;
mod io;
mod negotiate;
mod pager;
mod pickup;
mod push;
mod registrar;
mod relay_events;
mod relays;
mod request;
mod restore;
mod route;
mod snapshot;
mod standby;
mod subscriptions;
mod tenants;
mod throttle;
mod timers;
mod transfer;

pub use self::core::Core;
pub use config::{CoreConfig, CoreLimits, CoreTimers, FeatureCodes, LocalAddress};
pub use counters::Counters;
pub use io::{BindingsToken, Input, JournalToken, LiveCall, Log, Output, StartCall, StoredMessage};
pub use push::{PushPolicy, PushTarget, Wake};
pub use snapshot::Snapshot;
pub use standby::{PeerId, Replica};
pub use tenants::Tenants;
