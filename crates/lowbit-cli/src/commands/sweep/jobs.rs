//! Cells as processes on this machine.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use lowbit::report::table::percent;
use lowbit::train::Interrupter;
use lowbit::train::sweep::{CellFolder, Sweep, SweepFolder};

use super::Worker;
use super::cell::{ELSEWHERE, STOPPED};
use crate::interrupt::stop_gently;
use crate::output::say;

/// What a cell's process says, in the cell's folder.
const LOG: &str = "log.txt";

/// How often processes are looked after.
const EVERY: Duration = Duration::from_millis(20);

/// Processes that train the cells of a sweep.
pub(super) struct Jobs<'a> {
    folder: &'a SweepFolder,
    most: usize,
    worker: Worker,
    interrupter: Interrupter,
    running: Vec<Job>,
    /// Cells that are finished, and all.
    finished: (usize, usize),
    failed: usize,
}

/// A process that trains a cell. Its standard input is a pipe from here: it stops gently when that
/// ends, which it does with this process, however that ends.
struct Job {
    cell: CellFolder,
    child: Child,
    /// Where in the log its own words begin.
    log_from: u64,
}

/// How a cell's process ended.
enum End {
    Finished,
    Stopped,
    Elsewhere(String),
    Failed(String),
}

impl<'a> Jobs<'a> {
    pub(super) fn new(folder: &'a SweepFolder, most: usize, worker: Worker) -> Self {
        let interrupter = Interrupter::new();
        stop_gently(&interrupter);
        Self {
            folder,
            most,
            worker,
            interrupter,
            running: Vec::new(),
            finished: (0, 0),
            failed: 0,
        }
    }

    /// Trains what is not finished of a sweep's cells, each once.
    pub(super) fn run(mut self, sweep: &Sweep) -> Result<ExitCode, Box<dyn Error>> {
        let mut waiting = Vec::new();
        for cell in &sweep.cells {
            let cell = self.folder.prepare_cell(sweep, cell)?;
            match cell.state()?.result {
                Some(_) => self.finished.0 += 1,
                None => waiting.push(cell),
            }
        }
        self.finished.1 = sweep.cells.len();
        if self.finished.0 > 0 {
            say(format_args!("{} cells are finished", self.finished.0));
        }
        self.divide_threads(sweep)?;
        let mut waiting = waiting.into_iter();
        loop {
            while self.running.len() < self.most && !self.interrupter.should_stop() {
                let Some(cell) = waiting.next() else {
                    break;
                };
                // Somebody else may have trained it meanwhile.
                match cell.state()?.result {
                    Some(_) => self.ended(&cell, End::Finished)?,
                    None => self.start(cell)?,
                }
            }
            if self.running.is_empty() {
                break;
            }
            self.look_after()?;
        }
        Ok(self.code())
    }

    /// Gives each process its part of the cores, unless the flags or the file say how many threads.
    fn divide_threads(&mut self, sweep: &Sweep) -> Result<(), lowbit::Error> {
        if self.worker.threads.is_none() && !sweep.has("threads") {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = (cores / self.most).max(1);
            self.worker.threads = u32::try_from(threads).ok();
        }
        Ok(())
    }

    fn start(&mut self, cell: CellFolder) -> Result<(), Box<dyn Error>> {
        let path = cell.path().join(LOG);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|error| format!("{}: {error}", path.display()))?;
        let log_from = log.metadata()?.len();
        let mut command = Command::new(std::env::current_exe()?);
        // Ctrl-C in a terminal is for this process, which tells the others once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .args(["sweep", "run-cell", "--until-eof"])
            .args(self.worker.flags())
            .arg("--")
            .arg(cell.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.running.push(Job {
            cell,
            child,
            log_from,
        });
        Ok(())
    }

    /// Waits a moment, and takes note of the processes that ended.
    fn look_after(&mut self) -> Result<(), Box<dyn Error>> {
        std::thread::sleep(EVERY);
        if self.interrupter.should_stop() {
            for job in &mut self.running {
                drop(job.child.stdin.take());
            }
        }
        let mut still = Vec::new();
        for mut job in std::mem::take(&mut self.running) {
            match job.child.try_wait()? {
                None => still.push(job),
                Some(status) => {
                    let end = job.end(status);
                    self.ended(&job.cell, end)?;
                }
            }
        }
        self.running = still;
        Ok(())
    }

    /// Says how a cell ended.
    fn ended(&mut self, cell: &CellFolder, end: End) -> Result<(), lowbit::Error> {
        let name = &cell.cell.name;
        match end {
            End::Finished => {
                self.finished.0 += 1;
                let (finished, all) = self.finished;
                let result = cell.state()?.result;
                let accuracy = result.map_or(String::new(), |result| {
                    format!(": {} in {:.1} s", percent(result.accuracy), result.seconds)
                });
                say(format_args!("[{finished}/{all}] {name}{accuracy}"));
            }
            End::Stopped => say(format_args!("{name}: stopped")),
            End::Elsewhere(why) => say(format_args!("{name}: {why}")),
            End::Failed(why) => {
                self.failed += 1;
                say(format_args!("{name}: failed: {why}"));
            }
        }
        Ok(())
    }

    fn code(&self) -> ExitCode {
        let (finished, all) = self.finished;
        if self.interrupter.should_stop() && finished < all {
            say("stopped; the same command goes on");
            return ExitCode::from(STOPPED);
        }
        if self.failed > 0 {
            say(format_args!("{} cells failed", self.failed));
        }
        match finished == all {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}

impl Job {
    fn end(&self, status: ExitStatus) -> End {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match code {
            Some(0) => End::Finished,
            Some(STOPPED) => End::Stopped,
            Some(ELSEWHERE) => End::Elsewhere(self.last_words(status)),
            Some(_) => End::Failed(self.last_words(status)),
            // A signal's; the log has nothing of it.
            None => End::Failed(status.to_string()),
        }
    }

    /// The last line of what the process said.
    fn last_words(&self, status: ExitStatus) -> String {
        let mut said = Vec::new();
        if let Ok(mut log) = File::open(self.cell.path().join(LOG)) {
            let from = log.seek(SeekFrom::Start(self.log_from));
            let _read = from.and_then(|_| log.read_to_end(&mut said));
        }
        let said = String::from_utf8_lossy(&said);
        let mut lines = said.lines().rev().filter(|line| !line.trim().is_empty());
        match lines.next() {
            Some(line) => line.strip_prefix("error: ").unwrap_or(line).to_string(),
            None => status.to_string(),
        }
    }
}
