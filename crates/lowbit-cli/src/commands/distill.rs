//! `lowbit distill`.

use std::path::{Path, PathBuf};

use clap::Args;
use lowbit::report::summary;
use lowbit::train::{ConfigFile, Evaluation, Experiment, RunFolder, RunResult, evaluate_teacher};
use serde::Serialize;

use super::{
    DeviceArgument, Ended, WatchArguments, load, print_hashes, print_json, train, use_threads,
};
use crate::options::{Distill, Options};
use crate::output::{print, say};

/// Train a student with a teacher, and beside it the same student alone.
///
/// The loss is (1 - L) times that of the labels and L T^2 times the divergence of the teacher's class
/// probabilities from the student's, both at temperature T (arXiv 1503.02531). The teacher may be of
/// any network, method and widths: the folder of a run says which, a file of weights is told by
/// --teacher-model and the flags after it. Each run is like those of `lowbit train`; what was stopped
/// goes on with `lowbit train --resume`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options<Distill>,
    #[command(flatten)]
    device: DeviceArgument,
    /// Settings in TOML (the flags above, with _ for -, and more); flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The runs' folder [default: a new one under runs/]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    #[command(flatten)]
    watch: WatchArguments,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit distill --teacher runs/digits-cnn --wbits 2 --abits 2
  lowbit distill --teacher runs/c10 --student resnet8 --method lsq --wbits 4 --abits 4
  lowbit distill --teacher runs/c10 --wbits 4 --abits 4 --temperature 4 --distill-weight 0.9
  lowbit distill --teacher lenet.pt --teacher-model lenet --data mnist --student lenet";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    teacher: &'a Evaluation,
    runs: &'a [RunResult],
    seed: u64,
    config: &'a Experiment,
    out: &'a Path,
    interrupted: Option<String>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let device = self.device.open()?;
        let settings = *self.options.settings;
        let experiment = match &self.config {
            None => settings.complete()?,
            Some(path) => ConfigFile::read(path)?.complete(settings)?,
        };
        use_threads(experiment.threads)?;
        let mut bars = self.watch.bars();
        let split = load(&experiment, None, &mut bars)?;
        let teacher = evaluate_teacher(&experiment, &split, &device)?;
        let path = self.out.unwrap_or_else(|| {
            let (data, model) = (experiment.data, experiment.model);
            RunFolder::first_unused(&format!("{data}-{model}-distilled"))
        });
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
        let code = trained.code();
        if self.json {
            print_json(&Report {
                teacher: &teacher,
                runs: &trained.results,
                seed: experiment.seed,
                config: &experiment,
                out: folder.path(),
                interrupted: trained.interrupted,
            })?;
            return Ok(code);
        }
        print(summary::distillation(&teacher, &trained.results))?;
        print_hashes(&trained.results)?;
        if let Some(name) = trained.interrupted {
            let path = folder.path().display();
            say(format_args!(
                "stopped in {name}; go on with: lowbit train --resume --out {path}"
            ));
        }
        Ok(code)
    }
}
