pub mod cast;
pub mod layout;
pub use layout::{CONFIG_FILE, DEFAULT_BASE_PORT, MAX_BASE_PORT};
pub async fn run(_: crate::cli::DemoArgs) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("not built yet")
}
