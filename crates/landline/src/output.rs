//! What commands print: aligned tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use serde_json::Value;

/// How a command answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    pub json: bool,
    pub colour: bool,
}

impl Style {
    /// Colours only on a terminal and not with `NO_COLOR` (no-color.org).
    pub fn detect(json: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: !json && !refused && std::io::stdout().is_terminal() }
    }
}

/// One column: its JSON key, which in capitals is its heading.
#[derive(Debug, Clone, Copy)]
pub struct Column(pub &'static str);

impl Column {
    fn heading(self) -> String {
        self.0.replace('_', " ").to_uppercase()
    }
}

/// Rows of JSON objects. A table shows the columns named; JSON everything.
#[derive(Debug, Clone)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Value>,
    /// What to say instead of an empty table.
    pub empty: &'static str,
}

impl Table {
    pub fn new(columns: &[&'static str], rows: Vec<Value>, empty: &'static str) -> Self {
        Self { columns: columns.iter().map(|&name| Column(name)).collect(), rows, empty }
    }

    pub fn render(&self, style: Style) -> String {
        if style.json {
            return pretty(&Value::Array(self.rows.clone()));
        }
        if self.rows.is_empty() {
            return self.empty.to_owned();
        }
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| self.columns.iter().map(|column| cell(row.get(column.0))).collect())
            .collect();
        let headings: Vec<String> = self.columns.iter().map(|column| column.heading()).collect();
        aligned(&headings, &cells, style.colour)
    }
}

/// Lines of columns as wide as their widest cell.
pub fn aligned(headings: &[String], rows: &[Vec<String>], colour: bool) -> String {
    let width = |index: usize| {
        rows.iter()
            .filter_map(|row| row.get(index))
            .chain(headings.get(index))
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(text, &width)| format!("{text:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let heading = match colour {
        true => format!("\x1b[1m{}\x1b[0m", line(headings)),
        false => line(headings),
    };
    std::iter::once(heading).chain(rows.iter().map(|row| line(row))).collect::<Vec<_>>().join("\n")
}

/// One object: a line for each key, or JSON.
pub fn card(value: &Value, style: Style) -> String {
    if style.json {
        return pretty(value);
    }
    let Some(fields) = value.as_object() else {
        return cell(Some(value));
    };
    let width = fields.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    fields
        .iter()
        .map(|(key, value)| format!("{:<width$}  {}", key.replace('_', " "), cell(Some(value))))
        .collect::<Vec<_>>()
        .join("\n")
}

pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Prints to standard output. A reader that went away is no failure.
pub fn say(text: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Style = Style { json: false, colour: false };

    #[test]
    fn columns_align_and_absent_values_show_a_dash() {
        let rows = vec![
            json!({"user": "al", "number": "+353", "hidden": 1}),
            json!({"user": "bartholomew", "number": null}),
        ];
        let table = Table::new(&["user", "number"], rows, "nobody");
        assert_eq!(table.render(PLAIN), "USER         NUMBER\nal           +353\nbartholomew  -");
        assert!(table.render(Style { json: true, colour: false }).contains("\"hidden\": 1"));
        assert!(table.render(Style { json: false, colour: true }).starts_with("\x1b[1mUSER"));
    }

    #[test]
    fn an_empty_list_is_words_for_people_and_an_empty_array_for_programs() {
        let table = Table::new(&["user"], Vec::new(), "no users");
        assert_eq!(table.render(PLAIN), "no users");
        assert_eq!(table.render(Style { json: true, colour: false }), "[]");
    }
}
