//! The HTTPS API of one region.
//!
//! [`route::ROUTES`] is the one list of what can be asked: who may ask it,
//! what is written down of it, what it takes and answers. Requests are matched
//! against it, its roles are enforced from it, and the OpenAPI document is
//! written from it.
//!
//! There is no plain-text listener: nothing is read before TLS is up.

mod app;
pub mod audio;
mod auth;
mod config;
mod cursor;
mod error;
mod homes;
mod input;
mod metrics;
pub mod openapi;
mod page;
mod problem;
mod proof;
mod rate;
mod reply;
mod resources;
pub mod route;
mod server;
mod time;
mod tls;
mod upkeep;
mod webhook;

pub use config::{CallControl, ConsoleConfig, Limits, Phone, PhoneFile, RegionInfo, TlsFiles};
pub use error::StartError;
pub use server::{Console, ConsoleHandle};
pub use webhook::{PushGateway, PushSender, WebhookConfig};
