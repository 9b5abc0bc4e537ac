//! One command a file.

pub(crate) mod analyze;
pub(crate) mod bench;
pub(crate) mod chain;
pub(crate) mod compress;
pub(crate) mod config;
pub(crate) mod distill;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod finetune;
pub(crate) mod formats;
pub(crate) mod lm;
pub(crate) mod methods;
pub(crate) mod qa;
pub(crate) mod quantize;
pub(crate) mod recipes;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod sweep;
mod text;
pub(crate) mod train;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::data::Split;
use lowbit::report::summary;
use lowbit::train::{
    Experiment, Interrupter, Outcome, Progress, RunFolder, RunResult, Settings, TensorBoard,
};
use lowbit::{Device, DeviceKind};

use crate::interrupt::stop_gently;
use crate::output::{Unwritten, print, say};
use crate::progress::Bars;

/// What a command ends with: an exit code, or the one line that says what went wrong.
pub(crate) type Ended = Result<ExitCode, Box<dyn Error>>;

/// What computes.
#[derive(Args)]
pub(crate) struct DeviceArgument {
    #[arg(long, value_name = "NAME", default_value_t, hide_default_value = true, help = devices())]
    device: DeviceKind,
}

fn devices() -> String {
    let (names, default) = (DeviceKind::names(), DeviceKind::default());
    format!(
        "What computes: {names}, where the program was built with it; the CPU is {default} \
         [default: {default}]"
    )
}

impl DeviceArgument {
    /// The device.
    ///
    /// # Errors
    /// If it is not built.
    pub(crate) fn open(&self) -> Result<Device, lowbit::Error> {
        self.device.device()
    }
}

/// How training is watched.
#[derive(Args, Clone)]
pub(crate) struct WatchArguments {
    /// A folder for event files that TensorBoard opens, one folder a run in it
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Say nothing on the way but what is wrong
    #[arg(short, long)]
    quiet: bool,
}

impl WatchArguments {
    /// What tells a person how it goes.
    pub(crate) fn bars(&self) -> Bars {
        match self.quiet {
            true => Bars::quiet(),
            false => Bars::new(),
        }
    }
}

/// Prints the hashes of runs' weights, below the table of what they came to.
fn print_hashes(results: &[RunResult]) -> Result<(), Unwritten> {
    match summary::hashes(results) {
        Some(hashes) => print(format_args!("\n{hashes}")),
        None => Ok(()),
    }
}

/// Gives the process its threads. Called once, before any tensor is touched.
fn use_threads(threads: usize) -> Result<(), Box<dyn Error>> {
    if threads == 0 {
        return Err("threads: is 0, expected at least 1".into());
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    Ok(())
}

/// Loads an experiment's data, from `dir` where that is given, with a bar while something is
/// downloaded.
fn load(
    experiment: &Experiment,
    dir: Option<&std::path::Path>,
    bars: &mut Bars,
) -> Result<Split, lowbit::Error> {
    experiment.load(dir, &mut |progress| {
        bars.download(progress.file, progress.done, progress.total)
    })
}

/// Takes the threads that `settings` or an earlier run say, and loads that run's data.
fn load_of(
    experiment: &Experiment,
    settings: &Settings,
    bars: &mut Bars,
) -> Result<Split, Box<dyn Error>> {
    use_threads(settings.threads.unwrap_or(experiment.threads))?;
    Ok(load(experiment, settings.data_dir.as_deref(), bars)?)
}

/// What training in a folder came to.
struct Trained {
    /// The runs that are finished.
    results: Vec<RunResult>,
    /// The run that Ctrl-C stopped, if it did.
    interrupted: Option<String>,
}

impl Trained {
    fn code(&self) -> ExitCode {
        match self.interrupted {
            Some(_) => ExitCode::from(130),
            None => ExitCode::SUCCESS,
        }
    }
}

/// Trains what is not finished of the runs in a folder. One that was made for them is taken away
/// where the first of them fails before it begins.
fn train(
    folder: &RunFolder,
    is_new: bool,
    experiment: &Experiment,
    split: &Split,
    device: &Device,
    watch: &WatchArguments,
    bars: &mut Bars,
) -> Result<Trained, Box<dyn Error>> {
    let interrupter = Interrupter::new();
    stop_gently(&interrupter);
    bars.say(&format!("run folder: {}", folder.path().display()));
    let outcome = watched(folder, experiment, watch, bars, |folder, progress| {
        folder.train(experiment, split, device, &interrupter, progress)
    });
    let outcome = outcome.inspect_err(|_| {
        if is_new {
            folder.clone().discard_unstarted();
        }
    })?;
    let (results, interrupted) = match outcome {
        Outcome::Finished(results) => (results, None),
        Outcome::Interrupted(results, name) => (results, Some(name)),
    };
    Ok(Trained {
        results,
        interrupted,
    })
}

/// Trains with event files beside what is said, if somebody asks for them.
fn watched(
    folder: &RunFolder,
    experiment: &Experiment,
    watch: &WatchArguments,
    bars: &mut Bars,
    train: impl FnOnce(&RunFolder, &mut dyn Progress) -> Result<Outcome, lowbit::Error>,
) -> Result<Outcome, lowbit::Error> {
    let Some(path) = &watch.tensorboard else {
        return train(folder, bars);
    };
    let mut board = TensorBoard::new(path, experiment, bars)?;
    let outcome = train(folder, &mut board);
    if let Err(error) = board.finish() {
        say(format_args!("warning: --tensorboard: {error}"));
    }
    outcome
}

/// Prints a value as JSON, the only thing on standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(print(format_args!("{text}\n"))?)
}
