//! `lowbit formats round`.

use std::ffi::OsString;
use std::num::ParseFloatError;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::Table;
use lowbit_formats::inspect::Rounded;
use lowbit_formats::{Format, Rounding, Wide};
use serde::Serialize;

use super::{RoundingArguments, number};
use crate::commands::{Ended, print_json};
use crate::output::print;

/// Round numbers: value, code and error of each.
///
/// The error is in units of the gap between the number's two neighbours in the format. For a
/// block format, the numbers are one tensor and share their scales.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The format, such as e4m3, "fixed(8,6)" or "posit(8,1)"
    #[arg(value_name = "F")]
    format: Format,
    /// Numbers, each rounded once as it is written, also inf, -inf and nan
    #[arg(value_name = "X", required = true, value_parser = parse)]
    numbers: Vec<Typed>,
    #[command(flatten)]
    rounding: RoundingArguments,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A number, and its text, since the number may lie between those of f64 or beyond.
#[derive(Clone)]
struct Typed {
    text: String,
    number: Wide,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    format: String,
    rounding: Rounding,
    numbers: Vec<Rounded>,
}

/// A minus sign that no option begins with.
const MINUS: &str = "\u{2212}";

/// A command line in which the negative numbers of `formats round` have [`MINUS`] for a hyphen: to
/// clap, `-1e-9`, `-.5` and `-inf` are options, and where it lets hyphens pass, `--json` is a number.
pub(crate) fn with_minus_signs(
    arguments: impl Iterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    let mut before = Vec::new();
    arguments.map(move |argument| {
        if before.len() < 3 {
            before.push(argument.clone());
            return argument;
        }
        let text = argument.to_str().unwrap_or_default();
        match text.strip_prefix('-') {
            Some(magnitude)
                if before[1..] == ["formats", "round"] && text.parse::<f32>().is_ok() =>
            {
                format!("{MINUS}{magnitude}").into()
            }
            _ => argument,
        }
    })
}

fn parse(number: &str) -> Result<Typed, ParseFloatError> {
    let text = number.replacen(MINUS, "-", 1);
    let number: Wide = text.parse()?;
    Ok(Typed { text, number })
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let rounding = self.rounding.rounding()?;
        let numbers: Vec<Wide> = self.numbers.iter().map(|typed| typed.number).collect();
        let report = Report {
            format: self.format.to_string(),
            rounding,
            numbers: self.format.inspect_wide(&numbers, rounding)?,
        };
        if self.json {
            print_json(&report)?;
        } else {
            print(text(&self.numbers, &report.numbers))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(typed: &[Typed], numbers: &[Rounded]) -> String {
    let headings = ["x", "value", "code", "error in ulp"];
    let table =
        Table::new(headings).with_rows(typed.iter().zip(numbers).map(|(typed, rounded)| {
            [
                typed.text.clone(),
                number(rounded.value),
                rounded.bits.clone(),
                match rounded.error_ulp {
                    Some(0.0) => "0".into(),
                    Some(error) => format!("{error:+.4}"),
                    None if rounded.input.is_nan() => "-".into(),
                    None => "out of range".into(),
                },
            ]
        }));
    table.to_string()
}
