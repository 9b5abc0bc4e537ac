//! One command a file.

pub(crate) mod analyze;
pub(crate) mod bench;
pub(crate) mod chain;
pub(crate) mod config;
pub(crate) mod distill;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod formats;
pub(crate) mod methods;
pub(crate) mod quantize;
pub(crate) mod recipes;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod sweep;
pub(crate) mod train;

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use lowbit::data::Split;
use lowbit::train::{Experiment, Interrupter, Outcome, RunFolder, RunResult, Settings};
use lowbit::{Device, DeviceKind};

use crate::interrupt::stop_gently;
use crate::output::print;
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
    bars: &mut Bars,
) -> Result<Trained, Box<dyn Error>> {
    let interrupter = Interrupter::new();
    stop_gently(&interrupter);
    bars.say(&format!("run folder: {}", folder.path().display()));
    let outcome = folder.train(experiment, split, device, &interrupter, bars);
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

/// Prints a value as JSON, the only thing on standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(print(format_args!("{text}\n"))?)
}
