//! Checking a file offline: no region, no database, no clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::keys::KeyChain;
use super::{
    Deletion, Document, Entry, Evidence, KeyId, Receipt, ReceiptFile, RecordingState, ReportFile,
    Signed, TreeHead, VerifyingKey, egress_totals,
};
use crate::RegionCode;
use crate::merkle::{is_consistent, is_included, root};

/// The keys that the reader got from the regions themselves, not from the file.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    pub keys: Vec<VerifyingKey>,
}

/// What a file proves, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Holds by calculation alone.
    pub proven: Vec<String>,
    /// The region's word: signed by it, and proven by nothing else.
    pub stated: Vec<String>,
    /// What the file does not show.
    pub not_proven: Vec<String>,
    /// What is wrong with it. Empty, or nothing of the file is to be believed.
    pub faults: Vec<String>,
    /// Whether a trusted key signed everything.
    pub signer_known: bool,
}

impl Verdict {
    /// Nothing is wrong, and a trusted key signed it.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.signer_known
    }
}

/// Checks everything that can be checked from the file and the trusted keys.
/// Without trusted keys, the file's own stand in, and the signer stays unknown.
pub fn verify(document: &Document, trust: &Trust) -> Verdict {
    let mut check = Check::new(document, trust);
    match document {
        Document::Receipt(file) => check.receipt_file(file),
        Document::Report(file) => check.report_file(file),
    }
    check.finish()
}

struct Check {
    keys: KeyChain,
    trusted: bool,
    signers: BTreeSet<KeyId>,
    verdict: Verdict,
}

impl Check {
    fn new(document: &Document, trust: &Trust) -> Self {
        let trusted = !trust.keys.is_empty();
        let brought = document.keys().iter().filter(|_| !trusted);
        let mut verdict = Verdict { signer_known: trusted, ..Verdict::default() };
        let mut keys: Vec<VerifyingKey> = trust.keys.clone();
        for key in brought {
            match VerifyingKey::from_hex(key.region, &key.ed25519) {
                Ok(key) => keys.push(key),
                Err(error) => verdict.faults.push(format!("a key that the file brings: {error}")),
            }
        }
        let mut keys = KeyChain::new(keys);
        match keys.follow(document.key_changes(), &document.tree_head().body) {
            Ok(followed) => verdict.proven.extend(followed),
            Err(fault) => verdict.faults.push(fault),
        }
        Self { keys, trusted, signers: BTreeSet::new(), verdict }
    }

    fn fault(&mut self, fault: impl Into<String>) {
        self.verdict.faults.push(fault.into());
    }

    /// A fault where `region` did not sign the statement with the key that it
    /// signed with at this place of its log.
    fn signed<T: Serialize>(
        &mut self,
        what: &str,
        signed: &Signed<T>,
        region: RegionCode,
        place: u64,
    ) {
        let id = signed.key_id;
        let problem = match self.keys.get(id) {
            None if self.trusted => {
                self.verdict.signer_known = false;
                Some(format!("is signed by key {id}, which is not among the trusted ones"))
            }
            None => Some(format!("is signed by key {id}, which the file does not bring")),
            Some(key) if key.region() != region => Some(format!(
                "speaks for region {region}, and is signed by one of {}",
                key.region()
            )),
            Some(key) if !signed.is_by(key) => {
                Some(format!("was changed: key {id} did not sign what it says"))
            }
            Some(_) if !self.keys.is_of_place(id, place) => {
                Some(format!("is signed by key {id}, which the region did not use there"))
            }
            Some(_) => None,
        };
        match problem {
            Some(problem) => self.fault(format!("{what} {problem}")),
            None => drop(self.signers.insert(id)),
        }
    }

    fn receipt_file(&mut self, file: &ReceiptFile) {
        let receipt = &file.evidence.receipt.body;
        self.head("the tree head", &file.tree_head, receipt.region);
        self.evidence(&file.evidence, &file.tree_head.body);
        self.deletions(&file.deletions, [receipt], &file.tree_head.body);
        if self.verdict.faults.is_empty() {
            self.verdict
                .proven
                .push(format!("the receipt of call {} was signed as it stands", receipt.call));
            self.verdict.proven.push(format!(
                "it is entry {} of region {}'s log, in the head of {} entries signed at {}",
                receipt.log_index,
                receipt.region,
                file.tree_head.body.tree_size,
                file.tree_head.body.signed_at
            ));
        }
        self.state(receipt);
        self.doubts(!receipt.egress.reported);
        self.verdict.not_proven.push(
            "that the record and the recording still exist unchanged: `landline residency check` in the region holds them against their hashes".to_owned(),
        );
    }

    fn head(&mut self, what: &str, head: &Signed<TreeHead>, region: RegionCode) {
        if head.body.region != region {
            self.fault(format!("{what} is of region {}, not of {region}", head.body.region));
        }
        self.signed(what, head, region, head.body.tree_size);
    }

    /// The receipt's signature, its sense, and its place under the head.
    fn evidence(&mut self, evidence: &Evidence, head: &TreeHead) {
        let (receipt, inclusion) = (&evidence.receipt.body, &evidence.inclusion);
        let what = format!("the receipt of call {}", receipt.call);
        self.signed(&what, &evidence.receipt, receipt.region, receipt.log_index);
        if receipt.region != receipt.regions.home || receipt.region != receipt.regions.storage {
            self.fault(format!(
                "{what} is of region {}, but the call's home is {} and its record lies in {}",
                receipt.region, receipt.regions.home, receipt.regions.storage
            ));
        }
        let egress = &receipt.egress;
        if !egress.lines.iter().all(|line| line.makes_sense(receipt.region))
            || !(egress.reported || egress.lines.is_empty())
        {
            self.fault(format!("{what} contradicts itself in what left the region"));
        }
        if inclusion.tree_size != head.tree_size {
            self.fault(format!("{what} is proven under another tree head than the file's"));
            return;
        }
        let included = receipt.leaf().is_ok_and(|leaf| {
            is_included(leaf, receipt.log_index, head.tree_size, &inclusion.path, head.root)
        });
        if !included {
            self.fault(format!("{what} is not entry {} of the log", receipt.log_index));
        }
    }

    /// What was deleted is what the receipts spoke of.
    fn deletions<'a>(
        &mut self,
        deletions: &[Entry<Deletion>],
        receipts: impl IntoIterator<Item = &'a Receipt>,
        head: &TreeHead,
    ) {
        if deletions.is_empty() {
            return;
        }
        let receipts: BTreeMap<_, _> = receipts.into_iter().map(|it| (it.call, it)).collect();
        for Entry { statement, inclusion } in deletions {
            let deletion = &statement.body;
            let what = format!("the deletion in entry {}", deletion.log_index);
            self.signed(&what, statement, head.region, deletion.log_index);
            if deletion.region != head.region
                || !inclusion.places(&statement.body, deletion.log_index, head)
            {
                self.fault(format!("{what} is not that entry of the log"));
            }
            match receipts.get(&deletion.call) {
                None => self.fault(format!("{what} is of a call that the file does not hold")),
                Some(receipt) if !deletion.is_of(receipt) => self.fault(format!(
                    "{what} is of something else than the receipt of call {} names",
                    deletion.call
                )),
                Some(_) => self.verdict.stated.push(deletion.in_words()),
            }
        }
    }

    fn report_file(&mut self, file: &ReportFile) {
        let report = &file.report.body;
        let size = file.tree_head.body.tree_size;
        self.signed("the report", &file.report, report.region, size);
        self.head("the tree head", &file.tree_head, report.region);
        for evidence in &file.receipts {
            self.evidence(evidence, &file.tree_head.body);
        }
        self.listed(file);
        let receipts = file.receipts.iter().map(|evidence| &evidence.receipt.body);
        self.deletions(&file.deletions, receipts, &file.tree_head.body);
        self.grown(file);
        if self.verdict.faults.is_empty() {
            self.report_proven(file);
        }
        self.verdict.stated.push(format!(
            "account {} had {} closed calls, opened from {} to {}: {} with a receipt, {} that wait for theirs; and {} open ones",
            report.account, report.closed, report.from, report.to, report.receipts, report.waiting,
            report.open
        ));
        for total in &report.egress {
            self.verdict.stated.push(format!(
                "of {} calls, {} legs left by {} to {}",
                total.calls,
                total.legs,
                total.flow.name(),
                total.to
            ));
        }
        if report.egress.is_empty() && report.egress_unreported == 0 {
            self.verdict.stated.push("nothing of these calls left the region".to_owned());
        }
        self.doubts(report.egress_unreported > 0);
        self.verdict.not_proven.push(
            "that no call is left out: entries of the log that are not listed are hashes, and whose they are is the region's word; hold the list against your own records".to_owned(),
        );
    }

    /// The receipts are those of the report, of its account and its period.
    fn listed(&mut self, file: &ReportFile) {
        let report = &file.report.body;
        let leaves = file.receipts.iter().map(|evidence| evidence.receipt.body.leaf());
        let listed =
            leaves.collect::<Result<Vec<_>, _>>().map(|leaves| (leaves.len(), root(leaves)));
        if listed != Ok((report.receipts as usize, report.receipts_root)) {
            self.fault("the receipts are not those that the report was signed over");
        }
        if report.closed != report.receipts.saturating_add(report.waiting) {
            self.fault("its counts disagree: closed calls are more than receipts and waiting ones");
        }
        let (mut others, mut lines, mut unreported) = (BTreeSet::new(), 0, 0);
        let (mut calls, mut last) = (BTreeSet::new(), None);
        for evidence in &file.receipts {
            let receipt = &evidence.receipt.body;
            let touched = receipt.touched();
            others
                .extend(touched.iter().map(|(_, region)| *region).filter(|r| *r != report.region));
            for (part, region) in touched.into_iter().filter(|(_, region)| *region != report.region)
            {
                self.fault(format!(
                    "call {}: {part} in region {region}, not at home",
                    receipt.call
                ));
            }
            lines += receipt.egress.lines.len() as u64;
            unreported += u64::from(!receipt.egress.reported);
            if receipt.account != report.account {
                self.fault(format!("call {} is of another account", receipt.call));
            }
            if receipt.opened_at < report.from || receipt.opened_at >= report.to {
                self.fault(format!("call {} is not of the period", receipt.call));
            }
            if !calls.insert(receipt.call) || last.is_some_and(|last| last >= receipt.log_index) {
                self.fault(format!("call {} stands twice, or out of order", receipt.call));
            }
            last = Some(receipt.log_index);
        }
        let told: BTreeSet<RegionCode> = report.other_regions.iter().copied().collect();
        let totals = egress_totals(file.receipts.iter().map(|evidence| &evidence.receipt.body));
        if told != others
            || (report.egress_lines, report.egress_unreported) != (lines, unreported)
            || report.egress != totals
        {
            self.fault(
                "what the report says of other regions or egress is not what its receipts say",
            );
        }
    }

    /// The log only grew.
    fn grown(&mut self, file: &ReportFile) {
        let Some(earlier) = &file.earlier_head else {
            if !file.consistency.is_empty() {
                self.fault("a consistency proof, and no earlier head to prove it for");
            }
            return;
        };
        self.head("the earlier tree head", earlier, file.report.body.region);
        let (old, new) = (earlier.body.tree(), file.tree_head.body.tree());
        if !is_consistent(old, new, &file.consistency) {
            self.fault("the log was rewritten between the two tree heads");
        }
    }

    fn report_proven(&mut self, file: &ReportFile) {
        let (report, head) = (&file.report.body, &file.tree_head.body);
        let proven = &mut self.verdict.proven;
        proven.push(format!("{} receipts were signed as they stand", report.receipts));
        proven.push(format!(
            "each is in region {}'s log, under the head of {} entries signed at {}",
            report.region, head.tree_size, head.signed_at
        ));
        proven.push(match report.egress.iter().any(|total| total.region.is_some()) {
            false => format!("no region other than {} occurs in any of them", report.region),
            true => format!(
                "no region other than {} signalled for the account, carried, recorded or stored any of them; what they say left for others is listed",
                report.region
            ),
        });
        if let Some(earlier) = &file.earlier_head {
            proven.push(format!(
                "the log of {} entries, signed at {}, was only added to since",
                earlier.body.tree_size, earlier.body.signed_at
            ));
        }
    }

    /// What the receipt says, in words.
    fn state(&mut self, receipt: &Receipt) {
        let stated = &mut self.verdict.stated;
        let regions = &receipt.regions;
        let media = regions.media.map_or("carried nowhere".to_owned(), |region| {
            format!("carried in {region} by {}", receipt.relay.as_deref().unwrap_or("no relay"))
        });
        stated.push(format!(
            "the call was signalled in {} by {}, its media {media}, its record written in {}",
            regions.signalling, receipt.proxy, regions.storage
        ));
        stated.push(format!(
            "it was opened at {} and closed at {}; the contract is with {}",
            receipt.opened_at, receipt.closed_at, receipt.contracting_entity
        ));
        stated.push(format!(
            "record {} of the region's chain, with {} legs, hashes to {}",
            receipt.record.position, receipt.record.legs, receipt.record.hash
        ));
        for recording in &receipt.recordings {
            stated.push(match (&recording.state, &recording.stored) {
                (RecordingState::Missing, _) | (_, None) => {
                    format!("recording {} was to be made, and nothing of it arrived", recording.sid)
                }
                (state, Some(stored)) => format!(
                    "recording {} lies in {}: {} of {} packets in {} chunks, the last hashing to {}{}",
                    recording.sid, stored.storage_region, stored.stored_packets,
                    stored.expected_packets, stored.chunks, stored.head,
                    if *state == RecordingState::Unfinished { "; it was never finished" } else { "" }
                ),
            });
        }
        for line in &receipt.egress.lines {
            stated.push(format!(
                "of {} legs there left {}; it may say {}",
                line.legs,
                line.towards(),
                line.fields.join(", ")
            ));
        }
        if receipt.egress.reported && receipt.egress.lines.is_empty() {
            stated.push("nothing of the call left the region".to_owned());
        }
    }

    fn doubts(&mut self, egress_unreported: bool) {
        let doubts = &mut self.verdict.not_proven;
        doubts
            .push("that the region's word is true: the signature says whose word it is".to_owned());
        if egress_unreported {
            doubts
                .push("that nothing left the region: the record does not say what did".to_owned());
        }
        doubts.push(
            "where the phones were: audio goes to and from them directly, wherever they are"
                .to_owned(),
        );
        doubts.push(
            "that everybody is shown the same log: compare tree heads with others, and keep this file to hold later ones against".to_owned(),
        );
    }

    fn finish(self) -> Verdict {
        let mut verdict = self.verdict;
        if !verdict.faults.is_empty() {
            verdict.proven.clear();
        }
        let signers: Vec<String> = self.signers.iter().map(KeyId::to_string).collect();
        match (verdict.signer_known, verdict.faults.is_empty()) {
            (true, true) => {
                let proven = format!("the signer is {}, a key that you trust", signers.join(", "));
                verdict.proven.insert(0, proven);
            }
            (false, _) => verdict.not_proven.insert(
                0,
                "who signed: no trusted key was given or matches, and anybody can make keys; get the region's with `landline receipt keys`".to_owned(),
            ),
            _ => {}
        }
        verdict
    }
}
