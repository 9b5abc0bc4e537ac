//! `lowbit eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::Device;
use clap::Args;
use lowbit::train::{Evaluation, Experiment, evaluate_run, find_run};
use serde::Serialize;

use super::{Ended, Resources, load, print_json, use_threads};
use crate::output::print;
use crate::progress::Bars;
use crate::table;

/// Test a trained network on the test images of its data set.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of a run, such as runs/digits-cnn/float; of a folder with several runs, the
    /// float one is taken
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Test the last weights instead of the best
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    resources: Resources,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--json` prints, in the form of `lowbit train`.
#[derive(Serialize)]
struct Report<'a> {
    runs: [&'a Evaluation; 1],
    seed: u64,
    config: &'a Experiment,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let (folder, name, experiment) = find_run(&self.run)?;
        use_threads(self.resources.threads.unwrap_or(experiment.threads))?;
        let dir = self
            .resources
            .data_dir
            .or_else(|| experiment.data_dir.clone());
        let split = load(experiment.data, dir.as_deref(), &mut Bars::new())?;
        let device = Device::flex();
        let evaluation = evaluate_run(&folder, &experiment, &name, self.last, &split, &device)?;
        if self.json {
            print_json(&Report {
                runs: [&evaluation],
                seed: experiment.seed,
                config: &experiment,
            })?;
        } else {
            print(table::evaluation(&evaluation))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
