//! Where a sweep lies on disk: a folder with the sweep's file, and in it the folder of each cell.

use std::fs;
use std::path::{Path, PathBuf};

use lowbit_formats::new_file::holds_something;
use serde::Serialize;
use serde_json::{Map, Value};

use super::file::Sweep;
use super::grid::Cell;
use crate::Error;
use crate::files::write_atomic;
use crate::train::{EpochMetrics, RunFolder, RunResult};

/// The sweep's own file.
const SWEEP: &str = "sweep.toml";

/// In the folder of a cell, what it says over the settings of all.
const CELL: &str = "cell.json";

/// The folder of a sweep.
#[derive(Debug, Clone)]
pub struct SweepFolder {
    path: PathBuf,
}

/// The folder of a cell, which is that of a run, too.
#[derive(Debug, Clone)]
pub struct CellFolder {
    /// The cell.
    pub cell: Cell,
    path: PathBuf,
}

/// How far a cell is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellState {
    /// The run that the cell is about: the last of its experiment.
    pub run: String,
    /// Epochs of it that are finished.
    pub finished_epochs: usize,
    /// Its epochs.
    pub epochs: usize,
    /// What it came to, if the cell is finished.
    pub result: Option<RunResult>,
}

impl SweepFolder {
    /// The folder of a sweep, made or gone on with, and in it those of its cells.
    ///
    /// # Errors
    /// If it holds something else, or another sweep: one with other settings of all, or with a cell
    /// that the new one lacks.
    pub fn prepare(path: impl Into<PathBuf>, sweep: &Sweep) -> Result<Self, Error> {
        let folder = Self { path: path.into() };
        let before = folder.before(sweep)?;
        if let Some(gone) = before.iter().find(|cell| !sweep.cells.contains(cell)) {
            let message = format!("has a cell {}, which the file has no more", gone.name);
            return Err(folder.changed(message));
        }
        folder.write(sweep)?;
        for cell in &sweep.cells {
            folder.prepare_cell(sweep, cell)?;
        }
        Ok(folder)
    }

    /// The same without any cell, for those that are proposed.
    ///
    /// # Errors
    /// If the folder holds something else, or a sweep with other settings of all.
    pub fn prepare_settings(path: impl Into<PathBuf>, sweep: &Sweep) -> Result<Self, Error> {
        let folder = Self { path: path.into() };
        folder.before(sweep)?;
        if !folder.file().exists() {
            folder.write(sweep)?;
        }
        Ok(folder)
    }

    /// The folder of a sweep that was begun.
    ///
    /// # Errors
    /// If it is none.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        fs::metadata(&path).map_err(Error::io(&path))?;
        let folder = Self { path };
        match folder.file().is_file() {
            true => Ok(folder),
            false => Err(Error::Checkpoint {
                path: folder.path,
                message: format!("is not the folder of a sweep: it has no {SWEEP}"),
            }),
        }
    }

    /// The cells that the folder was made for, if it was; refused if it holds something else.
    fn before(&self, sweep: &Sweep) -> Result<Vec<Cell>, Error> {
        let file = self.file();
        if file.exists() {
            let before = Sweep::read_settings(&file)?;
            return match before.all == sweep.all {
                true => Ok(before.cells),
                false => Err(self.changed(format!(
                    "was begun with other settings of all cells ({})",
                    difference(&before.all, &sweep.all)
                ))),
            };
        }
        match holds_something(&self.path) {
            false => Ok(Vec::new()),
            true => Err(Error::Checkpoint {
                path: self.path.clone(),
                message: "already holds something, expected a new or an empty folder, or a sweep's"
                    .into(),
            }),
        }
    }

    fn changed(&self, what: String) -> Error {
        Error::Checkpoint {
            path: self.path.clone(),
            message: format!("{what}; cells can be added, all else belongs in another folder"),
        }
    }

    fn file(&self) -> PathBuf {
        self.path.join(SWEEP)
    }

    /// Keeps the sweep's file.
    fn write(&self, sweep: &Sweep) -> Result<(), Error> {
        fs::create_dir_all(&self.path).map_err(Error::io(&self.path))?;
        write_atomic(&self.file(), sweep.text.as_bytes())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a cell, made unless it is there.
    ///
    /// # Errors
    /// If the cell is no experiment, or was begun as another one.
    pub fn prepare_cell(&self, sweep: &Sweep, cell: &Cell) -> Result<CellFolder, Error> {
        let path = self.path.join(&cell.name);
        let experiment = sweep.experiment(cell)?;
        let begun = match RunFolder::create(&path, &experiment) {
            Ok(_) => experiment.clone(),
            // Perhaps somebody else has just made it.
            Err(reason) => RunFolder::open(&path).map_err(|_| reason)?.1,
        };
        // Threads are no part of the numbers, and where the data lies is none.
        let same = crate::train::Experiment {
            threads: experiment.threads,
            data_dir: experiment.data_dir.clone(),
            ..begun
        };
        if same != experiment {
            return Err(Error::Checkpoint {
                path,
                message:
                    "was begun with other settings than the file's and the cell's come to now; \
                          expected another folder for the sweep"
                        .into(),
            });
        }
        let told = path.join(CELL);
        if !told.exists() {
            let text = serde_json::to_vec_pretty(&cell.to_json()).expect("keys are texts");
            write_atomic(&told, &text)?;
        }
        Ok(CellFolder {
            cell: cell.clone(),
            path,
        })
    }

    /// All cells that were begun or are to be: those of the file in its order, then those that were
    /// proposed, by name.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn cells(&self) -> Result<Vec<CellFolder>, Error> {
        let listed = Sweep::read_settings(&self.file())?.cells;
        let place = |cell: &Cell| listed.iter().position(|other| other.name == cell.name);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(Error::io(&self.path))? {
            let path = entry.map_err(Error::io(&self.path))?.path();
            let told = path.join(CELL);
            if told.is_file() {
                let text = fs::read(&told).map_err(Error::io(&told))?;
                let cell = serde_json::from_slice(&text)
                    .map_err(|error| error.to_string())
                    .and_then(|json| Cell::from_json(&json).map_err(|error| error.to_string()))
                    .map_err(|message| Error::Checkpoint {
                        path: told,
                        message,
                    })?;
                found.push(CellFolder { cell, path });
            }
        }
        found.sort_by_cached_key(|found| {
            let place = place(&found.cell).unwrap_or(usize::MAX);
            (place, found.cell.name.clone())
        });
        Ok(found)
    }
}

impl CellFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far it is.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn state(&self) -> Result<CellState, Error> {
        let (folder, experiment) = RunFolder::open(&self.path)?;
        let run = experiment
            .runs
            .last()
            .expect("a checked experiment has one");
        Ok(CellState {
            run: run.name.clone(),
            finished_epochs: folder.epochs(&run.name)?.len(),
            epochs: run.epochs,
            result: folder.result(&run.name)?,
        })
    }

    /// The metrics of the finished epochs of the run that the cell is about.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn epochs(&self) -> Result<Vec<EpochMetrics>, Error> {
        let (folder, _) = RunFolder::open(&self.path)?;
        folder.epochs(&self.state()?.run)
    }
}

impl Cell {
    /// The settings as a JSON object.
    pub fn to_json(&self) -> Map<String, Value> {
        let settings = self.settings.iter();
        let json = |value| serde_json::to_value(value).expect("keys are texts");
        settings
            .map(|(key, value)| (key.clone(), json(value)))
            .collect()
    }

    /// The cell with the settings of a JSON object.
    pub(super) fn from_json(settings: &Map<String, Value>) -> Result<Self, Error> {
        let toml = settings.iter().map(|(key, value)| {
            let refused = |_| match value {
                Value::Null => Error::config(key, "is null, expected a setting"),
                _ => Error::config(key, format!("is {value}, which TOML has no form for")),
            };
            toml::Value::try_from(value)
                .map(|value| (key.clone(), value))
                .map_err(refused)
        });
        Self::new(toml.collect::<Result<Vec<_>, _>>()?)
    }
}

/// The first key that differs.
fn difference(before: &toml::Table, now: &toml::Table) -> String {
    let keys = before.keys().chain(now.keys());
    let mut other = keys.filter(|key| before.get(*key) != now.get(*key));
    let Some(key) = other.next() else {
        return "their order".into();
    };
    let text = |table: &toml::Table| match table.get(key) {
        Some(value) => super::grid::text(value).replace('\n', " "),
        None => "not given".into(),
    };
    format!("{key}: {}, now {}", text(before), text(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(text: &str) -> Sweep {
        Sweep::parse(Path::new("a.toml"), text.into()).unwrap()
    }

    const TWO: &str = "epochs = 3\n[sweep]\nseed = [1, 2]";

    #[test]
    fn cells_lie_in_folders_of_their_own_and_can_be_added() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a");
        let two = sweep(TWO);
        let folder = SweepFolder::prepare(&path, &two).unwrap();
        let names = |folder: &SweepFolder| -> Vec<String> {
            let cells = folder.cells().unwrap().into_iter();
            cells.map(|cell| cell.cell.name).collect()
        };
        assert_eq!(names(&folder), ["seed=1", "seed=2"]);
        let state = folder.cells().unwrap()[1].state().unwrap();
        assert_eq!((state.finished_epochs, state.epochs), (0, 3));
        assert_eq!((&state.run[..], state.result), ("dorefa-w4a4", None));
        // Again, in other words, with more cells.
        let more = sweep("epochs = 3 # each\n[sweep]\nseed = [2, 1]\n[[sweep.cell]]\nlr = 0.5");
        let folder = SweepFolder::prepare(&path, &more).unwrap();
        assert_eq!(names(&folder), ["seed=2", "seed=1", "lr=0.5"]);
        let proposed = two.proposed(serde_json::json!({ "bits": 3 }).as_object().unwrap());
        folder.prepare_cell(&two, &proposed.unwrap()).unwrap();
        assert_eq!(names(&folder).last().unwrap(), "bits=3");
        let kept = fs::read_to_string(path.join(SWEEP)).unwrap();
        assert!(kept.contains("# each"));
    }

    #[test]
    fn another_sweep_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        SweepFolder::prepare(path, &sweep(TWO)).unwrap();
        let refused = |text: &str| {
            let error = SweepFolder::prepare(path, &sweep(text))
                .unwrap_err()
                .to_string();
            let error = error
                .strip_prefix(&format!("{}: ", path.display()))
                .unwrap();
            let end = "; cells can be added, all else belongs in another folder";
            error.strip_suffix(end).unwrap().to_string()
        };
        assert_eq!(
            refused(&TWO.replace('3', "4")),
            "was begun with other settings of all cells (epochs: 3, now 4)"
        );
        assert_eq!(
            refused(&format!("lr = 0.1\n{TWO}")),
            "was begun with other settings of all cells (lr: not given, now 0.1)"
        );
        assert_eq!(
            refused("epochs = 3\n[sweep]\nseed = [1, 3]"),
            "has a cell seed=2, which the file has no more"
        );
        let other = SweepFolder::prepare_settings(path, &sweep("lr = 0.1"));
        assert!(
            other
                .unwrap_err()
                .to_string()
                .contains("epochs: 3, now not given")
        );
        let full = tempfile::tempdir().unwrap();
        fs::write(full.path().join("file"), "x").unwrap();
        let error = SweepFolder::prepare(full.path(), &sweep(TWO)).unwrap_err();
        assert!(
            error.to_string().contains("already holds something"),
            "{error}"
        );
    }
}
