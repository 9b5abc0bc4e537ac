//! `lowbit sweep run-cell`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowbit::report::summary;
use lowbit::train::sweep::CellLock;
use lowbit::train::{Interrupter, Outcome, RunFolder};

use super::super::{Ended, load, use_threads};
use super::Worker;
use crate::interrupt::stop_gently;
use crate::output::{print, say};
use crate::progress::Bars;

/// What the command ends with where another worker has the cell: EX_TEMPFAIL of sysexits.h.
pub(super) const ELSEWHERE: u8 = 75;

/// What it ends with where it was stopped, its state saved.
pub(super) const STOPPED: u8 = 130;

/// Train one cell of a sweep, from where it stands.
///
/// Any number of these can run, on any machine that has the folder: a cell that another one trains is
/// left alone, which is exit code 75. A signal to end lets the step under way be finished and a
/// checkpoint be written; the exit code is 130 then.
#[derive(Args)]
pub(super) struct Arguments {
    /// The cell's folder
    #[arg(value_name = "CELL")]
    cell: PathBuf,
    #[command(flatten)]
    worker: Worker,
    /// Stop as on a signal when standard input ends, which it does when the process that has its
    /// other end is no more
    #[arg(long)]
    until_eof: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Ended {
        let interrupter = Interrupter::new();
        stop_gently(&interrupter);
        if self.until_eof {
            stop_at_eof(interrupter.clone())?;
        }
        let (folder, experiment) = RunFolder::open(&self.cell)?;
        let Some(_lock) = CellLock::take(&self.cell)? else {
            say(format_args!("error: {}", elsewhere(&self.cell)));
            return Ok(ExitCode::from(ELSEWHERE));
        };
        let device = self.worker.device.unwrap_or_default().device()?;
        use_threads(
            self.worker
                .threads
                .map_or(experiment.threads, |n| n as usize),
        )?;
        let mut bars = Bars::new();
        let split = load(&experiment, self.worker.data_dir.as_deref(), &mut bars)?;
        match folder.train(&experiment, &split, &device, &interrupter, &mut bars)? {
            Outcome::Finished(results) => {
                print(summary::results(&results))?;
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Interrupted(_, run) => {
                say(format_args!("stopped in {run}"));
                Ok(ExitCode::from(STOPPED))
            }
        }
    }
}

/// Says that another worker has a cell.
pub(super) fn elsewhere(cell: &Path) -> String {
    let (path, holder) = (cell.display(), CellLock::holder(cell));
    format!("{path}: is being trained by {holder}")
}

/// Stops a run when standard input ends.
fn stop_at_eof(interrupter: Interrupter) -> std::io::Result<()> {
    let wait = move || {
        let mut input = std::io::stdin().lock();
        let mut bytes = [0; 64];
        // An error is an end, too.
        while input.read(&mut bytes).is_ok_and(|read| read > 0) {}
        interrupter.stop(Some("the end of standard input"));
    };
    std::thread::Builder::new()
        .name("standard input".into())
        .spawn(wait)
        .map(drop)
}
