//! Residency over a period, stated and signed; and everything that is written
//! down held against what was stated.

use anyhow::{Context, Result, bail};
use landline_region::RegionCode;
use landline_region::receipt::{ReportFile, Signed, TreeHead};
use landline_store::{ResidencyCheck, Store};
use serde_json::{Value, json};

use super::Place;
use super::receipt::{read, write};
use crate::cli::{CheckArgs, ProveArgs};
use crate::output::{Style, Table, card, pretty, say};
use crate::roles::wall_clock;

/// `residency prove`: fails where another region occurs.
pub async fn prove(place: &Place, args: ProveArgs, style: Style) -> Result<String> {
    let to = args.to.unwrap_or_else(wall_clock);
    if args.from >= to {
        bail!("--from {} is not before --to {to}", args.from);
    }
    let home = place.home(&args.account).await?;
    let report = home.store.residency_report(home.account, args.from, to).await?;
    let text = pretty(&serde_json::to_value(&report)?);
    let answer = match &args.out {
        Some(file) => {
            write(file, &text)?;
            let mut answer = summary(&report);
            answer["file"] = json!(file);
            card(&answer, style)
        }
        None => text,
    };
    let others = &report.report.body.other_regions;
    if others.is_empty() {
        return Ok(answer);
    }
    say(&answer)?;
    let others: Vec<String> = others.iter().map(RegionCode::to_string).collect();
    bail!("calls of {} were also in {}", args.account, others.join(", "))
}

fn summary(file: &ReportFile) -> Value {
    let report = &file.report.body;
    json!({
        "account": report.account.to_string(),
        "region": report.region.to_string(),
        "from": report.from.to_string(),
        "to": report.to.to_string(),
        "closed": report.closed,
        "receipts": report.receipts,
        "waiting": report.waiting,
        "open": report.open,
        "other_regions": report.other_regions.iter().map(RegionCode::to_string).collect::<Vec<_>>(),
        "egress": report.egress.iter().map(|it| {
            format!("{} to {}: {} calls, {} legs", it.flow.name(), it.to, it.calls, it.legs)
        }).collect::<Vec<_>>(),
        "egress_lines": report.egress_lines,
        "egress_unreported": report.egress_unreported,
        "tree_size": file.tree_head.body.tree_size,
        "signed_by": file.report.key_id.to_string(),
    })
}

/// `residency check`: of every region at hand.
pub async fn check(place: &Place, args: CheckArgs, style: Style) -> Result<String> {
    let kept = kept_heads(place, &args)?;
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for (region, store) in place.stores().await? {
        let found = looked_at(&store, region, &kept).await?;
        faults.extend(found.faults.iter().map(|f| format!("{region}: {}: {}", f.at, f.problem)));
        let untold = found.faults_found - found.faults.len() as u64;
        if untold > 0 {
            faults.push(format!("{region}: and {untold} more"));
        }
        rows.push(row(region, &found));
    }
    let columns = [
        "region",
        "receipts",
        "waiting",
        "open",
        "recordings",
        "chunks",
        "tree_heads",
        "deleted",
        "erased",
        "grown",
        "ok",
    ];
    let answer = Table::new(&columns, rows, "no regions").render(style);
    if faults.is_empty() {
        return Ok(answer);
    }
    say(&answer)?;
    bail!("{}", faults.join("\n"))
}

async fn looked_at(
    store: &Store,
    region: RegionCode,
    kept: &[Signed<TreeHead>],
) -> Result<ResidencyCheck> {
    let own: Vec<_> = kept.iter().filter(|head| head.body.region == region).cloned().collect();
    store.residency_check(&own).await.with_context(|| format!("region {region}"))
}

/// The tree heads of files that were handed out before.
fn kept_heads(place: &Place, args: &CheckArgs) -> Result<Vec<Signed<TreeHead>>> {
    let mut kept = Vec::new();
    for file in &args.against {
        for head in read(file)?.tree_heads() {
            place.config_of(head.body.region, &format!("{}", file.display()))?;
            kept.push(head.clone());
        }
    }
    Ok(kept)
}

fn row(region: RegionCode, found: &ResidencyCheck) -> Value {
    let faults: Vec<Value> = found
        .faults
        .iter()
        .map(|fault| json!({ "at": fault.at, "problem": fault.problem }))
        .collect();
    json!({
        "region": region.to_string(),
        "ok": found.is_sound(),
        "receipts": found.receipts,
        "waiting": found.waiting,
        "open": found.open,
        "recordings": found.recordings,
        "chunks": found.chunks,
        "tree_heads": found.tree_heads,
        "deleted": found.deleted,
        "erased": found.erased,
        "grown": found.grown,
        "faults_found": found.faults_found,
        "faults": faults,
    })
}
