//! Tables as data. Who shows one decides how; its [`Display`](fmt::Display) is for a terminal.

use std::fmt;

use serde::Serialize;

/// Where a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Alignment {
    /// To the left, as names do.
    Left,
    /// To the right, as numbers do.
    Right,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// What is over it.
    pub heading: String,
    /// Where its cells stand, and its heading.
    pub alignment: Alignment,
}

/// Lines of cells under headings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What holds for all of it, in lines; may be empty.
    pub caption: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The lines, each with a cell for every column.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table whose first column stands to the left and the others to the right.
    pub fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        let column = |(i, heading): (usize, H)| Column {
            heading: heading.into(),
            alignment: match i {
                0 => Alignment::Left,
                _ => Alignment::Right,
            },
        };
        Self {
            columns: headings.into_iter().enumerate().map(column).collect(),
            ..Self::default()
        }
    }

    /// The same with a caption.
    pub fn with_caption(self, caption: impl Into<String>) -> Self {
        Self {
            caption: caption.into(),
            ..self
        }
    }

    /// The same with these lines after its own.
    ///
    /// # Panics
    /// If a line has more or fewer cells than there are columns.
    pub fn with_rows<R: Into<Vec<String>>>(mut self, rows: impl IntoIterator<Item = R>) -> Self {
        for row in rows {
            let row = row.into();
            assert_eq!(
                row.len(),
                self.columns.len(),
                "a cell is expected for each column"
            );
            self.rows.push(row);
        }
        self
    }

    /// Headings and lines as CSV (RFC 4180, with bare line ends): a cell with a comma, a quote or a
    /// line end stands in quotes.
    pub fn csv(&self) -> String {
        let headings = self.columns.iter().map(|column| column.heading.clone());
        let headings: Vec<String> = headings.collect();
        let quoted = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.clone(),
        };
        let lines = std::iter::once(&headings).chain(&self.rows);
        let lines = lines.map(|line| line.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n");
        lines.collect()
    }
}

/// The caption, the headings if there are any, and the lines; two blanks between columns, none at the
/// end of a line.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.caption.is_empty() {
            writeln!(f, "{}", self.caption)?;
        }
        let headings: Vec<&String> = self.columns.iter().map(|column| &column.heading).collect();
        let has_headings = headings.iter().any(|heading| !heading.is_empty());
        let lines: Vec<Vec<&String>> = has_headings
            .then_some(headings)
            .into_iter()
            .chain(self.rows.iter().map(|row| row.iter().collect()))
            .collect();
        let width = |i: usize| {
            let cells = lines.iter().filter_map(|line| line.get(i));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for line in &lines {
            let places = self.columns.iter().zip(&widths);
            let cells = line.iter().zip(places);
            let cells = cells.map(|(cell, (column, &width))| match column.alignment {
                Alignment::Left => format!("{cell:<width$}"),
                Alignment::Right => format!("{cell:>width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A fraction as `12.34 %`.
pub fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

/// A number with its thousands set apart: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(431_080), "431,080");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }

    #[test]
    fn columns_line_up() {
        let table = Table::new(["run", "loss"]).with_rows([["float", "1"].map(String::from)]);
        assert_eq!(table.to_string(), "run    loss\nfloat     1\n");
        let table = table.with_caption("two lines\nof caption");
        assert_eq!(
            table.to_string(),
            "two lines\nof caption\nrun    loss\nfloat     1\n"
        );
    }

    #[test]
    fn cells_are_quoted_where_csv_needs_it() {
        let table = Table::new(["a", "b,c"]).with_rows([["say \"x\"", "1"].map(String::from)]);
        assert_eq!(table.csv(), "a,\"b,c\"\n\"say \"\"x\"\"\",1\n");
    }

    #[test]
    fn there_may_be_no_headings() {
        let table = Table::new(["", ""]).with_rows([["a", "1"].map(String::from)]);
        assert_eq!(table.to_string(), "a  1\n");
    }

    #[test]
    fn a_table_is_data() {
        let table = Table::new(["run"]).with_rows([["float".to_string()]]);
        assert_eq!(
            serde_json::to_value(table).unwrap(),
            serde_json::json!({
                "caption": "",
                "columns": [{ "heading": "run", "alignment": "left" }],
                "rows": [["float"]],
            })
        );
    }
}
