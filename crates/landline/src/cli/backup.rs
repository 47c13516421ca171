//! Copies of a region's database, and the way back.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum BackupVerb {
    /// Read a backup whole, with every checksum and seal, and change nothing.
    Verify {
        /// The file with the records; the living part lies beside it.
        file: PathBuf,
    },
    /// The region's backups in its directory, the newest last.
    List,
}

#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The file with the records, beside the living part; the newest in the
    /// region's directory when left out.
    pub file: Option<PathBuf>,
    /// Try it: restore beside the running region, compare every record with the
    /// backup, its proofs and the region, and remove the copy.
    #[arg(long)]
    pub drill: bool,
}
