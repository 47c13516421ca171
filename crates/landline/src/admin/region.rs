use anyhow::Result;
use landline_call::directory::{InterRegionAddress, RegionEntry};
use landline_store::directory;
use serde_json::{Value, json};

use super::Place;
use crate::cli::RegionVerb;
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: RegionVerb, style: Style) -> Result<String> {
    match verb {
        RegionVerb::List => {
            let directory = place.directory()?;
            let rows = directory
                .regions
                .iter()
                .map(|(code, entry)| shown(&code.to_string(), entry))
                .collect();
            let columns = ["code", "jurisdiction", "proxies", "public_uri", "console"];
            Ok(Table::new(&columns, rows, "no regions").render(style))
        }
        RegionVerb::Add { code, jurisdiction, proxies, public_uri, console } => {
            let proxies = proxies
                .into_iter()
                .map(|proxy| InterRegionAddress { host: proxy.host, port: proxy.port })
                .collect();
            let entry = RegionEntry { jurisdiction, proxies, public_uri, console };
            let answer = card(&shown(&code.to_string(), &entry), style);
            directory::region_add(place.gate(), place.directory_file(), code, entry)?;
            Ok(answer)
        }
    }
}

fn shown(code: &str, entry: &RegionEntry) -> Value {
    let proxies: Vec<String> = entry
        .proxies
        .iter()
        .map(|proxy| match proxy.host.contains(':') {
            true => format!("[{}]:{}", proxy.host, proxy.port),
            false => format!("{}:{}", proxy.host, proxy.port),
        })
        .collect();
    json!({
        "code": code,
        "jurisdiction": entry.jurisdiction.to_string(),
        "proxies": proxies,
        "public_uri": entry.public_uri,
        "console": entry.console,
    })
}
