//! `lowbit analyze accumulators`.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::Device;
use clap::Args;
use lowbit::models::Classifier;
use lowbit::report::{AccumulatorBits, accumulator_bits};
use lowbit::train::{find_run, trained_network};
use serde::Serialize;

use crate::commands::{Ended, Resources, load, print_json, use_threads};
use crate::output::print;
use crate::progress::Bars;
use crate::table;

/// Show the bits that the sums inside a trained network's layers can need, from their shapes and
/// from their weights, beside the bits that they were given.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of a run whose weights and inputs have power-of-two steps, such as
    /// runs/mnist-lenet/tqt-w8a8
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Look at the last weights instead of the best
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    resources: Resources,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    run: String,
    checkpoint: PathBuf,
    layers: Vec<AccumulatorBits>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let (folder, run, experiment) = find_run(&self.run)?;
        use_threads(self.resources.threads.unwrap_or(experiment.threads))?;
        let dir = self
            .resources
            .data_dir
            .or_else(|| experiment.data_dir.clone());
        let split = load(experiment.data, dir.as_deref(), &mut Bars::new())?;
        let (model, checkpoint) = trained_network(
            &folder,
            &experiment,
            &run,
            self.last,
            &split,
            &Device::flex(),
        )?;
        let layers = accumulator_bits(&model, model.layers());
        if layers.is_empty() {
            let path = self.run.display();
            return Err(format!(
                "{path}: no layer's weight and input both have power-of-two steps"
            )
            .into());
        }
        if self.json {
            print_json(&Report {
                run,
                checkpoint,
                layers,
            })?;
        } else {
            print(table::accumulators(&layers))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
