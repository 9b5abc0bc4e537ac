//! `lowbit export`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowbit::integer::Comparison;
use lowbit::report::summary;
use lowbit::train::{
    compare_integers, compare_random_integers, find_run, integer_accuracy, to_integers,
    trained_network,
};
use lowbit_formats::new_file;
use serde::Serialize;

use super::{DeviceArgument, Ended, load_of, print_json};
use crate::options::{Look, Options};
use crate::output::{print, say};
use crate::progress::Bars;

/// Write a trained network as integers.
///
/// Every tensor must be on a grid, as `lowbit quantize` leaves them, or a plan that says so
/// (`lowbit config show tqt-integer`). What is on none is named. The integers are compared with the
/// simulation on all test images, and on the first ones layer by layer, before anything is written.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The folder of a run, such as runs/digits-cnn/float; of a folder with several runs, the
    /// float one is taken
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The file [default: the run's name with .json]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Take the last weights instead of the best
    #[arg(long)]
    last: bool,
    /// Test images on which every layer is compared
    #[arg(long, value_name = "N", default_value_t = 1000)]
    layers: usize,
    /// Random inputs on which the results are compared, too
    #[arg(long, value_name = "N", default_value_t = 0)]
    random: usize,
    /// Write it without comparing
    #[arg(long, conflicts_with_all = ["layers", "random"])]
    unchecked: bool,
    #[command(flatten)]
    options: Options<Look>,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit quantize --from runs/mnist-lenet --out runs/mnist-int8
  lowbit export runs/mnist-int8 --out lenet.json
  lowbit run lenet.json --data mnist";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    run: &'a str,
    out: &'a Path,
    accuracy: Option<f64>,
    comparison: Option<&'a Comparison>,
    random: Option<&'a Comparison>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let device = self.device.open()?;
        let (folder, name, experiment) = find_run(&self.run)?;
        let split = load_of(&experiment, &self.options.settings, &mut Bars::new())?;
        let (model, _) = trained_network(&folder, &experiment, &name, self.last, &split, &device)?;
        let network = to_integers(&model, &split.test, &device)?;
        let comparison = match self.unchecked {
            true => None,
            false => {
                let test = &split.test;
                let compared =
                    compare_integers(&network, &model, test, self.layers, &device, |_| {})?;
                Some(compared)
            }
        };
        let random = match self.random {
            0 => None,
            n => {
                let seed = experiment.seed;
                Some(compare_random_integers(&network, &model, n, seed, &device)?)
            }
        };
        let accuracy = match self.unchecked {
            true => None,
            false => Some(integer_accuracy(&network, &split.test)?),
        };
        let out = self.out.unwrap_or_else(|| format!("{name}.json").into());
        new_file::write(&out, network.graph().to_json().as_bytes())
            .map_err(|error| format!("{}: {error}", out.display()))?;
        if self.json {
            print_json(&Report {
                run: &name,
                out: &out,
                accuracy,
                comparison: comparison.as_ref(),
                random: random.as_ref(),
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        print(summary::integers(network.graph(), comparison.as_ref()))?;
        if let (Some(comparison), Some(accuracy)) = (&comparison, accuracy) {
            print(format_args!(
                "\n{comparison}\naccuracy in integers {:.2} %\n",
                100.0 * accuracy
            ))?;
        }
        if let Some(random) = &random {
            print(format_args!(
                "{} of {} results on random inputs differ\n",
                random.different, random.items
            ))?;
        }
        say(format_args!("written to {}", out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
