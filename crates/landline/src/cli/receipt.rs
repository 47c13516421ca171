//! Commands for who wants proof: receipts and residency reports.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use landline_region::{CallSid, RegionCode, UnixMillis};

#[derive(Debug, Subcommand)]
pub enum ReceiptVerb {
    /// What the region states of a closed call.
    Show { call: CallSid },
    /// Write a call's receipt, with the proof of its place in the region's log,
    /// as a file that anybody can verify.
    Export {
        call: CallSid,
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check a receipt or a residency report, offline and without any region.
    Verify {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Sign with a new key from now on, certified by the present one in the
    /// region's log. What was signed before stays valid.
    RotateKey { region: RegionCode },
    /// The public keys that regions sign with, and signed with before.
    Keys {
        /// Write them there as PEM files, as `receipt verify --trust` wants them.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Whose signatures are believed. With --config or --data, those regions' own.
#[derive(Debug, Clone, Args)]
pub struct TrustArgs {
    /// The public key, in PEM, of the region that the file speaks for.
    #[arg(long, value_name = "FILE", conflicts_with = "trust")]
    pub key: Option<PathBuf>,
    /// Public keys of regions, each in a file REGION.pem or REGION-….pem.
    #[arg(long, value_name = "DIR")]
    pub trust: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ProveArgs {
    #[arg(help = "Its sid or its SIP domain")]
    pub account: String,
    /// Calls opened at or after this time in UTC, as 2026-11-22 or 2026-11-22T12:00:00Z.
    #[arg(long, value_name = "TIME", default_value = "1970-01-01")]
    pub from: UnixMillis,
    /// Calls opened before this time; now when left out.
    #[arg(long, value_name = "TIME")]
    pub to: Option<UnixMillis>,
    /// Where the report goes; to standard output when left out.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A receipt or report that was handed out before: the log must still hold
    /// all that it held then. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub against: Vec<PathBuf>,
}
