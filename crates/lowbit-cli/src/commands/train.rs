//! `lowbit train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::tensor::Device;
use clap::Args;
use lowbit::data::DataSet;
use lowbit::models::Architecture;
use lowbit::train::{
    ConfigFile, Experiment, Interrupter, Method, Outcome, RunFolder, RunResult, Settings,
};
use serde::Serialize;

use super::{Difference, Ended, FoldArgument, Resources, load, print_json, use_threads};
use crate::interrupt::stop_gently;
use crate::output::{print, say};
use crate::progress::Bars;
use crate::table;

/// Train a network, in float and quantized, and compare.
///
/// A quantized network is trained beside a float one of the same shape; --no-baseline leaves the
/// float one out, and --from starts from the best weights of an earlier run instead. Everything is
/// kept in the run's folder: the complete configuration, metrics as JSON lines, and checkpoints,
/// from which --resume goes on to the very numbers of an uninterrupted run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// digits (embedded), mnist, cifar10 or cifar100 [default: digits]
    #[arg(long, value_name = "SET")]
    data: Option<DataSet>,
    /// cnn, lenet, resnet8, resnet14, resnet20 or resnet26, the resnets also as
    /// resnet20-bottleneck [default: the usual one for the data]
    #[arg(long, value_name = "NAME")]
    model: Option<Architecture>,
    /// float, dorefa or tqt [default: dorefa]
    #[arg(long, value_name = "NAME")]
    method: Option<Method>,
    /// Bits of weights: dorefa 1 to 24, tqt 2 to 24, 32 for float [default: 4; 8 for tqt]
    #[arg(long, value_name = "N")]
    wbits: Option<u32>,
    /// Bits of activations: dorefa 1 to 16, tqt 2 to 24, 32 for float [default: 4; 8 for tqt]
    #[arg(long, value_name = "N")]
    abits: Option<u32>,
    /// Times that each run sees every image [default: the usual for the data; a fifth of it from
    /// trained weights]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images in a step [default: the usual for the data]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Highest learning rate [default: the usual for the data; a tenth of it from trained weights]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Where all randomness comes from [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    resources: Resources,
    /// Settings in TOML (the flags above, with _ for -, and more), or the config.toml of a run;
    /// flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The run's folder [default: a new one under runs/]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Start from the best weights of this run, or from a file with those of the plain network:
    /// .safetensors, .pt, .pth or .bpk
    #[arg(long, value_name = "RUN")]
    from: Option<PathBuf>,
    /// Load them although they differ from the network, and list how: missing, unexpected,
    /// other-shape, or several of these
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        hide_possible_values = true,
        requires = "from"
    )]
    accept: Vec<Difference>,
    /// Quantize convolutions as one with the normalizations after them: off, training or merged
    /// (for good) [default: off, or that of the quantized run in --from]
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    fold: Option<FoldArgument>,
    /// Train the quantized network alone
    #[arg(long)]
    no_baseline: bool,
    /// Go on with the run in --out, with its own configuration
    #[arg(long, requires = "out")]
    resume: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit train
  lowbit train --data mnist --method dorefa --wbits 4 --abits 4
  lowbit train --data mnist --method tqt --from runs/mnist-lenet --epochs 1
  lowbit train --data cifar10 --model resnet20 --out runs/c10
  lowbit train --resume --out runs/c10";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    runs: &'a [RunResult],
    seed: u64,
    config: &'a Experiment,
    out: &'a Path,
    interrupted: Option<String>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let json = self.json;
        let (folder, experiment) = self.folder()?;
        use_threads(experiment.threads)?;
        let mut bars = Bars::new();
        let split = load(experiment.data, experiment.data_dir.as_deref(), &mut bars)?;
        let (folder, is_new) = match folder {
            Folder::New(path) => (RunFolder::create(path, &experiment)?, true),
            Folder::Existing(folder) => (folder, false),
        };
        let interrupter = Interrupter::new();
        stop_gently(&interrupter);
        bars.say(&format!("run folder: {}", folder.path().display()));
        let device = Device::flex();
        let outcome = folder.train(&experiment, &split, &device, &interrupter, &mut bars);
        let outcome = outcome.inspect_err(|_| {
            if is_new {
                folder.clone().discard_unstarted();
            }
        })?;
        let (results, interrupted) = match outcome {
            Outcome::Finished(results) => (results, None),
            Outcome::Interrupted(results, name) => (results, Some(name)),
        };
        let code = if interrupted.is_some() {
            ExitCode::from(130)
        } else {
            ExitCode::SUCCESS
        };
        if json {
            print_json(&Report {
                runs: &results,
                seed: experiment.seed,
                config: &experiment,
                out: folder.path(),
                interrupted,
            })?;
            return Ok(code);
        }
        if !results.is_empty() {
            print(table::results(&results))?;
        }
        if let Some(name) = interrupted {
            let path = folder.path().display();
            say(format_args!(
                "stopped in {name}; go on with: lowbit train --resume --out {path}"
            ));
        }
        Ok(code)
    }

    /// The run's folder and what is to be trained there.
    fn folder(self) -> Result<(Folder, Experiment), Box<dyn std::error::Error>> {
        let out = self.out.clone();
        if self.resume {
            let threads = self.resources.threads;
            let data_dir = self.resources.data_dir.clone();
            if self.config.is_some() || self.settings() != Settings::default() {
                return Err(
                    "--resume goes on with the run's own configuration; only --out, \
                            --data-dir, --threads and --json go with it"
                        .into(),
                );
            }
            let (folder, mut experiment) = RunFolder::open(out.expect("clap requires it"))?;
            experiment.threads = threads.unwrap_or(experiment.threads);
            experiment.data_dir = data_dir.or(experiment.data_dir);
            experiment.check()?;
            return Ok((Folder::Existing(folder), experiment));
        }
        let experiment = self.experiment()?;
        let path = out.unwrap_or_else(|| unused_folder(&experiment));
        Ok((Folder::New(path), experiment))
    }

    fn experiment(self) -> Result<Experiment, lowbit::Error> {
        let resources = Settings {
            data_dir: self.resources.data_dir.clone(),
            threads: self.resources.threads,
            ..Settings::default()
        };
        let config = self.config.clone();
        let settings = self.settings();
        let settings = match config.as_deref().map(ConfigFile::read).transpose()? {
            None => settings.or(resources),
            Some(ConfigFile::Settings(file)) => settings.or(resources).or(*file),
            Some(ConfigFile::Experiment(complete)) => {
                return complete.with(&settings.or(resources));
            }
        };
        settings.complete()
    }

    /// What the flags say of the training itself.
    fn settings(self) -> Settings {
        Settings {
            data: self.data,
            model: self.model,
            method: self.method,
            baseline: self.no_baseline.then_some(false),
            wbits: self.wbits,
            abits: self.abits,
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            seed: self.seed,
            from: self.from,
            accept: (!self.accept.is_empty()).then(|| Difference::tolerance(&self.accept)),
            fold: self.fold.map(Into::into),
            ..Settings::default()
        }
    }
}

enum Folder {
    New(PathBuf),
    Existing(RunFolder),
}

/// The first of `runs/digits-cnn`, `runs/digits-cnn-2`, ... that does not exist.
fn unused_folder(experiment: &Experiment) -> PathBuf {
    let name = format!("runs/{}-{}", experiment.data, experiment.model);
    let numbered = (2..).map(|n| PathBuf::from(format!("{name}-{n}")));
    std::iter::once(PathBuf::from(&name))
        .chain(numbered)
        .find(|path| !path.exists())
        .expect("there are more numbers than folders")
}
