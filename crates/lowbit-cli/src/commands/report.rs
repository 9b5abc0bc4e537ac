//! `lowbit report`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::RunsReport;

use super::{Ended, print_json};
use crate::output::{print, say};
use crate::picture::{write_assets, write_page};

/// Show several runs side by side: accuracy, size, bit operations, how they learned, and what differs
/// in their configurations.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folders of runs, such as runs/digits-cnn/float; of an experiment, all its runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The report, one HTML file
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A folder for every picture as SVG and every table as CSV
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let report = RunsReport::read(&self.runs)?;
        if let Some(path) = &self.out {
            write_page(path, &report.html())?;
            say(format_args!("report: {}", path.display()));
        }
        if let Some(dir) = &self.assets {
            write_assets(dir, &report.figures(), &report.tables())?;
        }
        match self.json {
            true => print_json(&report)?,
            false => print(format_args!(
                "{}\n{}",
                report.table(),
                report.differences_table()
            ))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
