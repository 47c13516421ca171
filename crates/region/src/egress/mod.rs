//! The one gate that everything leaving a region goes through.
//!
//! A flow is a way out; a destination is who receives; the fields say what
//! goes. [`Gate::decide`] lets it pass where the flow may go to such a
//! destination, the destination is declared, and each field's own declaration
//! ([`crate::catalogue`]) lets that flow carry it in that form. Everything
//! decided is counted, passed or refused, so that no caller can forget it; the
//! shells publish the counts and write them to the region's database.

mod aggregate;
mod count;
mod flow;
pub mod signalling;
mod subprocessor;

use std::collections::BTreeSet;

use crate::catalogue::Field;
use crate::{Jurisdiction, RegionCode};

pub use aggregate::Step;
pub use count::{Counted, Verdict};
pub use flow::{Destination, Flow, Form};
pub use subprocessor::{InvalidRegistry, Registry, Subprocessor};

/// A field and the form in which it is about to leave.
pub type Carried = (&'static Field, Form);

/// Aggregates over fewer accounts than this do not leave, unless configured.
pub const MINIMUM_GROUP: u64 = 10;

/// What a region's configuration declares of the world outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The platform's regions, this one or not.
    pub regions: BTreeSet<RegionCode>,
    pub subprocessors: Registry,
    /// Aggregates over fewer accounts than this do not leave.
    pub minimum_group: u64,
    /// Countries that accounts may have their own addresses in; `None` is any,
    /// as long as the account says which.
    pub account_countries: Option<BTreeSet<Jurisdiction>>,
}

impl Default for Declared {
    /// Nobody: only the directory and the accounts' own addresses are left.
    fn default() -> Self {
        Self {
            regions: BTreeSet::new(),
            subprocessors: Registry::default(),
            minimum_group: MINIMUM_GROUP,
            account_countries: None,
        }
    }
}

/// One region's gate. Shared by all of a process's parts.
#[derive(Debug)]
pub struct Gate {
    region: RegionCode,
    declared: Declared,
    counts: count::Counts,
}

/// Proof that the gate let something pass. Only the gate makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass(Flow);

impl Pass {
    pub const fn flow(self) -> Flow {
        self.0
    }
}

/// Why something stays. Names no personal data: a destination that is not
/// declared is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{flow} never goes to {kind}")]
    Misdirected { flow: Flow, kind: &'static str },
    #[error("region {0} is not in the list of regions")]
    UnknownRegion(RegionCode),
    #[error("{0} goes to regions, and this is the region itself")]
    Home(Flow),
    #[error("{flow} stays in its region, and this would go to region {region}")]
    Abroad { flow: Flow, region: RegionCode },
    #[error("{0}: its destination is no sub-processor in the registry")]
    Unlisted(Flow),
    #[error("{flow}: the sub-processor is not listed for it, or not for region {region}")]
    NotForThis { flow: Flow, region: RegionCode },
    #[error("{flow} goes to no account's address in {country} from here")]
    Country { flow: Flow, country: Jurisdiction },
    #[error("{flow} may not carry {field}")]
    Field { flow: Flow, field: &'static str },
    #[error("{flow} may carry {field} as a pseudonym only")]
    Bare { flow: Flow, field: &'static str },
    #[error("an aggregate over {found} accounts stays; at least {minimum} are wanted")]
    SmallGroup { found: u64, minimum: u64 },
}

impl Refused {
    /// For counters: a label from a closed set.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Misdirected { .. } => "misdirected",
            Self::UnknownRegion(_) => "unknown_region",
            Self::Home(_) => "home",
            Self::Abroad { .. } => "abroad",
            Self::Unlisted(_) => "unlisted",
            Self::NotForThis { .. } => "not_for_this",
            Self::Country { .. } => "country",
            Self::Field { .. } => "field",
            Self::Bare { .. } => "bare",
            Self::SmallGroup { .. } => "small_group",
        }
    }
}

impl Gate {
    pub fn new(region: RegionCode, declared: Declared) -> Self {
        Self { region, declared, counts: count::Counts::default() }
    }

    pub fn region(&self) -> RegionCode {
        self.region
    }

    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Whether `fields` may leave by `flow` to `destination`. Ask before
    /// anything is sent; the answer is counted.
    pub fn decide(
        &self,
        flow: Flow,
        destination: &Destination<'_>,
        fields: &[Carried],
    ) -> Result<Pass, Refused> {
        let decided = self.judge(flow, destination, fields);
        let verdict = decided
            .as_ref()
            .map_or_else(|refused| Verdict::Refused(refused.reason()), |_| Verdict::Passed);
        self.counts.add(flow, self.shown(destination), verdict);
        decided
    }

    /// As [`Self::decide`], for what is asked about before it is made: only a
    /// refusal is counted, as what passes is asked about again when it goes.
    pub fn decide_ahead(
        &self,
        flow: Flow,
        destination: &Destination<'_>,
        fields: &[Carried],
    ) -> Result<(), Refused> {
        self.judge(flow, destination, fields).map(drop).inspect_err(|refused| {
            self.counts.add(flow, self.shown(destination), Verdict::Refused(refused.reason()));
        })
    }

    /// Whether an aggregate over `accounts` accounts may leave, and in which
    /// steps its values are told. Counted.
    pub fn aggregate(&self, accounts: u64) -> Result<Step, Refused> {
        let minimum = self.declared.minimum_group;
        let decided = match accounts >= minimum {
            true => Ok(Step::new(minimum)),
            false => Err(Refused::SmallGroup { found: accounts, minimum }),
        };
        let verdict = match decided {
            Ok(_) => Verdict::Passed,
            Err(refused) => Verdict::Refused(refused.reason()),
        };
        self.counts.add(Flow::Metrics, "outside".to_owned(), verdict);
        decided
    }

    /// All that was decided since the process began.
    pub fn counted(&self) -> Vec<Counted> {
        self.counts.all()
    }

    /// What was decided since the last call of this, to be written down. Give
    /// back with [`Self::restore`] what could not be.
    pub fn take_unwritten(&self) -> Vec<Counted> {
        self.counts.take_unwritten()
    }

    pub fn restore(&self, lines: Vec<Counted>) {
        self.counts.restore(lines);
    }

    fn judge(
        &self,
        flow: Flow,
        destination: &Destination<'_>,
        fields: &[Carried],
    ) -> Result<Pass, Refused> {
        if !flow.goes_to(destination) {
            return Err(Refused::Misdirected { flow, kind: destination.kind() });
        }
        match destination {
            // A region's copies are its own: the one flow that goes home.
            Destination::Region(region) if flow == Flow::Backup => {
                if *region != self.region {
                    return Err(Refused::Abroad { flow, region: *region });
                }
            }
            Destination::Region(region) if *region == self.region => {
                return Err(Refused::Home(flow));
            }
            Destination::Region(region) if !self.declared.regions.contains(region) => {
                return Err(Refused::UnknownRegion(*region));
            }
            Destination::Party(host) => self.check_party(flow, host)?,
            Destination::Account(_, country) => self.check_country(flow, *country)?,
            Destination::Region(_) | Destination::Directory => {}
        }
        for (field, form) in fields {
            match (field.form_in(flow), form) {
                (None, _) => return Err(Refused::Field { flow, field: field.name }),
                (Some(Form::Pseudonym), Form::Bare) => {
                    return Err(Refused::Bare { flow, field: field.name });
                }
                (Some(_), _) => {}
            }
        }
        Ok(Pass(flow))
    }

    fn check_country(&self, flow: Flow, country: Jurisdiction) -> Result<(), Refused> {
        match &self.declared.account_countries {
            Some(countries) if !countries.contains(&country) => {
                Err(Refused::Country { flow, country })
            }
            _ => Ok(()),
        }
    }

    fn check_party(&self, flow: Flow, host: &str) -> Result<(), Refused> {
        let listed = self.declared.subprocessors.by_host(host).ok_or(Refused::Unlisted(flow))?;
        match listed.serves(flow, self.region) {
            true => Ok(()),
            false => Err(Refused::NotForThis { flow, region: self.region }),
        }
    }

    /// A destination as counters and audit lines name it. A host that nobody
    /// declared is not repeated: it may come from the wire.
    fn shown(&self, destination: &Destination<'_>) -> String {
        match destination {
            Destination::Region(region) if self.declared.regions.contains(region) => {
                region.to_string()
            }
            Destination::Directory => "directory".to_owned(),
            Destination::Account(..) => "account".to_owned(),
            Destination::Party(host) => match self.declared.subprocessors.by_host(host) {
                Some(listed) => listed.name.clone(),
                None => "undeclared".to_owned(),
            },
            Destination::Region(_) => "undeclared".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccountSid;
    use crate::catalogue::FIELDS;
    use crate::catalogue::fields::{ACCOUNT_DOMAIN, AUDIO, CALLER, NUMBER, USER_DIGEST};

    fn region(code: &str) -> RegionCode {
        code.parse().unwrap()
    }

    fn gate() -> Gate {
        let mail = Subprocessor {
            name: "Post Example".to_owned(),
            hosts: vec!["*.post.example".to_owned()],
            flows: vec![Flow::Mail],
            regions: vec![region("ie1")],
            purpose: "mail".to_owned(),
            jurisdiction: "IE".parse().unwrap(),
            since: "2026-11-22".to_owned(),
        };
        let subprocessors = Registry { version: 1, subprocessors: vec![mail] };
        let regions = ["ie1", "us1"].map(region).into();
        let declared = Declared { regions, subprocessors, minimum_group: 3, ..Declared::default() };
        Gate::new(region("ie1"), declared)
    }

    #[test]
    fn only_declared_destinations_are_passed() {
        let gate = gate();
        let call = |to| gate.decide(Flow::InterRegionSip, &Destination::Region(region(to)), &[]);
        assert!(call("us1").is_ok());
        assert_eq!(call("zz9"), Err(Refused::UnknownRegion(region("zz9"))));
        assert_eq!(call("ie1"), Err(Refused::Home(Flow::InterRegionSip)));
        let mail = |host| gate.decide(Flow::Mail, &Destination::Party(host), &[]);
        assert!(mail("smtp.post.example").is_ok());
        assert_eq!(mail("smtp.post.example.evil"), Err(Refused::Unlisted(Flow::Mail)));
        assert_eq!(
            gate.decide(Flow::Push, &Destination::Party("smtp.post.example"), &[]),
            Err(Refused::NotForThis { flow: Flow::Push, region: region("ie1") })
        );
    }

    #[test]
    fn a_backup_stays_in_its_region_or_goes_to_who_is_listed_for_it() {
        let gate = gate();
        let decide = |to| gate.decide(Flow::Backup, &Destination::Region(region(to)), &[]);
        assert!(decide("ie1").is_ok());
        assert_eq!(decide("us1").unwrap_err().reason(), "abroad");
        let party = gate.decide(Flow::Backup, &Destination::Party("smtp.post.example"), &[]);
        assert_eq!(party.unwrap_err().reason(), "not_for_this");
        assert!(FIELDS.iter().all(|field| field.form_in(Flow::Backup).is_none()));
    }

    #[test]
    fn a_sub_processor_of_another_region_is_refused() {
        let declared = gate().declared().clone();
        let abroad = Gate::new(region("us1"), declared);
        let decided = abroad.decide(Flow::Mail, &Destination::Party("smtp.post.example"), &[]);
        assert_eq!(decided.unwrap_err().reason(), "not_for_this");
    }

    #[test]
    fn a_field_leaves_as_it_is_declared_or_not_at_all() {
        let gate = gate();
        let write =
            |field, form| gate.decide(Flow::Directory, &Destination::Directory, &[(field, form)]);
        assert!(write(&ACCOUNT_DOMAIN, Form::Bare).is_ok());
        assert!(write(&NUMBER, Form::Pseudonym).is_ok());
        assert_eq!(write(&NUMBER, Form::Bare).unwrap_err().reason(), "bare");
        assert_eq!(write(&CALLER, Form::Pseudonym).unwrap_err().reason(), "field");
    }

    #[test]
    fn credentials_content_and_times_of_calls_leave_by_no_flow() {
        for field in [&USER_DIGEST, &AUDIO, &crate::catalogue::fields::CALL_TIME] {
            assert!(Flow::ALL.iter().all(|flow| field.form_in(*flow).is_none()), "{}", field.name);
        }
        // And nothing personal leaves with metrics, bare or not.
        assert!(FIELDS.iter().all(|field| field.form_in(Flow::Metrics).is_none()));
    }

    #[test]
    fn a_flow_goes_to_its_own_kind_of_destination() {
        let own = Destination::Account(AccountSid::from_u128(1), "FR".parse().unwrap());
        let decided = gate().decide(Flow::Directory, &own, &[]);
        assert_eq!(decided.unwrap_err().reason(), "misdirected");
        assert!(gate().decide(Flow::Webhook, &own, &[]).is_ok());
    }

    #[test]
    fn an_accounts_own_address_is_in_a_country_that_is_allowed() {
        let countries = ["IE", "FR"].map(|code| code.parse().unwrap());
        let declared =
            Declared { account_countries: Some(countries.into()), ..gate().declared().clone() };
        let gate = Gate::new(region("ie1"), declared);
        let decide = |country: &str, fields: &[Carried]| {
            let own = Destination::Account(AccountSid::from_u128(1), country.parse().unwrap());
            gate.decide(Flow::Webhook, &own, fields)
        };
        assert!(decide("FR", &[]).is_ok());
        assert_eq!(decide("US", &[]).unwrap_err().reason(), "country");
        assert_eq!(decide("FR", &[(&CALLER, Form::Bare)]).unwrap_err().reason(), "bare");
        let counted: Vec<_> = gate.counted().into_iter().map(|it| it.destination).collect();
        assert_eq!(counted, ["account"; 3], "no account is named");
    }

    #[test]
    fn everything_decided_is_counted_and_written_once() {
        let gate = gate();
        for to in ["us1", "us1", "zz9", "zy9"] {
            let _ = gate.decide(Flow::InterRegionSip, &Destination::Region(region(to)), &[]);
        }
        let lines: Vec<_> =
            gate.counted().into_iter().map(|it| (it.destination, it.verdict, it.count)).collect();
        assert_eq!(
            lines,
            [
                ("undeclared".to_owned(), Verdict::Refused("unknown_region"), 2),
                ("us1".to_owned(), Verdict::Passed, 2),
            ]
        );
        let unwritten = gate.take_unwritten();
        assert_eq!(unwritten.iter().map(|it| it.count).sum::<u64>(), 4);
        assert!(gate.take_unwritten().is_empty());
        gate.restore(unwritten);
        assert_eq!(gate.take_unwritten().iter().map(|it| it.count).sum::<u64>(), 4);
    }

    #[test]
    fn an_aggregate_over_too_few_stays() {
        let gate = gate();
        assert_eq!(gate.aggregate(2).unwrap_err().reason(), "small_group");
        let step = gate.aggregate(3).unwrap();
        assert_eq!([0, 2, 3, 8].map(|value| step.floor(value)), [0, 0, 3, 6]);
    }
}
