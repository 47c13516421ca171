//! Holds docs/conformance.md to the code: every test it names exists, and what
//! is called covered names one.

use std::collections::BTreeSet;
use std::fs;

use crate::root;

pub fn faults(tests: &BTreeSet<String>) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/conformance.md")).unwrap_or_default();
    held_against(&page, tests)
}

fn held_against(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let rows: Vec<_> = page.lines().filter_map(row).collect();
    if rows.is_empty() {
        return vec!["docs/conformance.md: it has no row of an RFC".to_owned()];
    }
    let mut faults = Vec::new();
    for (name, state, named) in rows {
        let missing = named.iter().filter(|test| !tests.contains(**test));
        faults
            .extend(missing.map(|test| {
                format!("docs/conformance.md: row {name}: no test is called `{test}`")
            }));
        let shown = match state {
            "whole" | "part" => !named.is_empty(),
            "none" => named.is_empty(),
            _ => false,
        };
        if !shown {
            faults.push(format!(
                "docs/conformance.md: row {name}: wanted whole or part with tests, or none without"
            ));
        }
    }
    faults
}

/// A row's first cell, its state, and the tests it names: its words in
/// backquotes.
fn row(line: &str) -> Option<(&str, &str, Vec<&str>)> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let &["", name, _what, state, tests, _missing, ""] = cells.as_slice() else { return None };
    let is_row = name.trim_start_matches('§').starts_with(|first: char| first.is_ascii_digit());
    is_row.then(|| (name, state, tests.split('`').skip(1).step_by(2).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_its_test_is_named() {
        let known = BTreeSet::from(["it_holds".to_owned()]);
        let page = "| RFC | what | state | tests | missing |\n|---|---|---|---|---|\n\
                    | 3261 | SIP | part | `it_holds` | the rest |\n| 4103 | text | none | | |\n";
        assert_eq!(held_against(page, &known), [""; 0]);
        let faults = held_against(page, &BTreeSet::new());
        assert!(faults.len() == 1 && faults[0].contains("3261"), "{faults:?}");
        let claimed = page.replace("| none |", "| whole |");
        assert!(held_against(&claimed, &known)[0].contains("4103"));
        assert!(held_against("", &known)[0].contains("no row"));
    }
}
