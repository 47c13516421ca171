//! The data map: what lies where, and what leaves how.

use serde::Serialize;

use super::columns::Stored;
use super::{COLUMNS, FIELDS, FILES, Field, LegalBasis, Purpose, Retention};
use crate::DataClass;
use crate::egress::{Flow, Form};

/// Every field with its declaration and its places. Serialises with stable keys.
#[derive(Debug, Clone, Serialize)]
pub struct DataMap {
    pub fields: Vec<MappedField>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MappedField {
    pub name: &'static str,
    pub class: DataClass,
    pub what: &'static str,
    pub purpose: Purpose,
    pub retention: Retention,
    pub legal_basis: Option<LegalBasis>,
    pub stored: Vec<Place>,
    pub leaves: Vec<Leaves>,
}

/// A column of the region's database, or a file of its processes.
#[derive(Debug, Clone, Serialize)]
pub struct Place {
    /// As `call.party_from` or `ledger/`.
    pub at: String,
    /// `sealed`, `keyed index` or `plain`.
    pub form: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Leaves {
    pub flow: Flow,
    pub form: Form,
}

impl DataMap {
    pub fn of_catalogue() -> Self {
        Self { fields: FIELDS.iter().map(|field| mapped(field)).collect() }
    }

    /// One table of all fields.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "# Data map\n\nGenerated from the declarations that the store seals by and the egress gate decides by. \
             What is not in the last column never leaves the region. What lies in the database lies, sealed, \
             in the region's backups too (`backup.directory`); what is erased is dead there once the next is made.\n\n\
             | field | class | what | purpose | kept | legal basis | stored | leaves the region |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for field in &self.fields {
            let basis = field.legal_basis.map_or("of no person", LegalBasis::article);
            let cells = [
                field.name,
                field.class.name(),
                field.what,
                field.purpose.what(),
                field.retention.what(),
                basis,
                &field.stored_shown(),
                &field.leaves_shown(),
            ];
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        text
    }
}

impl MappedField {
    /// By form, as `sealed: call.party_from, ledger/; keyed index: call.from_index`.
    fn stored_shown(&self) -> String {
        let forms = [Stored::Sealed, Stored::Index, Stored::Plain].map(Stored::name);
        let shown = forms.iter().filter_map(|form| {
            let at: Vec<&str> = self
                .stored
                .iter()
                .filter(|place| place.form == *form)
                .map(|place| place.at.as_str())
                .collect();
            (!at.is_empty()).then(|| format!("{form}: {}", at.join(", ")))
        });
        or("in memory only", shown.collect::<Vec<_>>().join("; "))
    }

    fn leaves_shown(&self) -> String {
        let shown = self.leaves.iter().map(|it| format!("{}: {}", it.flow, it.form.name()));
        or("never", shown.collect::<Vec<_>>().join("; "))
    }
}

fn or(otherwise: &str, text: String) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

fn mapped(field: &'static Field) -> MappedField {
    let columns = COLUMNS.iter().filter(|column| column.holds.contains(&field)).map(|column| {
        Place { at: format!("{}.{}", column.table, column.name), form: column.form.name() }
    });
    let files = FILES.iter().filter(|file| file.holds.contains(&field));
    let files = files.map(|file| Place { at: file.path.to_owned(), form: file.form.name() });
    MappedField {
        name: field.name,
        class: field.class,
        what: field.what,
        purpose: field.purpose,
        retention: field.retention,
        legal_basis: field.basis,
        stored: columns.chain(files).collect(),
        leaves: field.carried.iter().map(|&(flow, form)| Leaves { flow, form }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_says_where_a_field_lies_and_what_carries_it() {
        let map = DataMap::of_catalogue();
        assert_eq!(map.fields.len(), FIELDS.len());
        let text = map.to_markdown();
        let row = |name: &str| {
            let start = format!("| {name} |");
            text.lines().find(|line| line.starts_with(&start)).unwrap().to_owned()
        };
        let number = row("number");
        assert!(number.contains("sealed: number.number; keyed index: number.number_index"));
        assert!(number.contains("directory: pseudonym"), "{number}");
        assert!(row("recording.audio").ends_with("| never |"));
        let json = serde_json::to_value(&map).unwrap();
        assert_eq!(json["fields"][0]["class"], "identity");
    }
}
