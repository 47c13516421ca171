//! What a receipt costs to make and to check, and the log to grow.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use landline_region::merkle::{Frontier, Node, Plan, Sha256, is_included, leaf_hash};
use landline_region::receipt::{
    CallKey, Consent, Document, Egress, Evidence, Inclusion, Receipt, ReceiptFile, ReceiptFileType,
    ReceiptType, Record, Recording, RecordingState, Regions, Signed, SigningKey, StoredRecording,
    TreeHead, TreeHeadType, Trust, canonical, verify,
};
use landline_region::{AccountSid, CallSid, RecordingSid, RegionCode, UnixMillis};
use std::collections::HashMap;
use std::hint::black_box;

/// Entries of the log that proofs are made in: 17 hashes to a path.
const LOG: u64 = 100_000;

fn region() -> RegionCode {
    "ie1".parse().expect("a region's code")
}

fn key() -> SigningKey {
    SigningKey::from_seed(region(), &[7; 32])
}

/// Of an answered and recorded call, as most are.
fn receipt(log_index: u64) -> Receipt {
    let ie1 = region();
    let at = UnixMillis(1_763_812_800_000);
    let consent = Consent { by_policy: true, granted_at: at };
    let call_key = |id: &str| CallKey { id: id.repeat(16), created_at: Some(at) };
    Receipt {
        r#type: ReceiptType::V1,
        region: ie1,
        log_index,
        issued_at: at,
        call: CallSid::from_u128(u128::MAX - u128::from(log_index)),
        account: AccountSid::from_u128(u128::MAX),
        contracting_entity: "Landline Ireland Ltd".to_owned(),
        opened_at: at,
        answered_at: Some(at),
        closed_at: at,
        regions: Regions { home: ie1, signalling: ie1, media: Some(ie1), storage: ie1 },
        proxy: "proxy-1".to_owned(),
        relay: Some("relay-1".to_owned()),
        consent: Some(consent),
        key: call_key("K1"),
        record: Record {
            position: log_index + 1,
            previous: Sha256::of(b"previous"),
            hash: Sha256::of(b"record"),
            legs: 2,
        },
        recordings: vec![Recording {
            sid: RecordingSid::from_u128(u128::MAX),
            state: RecordingState::Finished,
            stored: Some(StoredRecording {
                home_region: ie1,
                storage_region: ie1,
                key: call_key("K2"),
                consent,
                started_at: at,
                finished_at: Some(at),
                duration_ms: 180_000,
                expected_packets: 18_000,
                stored_packets: 18_000,
                chunks: 180,
                head: Sha256::of(b"chunks"),
            }),
        }],
        egress: Egress { reported: true, lines: Vec::new() },
    }
}

/// A log with this entry: its right edge, and every node.
fn grown(wanted: &Receipt) -> (Frontier, HashMap<Node, Sha256>) {
    let (mut nodes, mut log) = (HashMap::new(), Frontier::default());
    for index in 0..LOG {
        let leaf = match index == wanted.log_index {
            true => wanted.leaf().expect("a leaf"),
            false => Sha256::of(&index.to_be_bytes()),
        };
        log.append(leaf, |node, hash| {
            let _ = nodes.insert(node, hash);
        });
    }
    (log, nodes)
}

fn file() -> ReceiptFile {
    let wanted = receipt(LOG / 3);
    let (log, nodes) = grown(&wanted);
    let head = TreeHead {
        r#type: TreeHeadType::V1,
        region: region(),
        signed_at: wanted.issued_at,
        tree_size: LOG,
        root: log.root(),
        previous_size: LOG - 1,
    };
    let plan = Plan::inclusion(wanted.log_index, LOG).expect("an entry of the log");
    let path = plan.assemble(|node| nodes.get(&node).copied()).expect("a path");
    ReceiptFile {
        r#type: ReceiptFileType::V1,
        evidence: Evidence {
            receipt: Signed::new(wanted, &key()).expect("a receipt"),
            inclusion: Inclusion { tree_size: LOG, path },
        },
        tree_head: Signed::new(head, &key()).expect("a head"),
        deletions: Vec::new(),
        key_changes: Vec::new(),
        keys: vec![key().verifying_key().into()],
    }
}

fn receipts(c: &mut Criterion) {
    let mut group = c.benchmark_group("receipts");
    group.throughput(Throughput::Elements(1));
    let (key, one) = (key(), receipt(5));
    group.bench_function("canonical octets", |b| b.iter(|| canonical(black_box(&one))));
    let octets = canonical(&one).expect("a receipt");
    group.bench_function("sign the octets", |b| b.iter(|| key.sign(black_box(&octets))));
    group.bench_function("state, sign and hash", |b| {
        b.iter(|| {
            let octets = canonical(black_box(&one)).expect("a receipt");
            (key.sign(&octets), leaf_hash(&octets))
        });
    });
    let signed = Signed::new(one, &key).expect("a receipt");
    let public = key.verifying_key();
    group.bench_function("verify a signature", |b| b.iter(|| black_box(&signed).is_by(&public)));
    // What a third party does with a file: two signatures and a path.
    let text = serde_json::to_string_pretty(&file()).expect("a file");
    let trust = Trust { keys: vec![public] };
    group.bench_function("parse and verify a file", |b| {
        b.iter(|| {
            let document = Document::parse(black_box(&text)).expect("a file");
            assert!(verify(&document, &trust).is_sound());
        });
    });
    group.finish();
}

fn log(c: &mut Criterion) {
    let leaves: Vec<Sha256> = (0..1024_u64).map(|n| Sha256::of(&n.to_be_bytes())).collect();
    let mut group = c.benchmark_group("merkle");
    group.throughput(Throughput::Elements(leaves.len() as u64));
    group.bench_function("append 1024 and the root", |b| {
        b.iter_batched(
            Frontier::default,
            |mut log| {
                for leaf in &leaves {
                    log.append(*leaf, |node, hash| {
                        black_box((node, hash));
                    });
                }
                log.root()
            },
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    let wanted = receipt(LOG / 3);
    let (log, nodes) = grown(&wanted);
    let prove = |index| {
        let plan = Plan::inclusion(index, LOG).expect("an entry of the log");
        plan.assemble(|node| nodes.get(&node).copied()).expect("a path")
    };
    group.bench_function("prove an entry of 100,000", |b| b.iter(|| prove(black_box(LOG / 3))));
    let (path, leaf, root) = (prove(LOG / 3), wanted.leaf().expect("a leaf"), log.root());
    group.bench_function("check that proof", |b| {
        b.iter(|| assert!(is_included(black_box(leaf), LOG / 3, LOG, &path, root)));
    });
    group.finish();
}

criterion_group!(benches, receipts, log);
criterion_main!(benches);
