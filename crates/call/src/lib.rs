//! Registration, routing and the B2BUA: decisions only.
//!
//! Pure: time and randomness are passed in; what the core needs from outside it
//! asks for as an output and gets back as an input.

pub mod binding;
pub mod directory;
pub mod record;
pub mod tenancy;
