//! `lowbit analyze accumulators`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::analysis::{AccumulatorBits, accumulator_bits};
use lowbit::models::Classifier;
use lowbit::report::summary;
use lowbit::train::{find_run, measure_run, trained_network};
use serde::Serialize;

use crate::commands::{DeviceArgument, Ended, load_of, print_json};
use crate::options::{Look, Options};
use crate::output::print;
use crate::progress::Bars;

/// Show the bits that the sums inside a trained network's layers can need, from their shapes and
/// from their weights, beside the bits that they were given and the share of the sums on the
/// calibration images that saturated.
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
    options: Options<Look>,
    #[command(flatten)]
    device: DeviceArgument,
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
        let device = self.device.open()?;
        let (folder, run, experiment) = find_run(&self.run)?;
        let split = load_of(&experiment, &self.options.settings, &mut Bars::new())?;
        let (model, checkpoint) =
            trained_network(&folder, &experiment, &run, self.last, &split, &device)?;
        let measured = measure_run(&model, &experiment, &run, &split, &device)?;
        let layers = accumulator_bits(&model, model.layers()).into_iter();
        let layers: Vec<_> = layers.map(|layer| layer.with_measured(&measured)).collect();
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
            print(summary::accumulators(&layers))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
