//! `lowbit formats verify`.

use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lowbit::report::table::{Table, thousands};
use lowbit_formats::Format;
use lowbit_formats::verify::{Verification, verify};

use super::number;
use crate::commands::{Ended, print_json};
use crate::output::print;

/// Compare a format with an independent implementation over all 2^32 inputs.
///
/// Every float32 is rounded to nearest-even by the kernels and by the reference, and the results
/// are compared bit for bit. The exit code says whether all agree.
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
        let bar = ProgressBar::new(1 << 32);
        let form = "{prefix} [{bar:30}] {percent} % {eta}";
        bar.set_style(ProgressStyle::with_template(form)?.progress_chars("=> "));
        bar.set_prefix(self.format.to_string());
        let verified = verify(&self.format, |done, _| {
            // Threads report out of order; the bar goes forward only.
            if done > bar.position() {
                bar.set_position(done);
            }
        });
        bar.finish_and_clear();
        let verified = verified?;
        if self.json {
            print_json(&verified)?;
        } else {
            print(text(&verified))?;
        }
        Ok(if verified.mismatches == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn text(verified: &Verification) -> String {
    let mismatches = match verified.mismatches {
        0 => "no mismatch".into(),
        1 => "1 mismatch".into(),
        count => format!("{} mismatches", thousands(count)),
    };
    let heading = format!(
        "{}: {} inputs against {}: {mismatches}\n",
        verified.format,
        thousands(verified.inputs),
        verified.reference
    );
    if verified.cases.is_empty() {
        return heading;
    }
    let headings = ["input", "bits", "here", "reference"];
    let table = Table::new(headings).with_rows(verified.cases.iter().map(|case| {
        [
            number(f32::from_bits(case.input)),
            format!("{:08x}", case.input),
            number(case.ours),
            number(case.reference),
        ]
    }));
    heading + &table.to_string()
}
