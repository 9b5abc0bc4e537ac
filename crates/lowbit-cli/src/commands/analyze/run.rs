//! `lowbit analyze RUN`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::analysis::{Budget, RunAnalysis, RunOptions, analyze_run};
use lowbit::report::AnalysisReport;
use lowbit::train::find_run;

use crate::commands::{DeviceArgument, Ended, load_of, print_json};
use crate::options::{Look, Options};
use crate::output::{print, say};
use crate::picture::{write_assets, write_page, write_text};
use crate::progress::Bars;

/// What `lowbit analyze` takes without a subcommand.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of a run, such as runs/digits-cnn/dorefa-w4a4; of a folder with several runs, the
    /// float one is taken
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// A run of the same network in float to hold it against, instead of the same network with its
    /// quantizers off
    #[arg(long, value_name = "FLOAT_RUN")]
    against: Option<PathBuf>,
    /// Test images to look at [default: 512]
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// What suggested widths may take: bits=4 (of a weight and of an input, on average), bytes=60000
    /// (of all weights) or bitops=5e8 (products of an image times both widths) [default: bits=4]
    #[arg(long, value_name = "BUDGET")]
    budget: Option<Budget>,
    /// The report, one HTML file
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A folder for every picture as SVG and every table as CSV
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// The suggested widths as a file for `lowbit train --config`
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// A folder for an event file that TensorBoard opens: errors and costs of layers, and histograms of weights,
    /// activations and gradients
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Look at the last weights instead of the best
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    options: Options<Look>,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print one JSON object instead of sentences
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let Some(run) = &self.run else {
            return Err("RUN: is not given, expected the folder of a run".into());
        };
        let device = self.device.open()?;
        let (folder, name, experiment) = find_run(run)?;
        let split = load_of(&experiment, &self.options.settings, &mut Bars::new())?;
        let options = RunOptions {
            images: self.images,
            against: self.against.clone(),
            budget: self.budget,
            last: self.last,
            gradients: self.tensorboard.is_some(),
        };
        let found = analyze_run((&folder, &experiment, &name), &options, &split, &device)?;
        let report = AnalysisReport::new(&found, &split.test);
        self.write(&found, &report)?;
        match self.json {
            true => print_json(&found)?,
            false => print(format_args!("{}\n", report.sentences().join("\n")))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn write(
        &self,
        found: &RunAnalysis,
        report: &AnalysisReport<'_>,
    ) -> Result<(), Box<dyn Error>> {
        if let Some(path) = &self.out {
            write_page(path, &report.html())?;
            say(format_args!("report: {}", path.display()));
        }
        if let Some(dir) = &self.assets {
            write_assets(dir, report.figures(), report.tables())?;
        }
        if let Some(dir) = &self.tensorboard {
            report.write_events(dir)?;
        }
        let Some(path) = &self.plan else {
            return Ok(());
        };
        match found.plan_file()? {
            Some(plan) => write_text(path, &plan),
            None => {
                let why = found.not_suggested.as_deref().unwrap_or_default();
                Err(format!("plan: no widths are suggested for this run: {why}").into())
            }
        }
    }
}
