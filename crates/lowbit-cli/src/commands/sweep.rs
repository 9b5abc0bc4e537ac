//! `lowbit sweep`.

mod ask;
mod cell;
mod collect;
mod jobs;
mod slurm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lowbit::DeviceKind;
use lowbit::train::sweep::{Sweep, SweepFolder};

use super::Ended;
use crate::output::say;

/// Train every combination of lists of settings, and compare.
///
/// The file holds settings as `lowbit train --config` reads them, and a table [sweep] with lists of
/// values by key; their product are the cells. A cell is an ordinary run in a folder of its own: it
/// is skipped when it is finished and gone on with when it is not, so that the same command starts a
/// sweep and goes on with it. The results are collected into a table, results.csv, results.json and
/// accuracy.svg.
#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Settings in TOML with a table [sweep]
    #[arg(value_name = "FILE", required_unless_present = "collect")]
    file: Option<PathBuf>,
    /// The sweep's folder [default: runs/ and the file's name without .toml]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Processes that train at the same time, one a cell
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    #[command(flatten)]
    worker: Worker,
    /// Write and submit a Slurm job array of the cells that are not finished; all that follows goes to
    /// sbatch
    #[arg(
        long,
        value_name = "SBATCH OPTION",
        num_args = 0..,
        allow_hyphen_values = true,
        conflicts_with = "jobs"
    )]
    slurm: Option<Vec<String>>,
    /// Train nothing: collect the results in a sweep's folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "out", "jobs", "slurm"])]
    collect: Option<PathBuf>,
    /// The key along which the picture goes [default: bits, wbits or abits, or the first with several
    /// values]
    #[arg(long, value_name = "KEY")]
    by: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
A file:
  epochs = 10
  [sweep]
  method = [\"dorefa\", \"lsq\"]
  bits = [8, 4, 2]                    # wbits and abits together
  seed = [1, 2, 3]
  [[sweep.cell]]                      # more cells, a product of their own
  method = \"float\"
  seed = [1, 2, 3]

Examples:
  lowbit sweep methods.toml --jobs 2
  lowbit sweep methods.toml --out runs/methods --slurm --partition=long --time=4:00:00
  lowbit sweep --collect runs/methods --by seed
  echo '{\"method\": \"lsq\", \"bits\": 4}' | lowbit sweep ask --out runs/search";

#[derive(Subcommand)]
enum Command {
    RunCell(cell::Arguments),
    Ask(ask::Arguments),
    Tell(ask::TellArguments),
}

/// How a cell is trained; its numbers do not depend on it.
#[derive(Args, Clone)]
struct Worker {
    /// Threads of each process [default: those of the file, or all cores divided by the processes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// What computes [default: flex, the CPU]
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceKind>,
    /// Folder with the data set's files [default: that of the file, or a cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Worker {
    /// The same as flags.
    fn flags(&self) -> Vec<std::ffi::OsString> {
        let mut flags = Vec::new();
        if let Some(threads) = self.threads {
            flags.extend(["--threads".into(), threads.to_string().into()]);
        }
        if let Some(device) = self.device {
            flags.extend(["--device".into(), device.to_string().into()]);
        }
        if let Some(folder) = &self.data_dir {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            flags.extend(["--data-dir".into(), folder.into()]);
        }
        flags
    }
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        match self.command {
            Some(Command::RunCell(arguments)) => return arguments.run(),
            Some(Command::Ask(arguments)) => return arguments.run(),
            Some(Command::Tell(arguments)) => return arguments.run(),
            None => {}
        }
        let results = collect::Shown {
            by: self.by,
            json: self.json,
        };
        if let Some(path) = self.collect {
            results.show(&SweepFolder::open(path)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let file = self.file.expect("clap requires it");
        let sweep = Sweep::read(&file)?;
        let path = self.out.unwrap_or_else(|| usual_folder(&file));
        let folder = SweepFolder::prepare(path, &sweep)?;
        if let Some(options) = self.slurm {
            return slurm::submit(&folder, &self.worker, &options);
        }
        let (cells, path) = (sweep.cells.len(), folder.path().display());
        say(format_args!("sweep folder: {path}, {cells} cells"));
        let jobs = jobs::Jobs::new(&folder, self.jobs as usize, self.worker);
        let ended = jobs.run(&sweep)?;
        results.show(&folder)?;
        Ok(ended)
    }
}

/// `runs/methods` for `recipes/methods.toml`.
fn usual_folder(file: &Path) -> PathBuf {
    Path::new("runs").join(file.file_stem().unwrap_or_default())
}
