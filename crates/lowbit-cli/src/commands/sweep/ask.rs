//! `lowbit sweep ask` and `lowbit sweep tell`: cells that somebody else's search proposes.

use std::error::Error;
use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use lowbit::Device;
use lowbit::report::CellReport;
use lowbit::train::sweep::{CellFolder, CellLock, Sweep, SweepFolder};
use lowbit::train::{EpochMetrics, Interrupter, Outcome, Progress, RunConfig, RunFolder, Warning};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::{Ended, load, use_threads};
use super::Worker;
use super::cell::{STOPPED, elsewhere};
use crate::interrupt::{end_at_once, stop_gently};
use crate::output::{Unwritten, print};
use crate::progress::Bars;

/// Train cells that a search proposes, one JSON object a line on standard input.
///
/// A line is an object of settings by key, such as {"method": "lsq", "bits": 4, "lr": 0.05}, over
/// those of the file; its cell is trained, or gone on with, or not trained if it is finished. On
/// standard output come lines with an "event": "epoch" with the metrics of each epoch, those of an
/// earlier start first, then "result", "stopped" or "error". The line {"stop": CELL} stops the cell
/// of that name with a checkpoint; the same settings again go on with it. After the last line of
/// input and its result the command ends.
#[derive(Args)]
pub(super) struct Arguments {
    /// Settings of all cells, in TOML
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The sweep's folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    worker: Worker,
}

/// Tell what the cells in a sweep's folder came to, one JSON object a line.
///
/// The lines are those of results.json, with an "event" of "result" or "unfinished": a search that
/// begins takes up what is known.
#[derive(Args)]
pub(super) struct TellArguments {
    /// The sweep's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// What is written, one object a line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    /// An epoch is finished.
    Epoch {
        cell: &'a str,
        epochs: usize,
        #[serde(flatten)]
        metrics: &'a EpochMetrics,
    },
    /// A cell is finished.
    Result(&'a CellReport),
    /// A cell was stopped, its state saved.
    Stopped(&'a CellReport),
    /// A cell is not finished.
    Unfinished(&'a CellReport),
    /// A line is no cell, or its cell failed.
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        cell: Option<&'a str>,
        message: String,
    },
}

impl Event<'_> {
    fn write(&self) -> Result<(), Unwritten> {
        let line = serde_json::to_string(self).expect("keys are texts");
        print(format_args!("{line}\n"))
    }
}

impl TellArguments {
    pub(super) fn run(self) -> Ended {
        for cell in SweepFolder::open(self.folder)?.cells()? {
            let report = CellReport::read(&cell)?;
            match report.state.result {
                Some(_) => Event::Result(&report).write()?,
                None => Event::Unfinished(&report).write()?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Arguments {
    pub(super) fn run(self) -> Ended {
        let sweep = match &self.file {
            Some(file) => Sweep::read_settings(file)?,
            None => Sweep::usual(),
        };
        let folder = SweepFolder::prepare_settings(self.out, &sweep)?;
        let asked = Asked::default();
        let lines = listen(asked.clone())?;
        let mut worker = Cells {
            sweep: &sweep,
            folder: &folder,
            device: self.worker.device.unwrap_or_default().device()?,
            worker: self.worker,
            has_threads: false,
        };
        for line in lines {
            let settings = match line {
                Ok(settings) => settings,
                Err(message) => {
                    let cell = None;
                    Event::Error { cell, message }.write()?;
                    continue;
                }
            };
            let ended = worker.answer(&settings, &asked);
            end_at_once();
            if !ended? {
                return Ok(ExitCode::from(STOPPED));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The cell under way, as the thread that reads the input knows it.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Option<UnderWay>>>);

struct UnderWay {
    cell: String,
    interrupter: Interrupter,
    /// Whether the search asked for a stop.
    stopped: bool,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the cell of that name, if it is under way.
    fn stop(&self, name: &Value) {
        if let Some(under_way) = self.lock().as_mut()
            && *name == under_way.cell
        {
            under_way.stopped = true;
            under_way.interrupter.stop(Some("the search"));
        }
    }
}

/// Reads standard input: settings, or why a line is none.
type Lines = Receiver<Result<Map<String, Value>, String>>;

fn listen(asked: Asked) -> std::io::Result<Lines> {
    let (sender, lines) = channel();
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            let line = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => settings(&line),
                Err(error) => Err(format!("standard input: {error}")),
            };
            let line = match line {
                Ok(settings) if settings.contains_key("stop") => {
                    asked.stop(&settings["stop"]);
                    continue;
                }
                line => line,
            };
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("standard input".into())
        .spawn(read)?;
    Ok(lines)
}

fn settings(line: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(line).map_err(|error| format!("is no JSON object of settings: {error}"))
}

/// What trains one cell after the other.
struct Cells<'a> {
    sweep: &'a Sweep,
    folder: &'a SweepFolder,
    device: Device,
    worker: Worker,
    has_threads: bool,
}

impl Cells<'_> {
    /// Trains the cell with those settings and tells all of it. False if a signal stopped it.
    fn answer(
        &mut self,
        settings: &Map<String, Value>,
        asked: &Asked,
    ) -> Result<bool, Box<dyn Error>> {
        let cell = self.sweep.proposed(settings);
        let cell = cell.and_then(|cell| self.folder.prepare_cell(self.sweep, &cell));
        let cell = match cell {
            Ok(cell) => cell,
            Err(error) => {
                let (cell, message) = (None, error.to_string());
                Event::Error { cell, message }.write()?;
                return Ok(true);
            }
        };
        let interrupter = Interrupter::new();
        stop_gently(&interrupter);
        *asked.lock() = Some(UnderWay {
            cell: cell.cell.name.clone(),
            interrupter: interrupter.clone(),
            stopped: false,
        });
        let finished = self.train(&cell, &interrupter);
        let by_search = asked
            .lock()
            .take()
            .is_some_and(|under_way| under_way.stopped);
        match finished {
            Ok(true) => Event::Result(&CellReport::read(&cell)?).write()?,
            Ok(false) => {
                Event::Stopped(&CellReport::read(&cell)?).write()?;
                return Ok(by_search);
            }
            Err(error) if error.is::<Unwritten>() => return Err(error),
            Err(error) => {
                let (cell, message) = (Some(&cell.cell.name[..]), error.to_string());
                Event::Error { cell, message }.write()?;
            }
        }
        Ok(true)
    }

    /// Trains a cell, from where it stands. False if it was stopped.
    fn train(
        &mut self,
        cell: &CellFolder,
        interrupter: &Interrupter,
    ) -> Result<bool, Box<dyn Error>> {
        let Some(_lock) = CellLock::take(cell.path())? else {
            return Err(elsewhere(cell.path()).into());
        };
        let (folder, experiment) = RunFolder::open(cell.path())?;
        let state = cell.state()?;
        let mut told = Told {
            cell,
            run: state.run.clone(),
            is_of_it: true,
            epochs: state.epochs,
            interrupter: interrupter.clone(),
            bars: Bars::new(),
            unwritten: None,
        };
        if state.result.is_some() {
            told.before(state.epochs);
            return told.written(true);
        }
        if !self.has_threads {
            let threads = self
                .worker
                .threads
                .map_or(experiment.threads, |n| n as usize);
            use_threads(threads)?;
            self.has_threads = true;
        }
        let data_dir = self.worker.data_dir.as_deref();
        let split = load(&experiment, data_dir, &mut told.bars)?;
        let outcome = folder.train(&experiment, &split, &self.device, interrupter, &mut told);
        told.written(matches!(outcome?, Outcome::Finished(_)))
    }
}

/// Writes a line for each epoch of the run that the cell is about.
struct Told<'a> {
    cell: &'a CellFolder,
    run: String,
    /// Whether that run is under way.
    is_of_it: bool,
    epochs: usize,
    interrupter: Interrupter,
    bars: Bars,
    unwritten: Option<Unwritten>,
}

impl Told<'_> {
    /// Tells the epochs of an earlier start.
    fn before(&mut self, finished: usize) {
        // What cannot be read is said when training reads it.
        for metrics in self.cell.epochs().unwrap_or_default() {
            if metrics.epoch <= finished {
                self.write(&metrics);
            }
        }
    }

    fn write(&mut self, metrics: &EpochMetrics) {
        let event = Event::Epoch {
            cell: &self.cell.cell.name,
            epochs: self.epochs,
            metrics,
        };
        if let Err(error) = event.write() {
            // Nobody is there who wants the cell.
            self.interrupter.stop(Some("standard output"));
            self.unwritten.get_or_insert(error);
        }
    }

    fn written(self, finished: bool) -> Result<bool, Box<dyn Error>> {
        match self.unwritten {
            None => Ok(finished),
            Some(error) => Err(error.into()),
        }
    }
}

impl Progress for Told<'_> {
    fn start(&mut self, run: &RunConfig, finished_epochs: usize, steps: usize) {
        self.bars.start(run, finished_epochs, steps);
        self.is_of_it = run.name == self.run;
        if self.is_of_it {
            self.before(finished_epochs);
        }
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.bars.epoch(metrics);
        if self.is_of_it {
            self.write(metrics);
        }
    }

    fn warn(&mut self, warnings: &[Warning]) {
        self.bars.warn(warnings);
    }
}
