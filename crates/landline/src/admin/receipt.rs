//! Receipts: shown, handed out, and checked by who has nothing but a file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use landline_region::receipt::{
    Document, Receipt, ReceiptFile, Recording, Trust, Verdict, VerifyingKey, verify as check,
};
use landline_region::{CallSid, RegionCode};
use landline_store::{KeyRing, RegionKey, Store};
use serde_json::{Value, json};

use super::Place;
use super::calls::time;
use crate::cli::{ReceiptVerb, TrustArgs, Where};
use crate::files;
use crate::output::{Style, Table, card, pretty, say};

/// A report of as many calls as one may list is smaller.
const LARGEST: u64 = 1 << 30;

pub async fn run(place: &Place, verb: ReceiptVerb, style: Style) -> Result<String> {
    match verb {
        ReceiptVerb::Show { call } => {
            let file = find(place, call).await?;
            match style.json {
                true => Ok(pretty(&serde_json::to_value(file)?)),
                false => Ok(card(&shown(&file), style)),
            }
        }
        ReceiptVerb::Export { call, file } => {
            let receipt = find(place, call).await?;
            let text = pretty(&serde_json::to_value(&receipt)?);
            write(&file, &text)?;
            let answer = json!({
                "call": call.to_string(),
                "region": receipt.evidence.receipt.body.region.to_string(),
                "file": file,
            });
            Ok(card(&answer, style))
        }
        ReceiptVerb::Keys { out } => keys(place, out.as_deref(), style).await,
        ReceiptVerb::RotateKey { region } => rotate_key(place, region, style).await,
        ReceiptVerb::Verify { .. } => bail!("a file is verified without a region"),
    }
}

/// Of the region, at hand, that holds the call.
async fn find(place: &Place, call: CallSid) -> Result<ReceiptFile> {
    for (_, store) in place.stores().await? {
        if holds(&store, call).await? {
            return Ok(store.receipt_file(call).await?);
        }
    }
    Err(anyhow!(
        "no call {call} in {}; a call's receipt lies in its account's home region alone",
        place.shown()
    ))
}

/// A receipt may outlive its call's record.
async fn holds(store: &Store, call: CallSid) -> Result<bool> {
    Ok(store.holds(call).await? || store.receipt_of(call).await?.is_some())
}

fn shown(file: &ReceiptFile) -> Value {
    let (receipt, head) = (&file.evidence.receipt.body, &file.tree_head.body);
    let regions = &receipt.regions;
    json!({
        "call": receipt.call.to_string(),
        "account": receipt.account.to_string(),
        "contracting_entity": receipt.contracting_entity,
        "opened_at": receipt.opened_at.to_string(),
        "answered_at": time(receipt.answered_at),
        "closed_at": receipt.closed_at.to_string(),
        "home_region": regions.home.to_string(),
        "signalled": format!("in {} by {}", regions.signalling, receipt.proxy),
        "media": regions.media.map(|region| {
            format!("in {region} by {}", receipt.relay.as_deref().unwrap_or("no relay"))
        }),
        "stored_in": regions.storage.to_string(),
        "consent": receipt.consent.map(|consent| {
            format!("{} at {}", if consent.by_policy { "by policy" } else { "by the caller" }, consent.granted_at)
        }),
        "key_id": receipt.key.id,
        "record": format!("{}, number {} of the chain, {} legs", receipt.record.hash, receipt.record.position, receipt.record.legs),
        "recordings": receipt.recordings.iter().map(recording).collect::<Vec<_>>(),
        "egress": egress(receipt),
        "issued_at": receipt.issued_at.to_string(),
        "log_entry": format!("{} of {}", receipt.log_index, head.tree_size),
        "tree_head": format!("{} at {}", head.root, head.signed_at),
        "signed_by": file.evidence.receipt.key_id.to_string(),
    })
}

fn recording(recording: &Recording) -> String {
    match &recording.stored {
        None => format!("{}: nothing of it arrived", recording.sid),
        Some(stored) => format!(
            "{} in {}: {} of {} packets, {} chunks to {}, key {}",
            recording.sid,
            stored.storage_region,
            stored.stored_packets,
            stored.expected_packets,
            stored.chunks,
            stored.head,
            stored.key.id
        ),
    }
}

fn egress(receipt: &Receipt) -> Vec<String> {
    let lines = &receipt.egress.lines;
    match receipt.egress.reported {
        false => vec!["not reported".to_owned()],
        true if lines.is_empty() => vec!["nothing left the region".to_owned()],
        true => {
            lines.iter().map(|line| format!("{}: {} legs", line.towards(), line.legs)).collect()
        }
    }
}

async fn keys(place: &Place, out: Option<&Path>, style: Style) -> Result<String> {
    let mut rows = Vec::new();
    for (_, store) in place.stores().await? {
        for key in store.signing_keys().await? {
            rows.push(key_row(&key, out)?);
        }
    }
    let mut columns = vec!["region", "algorithm", "key_id", "since", "until", "public_key"];
    if out.is_some() {
        columns.push("file");
    }
    Ok(Table::new(&columns, rows, "no regions").render(style))
}

fn key_row(region_key: &RegionKey, out: Option<&Path>) -> Result<Value> {
    let key = &region_key.key;
    let mut row = json!({
        "region": key.region().to_string(),
        "key_id": key.id().to_string(),
        "algorithm": "Ed25519",
        "since": time(region_key.since),
        "until": time(region_key.until),
        "public_key": key.to_hex(),
        "pem": key.to_pem(),
    });
    if let Some(dir) = out {
        std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        let file = dir.join(format!("{}.pem", key.id()));
        write(&file, key.to_pem().trim_end())?;
        row["file"] = json!(file);
    }
    Ok(row)
}

async fn rotate_key(place: &Place, region: RegionCode, style: Style) -> Result<String> {
    place.config_of(region, "the key")?;
    for (code, store) in place.stores().await? {
        if code == region {
            return Ok(card(&key_row(&store.signing_key_rotate().await?, None)?, style));
        }
    }
    bail!("no region {region} in {}", place.shown())
}

/// The first key of each: a file brings the changes since, which it certifies.
fn region_keys(place: &Place) -> Result<Vec<VerifyingKey>> {
    let of = |config: &crate::config::Config| {
        let ring = KeyRing::open(&config.key_ring, config.region.code)?;
        Ok(ring.first_signing_key().verifying_key())
    };
    place.configs().iter().map(of).collect()
}

/// `receipt verify`: prints what the file proves, and fails unless everything
/// in it holds and somebody trusted signed it.
pub fn verify(place: &Where, file: &Path, trust: &TrustArgs) -> Result<()> {
    let style = Style::detect(place.json);
    let document = read(file)?;
    let trust = trusted(place, &document, trust)?;
    let verdict = check(&document, &trust);
    say(&match style.json {
        true => pretty(&json!({
            "ok": verdict.is_sound(),
            "file": file,
            "signer_known": verdict.signer_known,
            "proven": verdict.proven,
            "stated": verdict.stated,
            "not_proven": verdict.not_proven,
            "faults": verdict.faults,
        })),
        false => in_words(&verdict),
    })?;
    match (verdict.faults.is_empty(), verdict.signer_known) {
        (true, true) => Ok(()),
        (true, false) => bail!(
            "{}: whole in itself, and nobody known signed it: name the region's public key with --key or --trust",
            file.display()
        ),
        (false, _) => bail!("{}: not to be believed", file.display()),
    }
}

fn in_words(verdict: &Verdict) -> String {
    let parts = [
        ("WRONG", &verdict.faults),
        ("PROVEN", &verdict.proven),
        ("STATED by the region, under its signature", &verdict.stated),
        ("NOT PROVEN", &verdict.not_proven),
    ];
    let part = |(heading, lines): (&str, &Vec<String>)| {
        let lines: Vec<String> = lines.iter().map(|line| format!("  - {line}")).collect();
        (!lines.is_empty()).then(|| format!("{heading}\n{}", lines.join("\n")))
    };
    parts.into_iter().filter_map(part).collect::<Vec<_>>().join("\n\n")
}

pub fn read(file: &Path) -> Result<Document> {
    let shown = || format!("{}", file.display());
    let mut text = String::new();
    let opened = File::open(file).with_context(shown)?;
    opened.take(LARGEST).read_to_string(&mut text).with_context(shown)?;
    Document::parse(&text).with_context(shown)
}

pub fn write(file: &Path, text: &str) -> Result<()> {
    files::replace(file, format!("{text}\n").as_bytes(), 0o644)
        .with_context(|| format!("{}", file.display()))
}

fn trusted(place: &Where, document: &Document, args: &TrustArgs) -> Result<Trust> {
    let mut keys = Vec::new();
    if let Some(file) = &args.key {
        keys.push(pem(file, document.tree_head().body.region)?);
    }
    if let Some(dir) = &args.trust {
        for entry in std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "pem") {
                keys.push(pem(&file, region_of(&file)?)?);
            }
        }
        if keys.is_empty() {
            bail!(
                "{}: no REGION.pem in it; `landline receipt keys --out DIR` writes them",
                dir.display()
            );
        }
    }
    if place.config.is_some() || place.data.is_some() {
        keys.extend(region_keys(&Place::open(place)?)?);
    }
    Ok(Trust { keys })
}

/// The region that a key file's name begins with.
fn region_of(file: &Path) -> Result<RegionCode> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let code = stem.split('-').next().unwrap_or_default();
    code.parse().with_context(|| {
        format!(
            "{}: its name says whose key it is: wanted REGION.pem or REGION-….pem",
            file.display()
        )
    })
}

fn pem(file: &Path, region: RegionCode) -> Result<VerifyingKey> {
    let shown = || format!("{}", file.display());
    let text = std::fs::read_to_string(file).with_context(shown)?;
    VerifyingKey::from_pem(region, &text).with_context(shown)
}
