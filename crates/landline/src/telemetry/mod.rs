//! What a process tells its operators: logs, metrics, health. None of it
//! carries personal data.

mod egress;
mod http;
mod memory;
mod store;

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, Telemetry};

pub use egress::EgressMetrics;
pub use http::{Health, Readers, Server};
pub use memory::MemoryMetrics;
pub use store::StoreMetrics;

/// Starts logging to standard error. `RUST_LOG` overrides the level.
pub fn start_logging(telemetry: &Telemetry) {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| telemetry.log_level.clone());
    // The configured level was checked when it was parsed.
    let targets: Targets = level.parse().unwrap_or_default();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = match telemetry.log_format {
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(colour).boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    // A second start within one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets)).try_init();
}
