//! `landline demo`: three regions on one machine, a call in each, and the
//! proof of where its record and recording lie.

mod call;
mod cast;
mod clients;
mod info;
mod layout;
mod report;
mod verify;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use landline_region::UnixMillis;
use landline_store::Store;

use crate::cli::DemoArgs;
use crate::config::{Config, Transport};
use crate::output::{Style, say};
use crate::roles::{Region, Roles, until_asked_to_stop, wall_clock};
use crate::telemetry::start_logging;
use crate::{files, pki};

pub use layout::{CONFIG_FILE, DEFAULT_BASE_PORT, MAX_BASE_PORT};

use cast::Account;
use layout::Layout;
use report::Report;

/// How long proxies and relays may take to find each other.
const LINKING: Duration = Duration::from_secs(10);

pub async fn run(args: DemoArgs) -> Result<ExitCode> {
    let begun = wall_clock();
    let base_port = args.base_port.unwrap_or(DEFAULT_BASE_PORT);
    let layout = Layout::new(&args.data, args.bind, base_port)?;
    let _lock = lock(&layout)?;
    layout.check_ports()?;
    let regions = start(&layout, begun).await?;
    let outcome = tokio::select! {
        outcome = play(&args, &layout, &regions, begun) => outcome,
        stopped = until_asked_to_stop() => match stopped {
            Ok(()) => Err(anyhow::anyhow!("stopped before the calls were over")),
            Err(error) => Err(error),
        },
    };
    let outcome = match outcome {
        Ok(well) if !args.once => {
            note("up until Ctrl-C");
            until_asked_to_stop().await.map(|()| well)
        }
        other => other,
    };
    for region in regions.into_values() {
        region.stop().await;
    }
    outcome.map(|well| if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The accounts, the calls, the search for their records, the report.
async fn play(
    args: &DemoArgs,
    layout: &Layout,
    regions: &BTreeMap<&'static str, Region>,
    begun: UnixMillis,
) -> Result<bool> {
    let stores: BTreeMap<&'static str, Store> =
        regions.iter().map(|(&code, region)| (code, region.store().clone())).collect();
    let accounts = cast::provide(layout, &stores).await?;
    clients::write(layout, &accounts)?;
    wait_for_links(regions).await?;
    note("one call in each region, a tone each way");
    let calls = call::place_all(layout, &accounts).await;
    let evidence = verify::search_all(&stores, &accounts, &calls, begun).await;
    let report = Report { layout, accounts: &accounts, calls: &calls, evidence: &evidence };
    if let Some(file) = &args.info {
        write_info(file, layout, &accounts)?;
    }
    say(&report.render(Style::detect(args.json)))?;
    Ok(report.is_well())
}

async fn start(layout: &Layout, now: UnixMillis) -> Result<BTreeMap<&'static str, Region>> {
    layout.write_configs()?;
    let authority = pki::Authority::open(&layout.data, now)?;
    let names: Vec<String> = std::iter::once(layout.sites[0].bind.to_string())
        .chain(cast::ACCOUNTS.iter().map(|account| account.domain.to_owned()))
        .collect();
    let mut regions = BTreeMap::new();
    for (site, cast) in layout.sites.iter().zip(&cast::REGIONS) {
        let proxies = [pki::first_proxy(site.code)];
        pki::provide_region(&authority, &site.certs(), site.code, &proxies, &names, now)?;
        let config = Config::load(&site.config_file())?;
        start_logging(&config.telemetry);
        let region =
            Region::start(&config, Roles { proxy: true, relay: true, console: true }, None)
                .await
                .with_context(|| format!("region {}", site.code))?;
        note(&format!("{} is up: SIP on {}", site.code, site.sip(Transport::Udp)));
        regions.insert(cast.code, region);
    }
    Ok(regions)
}

async fn wait_for_links(regions: &BTreeMap<&'static str, Region>) -> Result<()> {
    let begun = Instant::now();
    while let Some((code, _)) = regions.iter().find(|(_, region)| !region.is_linked()) {
        if begun.elapsed() > LINKING {
            bail!("{code}'s proxy did not reach its relay within {} s", LINKING.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Two demos in one directory would write over each other.
fn lock(layout: &Layout) -> Result<File> {
    let path = layout.data.join("demo.lock");
    let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    if file.try_lock().is_err() {
        bail!(
            "another demo runs in {}: stop it, or give this one a directory of its own with --data DIR",
            layout.data.display()
        );
    }
    Ok(file)
}

fn write_info(file: &Path, layout: &Layout, accounts: &[Account]) -> Result<()> {
    let text = crate::output::pretty(&info::info(layout, accounts));
    files::replace(file, text.as_bytes(), 0o600).with_context(|| format!("{}", file.display()))
}

/// Progress, on standard error.
fn note(text: &str) {
    eprintln!("demo: {text}");
}
