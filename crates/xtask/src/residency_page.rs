//! Holds docs/residency.md to the code: every row of the promises stands there
//! once, and every test it names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::root;

/// Rows of each of the two promises, counted from 1.
const ROWS: u32 = 19;

pub fn faults(tests: &BTreeSet<String>) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/residency.md")).unwrap_or_default();
    held_against(&page, tests)
}

/// One row: its name, its state and the tests it names.
struct Row<'a> {
    name: &'a str,
    state: &'a str,
    tests: Vec<&'a str>,
}

fn held_against(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let rows: Vec<Row<'_>> = page.lines().filter_map(row).collect();
    let mut faults = Vec::new();
    for name in ["T", "R"].iter().flat_map(|kind| (1..=ROWS).map(move |n| format!("{kind}{n}"))) {
        match rows.iter().filter(|row| row.name == name).count() {
            1 => {}
            count => {
                faults.push(format!("docs/residency.md: row {name} stands there {count} times"))
            }
        }
    }
    for row in &rows {
        let missing = row.tests.iter().filter(|test| !tests.contains(**test));
        faults.extend(missing.map(|test| {
            format!("docs/residency.md: row {}: no test is called `{test}`", row.name)
        }));
        let shown = match row.state {
            "kept" | "part" => !row.tests.is_empty(),
            "open" => row.tests.is_empty(),
            _ => false,
        };
        if !shown {
            faults.push(format!(
                "docs/residency.md: row {}: wanted kept or part with tests, or open without",
                row.name
            ));
        }
    }
    faults
}

fn row(line: &str) -> Option<Row<'_>> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let &["", name, _promise, state, tests, _missing, ""] = cells.as_slice() else { return None };
    let number = name.strip_prefix(['T', 'R'])?;
    number.parse::<u32>().ok()?;
    let tests = tests.split('`').skip(1).step_by(2).collect();
    Some(Row { name, state, tests })
}

/// Every function below a `#[test]`, and those that a macro makes into tests.
pub fn tests(files: &[PathBuf]) -> BTreeSet<String> {
    let sources = files.iter().filter(|file| {
        file.starts_with("crates") && file.extension().is_some_and(|extension| extension == "rs")
    });
    let mut names = BTreeSet::new();
    for file in sources {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let mut marked = false;
        let by_macro = text.contains("on_both_engines! {");
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some((_, rest)) = line.split_once("fn ") {
                let is_of_macro =
                    line.contains("(region: Region)") || line.contains("(world: World)");
                if marked || (by_macro && is_of_macro) {
                    let end = rest.find(['(', '<']).unwrap_or(rest.len());
                    names.extend(rest.get(..end).map(str::to_owned));
                }
                marked = false;
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_its_test_and_a_row_left_out_are_named() {
        let rows = ["T", "R"].iter().flat_map(|kind| {
            (1..=ROWS).map(move |n| format!("| {kind}{n} | promise | open | | all of it |\n"))
        });
        let page: String = rows.collect();
        let known = BTreeSet::from(["it_holds".to_owned()]);
        assert_eq!(held_against(&page, &known), [""; 0]);
        let kept =
            page.replace("| T3 | promise | open | |", "| T3 | promise | kept | `it_holds` |");
        assert_eq!(held_against(&kept, &known), [""; 0]);
        let faults = held_against(&kept, &BTreeSet::new());
        assert!(faults[0].contains("T3") && faults[0].contains("`it_holds`"), "{faults:?}");
        let faults = held_against(&page.replace("| R7 |", "| RX |"), &known);
        assert!(faults.len() == 1 && faults[0].contains("R7"), "{faults:?}");
        let unproven = page.replace("| T3 | promise | open |", "| T3 | promise | kept |");
        assert!(held_against(&unproven, &known)[0].contains("T3"));
    }
}
