//! What an auditor asks: what is held where, what leaves, who receives it.

use anyhow::Result;
use landline_region::UnixMillis;
use landline_region::catalogue::{DataMap, Register, RegisterHead};
use serde_json::json;

use super::{Place, prove};
use crate::cli::ResidencyVerb;
use crate::config::Config;
use crate::open;
use crate::output::{Style, Table, pretty};
use crate::roles::wall_clock;

/// The data map needs no region: it is what the code declares.
pub fn map(style: Style) -> Result<String> {
    let map = DataMap::of_catalogue();
    match style.json {
        true => Ok(pretty(&serde_json::to_value(map)?)),
        false => Ok(map.to_markdown()),
    }
}

pub async fn run(place: &Place, verb: ResidencyVerb, style: Style) -> Result<String> {
    match verb {
        ResidencyVerb::Map => map(style),
        ResidencyVerb::Register => registers(place, style).await,
        ResidencyVerb::Prove(args) => prove::prove(place, args, style).await,
        ResidencyVerb::Check(args) => prove::check(place, args, style).await,
        ResidencyVerb::Subprocessors => subprocessors(place, style),
    }
}

/// One register a region, from its declarations and its own counts.
async fn registers(place: &Place, style: Style) -> Result<String> {
    let mut registers = Vec::new();
    for config in place.configs() {
        let store = open::store(config).await?;
        let flows = store.egress_flows(UnixMillis(0)).await?;
        registers.push(Register::new(head(config), flows, open::subprocessors(config)?));
    }
    match style.json {
        true => Ok(pretty(&serde_json::to_value(registers)?)),
        false => {
            let texts: Vec<String> = registers.iter().map(Register::to_markdown).collect();
            Ok(texts.join("\n"))
        }
    }
}

fn head(config: &Config) -> RegisterHead {
    RegisterHead {
        region: config.region.code,
        jurisdiction: config.region.jurisdiction,
        controller: config.region.contracting_entity.clone(),
        data_protection_officer: config.region.data_protection_officer.clone(),
        at: wall_clock(),
    }
}

fn subprocessors(place: &Place, style: Style) -> Result<String> {
    let mut rows = Vec::new();
    for config in place.configs() {
        let registry = open::subprocessors(config)?;
        let own = registry.subprocessors.iter();
        for item in own.filter(|item| item.regions.contains(&config.region.code)) {
            rows.push(json!({
                "region": config.region.code.to_string(),
                "version": registry.version,
                "name": item.name,
                "purpose": item.purpose,
                "jurisdiction": item.jurisdiction.to_string(),
                "flows": item.flows,
                "hosts": item.hosts,
                "since": item.since,
            }));
        }
    }
    let columns = ["region", "name", "jurisdiction", "purpose", "flows", "since"];
    Ok(Table::new(&columns, rows, "no sub-processors").render(style))
}
