//! `lowbit formats list`.

use std::process::ExitCode;

use clap::Args;
use lowbit::report::Table;
use lowbit_formats::{Facts, Format, FormatError};
use serde::Serialize;

use super::{FACTS, facts_row};
use crate::commands::{Ended, print_json};
use crate::output::print;

/// List formats of every kind, with their facts.
///
/// Names such as e4m3 stand for one format; fixed, float, posit and so on take other numbers than
/// the ones shown. Facts of block formats, whose scale follows the numbers, are those of an element
/// at a scale of one.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    formats: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    format: String,
    facts: Facts,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let listed = |text: &str| {
            let facts = text.parse::<Format>()?.facts();
            let format = text.into();
            Ok::<_, FormatError>(Listed { format, facts })
        };
        let formats = Format::examples().map(listed).collect::<Result<_, _>>()?;
        let report = Report { formats };
        if self.json {
            print_json(&report)?;
        } else {
            let formats = report.formats.iter();
            let rows = formats.map(|listed| facts_row(&listed.format, &listed.facts));
            print(Table::new(FACTS).with_rows(rows))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
