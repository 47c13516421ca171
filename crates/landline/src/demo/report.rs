//! What the demo says at the end of its calls.

use serde_json::{Map, Value, json};

use super::call::{Call, Ear};
use super::cast::{Account, CALLEE, CALLER};
use super::layout::Layout;
use super::verify::Evidence;
use super::{clients, info};
use crate::output::{Style, aligned, pretty};

/// The accounts with their calls and what was found of them, in one order.
pub struct Report<'a> {
    pub layout: &'a Layout,
    pub accounts: &'a [Account],
    pub calls: &'a [Call],
    pub evidence: &'a [Evidence],
}

impl Report<'_> {
    /// Every tone heard both ways; every record and recording at home and in
    /// no other region.
    pub fn is_well(&self) -> bool {
        !self.calls.is_empty()
            && self.calls.iter().all(Call::is_well)
            && self.evidence.iter().all(Evidence::is_well)
    }

    pub fn render(&self, style: Style) -> String {
        match style.json {
            true => pretty(&self.json()),
            false => self.text(style.colour),
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&Account, &Call, &Evidence)> {
        self.accounts
            .iter()
            .zip(self.calls)
            .zip(self.evidence)
            .map(|((account, call), evidence)| (account, call, evidence))
    }

    fn json(&self) -> Value {
        let calls: Vec<Value> = self
            .rows()
            .map(|(account, call, evidence)| self.call_json(account, call, evidence))
            .collect();
        let mut document = Map::new();
        document.insert("ok".to_owned(), json!(self.is_well()));
        document.insert("calls".to_owned(), json!(calls));
        if let Value::Object(started) = info::info(self.layout, self.accounts) {
            document.extend(started);
        }
        Value::Object(document)
    }

    fn call_json(&self, account: &Account, call: &Call, evidence: &Evidence) -> Value {
        let ear = |ear: &Ear, of: &Ear| json!({ "heard_hz": ear.heard_hz, "expected_hz": of.sent_hz, "ok": ear.hears(of) });
        let database = self.layout.site(&account.home_region).map(|site| site.database());
        let problems: Vec<&String> = call.problem.iter().chain(evidence.problem.iter()).collect();
        json!({
            "ok": call.is_well() && evidence.is_well(),
            "account": account.name,
            "domain": account.domain,
            "from": format!("{CALLER}@{}", account.domain),
            "to": format!("{CALLEE}@{}", account.domain),
            "region": account.home_region,
            "heard": { CALLER: ear(&call.caller, &call.callee), CALLEE: ear(&call.callee, &call.caller) },
            "record": evidence.record.map(|sid| sid.to_string()),
            "recording": evidence.recording.map(|sid| sid.to_string()),
            "recorded_hz": evidence.recorded_hz,
            "receipt": evidence.receipt,
            "database": database,
            "elsewhere": evidence.elsewhere,
            "problems": problems,
        })
    }

    fn text(&self, colour: bool) -> String {
        let mut parts = vec![self.heard(colour), self.found(colour)];
        let problems: Vec<String> = self
            .rows()
            .flat_map(|(account, call, evidence)| {
                let all = call.problem.iter().chain(evidence.problem.iter());
                all.map(|problem| format!("{}: {problem}", account.domain)).collect::<Vec<_>>()
            })
            .collect();
        if !problems.is_empty() {
            parts.push(problems.join("\n"));
        }
        let verdict = match self.is_well() {
            true => {
                "Every tone was heard both ways; every record and recording lies in its home region and in no other, and a signed receipt says so."
            }
            false => "Not everything is as it should be.",
        };
        parts.push(verdict.to_owned());
        parts.push(clients::instructions(self.layout, self.accounts));
        parts.join("\n\n")
    }

    fn heard(&self, colour: bool) -> String {
        let ear = |ear: &Ear, of: &Ear| match ear.heard_hz {
            Some(heard) => format!("{heard:.0} Hz (sent {:.0})", of.sent_hz),
            None => format!("nothing (sent {:.0})", of.sent_hz),
        };
        let rows: Vec<Vec<String>> = self
            .rows()
            .map(|(account, call, _)| {
                vec![
                    format!("{CALLER} → {CALLEE} @{}", account.domain),
                    account.home_region.clone(),
                    ear(&call.callee, &call.caller),
                    ear(&call.caller, &call.callee),
                ]
            })
            .collect();
        let headings = [
            "CALL",
            "REGION",
            &format!("{CALLEE} HEARD").to_uppercase(),
            &format!("{CALLER} HEARD").to_uppercase(),
        ]
        .map(str::to_owned);
        aligned(&headings, &rows, colour)
    }

    fn found(&self, colour: bool) -> String {
        let mut rows = Vec::new();
        for (account, _, evidence) in self.rows() {
            let lies = self
                .layout
                .site(&account.home_region)
                .map_or_else(String::new, |site| site.database().display().to_string());
            let sids = [
                ("record", evidence.record.map(|sid| sid.to_string())),
                ("recording", evidence.recording.map(|sid| sid.to_string())),
            ];
            for (what, sid) in sids {
                let elsewhere = match evidence.elsewhere.is_empty() {
                    true => "no".to_owned(),
                    false => evidence.elsewhere.join(", "),
                };
                let lies = if sid.is_some() { lies.clone() } else { "-".to_owned() };
                let sid = sid.unwrap_or_else(|| "none".to_owned());
                rows.push(vec![account.name.clone(), what.to_owned(), sid, lies, elsewhere]);
            }
            let entry = match &evidence.receipt {
                Some(receipt) => format!("entry {} of {}'s log", receipt.log_index, receipt.region),
                None => "none".to_owned(),
            };
            let lies = evidence.receipt.as_ref().map_or("-".to_owned(), |_| lies.clone());
            rows.push(vec![
                account.name.clone(),
                "receipt".to_owned(),
                entry,
                lies,
                "-".to_owned(),
            ]);
        }
        let headings = ["ACCOUNT", "WHAT", "SID", "LIES IN", "ELSEWHERE"].map(str::to_owned);
        aligned(&headings, &rows, colour)
    }
}
