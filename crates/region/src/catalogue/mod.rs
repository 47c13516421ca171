//! Every kind of personal data that Landline holds, declared once.
//!
//! A [`Field`] says what it is (its class), what it is for, how long it is
//! kept, on which legal basis, and which flows may carry it out of the region.
//! From these declarations come the store's sealed columns and keyed indexes
//! ([`Sealed`], [`Index`]: nothing else can be sealed or indexed), the data map
//! ([`DataMap`]), the processing register ([`Register`]) and the rules of the
//! egress gate ([`crate::egress`]).
//!
//! To add a field: declare it in `fields.rs`, and where it is stored in
//! `columns.rs`. A `Personal<…>` or `Secret<…>` in a struct that no field names
//! fails `cargo xtask tidy`; a column that is not declared fails the store's
//! tests.

mod columns;
pub mod fields;
mod map;
mod register;
pub mod sealed;

use serde::Serialize;

use crate::DataClass;
use crate::egress::{Flow, Form};

pub use columns::{COLUMNS, Column, FILES, NOT_PERSONAL, StoredFile};
pub use fields::FIELDS;
pub use map::{DataMap, MappedField};
pub use register::{CountedFlow, Register, RegisterHead};
pub use sealed::{Index, Sealed};

/// One kind of personal data.
#[derive(Debug)]
pub struct Field {
    /// As `user.name`; unique.
    pub name: &'static str,
    pub class: DataClass,
    /// What it is, for people who read the data map.
    pub what: &'static str,
    pub purpose: Purpose,
    pub retention: Retention,
    /// `None` where it is the platform's own and of no person.
    pub basis: Option<LegalBasis>,
    /// The fields of structs that hold it in memory, as `User.name`.
    pub held: &'static [&'static str],
    /// The flows that may carry it out of the region, and how; others never do.
    pub carried: &'static [(Flow, Form)],
}

impl Field {
    /// How `flow` may carry it; `None`: never.
    pub fn form_in(&self, flow: Flow) -> Option<Form> {
        self.carried.iter().find(|(known, _)| *known == flow).map(|(_, form)| *form)
    }
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Field {}

/// What a field is processed for: the activities of the processing register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Accounts, users, numbers and trunks as an administrator enters them.
    Administration,
    /// Proving who signs in, and keeping keys.
    Security,
    /// Knowing where a user's devices are, so that calls reach them.
    Registration,
    /// Setting up and carrying calls.
    Carriage,
    /// Writing down that a call took place: usage, invoices, evidence, faults.
    Records,
    /// Recording calls where the account says so.
    Recording,
}

impl Purpose {
    pub const ALL: [Self; 6] = [
        Self::Administration,
        Self::Security,
        Self::Registration,
        Self::Carriage,
        Self::Records,
        Self::Recording,
    ];

    pub const fn what(self) -> &'static str {
        match self {
            Self::Administration => "Administration of accounts, users, numbers and trunks",
            Self::Security => "Proof of who signs in; keys that data is sealed with",
            Self::Registration => "Registration: where a user's devices can be reached",
            Self::Carriage => "Setting up and carrying calls",
            Self::Records => "Call records: usage, invoices, evidence, faults",
            Self::Recording => "Recording of calls where the account's policy says so",
        }
    }

    /// Whose data it is.
    pub const fn subjects(self) -> &'static str {
        match self {
            Self::Administration | Self::Security => "users and administrators of the account",
            Self::Registration => "users of the account",
            Self::Carriage | Self::Records | Self::Recording => {
                "users of the account and those they speak with"
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// Until an administrator removes what it belongs to.
    UntilRemoved,
    /// Until the registration expires or is withdrawn.
    UntilExpired,
    /// `database.retention_days` after the call's end.
    AsConfigured,
    /// So long that a request may be repeated.
    OneDay,
    /// In memory while it is used, and nowhere else.
    InTransit,
}

impl Retention {
    pub const fn what(self) -> &'static str {
        match self {
            Self::UntilRemoved => "until what it belongs to is removed",
            Self::UntilExpired => "until the registration expires",
            Self::AsConfigured => "`database.retention_days` after the call's end",
            Self::OneDay => "24 hours",
            Self::InTransit => "not kept",
        }
    }
}

/// GDPR Art. 6(1), by letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LegalBasis {
    Consent,
    Contract,
    LegalObligation,
    LegitimateInterest,
}

impl LegalBasis {
    pub const fn article(self) -> &'static str {
        match self {
            Self::Consent => "Art. 6(1)(a), consent",
            Self::Contract => "Art. 6(1)(b), contract",
            Self::LegalObligation => "Art. 6(1)(c), legal obligation",
            Self::LegitimateInterest => "Art. 6(1)(f), legitimate interest",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_has_a_name_of_its_own_and_a_place() {
        let names: BTreeSet<_> = FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), FIELDS.len());
        for field in FIELDS {
            let stored = COLUMNS.iter().any(|column| column.holds.contains(field))
                || FILES.iter().any(|file| file.holds.contains(field));
            let kept = field.retention != Retention::InTransit;
            assert_eq!(stored, kept, "{}: stored and retention disagree", field.name);
            // Audio is octets in the relay's buffers, of no type of its own.
            let said = crate::egress::signalling::says(field) || *field == &fields::CALL_AUDIO;
            assert!(stored || said || !field.held.is_empty(), "{} is nowhere", field.name);
        }
    }

    #[test]
    fn whatever_is_stored_is_among_the_fields() {
        let stored = COLUMNS.iter().flat_map(|column| column.holds);
        for field in stored.chain(FILES.iter().flat_map(|file| file.holds)) {
            assert!(FIELDS.contains(field), "{} is not in FIELDS", field.name);
        }
    }

    #[test]
    fn a_column_is_declared_once() {
        let columns: BTreeSet<_> = COLUMNS.iter().map(|it| (it.table, it.name)).collect();
        assert_eq!(columns.len(), COLUMNS.len());
        for (table, names, _) in NOT_PERSONAL {
            for name in *names {
                assert!(!columns.contains(&(*table, *name)), "{table}.{name} is declared twice");
            }
        }
    }

    #[test]
    fn names_numbers_content_and_credentials_lie_under_seal() {
        for column in COLUMNS.iter().filter(|column| column.form == columns::Stored::Plain) {
            for field in column.holds {
                let may = matches!(field.class, DataClass::Traffic | DataClass::Address)
                    || [fields::SID.name, fields::ACCOUNT_DOMAIN.name].contains(&field.name);
                assert!(may, "{} lies bare in {}.{}", field.name, column.table, column.name);
            }
        }
    }
}
