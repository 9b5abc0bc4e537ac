//! `lowbit train`.

use std::path::{Path, PathBuf};

use clap::Args;
use lowbit::report::summary;
use lowbit::train::{ConfigFile, Experiment, NamedRecipe, RunFolder, RunResult, Settings};
use serde::Serialize;

use super::{
    DeviceArgument, Ended, WatchArguments, load, print_hashes, print_json, train, use_threads,
};
use crate::options::{Options, Train};
use crate::output::{print, say};

/// Train a network, in float and quantized, and compare.
///
/// A quantized network is trained beside a float one of the same shape; --no-baseline leaves the
/// float one out, and --from starts from the best weights of an earlier run instead. Everything is
/// kept in the run's folder: the complete configuration, metrics as JSON lines, and checkpoints,
/// from which --resume goes on to the very numbers of an uninterrupted run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options<Train>,
    #[command(flatten)]
    device: DeviceArgument,
    /// Settings in TOML (the flags above, with _ for -, and more), or the config.toml of a run;
    /// flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// An experiment that the program brings along, of those that `lowbit recipes` lists; flags
    /// override it
    #[arg(long, value_name = "NAME", value_parser = NamedRecipe::find, conflicts_with = "config")]
    recipe: Option<NamedRecipe>,
    /// The run's folder [default: a new one under runs/]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Go on with the run in --out, with its own configuration
    #[arg(long, requires = "out")]
    resume: bool,
    #[command(flatten)]
    watch: WatchArguments,
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
  lowbit train --recipe number-formats
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
        let (json, watch) = (self.json, self.watch.clone());
        let device = self.device.open()?;
        let (folder, experiment) = self.folder()?;
        use_threads(experiment.threads)?;
        let mut bars = watch.bars();
        let split = load(&experiment, None, &mut bars)?;
        let (folder, is_new) = match folder {
            Folder::New(path) => (RunFolder::create(path, &experiment)?, true),
            Folder::Existing(folder) => (folder, false),
        };
        let trained = train(
            &folder,
            is_new,
            &experiment,
            &split,
            &device,
            &watch,
            &mut bars,
        )?;
        let code = trained.code();
        if json {
            print_json(&Report {
                runs: &trained.results,
                seed: experiment.seed,
                config: &experiment,
                out: folder.path(),
                interrupted: trained.interrupted,
            })?;
            return Ok(code);
        }
        if !trained.results.is_empty() {
            print(summary::results(&trained.results))?;
            print_hashes(&trained.results)?;
        }
        if let Some(name) = trained.interrupted {
            let path = folder.path().display();
            say(format_args!(
                "stopped in {name}; go on with: lowbit train --resume --out {path}"
            ));
        }
        Ok(code)
    }

    /// The run's folder and what is to be trained there.
    fn folder(self) -> Result<(Folder, Experiment), Box<dyn std::error::Error>> {
        if self.resume {
            let path = self.out.expect("clap requires it");
            let has_config = self.config.is_some() || self.recipe.is_some();
            return resumed(path, *self.options.settings, has_config);
        }
        let settings = *self.options.settings;
        let file = match (&self.config, self.recipe) {
            (Some(path), _) => Some(ConfigFile::read(path)?),
            (None, Some(recipe)) => Some(recipe.read()?),
            (None, None) => None,
        };
        let experiment = match file {
            None => settings.complete()?,
            Some(file) => file.complete(settings)?,
        };
        let path = self
            .out
            .unwrap_or_else(|| RunFolder::unused(&experiment, None));
        Ok((Folder::New(path), experiment))
    }
}

/// The run in a folder, with what of the settings cannot change its numbers.
fn resumed(
    path: PathBuf,
    settings: Settings,
    has_config: bool,
) -> Result<(Folder, Experiment), Box<dyn std::error::Error>> {
    let others = Settings {
        threads: None,
        data_dir: None,
        ..settings.clone()
    };
    if has_config || others != Settings::default() {
        return Err(
            "--resume goes on with the run's own configuration; only --out, --data-dir, \
             --threads, --device, --tensorboard, --quiet and --json go with it"
                .into(),
        );
    }
    let (folder, mut experiment) = RunFolder::open(path)?;
    experiment.threads = settings.threads.unwrap_or(experiment.threads);
    experiment.data_dir = settings.data_dir.or(experiment.data_dir);
    experiment.check()?;
    Ok((Folder::Existing(folder), experiment))
}

enum Folder {
    New(PathBuf),
    Existing(RunFolder),
}
