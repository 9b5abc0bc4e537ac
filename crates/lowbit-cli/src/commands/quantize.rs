//! `lowbit quantize`.

use std::path::{Path, PathBuf};

use clap::Args;
use lowbit::report::summary;
use lowbit::train::{
    Experiment, Method, QuantizationReport, Quantize, RunFolder, RunResult, quantization_report,
};
use serde::Serialize;

use super::{
    DeviceArgument, Ended, WatchArguments, load, print_hashes, print_json, train, use_threads,
};
use crate::options::{self, Options};
use crate::output::{print, say};

/// Quantize a trained float network without training it.
///
/// Every scale is a power of two, found from training images on which the float network runs. The
/// result is a run like those of `lowbit train`: `lowbit eval RUN` tests it, and
/// `lowbit train --method tqt --from RUN` retrains it.
///
/// Below 8 bits, `--algorithm` repairs much of what quantization breaks. equalize moves ranges between
/// layers so that one step suits all channels; gptq or adaround chooses which weights are rounded up and
/// which down; bias-correct takes the mean error from each layer's bias. They come in this order and each
/// may be left out. With any of them, normalizations are merged into the convolutions before them unless
/// --fold says otherwise. What each did is said tensor by tensor.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options<options::Quantize>,
    #[command(flatten)]
    device: DeviceArgument,
    /// The new run's folder [default: a new one under runs/]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Compare: float, static 8 bits by maximum and by KL-J, retrained 8 and 4 bits
    #[arg(long, conflicts_with_all = ["wbits", "abits", "init", "weight_init", "algorithms"])]
    compare: bool,
    #[command(flatten)]
    watch: WatchArguments,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit quantize --from runs/mnist-lenet --method tqt --out runs/mnist-int8
  lowbit quantize --from runs/mnist-lenet --compare --epochs 1
  lowbit quantize --from runs/mnist-lenet --wbits 3 --algorithm gptq,bias-correct
  lowbit quantize --from lenet.pt --data mnist --model lenet --widths 8,4,4,8
  lowbit quantize --from other.pt --data mnist --accept unexpected,other-shape";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    runs: &'a [RunResult],
    quantized: &'a [Quantized],
    seed: u64,
    config: &'a Experiment,
    out: &'a Path,
    interrupted: Option<String>,
}

/// A run's layers and tensors.
#[derive(Serialize)]
struct Quantized {
    name: String,
    #[serde(flatten)]
    report: QuantizationReport,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let device = self.device.open()?;
        let quantize = Quantize::new(*self.options.settings);
        let experiment = match self.compare {
            true => quantize.comparison()?,
            false => quantize.experiment()?,
        };
        use_threads(experiment.threads)?;
        let mut bars = self.watch.bars();
        let split = load(&experiment, None, &mut bars)?;
        let method = Some(Method::TQT);
        let path = self
            .out
            .unwrap_or_else(|| RunFolder::unused(&experiment, method));
        let folder = RunFolder::create(path, &experiment)?;
        let watch = &self.watch;
        let trained = train(
            &folder,
            true,
            &experiment,
            &split,
            &device,
            watch,
            &mut bars,
        )?;
        let results = &trained.results;
        let mut quantized = Vec::new();
        let finished = experiment.runs.iter().take(results.len());
        for run in finished.filter(|run| run.plan.has_thresholds()) {
            let report = quantization_report(&folder, &experiment, run, &split, &device)?;
            let name = run.name.clone();
            quantized.push(Quantized { name, report });
        }
        let code = trained.code();
        if self.json {
            print_json(&Report {
                runs: results,
                quantized: &quantized,
                seed: experiment.seed,
                config: &experiment,
                out: folder.path(),
                interrupted: trained.interrupted,
            })?;
            return Ok(code);
        }
        if let [only] = &quantized[..]
            && !self.compare
        {
            print(format_args!(
                "{}\n",
                summary::layer_widths(&only.report.layers)
            ))?;
            print(format_args!(
                "{}\n",
                summary::measured(&only.report.tensors)
            ))?;
        }
        print(summary::results(results))?;
        print_hashes(results)?;
        if trained.interrupted.is_some() {
            let path = folder.path().display();
            say(format_args!(
                "stopped; go on with: lowbit train --resume --out {path}"
            ));
        }
        Ok(code)
    }
}
