//! A file that a region hands out, checked by somebody who has the region's
//! public key and nothing else.

use landline_region::merkle::{Frontier, Plan, Sha256, leaf_hash, root};
use landline_region::receipt::{
    CallKey, Consent, Document, Egress, Evidence, Inclusion, LegWay, Receipt, ReceiptFile, Record,
    Recording, RecordingState, Regions, Report, ReportFile, Signed, SigningKey, StoredRecording,
    TreeHead, Trust, Verdict, VerifyingKey, canonical, egress_totals, verify,
};
use landline_region::{AccountSid, CallSid, RecordingSid, RegionCode, TrunkSid, UnixMillis};
use serde_json::{Value, json};

const ACCOUNT: AccountSid = AccountSid::from_u128(1);

fn region(code: &str) -> RegionCode {
    code.parse().unwrap()
}

fn key(code: &str) -> SigningKey {
    SigningKey::from_seed(region(code), &[7; 32])
}

fn trust() -> Trust {
    Trust { keys: vec![key("ie1").verifying_key()] }
}

fn receipt(log_index: u64) -> Receipt {
    let ie1 = region("ie1");
    let at = |ms: i64| UnixMillis(1_763_812_800_000 + 60_000 * log_index as i64 + ms);
    let consent = Consent { by_policy: true, granted_at: at(0) };
    let call_key = |name: &str| CallKey { id: name.to_owned(), created_at: Some(at(1)) };
    Receipt {
        r#type: landline_region::receipt::ReceiptType::V1,
        region: ie1,
        log_index,
        issued_at: at(9000),
        call: CallSid::from_u128(100 + u128::from(log_index)),
        account: ACCOUNT,
        contracting_entity: "Landline Ireland \"Ltd\"".to_owned(),
        opened_at: at(0),
        answered_at: Some(at(3000)),
        closed_at: at(8000),
        regions: Regions { home: ie1, signalling: ie1, media: Some(ie1), storage: ie1 },
        proxy: "proxy-1".to_owned(),
        relay: Some("relay-1".to_owned()),
        consent: Some(consent),
        key: call_key("KY1"),
        record: Record {
            position: log_index + 1,
            previous: Sha256::of(b"before"),
            hash: Sha256::of(b"record"),
            legs: 2,
        },
        recordings: vec![Recording {
            sid: RecordingSid::from_u128(5),
            state: RecordingState::Finished,
            stored: Some(StoredRecording {
                home_region: ie1,
                storage_region: ie1,
                key: call_key("KY2"),
                consent,
                started_at: at(3000),
                finished_at: Some(at(8100)),
                duration_ms: 5000,
                expected_packets: 500,
                stored_packets: 500,
                chunks: 5,
                head: Sha256::of(b"chunks"),
            }),
        }],
        egress: Egress::unreported(),
    }
}

fn head(size: u64, root: Sha256) -> Signed<TreeHead> {
    let body = TreeHead {
        r#type: landline_region::receipt::TreeHeadType::V1,
        region: region("ie1"),
        signed_at: UnixMillis(1_763_900_000_000),
        tree_size: size,
        root,
        previous_size: size - 1,
    };
    Signed::new(body, &key("ie1")).unwrap()
}

/// A log of 7 calls, and the receipt file of the one at `index`.
fn receipt_file(change: impl Fn(&mut Receipt)) -> ReceiptFile {
    let index = 4;
    let mut receipts: Vec<Receipt> = (0..7).map(receipt).collect();
    change(&mut receipts[index]);
    let evidence = evidence(&receipts);
    ReceiptFile {
        r#type: landline_region::receipt::ReceiptFileType::V1,
        tree_head: head(7, root(receipts.iter().map(|receipt| receipt.leaf().unwrap()))),
        evidence: evidence.into_iter().nth(index).unwrap(),
        deletions: Vec::new(),
        key_changes: Vec::new(),
        keys: vec![key("ie1").verifying_key().into()],
    }
}

fn evidence(receipts: &[Receipt]) -> Vec<Evidence> {
    let (mut frontier, mut nodes) = (Frontier::default(), std::collections::HashMap::new());
    for receipt in receipts {
        frontier.append(receipt.leaf().unwrap(), |node, hash| {
            let _ = nodes.insert(node, hash);
        });
    }
    let size = receipts.len() as u64;
    let one = |receipt: &Receipt| Evidence {
        receipt: Signed::new(receipt.clone(), &key("ie1")).unwrap(),
        inclusion: Inclusion {
            tree_size: size,
            path: Plan::inclusion(receipt.log_index, size)
                .unwrap()
                .assemble(|node| nodes.get(&node).copied())
                .unwrap(),
        },
    };
    receipts.iter().map(one).collect()
}

/// Of the account's calls 3 to 5 in a log of 7; the earlier head has 3 entries.
fn report_file(change: impl Fn(&mut Report), change_receipt: impl Fn(&mut Receipt)) -> ReportFile {
    let mut receipts: Vec<Receipt> = (0..7).map(receipt).collect();
    change_receipt(&mut receipts[4]);
    let leaves: Vec<Sha256> = receipts.iter().map(|receipt| receipt.leaf().unwrap()).collect();
    let (mut frontier, mut nodes) = (Frontier::default(), std::collections::HashMap::new());
    leaves.iter().for_each(|leaf| {
        frontier.append(*leaf, |node, hash| {
            let _ = nodes.insert(node, hash);
        })
    });
    let plan = Plan::consistency(3, 7).unwrap();
    let mut report = Report {
        r#type: landline_region::receipt::ReportType::V1,
        region: region("ie1"),
        made_at: UnixMillis(1_763_900_000_001),
        account: ACCOUNT,
        from: receipts[3].opened_at,
        to: receipts[6].opened_at,
        closed: 4,
        open: 1,
        waiting: 1,
        receipts: 3,
        receipts_root: root(leaves[3..6].iter().copied()),
        other_regions: Vec::new(),
        egress_lines: 0,
        egress_unreported: 3,
        egress: Vec::new(),
    };
    change(&mut report);
    ReportFile {
        r#type: landline_region::receipt::ReportFileType::V1,
        report: Signed::new(report, &key("ie1")).unwrap(),
        receipts: evidence(&receipts).drain(3..6).collect(),
        earlier_head: Some(head(3, root(leaves[..3].iter().copied()))),
        consistency: plan.assemble(|node| nodes.get(&node).copied()).unwrap(),
        tree_head: head(7, root(leaves)),
        deletions: Vec::new(),
        key_changes: Vec::new(),
        keys: vec![key("ie1").verifying_key().into()],
    }
}

fn checked(file: &impl serde::Serialize, trust: &Trust) -> Verdict {
    let text = serde_json::to_string_pretty(file).unwrap();
    verify(&Document::parse(&text).unwrap(), trust)
}

fn says(lines: &[String], wanted: &str) -> bool {
    lines.iter().any(|line| line.contains(wanted))
}

#[test]
fn a_receipt_is_sound_for_who_has_the_regions_key() {
    let verdict = checked(&receipt_file(|_| ()), &trust());
    assert!(verdict.is_sound(), "{verdict:?}");
    assert!(says(&verdict.proven, "entry 4 of region ie1's log"), "{verdict:?}");
    assert!(says(&verdict.stated, "signalled in ie1 by proxy-1"), "{verdict:?}");
    assert!(says(&verdict.not_proven, "the record does not say what did"), "{verdict:?}");
    let with_egress = receipt_file(|receipt| receipt.egress.reported = true);
    assert!(!says(&checked(&with_egress, &trust()).not_proven, "the record does not say what did"));
}

#[test]
fn without_a_trusted_key_nothing_is_wrong_and_nobody_known() {
    let verdict = checked(&receipt_file(|_| ()), &Trust::default());
    assert!(verdict.faults.is_empty() && !verdict.is_sound(), "{verdict:?}");
    assert!(says(&verdict.not_proven, "who signed"), "{verdict:?}");

    let stranger = SigningKey::from_seed(region("ie1"), &[8; 32]).verifying_key();
    let verdict = checked(&receipt_file(|_| ()), &Trust { keys: vec![stranger] });
    assert!(!verdict.is_sound() && says(&verdict.faults, "not among the trusted"), "{verdict:?}");
    assert!(verdict.proven.is_empty());
}

#[test]
fn a_region_does_not_speak_for_another() {
    // us1's own key is trusted, for us1.
    let us1 = key("us1");
    let mut file = receipt_file(|_| ());
    file.evidence.receipt = Signed::new(file.evidence.receipt.body, &us1).unwrap();
    file.tree_head = Signed::new(file.tree_head.body, &us1).unwrap();
    let both = Trust { keys: vec![us1.verifying_key(), key("ie1").verifying_key()] };
    let verdict = checked(&file, &both);
    assert!(says(&verdict.faults, "signed by one of us1"), "{verdict:?}");
}

#[test]
fn a_receipt_of_a_call_that_was_at_home_elsewhere_is_refused() {
    let file = receipt_file(|receipt| receipt.regions.storage = region("us1"));
    let verdict = checked(&file, &trust());
    assert!(says(&verdict.faults, "lies in us1"), "{verdict:?}");
}

/// Every scalar of a document, one after the other, as another of its kind.
fn changes(document: &Value) -> Vec<(String, Value)> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(name, value)| walk(value, &format!("{path}/{name}"), found)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, value)| walk(value, &format!("{path}/{index}"), found)),
            _ => found.push(path.to_owned()),
        }
    }
    let mut paths = Vec::new();
    walk(document, "", &mut paths);
    let changed = |path: String| {
        let mut copy = document.clone();
        let place = copy.pointer_mut(&path).unwrap();
        *place = match &*place {
            Value::Bool(value) => json!(!value),
            Value::Number(value) => json!(value.as_i64().unwrap() + 1),
            Value::String(text) => {
                let last = text.chars().last().unwrap();
                let other = if last == '1' { '2' } else { '1' };
                json!(format!("{}{other}", &text[..text.len() - last.len_utf8()]))
            }
            _ => json!(1),
        };
        (path, copy)
    };
    // The keys that a file brings count for nothing where others are trusted.
    paths.into_iter().filter(|path| !path.starts_with("/keys")).map(changed).collect()
}

#[test]
fn no_member_of_a_receipt_or_a_report_can_be_changed() {
    let files = [
        serde_json::to_value(receipt_file(left)).unwrap(),
        serde_json::to_value(report_file(left_in_total, left)).unwrap(),
    ];
    for file in files {
        assert!(checked(&file, &trust()).is_sound());
        let changes = changes(&file);
        assert!(changes.len() > 40, "{}", changes.len());
        for (path, changed) in changes {
            if let Ok(document) = Document::parse(&changed.to_string()) {
                assert!(!verify(&document, &trust()).is_sound(), "{path} was changed");
            }
        }
    }
}

#[test]
fn a_member_that_is_unknown_or_stands_twice_is_refused() {
    let text = serde_json::to_string(&receipt_file(|_| ())).unwrap();
    assert!(Document::parse(&text).is_ok());
    for (from, to) in [
        ("\"proxy\":", "\"proxy\":\"proxy-0\",\"proxy\":"),
        ("\"proxy\":", "\"verified\":true,\"proxy\":"),
        ("landline/receipt/1", "landline/receipt/2"),
        ("landline/receipt-file/1", "landline/residency-report-file/1"),
        ("landline/receipt-file/1", "something"),
    ] {
        assert!(Document::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn a_report_proves_that_no_other_region_occurs() {
    let verdict = checked(&report_file(|_| (), |_| ()), &trust());
    assert!(verdict.is_sound(), "{verdict:?}");
    assert!(says(&verdict.proven, "no region other than ie1"), "{verdict:?}");
    assert!(says(&verdict.proven, "the log of 3 entries"), "{verdict:?}");
    assert!(says(&verdict.not_proven, "no call is left out"), "{verdict:?}");
}

#[test]
fn a_report_that_hides_another_region_or_admits_one_is_not_sound() {
    let abroad = |receipt: &mut Receipt| receipt.regions.media = Some(region("us1"));
    let hidden = checked(&report_file(|_| (), abroad), &trust());
    assert!(says(&hidden.faults, "media in region us1"), "{hidden:?}");
    let told = report_file(|report| report.other_regions = vec![region("us1")], abroad);
    assert!(!checked(&told, &trust()).is_sound());
}

/// By an edge, to another account, and out by a trunk.
fn left(receipt: &mut Receipt) {
    let way = |edges: &[&str], region_of: Option<&str>, trunk| LegWay {
        edges: edges.iter().map(|code| region(code)).collect(),
        region: region_of.map(region),
        trunk,
        media: true,
    };
    let trunk = way(&[], None, Some(TrunkSid::from_u128(9)));
    let legs = [way(&["us1"], None, None), way(&[], Some("au1"), None), trunk];
    receipt.egress = Egress::of(receipt.region, &legs);
}

/// What the report has to say of one receipt that [`left`] changed.
fn left_in_total(report: &mut Report) {
    let mut one = receipt(4);
    left(&mut one);
    report.egress = egress_totals([&one]);
    report.egress_lines = one.egress.lines.len() as u64;
    report.egress_unreported = 2;
}

#[test]
fn a_receipt_says_what_left_the_region_and_for_whom() {
    let verdict = checked(&receipt_file(left), &trust());
    assert!(verdict.is_sound(), "{verdict:?}");
    let trunk = TrunkSid::from_u128(9).to_string();
    for wanted in [
        "inter_region_sip to region us1, whose proxies",
        "inter_region_sip to region au1, where the account",
        "inter_region_media to region au1",
        &format!("trunk_sip by {trunk}"),
        &format!("trunk_media by {trunk}"),
        "it may say call.audio",
    ] {
        assert!(says(&verdict.stated, wanted), "{wanted}: {verdict:?}");
    }
    let none = receipt_file(|receipt| receipt.egress = Egress::of(region("ie1"), &[]));
    assert!(says(&checked(&none, &trust()).stated, "nothing of the call left"));
}

#[test]
fn what_left_cannot_contradict_itself_even_signed() {
    for change in [
        (|egress: &mut Egress| egress.reported = false) as fn(&mut Egress),
        |egress| egress.lines[0].region = None,
        |egress| egress.lines[0].to = "ie1".to_owned(),
        |egress| (egress.lines[0].region, egress.lines[0].to) = (Some(region("ie1")), "ie1".into()),
        |egress| egress.lines[4].region = Some(region("us1")),
    ] {
        let file = receipt_file(|receipt| {
            left(receipt);
            change(&mut receipt.egress);
        });
        let verdict = checked(&file, &trust());
        assert!(says(&verdict.faults, "contradicts itself"), "{verdict:?}");
    }
}

#[test]
fn a_report_tells_what_left_over_its_period_and_hides_nothing_of_it() {
    let verdict = checked(&report_file(left_in_total, left), &trust());
    assert!(verdict.is_sound(), "{verdict:?}");
    assert!(says(&verdict.stated, "of 1 calls, 1 legs left by inter_region_media to au1"));
    assert!(!says(&verdict.proven, "no region other than ie1 occurs"), "{verdict:?}");
    assert!(says(&verdict.proven, "no region other than ie1 signalled"), "{verdict:?}");
    for change in [
        (|report: &mut Report| report.egress.clear()) as fn(&mut Report),
        |report| drop(report.egress.remove(1)),
        |report| report.egress[0].calls = 2,
        |report| report.egress[0].to = "au2".to_owned(),
        |report| report.egress_lines = 0,
        |report| report.egress_unreported = 3,
    ] {
        let file = report_file(
            |report| {
                left_in_total(report);
                change(report);
            },
            left,
        );
        assert!(says(&checked(&file, &trust()).faults, "not what its receipts say"));
    }
}

#[test]
fn a_report_is_of_its_own_account_period_and_order() {
    let sound = report_file(|_| (), |_| ());
    let mut swapped = sound.clone();
    swapped.receipts.swap(0, 1);
    let mut short = sound.clone();
    short.receipts.pop();
    let mut rewritten = sound.clone();
    rewritten.earlier_head = Some(head(3, Sha256::of(b"another history")));
    let mut bare = sound.clone();
    bare.earlier_head = None;
    for file in [swapped, short, rewritten, bare] {
        assert!(!checked(&file, &trust()).is_sound());
    }
    for change in [
        (|report: &mut Report| report.from = UnixMillis(report.from.0 + 1)) as fn(&mut Report),
        |report| report.to = UnixMillis(report.to.0 - 60_000),
        |report| report.account = AccountSid::from_u128(2),
        |report| report.closed = 3,
        |report| report.egress_unreported = 0,
    ] {
        let verdict = checked(&report_file(change, |_| ()), &trust());
        assert!(!verdict.faults.is_empty(), "{verdict:?}");
    }
}

#[test]
fn the_signed_octets_can_be_made_again_from_the_json() {
    let file = serde_json::to_value(receipt_file(|_| ())).unwrap();
    let body = &file["evidence"]["receipt"]["body"];
    let octets = canonical(body).unwrap();
    assert!(
        octets.starts_with(br#"{"account":"AC00000000000000000000000000000001","answered_at":"#)
    );
    let signature = file["evidence"]["receipt"]["signature"].as_str().unwrap();
    let public = file["keys"][0]["ed25519"].as_str().unwrap();
    let key = VerifyingKey::from_hex(region("ie1"), public).unwrap();
    assert!(key.verifies(&octets, &signature.to_owned().try_into().unwrap()));
    assert_eq!(leaf_hash(&octets), receipt(4).leaf().unwrap());
}
