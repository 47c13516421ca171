//! The HTTPS API over real TLS, with an HTTP client that checks certificates,
//! on SQLite always and on PostgreSQL where there is one.

mod administration;
mod calls;
mod doors;
mod fuzz;
mod phone;
mod phone_voicemail;
mod push;
mod receipts;
mod receiver;
mod recordings;
mod support;
mod voicemail;
mod webhooks;
