//! `lowbit run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use lowbit::data::DataSet;
use lowbit::integer::IntegerNetwork;
use lowbit::train::{integer_accuracy, run_images};
use lowbit_formats::tensor_file;
use lowbit_int::Graph;
use serde::Serialize;

use super::{Ended, print_json};
use crate::output::print;
use crate::progress::Bars;

/// Run a network of integers, as `lowbit export` writes it.
///
/// On a data set's test images it tells how many are right; on images of a file, the class and the scores
/// of each.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The network, a file of `lowbit export`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Images as the network was trained to see them, normalized: a .npy file of
    /// [images, channels, height, width]
    #[arg(
        value_name = "IMAGES",
        required_unless_present = "data",
        conflicts_with = "data"
    )]
    images: Option<PathBuf>,
    /// Run on the test images of a data set
    #[arg(long, value_name = "NAME")]
    data: Option<DataSet>,
    /// The folder of the data set's files
    #[arg(long, value_name = "DIR", requires = "data")]
    data_dir: Option<PathBuf>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit run lenet.json --data mnist
  lowbit run lenet.json images.npy";

/// What `--json` prints of a data set.
#[derive(Serialize)]
struct OnSet {
    images: usize,
    accuracy: f64,
    seconds: f64,
}

/// What `--json` prints of one image.
#[derive(Serialize)]
struct OnImage<'a> {
    class: usize,
    scores: &'a [f32],
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let place = |error: &dyn std::fmt::Display| format!("{}: {error}", self.file.display());
        let graph = Graph::read(&self.file)?;
        let network = IntegerNetwork::from_graph(graph).map_err(|error| place(&error))?;
        match (self.data, &self.images) {
            (Some(data), _) => self.on_set(&network, data),
            (None, Some(images)) => self.on_file(&network, images),
            (None, None) => unreachable!("one of both is required"),
        }
    }

    fn on_set(&self, network: &IntegerNetwork, data: DataSet) -> Ended {
        let mut bars = Bars::new();
        let split = data.load(self.data_dir.as_deref(), &mut |progress| {
            bars.download(progress.file, progress.done, progress.total)
        })?;
        let start = Instant::now();
        let accuracy = integer_accuracy(network, &split.test)?;
        let seconds = start.elapsed().as_secs_f64();
        let images = split.test.len();
        if self.json {
            print_json(&OnSet {
                images,
                accuracy,
                seconds,
            })?;
        } else {
            let rate = images as f64 / seconds;
            let accuracy = 100.0 * accuracy;
            print(format_args!(
                "{accuracy:.2} % of {images} images right, {rate:.0} images a second\n"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn on_file(&self, network: &IntegerNetwork, images: &std::path::Path) -> Ended {
        let sample = tensor_file::read(images)?;
        for tensor in sample.tensors {
            let scores = run_images(network, &tensor.shape, tensor.data)
                .map_err(|error| format!("{}: {error}", images.display()))?;
            for (class, scores) in &scores {
                let class = *class;
                if self.json {
                    print_json(&OnImage { class, scores })?;
                } else {
                    let scores: Vec<String> = scores.iter().map(f32::to_string).collect();
                    print(format_args!("{class}  {}\n", scores.join(" ")))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
