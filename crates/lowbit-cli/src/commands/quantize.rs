//! `lowbit quantize`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::tensor::Device;
use clap::Args;
use lowbit::config::Widths;
use lowbit::data::DataSet;
use lowbit::models::Architecture;
use lowbit::quantizers::ThresholdInit;
use lowbit::train::{
    Experiment, Interrupter, Method, Outcome, QuantizationReport, Quantize, RunFolder, RunResult,
    quantization_report,
};
use serde::Serialize;

use super::{Difference, Ended, FoldArgument, Resources, load, print_json, use_threads};
use crate::progress::Bars;
use crate::table;

/// Quantize a trained float network without training it.
///
/// Every scale is a power of two, found from training images on which the float network runs. The
/// result is a run like those of `lowbit train`: `lowbit eval RUN` tests it, and
/// `lowbit train --method tqt --from RUN` retrains it.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The folder of a run, whose best weights are taken, or a file with the weights of the plain
    /// network: .safetensors, .pt, .pth or .bpk
    #[arg(long, value_name = "RUN")]
    from: PathBuf,
    /// Load the weights although they differ from the network, and list how: missing, unexpected,
    /// other-shape, or several of these
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    accept: Vec<Difference>,
    /// How networks are quantized: tqt
    #[arg(long, value_name = "NAME", default_value = "tqt")]
    method: Method,
    /// The new run's folder [default: a new one under runs/]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// digits, mnist, cifar10 or cifar100 [default: that of the run]
    #[arg(long, value_name = "SET")]
    data: Option<DataSet>,
    /// The network [default: that of the run, or the usual one for the data]
    #[arg(long, value_name = "NAME")]
    model: Option<Architecture>,
    /// Bits of weights, 2 to 24, or 32 for float; the first and the last layer have 8 at least
    /// [default: 8]
    #[arg(long, value_name = "N")]
    wbits: Option<u32>,
    /// Bits of biases, 2 to 24, or 32 for float [default: 16]
    #[arg(long, value_name = "N")]
    bbits: Option<u32>,
    /// Bits of activations, likewise [default: 8]
    #[arg(long, value_name = "N")]
    abits: Option<u32>,
    /// Thresholds of activations: max, 3sd, kl-j, percentile(99.9), mse or entropy
    /// [default: kl-j]
    #[arg(long, value_name = "HOW")]
    init: Option<ThresholdInit>,
    /// Thresholds of weights, likewise [default: max]
    #[arg(long, value_name = "HOW")]
    weight_init: Option<ThresholdInit>,
    /// A threshold for each output channel of a weight
    #[arg(long)]
    per_channel: bool,
    /// Fold normalizations into the convolutions before them: off, training or merged (for good)
    #[arg(long, value_name = "HOW", default_value = "off")]
    fold: FoldArgument,
    /// Bits of weight and input by layer: one for each layer with a weight (8,4,4,8), or by path
    /// (conv2=4,fc*=6)
    #[arg(long, value_name = "LIST")]
    widths: Option<String>,
    /// Training images to calibrate with [default: 1024]
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Compare: float, static 8 bits by maximum and by KL-J, retrained 8 and 4 bits
    #[arg(long, conflicts_with_all = ["wbits", "abits", "init", "weight_init"])]
    compare: bool,
    /// Epochs of retraining in a comparison [default: a fifth of the usual]
    #[arg(long, value_name = "N", requires = "compare")]
    epochs: Option<usize>,
    /// Where all randomness comes from [default: that of the run]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    resources: Resources,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit quantize --from runs/mnist-lenet --method tqt --out runs/mnist-int8
  lowbit quantize --from runs/mnist-lenet --compare --epochs 1
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
        if self.method != Method::Tqt {
            return Err(
                format!("method: {} cannot be calibrated, expected tqt", self.method).into(),
            );
        }
        let (json, out) = (self.json, self.out.clone());
        let compare = self.compare;
        let quantize = self.quantize()?;
        let experiment = match compare {
            true => quantize.comparison()?,
            false => quantize.experiment()?,
        };
        use_threads(experiment.threads)?;
        let mut bars = Bars::new();
        let split = load(experiment.data, experiment.data_dir.as_deref(), &mut bars)?;
        let path = out.unwrap_or_else(|| unused_folder(&experiment));
        let folder = RunFolder::create(path, &experiment)?;
        bars.say(&format!("run folder: {}", folder.path().display()));
        let interrupter = Interrupter::new();
        super::stop_on_ctrl_c(&interrupter)?;
        let device = Device::flex();
        let outcome = folder.train(&experiment, &split, &device, &interrupter, &mut bars);
        let outcome = outcome.inspect_err(|_| folder.clone().discard_unstarted())?;
        let (results, interrupted) = match outcome {
            Outcome::Finished(results) => (results, None),
            Outcome::Interrupted(results, name) => (results, Some(name)),
        };
        let mut quantized = Vec::new();
        let finished = experiment.runs.iter().take(results.len());
        for run in finished.filter(|run| run.plan.has_thresholds()) {
            let report = quantization_report(&folder, &experiment, run, &split, &device)?;
            let name = run.name.clone();
            quantized.push(Quantized { name, report });
        }
        let code = match interrupted {
            Some(_) => ExitCode::from(130),
            None => ExitCode::SUCCESS,
        };
        if json {
            print_json(&Report {
                runs: &results,
                quantized: &quantized,
                seed: experiment.seed,
                config: &experiment,
                out: folder.path(),
                interrupted,
            })?;
            return Ok(code);
        }
        if let [only] = &quantized[..]
            && !compare
        {
            println!("{}", table::layer_widths(&only.report.layers));
            println!("{}", table::measured(&only.report.tensors));
        }
        print!("{}", table::results(&results));
        if interrupted.is_some() {
            let path = folder.path().display();
            eprintln!("stopped; go on with: lowbit train --resume --out {path}");
        }
        Ok(code)
    }

    fn quantize(self) -> Result<Quantize, Box<dyn std::error::Error>> {
        let (layer_widths, widths) = match &self.widths {
            None => (Vec::new(), Vec::new()),
            Some(text) => parse_widths(text)?,
        };
        Ok(Quantize {
            from: self.from,
            accept: Difference::tolerance(&self.accept),
            data: self.data,
            data_dir: self.resources.data_dir,
            model: self.model,
            weight_bits: self.wbits,
            bias_bits: self.bbits,
            activation_bits: self.abits,
            weight_init: self.weight_init,
            activation_init: self.init,
            per_channel: self.per_channel,
            fold: self.fold.into(),
            widths,
            layer_widths,
            images: self.images,
            epochs: self.epochs,
            seed: self.seed,
            threads: self.resources.threads,
        })
    }
}

/// A list of widths, or of `path=width`.
fn parse_widths(text: &str) -> Result<(Vec<u32>, Vec<Widths>), String> {
    let (mut list, mut by_path) = (Vec::new(), Vec::new());
    for item in text.split(',') {
        let (path, bits) = match item.split_once('=') {
            Some((path, bits)) => (Some(path), bits),
            None => (None, item),
        };
        let bits = bits
            .trim()
            .parse()
            .map_err(|_| format!("widths: `{item}` is neither a width nor path=width"))?;
        match path {
            None => list.push(bits),
            Some(path) => {
                let widths = Widths::of_path(path.trim());
                by_path.push(widths.with("input", bits).with("weight", bits));
            }
        }
    }
    if !list.is_empty() && !by_path.is_empty() {
        return Err("widths: is a list in part, and by path in part".into());
    }
    Ok((list, by_path))
}

/// The first of `runs/mnist-lenet-tqt`, `runs/mnist-lenet-tqt-2`, ... that does not exist.
fn unused_folder(experiment: &Experiment) -> PathBuf {
    let name = format!("runs/{}-{}-tqt", experiment.data, experiment.model);
    let numbered = (2..).map(|n| PathBuf::from(format!("{name}-{n}")));
    std::iter::once(PathBuf::from(&name))
        .chain(numbered)
        .find(|path| !path.exists())
        .expect("there are more numbers than folders")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_a_list_or_by_path() {
        let (list, by_path) = parse_widths("8,4, 4,8").unwrap();
        assert_eq!((list, by_path.len()), (vec![8, 4, 4, 8], 0));
        let (list, by_path) = parse_widths("conv2=4,fc*=6").unwrap();
        assert!(list.is_empty());
        assert_eq!(by_path[1].path.as_deref(), Some("fc*"));
        assert_eq!(by_path[1].bits.get("weight"), Some(&6));
        assert!(parse_widths("8,conv2=4").is_err());
        assert!(parse_widths("eight").is_err());
    }
}
