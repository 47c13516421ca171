//! The record of processing activities (GDPR Art. 30(1)): the declarations,
//! and beside them what the egress gate really counted.

use serde::Serialize;

use super::{COLUMNS, FIELDS, FILES, Field, LegalBasis, Purpose};
use crate::egress::{Flow, Registry};
use crate::{Jurisdiction, RegionCode, UnixMillis};

/// Who is responsible, and for which region.
#[derive(Debug, Clone, Serialize)]
pub struct RegisterHead {
    pub region: RegionCode,
    pub jurisdiction: Jurisdiction,
    /// The contracting entity.
    pub controller: String,
    /// How the data-protection officer is reached.
    pub data_protection_officer: Option<String>,
    pub at: UnixMillis,
}

/// One line of what the region's gates decided, from its database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountedFlow {
    pub flow: Flow,
    pub destination: String,
    /// `passed`, or why it was refused.
    pub verdict: String,
    pub count: u64,
    pub first_at: UnixMillis,
    pub last_at: UnixMillis,
}

#[derive(Debug, Clone, Serialize)]
pub struct Register {
    pub head: RegisterHead,
    pub activities: Vec<Activity>,
    pub flows: Vec<CountedFlow>,
    pub subprocessors: Registry,
    pub measures: Vec<&'static str>,
}

/// Art. 30(1)(b) to (f) for one purpose.
#[derive(Debug, Clone, Serialize)]
pub struct Activity {
    pub purpose: Purpose,
    pub what: &'static str,
    pub subjects: &'static str,
    pub fields: Vec<&'static str>,
    pub legal_bases: Vec<LegalBasis>,
    pub kept: Vec<&'static str>,
    /// Flows whose declarations let them carry one of the fields.
    pub recipients: Vec<Flow>,
}

impl Register {
    pub fn new(head: RegisterHead, flows: Vec<CountedFlow>, subprocessors: Registry) -> Self {
        Self {
            head,
            activities: Purpose::ALL.into_iter().map(activity).collect(),
            flows,
            subprocessors,
            measures: measures(),
        }
    }

    pub fn to_markdown(&self) -> String {
        let head = &self.head;
        let officer = head.data_protection_officer.as_deref().unwrap_or("not named");
        let mut text = format!(
            "# Record of processing activities, region {}\n\n\
             Under {} law, at {}. Controller or processor: {}. Data-protection officer: {officer}.\n\n\
             ## Activities\n\n\
             | purpose | data subjects | fields | legal basis | kept | may leave by |\n\
             |---|---|---|---|---|---|\n",
            head.region, head.jurisdiction, head.at, head.controller
        );
        for activity in &self.activities {
            let bases: Vec<_> = activity.legal_bases.iter().map(|it| it.article()).collect();
            let recipients: Vec<_> = activity.recipients.iter().map(|it| it.name()).collect();
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} |\n",
                activity.what,
                activity.subjects,
                activity.fields.join(", "),
                bases.join("; "),
                activity.kept.join("; "),
                if recipients.is_empty() { "nothing".to_owned() } else { recipients.join(", ") },
            ));
        }
        text.push_str(
            "\n## What left the region, or was refused\n\n\
             | flow | destination | verdict | times | first | last |\n|---|---|---|---|---|---|\n",
        );
        for line in &self.flows {
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} |\n",
                line.flow, line.destination, line.verdict, line.count, line.first_at, line.last_at
            ));
        }
        text.push_str(&subprocessors(&self.subprocessors));
        text.push_str("\n## Measures (Art. 32)\n\n");
        for measure in &self.measures {
            text.push_str(&format!("- {measure}\n"));
        }
        text
    }
}

fn subprocessors(registry: &Registry) -> String {
    let mut text = format!(
        "\n## Sub-processors, version {}\n\n\
         | name | jurisdiction | purpose | flows | regions | since |\n|---|---|---|---|---|---|\n",
        registry.version
    );
    for item in &registry.subprocessors {
        let flows: Vec<_> = item.flows.iter().map(|it| it.name()).collect();
        let regions: Vec<_> = item.regions.iter().map(|it| it.as_str()).collect();
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            item.name,
            item.jurisdiction,
            item.purpose,
            flows.join(", "),
            regions.join(", "),
            item.since
        ));
    }
    text
}

fn activity(purpose: Purpose) -> Activity {
    let fields: Vec<&Field> =
        FIELDS.iter().copied().filter(|field| field.purpose == purpose).collect();
    let flows = Flow::ALL.into_iter();
    let recipients = flows.filter(|flow| fields.iter().any(|it| it.form_in(*flow).is_some()));
    Activity {
        purpose,
        what: purpose.what(),
        subjects: purpose.subjects(),
        legal_bases: sorted(fields.iter().filter_map(|it| it.basis)),
        kept: sorted(fields.iter().map(|it| it.retention))
            .into_iter()
            .map(|it| it.what())
            .collect(),
        recipients: recipients.collect(),
        fields: fields.iter().map(|it| it.name).collect(),
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<std::collections::BTreeSet<T>>().into_iter().collect()
}

/// Art. 30(1)(g), as far as the catalogue knows.
fn measures() -> Vec<&'static str> {
    let mut measures = vec![
        "keys: the region's master key wraps a key for each account, which wraps a key for each call (AES-256-GCM)",
        "one gate decides over whatever leaves the region, by flow, destination and field",
    ];
    if COLUMNS.iter().any(|it| it.form == super::columns::Stored::Index) {
        measures.push("look-up of sealed values by keyed hash (HMAC-SHA-256) only");
    }
    if FILES.iter().all(|it| it.form == super::columns::Stored::Sealed) {
        measures.push("every file beside the database is sealed");
    }
    measures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_names_every_field_and_every_counted_flow() {
        let head = RegisterHead {
            region: "ie1".parse().unwrap(),
            jurisdiction: "IE".parse().unwrap(),
            controller: "Landline Ireland Ltd".to_owned(),
            data_protection_officer: Some("dpo@ie1.example".to_owned()),
            at: UnixMillis(0),
        };
        let counted = CountedFlow {
            flow: Flow::InterRegionSip,
            destination: "us1".to_owned(),
            verdict: "passed".to_owned(),
            count: 7,
            first_at: UnixMillis(0),
            last_at: UnixMillis(1),
        };
        let text = Register::new(head, vec![counted], Registry::default()).to_markdown();
        for field in FIELDS {
            assert!(text.contains(field.name), "{}", field.name);
        }
        assert!(text.contains("| inter_region_sip | us1 | passed | 7 |"), "{text}");
        assert!(text.contains("Art. 6(1)(b)") && text.contains("dpo@ie1.example"));
    }
}
