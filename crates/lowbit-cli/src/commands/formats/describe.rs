//! `lowbit formats describe`.

use std::process::ExitCode;

use clap::Args;
use lowbit::report::table::{Table, thousands};
use lowbit_formats::Format;
use lowbit_formats::inspect::{Code, Description};

use super::{number, number_or, specials};
use crate::commands::{Ended, print_json};
use crate::output::print;

/// Show the facts of a format and, up to 8 bits, all its values.
///
/// Of a block format, whose scale follows the numbers, an element at a scale of one is described.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The format, such as e4m3, "fixed(8,6)" or "posit(8,1)"
    #[arg(value_name = "F")]
    format: Format,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let description = self.format.describe();
        if self.json {
            print_json(&description)?;
        } else {
            let note = description.note.map(|note| format!("  {note}\n"));
            print(format_args!(
                "{}\n{}{}",
                description.format,
                note.unwrap_or_default(),
                facts(&description)
            ))?;
            if !description.codes.is_empty() {
                print(format_args!("\n{}", codes(&description.codes)))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn facts(description: &Description) -> String {
    let facts = &description.facts;
    let range = match (facts.range_decades, facts.range_bits) {
        (Some(decades), Some(bits)) => format!("{decades:.2} decades, {bits:.2} bits"),
        _ => "none".into(),
    };
    let rows = [
        ["  bits".into(), facts.bits.to_string()],
        ["  smallest".into(), number(facts.min)],
        ["  largest".into(), number(facts.max)],
        [
            "  smallest normal".into(),
            number_or(facts.min_normal, "none"),
        ],
        [
            "  smallest positive".into(),
            number_or(facts.min_positive, "none"),
        ],
        [
            "  epsilon (step above 1)".into(),
            number_or(facts.epsilon, "none"),
        ],
        ["  dynamic range".into(), range],
        ["  distinct values".into(), thousands(facts.values)],
        ["  holds besides numbers".into(), specials(facts)],
    ];
    let width = rows.iter().map(|[name, _]| name.len()).max().unwrap_or(0);
    rows.map(|[name, value]| format!("{name:width$}  {value}\n"))
        .concat()
}

/// All codes, in columns that are read downwards.
fn codes(codes: &[Code]) -> String {
    const COLUMNS: usize = 4;
    let height = codes.len().div_ceil(COLUMNS);
    let columns: Vec<&[Code]> = codes.chunks(height).collect();
    let cell = |column: &&[Code], i: usize| match column.get(i) {
        Some(code) => vec![code.bits.clone(), number(code.value), String::new()],
        None => vec![String::new(); 3],
    };
    let row = |i: usize| {
        let cells = columns.iter().flat_map(|column| cell(column, i));
        cells.collect::<Vec<_>>()
    };
    Table::new(vec![""; 3 * columns.len()])
        .with_rows((0..height).map(row))
        .to_string()
}
