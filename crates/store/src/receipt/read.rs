//! What is handed out: receipts with their place in the log, and reports.

use landline_region::merkle::Plan;
use landline_region::receipt::{
    Entry, Evidence, Inclusion, KeyChange, PublicKey, Receipt, ReceiptFile, ReceiptFileType,
    Report, ReportFile, ReportFileType, ReportType, Signed, TreeHead, egress_totals,
};
use landline_region::{AccountSid, CallSid, RegionCode, UnixMillis};

use super::facts::Reader;
use super::log::{assembled, broken, head_of, nodes, receipt_of, unsignable};
use crate::error::{Result, StoreError};
use crate::sql::{Row, values};
use crate::store::{Store, now};

/// A report lists no more; a longer period is two reports.
pub const REPORTED: u32 = 200_000;

impl Store {
    /// The log's newest head; `None` before its first entry.
    pub async fn tree_head(&self) -> Result<Option<Signed<TreeHead>>> {
        let select = "SELECT * FROM tree_head ORDER BY tree_size DESC LIMIT 1";
        let row = self.database().row(select, values![]).await?;
        row.map(|row| head_of(&row, self.region())).transpose()
    }

    /// How many closed calls have no receipt yet.
    pub async fn receipts_waiting(&self) -> Result<u64> {
        let select = "SELECT COUNT(*) AS calls FROM receipt_pending";
        let row = self.database().row(select, values![]).await?;
        row.map_or(Ok(0), |row| row.unsigned("calls"))
    }

    /// The call's receipt, if it was issued.
    pub async fn receipt_of(&self, call: CallSid) -> Result<Option<Signed<Receipt>>> {
        let select = "SELECT * FROM receipt WHERE call = $1";
        let row = self.database().row(select, values![call]).await?;
        row.as_ref().map(receipt_of).transpose()
    }

    /// The call's receipt with the proof of its place under the newest head.
    pub async fn receipt_file(&self, call: CallSid) -> Result<ReceiptFile> {
        let receipt = match self.receipt_of(call).await? {
            Some(receipt) => receipt,
            None => return Err(self.why_none(call).await?),
        };
        let head = self.tree_head().await?.ok_or_else(|| broken("it has no head"))?;
        let deletions = self.deletions_of(&[call]).await?;
        let mut evidence = self.evidence(vec![receipt], &head.body).await?;
        Ok(ReceiptFile {
            r#type: ReceiptFileType::V1,
            evidence: evidence.pop().ok_or_else(|| broken("a proof is missing"))?,
            deletions: self.entries(deletions, |it| it.log_index, &head.body).await?,
            key_changes: self.key_entries(&head.body).await?,
            keys: self.public_keys().await?,
            tree_head: head,
        })
    }

    async fn key_entries(&self, head: &TreeHead) -> Result<Vec<Entry<KeyChange>>> {
        self.entries(self.key_changes().await?, |it| it.log_index, head).await
    }

    async fn public_keys(&self) -> Result<Vec<PublicKey>> {
        Ok(self.signing_keys().await?.into_iter().map(|it| it.key.into()).collect())
    }

    async fn why_none(&self, call: CallSid) -> Result<StoreError> {
        let select = "SELECT c.closed_at, p.refused_at FROM call c \
                      LEFT JOIN receipt_pending p ON p.call = c.sid WHERE c.sid = $1";
        let row = self.database().row(select, values![call]).await?;
        let next = match row {
            None => "its record is in the home region of its account",
            Some(row) if row.int_or_null("closed_at")?.is_none() => "the call is still open",
            Some(row) if row.int_or_null("refused_at")?.is_some() => {
                "its record was tampered with: `landline residency check` says how"
            }
            Some(_) => "it is issued when the region runs and the call's recording is finished",
        };
        Ok(StoreError::NotFound {
            what: format!("receipt of call {call} in this region"),
            next: next.to_owned(),
        })
    }

    /// What the region states of an account's calls that were opened in a period.
    pub async fn residency_report(
        &self,
        account: AccountSid,
        from: UnixMillis,
        to: UnixMillis,
    ) -> Result<ReportFile> {
        self.residency_report_of(account, (from, to), REPORTED).await
    }

    /// The same, of a period with at most `most` calls.
    pub async fn residency_report_of(
        &self,
        account: AccountSid,
        (from, to): (UnixMillis, UnixMillis),
        most: u32,
    ) -> Result<ReportFile> {
        let head = self.tree_head().await?.ok_or_else(|| StoreError::NotFound {
            what: format!("receipt in region {}", self.region()),
            next: "the first is issued after the first call has ended".to_owned(),
        })?;
        let size = head.body.tree_size;
        let receipts = self.receipts_between(account, (from, to), size, most).await?;
        let first = receipts.first().map_or(0, |receipt| receipt.body.log_index);
        let earlier_head = self.head_before(first).await?;
        let consistency = match &earlier_head {
            Some(earlier) => self.consistency_proof(earlier.body.tree_size, size).await?,
            None => Vec::new(),
        };
        let report = self.report(account, (from, to), size, &receipts).await?;
        let calls: Vec<CallSid> = receipts.iter().map(|receipt| receipt.body.call).collect();
        let deletions = self.deletions_of(&calls).await?;
        // The key that signed the head that the report is made under.
        let key = self.signing_key().await?;
        if key.id() != head.key_id {
            return Err(broken("its key was changed in between: ask again"));
        }
        Ok(ReportFile {
            r#type: ReportFileType::V1,
            report: Signed::new(report, &key).map_err(unsignable)?,
            receipts: self.evidence(receipts, &head.body).await?,
            earlier_head,
            consistency,
            deletions: self.entries(deletions, |it| it.log_index, &head.body).await?,
            key_changes: self.key_entries(&head.body).await?,
            keys: self.public_keys().await?,
            tree_head: head,
        })
    }

    async fn receipts_between(
        &self,
        account: AccountSid,
        (from, to): (UnixMillis, UnixMillis),
        size: u64,
        most: u32,
    ) -> Result<Vec<Signed<Receipt>>> {
        let select = "SELECT * FROM receipt WHERE account = $1 AND opened_at >= $2 \
                      AND opened_at < $3 AND log_index < $4 ORDER BY log_index LIMIT $5";
        let values = values![account, from, to, size, u64::from(most) + 1];
        let rows = self.database().rows(select, values).await?;
        if rows.len() > most as usize {
            let problem = format!("it has more than {most} calls: ask for a shorter one");
            return Err(StoreError::Invalid { field: "period", problem });
        }
        rows.iter().map(receipt_of).collect()
    }

    async fn report(
        &self,
        account: AccountSid,
        (from, to): (UnixMillis, UnixMillis),
        size: u64,
        receipts: &[Signed<Receipt>],
    ) -> Result<Report> {
        let count = async |condition: &str| {
            let select = format!(
                "SELECT COUNT(*) AS calls FROM call c WHERE c.account = $1 AND c.opened_at >= $2 \
                 AND c.opened_at < $3 AND {condition}"
            );
            let values = values![account, from, to];
            let row = self.database().row(sqlx::AssertSqlSafe(select), values).await?;
            row.map_or(Ok(0), |row: Row| row.unsigned("calls"))
        };
        let waiting = count(&format!(
            "c.closed_at IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM receipt r WHERE r.call = c.sid AND r.log_index < {size})"
        ))
        .await?;
        let open = count("c.closed_at IS NULL").await?;
        let mut other_regions: Vec<RegionCode> = receipts
            .iter()
            .flat_map(|receipt| receipt.body.touched())
            .map(|(_, region)| region)
            .filter(|region| *region != self.region())
            .collect();
        other_regions.sort_unstable();
        other_regions.dedup();
        let leaves = receipts.iter().map(|receipt| receipt.body.leaf());
        let leaves = leaves.collect::<Result<Vec<_>, _>>().map_err(unsignable)?;
        let egress = receipts.iter().map(|receipt| &receipt.body.egress);
        Ok(Report {
            r#type: ReportType::V1,
            region: self.region(),
            made_at: now(),
            account,
            from,
            to,
            closed: receipts.len() as u64 + waiting,
            open,
            waiting,
            receipts: receipts.len() as u64,
            receipts_root: landline_region::merkle::root(leaves),
            other_regions,
            egress_lines: egress.clone().map(|egress| egress.lines.len() as u64).sum(),
            egress_unreported: egress.filter(|egress| !egress.reported).count() as u64,
            egress: egress_totals(receipts.iter().map(|receipt| &receipt.body)),
        })
    }

    /// The newest head of no more than `entries` entries.
    async fn head_before(&self, entries: u64) -> Result<Option<Signed<TreeHead>>> {
        let select =
            "SELECT * FROM tree_head WHERE tree_size <= $1 ORDER BY tree_size DESC LIMIT 1";
        let row = self.database().row(select, values![entries]).await?;
        row.map(|row| head_of(&row, self.region())).transpose()
    }

    /// Proof that the log of `old` entries is the beginning of that of `new`.
    pub async fn consistency_proof(
        &self,
        old: u64,
        new: u64,
    ) -> Result<Vec<landline_region::merkle::Sha256>> {
        let plan = Plan::consistency(old, new).ok_or_else(|| broken("it was longer before"))?;
        let nodes = nodes(&mut Reader::Database(self.database()), plan.nodes()).await?;
        assembled(&plan, &nodes)
    }

    /// Each receipt with its inclusion proof under one head.
    async fn evidence(
        &self,
        receipts: Vec<Signed<Receipt>>,
        head: &TreeHead,
    ) -> Result<Vec<Evidence>> {
        let plan = |receipt: &Signed<Receipt>| {
            Plan::inclusion(receipt.body.log_index, head.tree_size)
                .ok_or_else(|| broken("its newest head is older than a receipt"))
        };
        let plans: Vec<Plan> = receipts.iter().map(plan).collect::<Result<_>>()?;
        let wanted = plans.iter().flat_map(Plan::nodes);
        let nodes = nodes(&mut Reader::Database(self.database()), wanted).await?;
        let mut all = Vec::with_capacity(receipts.len());
        for (receipt, plan) in receipts.into_iter().zip(&plans) {
            let path = assembled(plan, &nodes)?;
            let inclusion = Inclusion { tree_size: head.tree_size, path };
            all.push(Evidence { receipt, inclusion });
        }
        Ok(all)
    }
}
