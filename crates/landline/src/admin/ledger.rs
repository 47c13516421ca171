pub async fn run(
    _: &super::Place,
    _: crate::cli::LedgerVerb,
    _: crate::output::Style,
) -> anyhow::Result<String> {
    anyhow::bail!("not built yet")
}
