//! `lowbit formats compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::Table;
use lowbit_formats::compare::{Compared, Distribution, Fit, Sample, compare};
use lowbit_formats::error_summary::ErrorSummary;
use lowbit_formats::{Format, Rounding, tensor_file};
use serde::Serialize;

use super::{FACTS, FileArguments, RoundingArguments, facts_row};
use crate::commands::{Ended, print_json};
use crate::output::print;

/// Compare formats: facts, and noise on numbers of several distributions.
///
/// The second table has the signal-to-quantization-noise ratio in dB of normal, uniform and Laplace
/// numbers of variance 1, and of the tensors of a file: of the numbers as they are, and with the
/// best of the powers of two that were tried as a scale.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Formats, such as e4m3 "fixed(8,6)" "posit(8,1)"
    #[arg(value_name = "F", required = true)]
    formats: Vec<Format>,
    /// A .npy, .npz or .safetensors file whose tensors are rounded, too
    #[arg(long, value_name = "FILE")]
    tensors: Option<PathBuf>,
    #[command(flatten)]
    file: FileArguments,
    #[command(flatten)]
    rounding: RoundingArguments,
    /// Where the samples come from
    #[arg(long, value_name = "N", default_value_t = 0)]
    sample_seed: u64,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    rounding: Rounding,
    formats: Vec<Compared>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let rounding = self.rounding.rounding()?;
        let mut samples = Distribution::ALL
            .map(|distribution| Sample::of(distribution, self.sample_seed))
            .to_vec();
        if let Some(path) = &self.tensors {
            samples.push(tensor_file::read_as(path, self.file.dtype)?);
        }
        let formats = compare(&self.formats, &samples, rounding)?;
        let report = Report { rounding, formats };
        if self.json {
            print_json(&report)?;
        } else {
            let noise = noise(&report.formats);
            print(format_args!("{}\n{noise}", facts(&report.formats)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn facts(formats: &[Compared]) -> Table {
    let compared = formats.iter();
    Table::new(FACTS)
        .with_rows(compared.map(|compared| facts_row(&compared.format, &compared.facts)))
}

fn noise(formats: &[Compared]) -> Table {
    let samples = formats.first().map_or(&[][..], |first| &first.samples);
    let names = samples
        .iter()
        .flat_map(|fit| [fit.sample.clone(), "at best scale".into()]);
    let headings = std::iter::once("SQNR in dB".to_string()).chain(names);
    Table::new(headings).with_rows(formats.iter().map(|compared| {
        let cells = compared.samples.iter().flat_map(cells);
        std::iter::once(compared.format.clone())
            .chain(cells)
            .collect::<Vec<_>>()
    }))
}

fn cells(fit: &Fit) -> [String; 2] {
    let scale = format!("{} (2^{})", decibels(&fit.scaled), fit.scale_log2);
    [decibels(&fit.plain), scale]
}

fn decibels(summary: &ErrorSummary) -> String {
    match summary.sqnr_db {
        Some(ratio) => format!("{ratio:.2}"),
        None if summary.overflowed > 0 => "overflow".into(),
        None => "exact".into(),
    }
}
