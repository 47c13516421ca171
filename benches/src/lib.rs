//! Criterion measurements of the pure crates beside their peers

pub mod speech;
