//! Commands that start something.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use landline_region::RegionCode;

use crate::demo::MAX_BASE_PORT;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The region's configuration; see docs/configuration.md.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Write the secrets of all TLS sessions, also of those between regions,
    /// into the file that SSLKEYLOGFILE names: for conformance runs alone, as
    /// whoever has them reads everything. Without it the variable does nothing.
    #[arg(long, hide_short_help = true)]
    pub reveal_tls_secrets: bool,
}

#[derive(Debug, Args)]
pub struct ProxyArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Serve the sockets and connections of the keeper at this Unix socket:
    /// `landline keep` starts its proxy so.
    #[arg(long, value_name = "SOCKET", hide_short_help = true)]
    pub keeper: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Exit after the calls: 0 when every tone was heard both ways and every
    /// record and recording lies in its home region's database and in no other.
    #[arg(long)]
    pub once: bool,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Where the regions keep their files; used again by the next run.
    #[arg(long, value_name = "DIR", default_value = "demo-data")]
    pub data: PathBuf,
    /// The address of every listener and of the media.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// The first port; each region takes the next 20, media ports follow.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1024..=MAX_BASE_PORT))]
    pub base_port: Option<u16>,
    /// Write what was started, with passwords, into a JSON file.
    #[arg(long, value_name = "FILE")]
    pub info: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Make the key ring of a new region; fails where one exists. Keep a copy:
    /// without it nothing personal in the region's database can be read.
    Create {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum PkiVerb {
    /// Make an authority and the certificates of one region; keep what is still valid.
    Init {
        dir: PathBuf,
        #[arg(long, value_name = "CODE")]
        region: RegionCode,
        /// A proxy's `name` in its configuration; may be repeated. CODE-proxy-1 if none is given.
        #[arg(long = "proxy", value_name = "NAME")]
        proxies: Vec<String>,
        /// An address or name that clients reach the proxy by; may be repeated.
        #[arg(long = "name", value_name = "NAME|IP")]
        names: Vec<String>,
    },
}
