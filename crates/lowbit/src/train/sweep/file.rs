//! The file of a sweep.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::grid::{Cell, is_setting, product};
use crate::Error;
use crate::train::comparison::{self, Comparison};
use crate::train::{Experiment, Settings, Start};

/// The key of the table with the lists.
const KEY: &str = "sweep";

/// The key, in it, of further tables with lists.
const CELL: &str = "cell";

/// Settings of all cells, and lists of values whose product are the cells; in TOML:
///
/// ```toml
/// epochs = 10
/// [sweep]
/// method = ["dorefa", "lsq"]
/// bits = [4, 2]                # wbits and abits together
/// seed = [1, 2, 3]
/// [[sweep.cell]]               # more cells, a product of their own
/// method = "float"
/// seed = [1, 2, 3]
/// ```
///
/// Outside of the table the file is one as [`ConfigFile`](crate::train::ConfigFile) reads it. A key
/// of the lists is a key of that file; what lies deeper is named with dots, in quotes:
/// `"plan.default.weight.bits"`, `"runs.0.lr"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// The cells, in order.
    pub cells: Vec<Cell>,
    /// What is said of all cells.
    pub(super) all: Table,
    /// The file.
    source: PathBuf,
    /// What it holds.
    pub(super) text: String,
}

impl Sweep {
    /// Reads a file with cells.
    ///
    /// # Errors
    /// If it cannot be read, is not such a file, or a cell is no experiment; the cell is named.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let sweep = Self::read_settings(path)?;
        if sweep.cells.is_empty() {
            let message = "is not in the file, or empty; expected lists of values";
            return Err(sweep.at(Error::config(KEY, message)));
        }
        for cell in &sweep.cells {
            sweep.experiment(cell)?;
        }
        Ok(sweep)
    }

    /// Reads a file whose cells, if it has any, do not matter: somebody else proposes them.
    ///
    /// # Errors
    /// If it cannot be read or is not such a file.
    pub fn read_settings(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(path, text)
    }

    /// The same of no file: all is as usual.
    pub fn usual() -> Self {
        Self {
            cells: Vec::new(),
            all: Table::new(),
            source: "the usual settings".into(),
            text: String::new(),
        }
    }

    pub(super) fn parse(path: &Path, text: String) -> Result<Self, Error> {
        let source = path.display().to_string();
        let mut all: Table =
            toml::from_str(&text).map_err(|error| Error::toml(&source, &text, &error))?;
        let lists = all.remove(KEY);
        let mut sweep = Self {
            cells: Vec::new(),
            all,
            source: path.into(),
            text,
        };
        sweep.cells = sweep
            .product(lists)
            .map_err(|error| sweep.at(error.within(KEY)))?;
        Ok(sweep)
    }

    /// The cells of all lists.
    fn product(&self, lists: Option<Value>) -> Result<Vec<Cell>, Error> {
        let mut lists = match lists {
            None => return Ok(Vec::new()),
            Some(Value::Table(lists)) => lists,
            Some(_) => return Err(Error::config("lists", "is no table")),
        };
        let further = match lists.remove(CELL) {
            None => Vec::new(),
            Some(Value::Array(tables)) => tables,
            Some(_) => return Err(Error::config(CELL, "is no list of tables")),
        };
        let mut cells = match lists.is_empty() {
            true => Vec::new(),
            false => self.known(product(&lists)?)?,
        };
        for (i, lists) in further.iter().enumerate() {
            let place = format!("{CELL}[{i}]");
            let Value::Table(lists) = lists else {
                return Err(Error::config(place, "is no table"));
            };
            let found = product(lists).and_then(|cells| self.known(cells));
            cells.extend(found.map_err(|error| error.within(&place))?);
        }
        let mut names = HashSet::new();
        match cells.iter().find(|cell| !names.insert(&cell.name)) {
            None => Ok(cells),
            Some(twice) => Err(Error::config(&twice.name, "names two cells")),
        }
    }

    /// The cells, if all their keys are those of settings.
    fn known(&self, cells: Vec<Cell>) -> Result<Vec<Cell>, Error> {
        let settings = !self.all.contains_key("runs");
        let keys = cells.iter().flat_map(|cell| &cell.settings);
        let unknown = keys.map(|(key, _)| key).find(|key| !is_setting(key));
        match unknown.filter(|_| settings) {
            None => Ok(cells),
            Some(key) => Err(Error::config(key, "is no setting")),
        }
    }

    /// Whether all cells or one has that key.
    pub fn has(&self, key: &str) -> bool {
        self.all.contains_key(key) || self.cells.iter().any(|cell| cell.get(key).is_some())
    }

    /// The cell that somebody proposes: a JSON object of settings by key.
    ///
    /// # Errors
    /// If it is no cell.
    pub fn proposed(
        &self,
        settings: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Cell, Error> {
        let cell = Cell::from_json(settings)?;
        self.known(vec![cell.clone()])?;
        Ok(cell)
    }

    /// The complete experiment of a cell. Unless the settings speak of a baseline, a float network
    /// is trained beside the cell's only where that starts from it.
    ///
    /// # Errors
    /// If it is none.
    pub fn experiment(&self, cell: &Cell) -> Result<Experiment, Error> {
        let complete = cell.over(&self.all).and_then(|table| self.complete(table));
        complete.map_err(|error| self.at(Error::config(&cell.name, error.to_string())))
    }

    fn complete(&self, table: Table) -> Result<Experiment, Error> {
        if table.contains_key("runs") {
            let text = toml::to_string(&table).expect("it was read from TOML");
            return Experiment::from_toml(&self.source, &text);
        }
        if table.contains_key(comparison::KEY) {
            let source = self.source.display().to_string();
            return Comparison::read(table, &source)?.complete(&Settings::default());
        }
        let settings: Settings = table.try_into().map_err(|error: toml::de::Error| {
            let message = error.message().replace('\n', " ");
            Error::config("settings", message)
        })?;
        if settings.baseline.is_some() {
            return settings.complete();
        }
        let beside = settings.clone().complete()?;
        match beside.runs.last().map(|run| run.start) {
            Some(Start::First) => Ok(beside),
            _ => Settings {
                baseline: Some(false),
                ..settings
            }
            .complete(),
        }
    }

    /// An error with the file it is of.
    fn at(&self, error: Error) -> Error {
        Error::config(self.source.display().to_string(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(text: &str) -> Result<Sweep, Error> {
        let sweep = Sweep::parse(Path::new("a.toml"), text.into())?;
        for cell in &sweep.cells {
            sweep.experiment(cell)?;
        }
        Ok(sweep)
    }

    #[test]
    fn a_product_and_further_cells() {
        let text = "
            epochs = 3
            wbits = 8
            [sweep]
            method = [\"dorefa\", \"lsq\"]
            bits = [4, 2]
            seed = [1, 2]
            [[sweep.cell]]
            \"plan.default.weight\" = [{ method = \"dorefa-weight\", bits = 3 }]
            seed = [1, 2]
        ";
        // Beside a plan no widths are given.
        let error = sweep(text).unwrap_err().to_string();
        assert!(error.contains("wbits: a plan is given"), "{error}");
        let sweep = sweep(&text.replace("wbits = 8", "")).unwrap();
        assert_eq!(sweep.cells.len(), 2 * 2 * 2 + 2);
        let experiment = sweep.experiment(&sweep.cells[2]).unwrap();
        assert_eq!(sweep.cells[2].name, "method=dorefa,bits=2,seed=1");
        // Nothing but the cell's own run.
        let [run] = &experiment.runs[..] else {
            panic!("{:?}", experiment.runs);
        };
        assert_eq!((&run.name[..], run.epochs), ("dorefa-w2a2", 3));
        assert_eq!(experiment.seed, 1);
    }

    #[test]
    fn what_starts_from_a_float_network_has_one_beside_it() {
        let text = "[sweep]\nmethod = [\"tqt\", \"float\", \"dorefa\"]";
        let sweep = sweep(text).unwrap();
        let runs = |i: usize| sweep.experiment(&sweep.cells[i]).unwrap().runs.len();
        assert_eq!([runs(0), runs(1), runs(2)], [2, 1, 1]);
    }

    #[test]
    fn lists_go_beside_compared_and_complete_runs() {
        let compared = "[[compare]]\nname = \"a\"\n[[compare]]\nname = \"b\"\nlr = 0.5\n[sweep]\nseed = [3, 4]\n\"compare.1.lr\" = [0.25, 0.125]";
        let error = sweep(compared).unwrap_err().to_string();
        assert_eq!(error, "a.toml: sweep.compare.1.lr: is no setting");
        let sweep_of = |text: &str| sweep(text).unwrap();
        let compared = sweep_of(&compared.replace("\"compare.1.lr\" = [0.25, 0.125]", ""));
        let experiment = compared.experiment(&compared.cells[1]).unwrap();
        assert_eq!((experiment.runs.len(), experiment.seed), (2, 4));
        let text = experiment.to_toml().unwrap();
        let complete = sweep_of(&format!("{text}\n[sweep]\n\"runs.1.lr\" = [0.25]"));
        let experiment = complete.experiment(&complete.cells[0]).unwrap();
        assert_eq!(experiment.runs[1].lr, 0.25);
    }

    #[test]
    fn a_proposal_is_a_cell() {
        let sweep = Sweep::usual();
        let proposed = |json: serde_json::Value| sweep.proposed(json.as_object().unwrap());
        let cell = proposed(serde_json::json!({ "seed": 1, "lr": 0.5, "bits": 3 })).unwrap();
        assert_eq!(cell.name, "bits=3,lr=0.5,seed=1");
        let run = &sweep.experiment(&cell).unwrap().runs[0];
        assert_eq!((&run.name[..], run.lr), ("dorefa-w3a3", 0.5));
        let error = proposed(serde_json::json!({ "lr": null })).unwrap_err();
        assert_eq!(error.to_string(), "lr: is null, expected a setting");
        let error = proposed(serde_json::json!({ "speed": 3 })).unwrap_err();
        assert_eq!(error.to_string(), "speed: is no setting");
    }

    #[test]
    fn mistakes_name_file_and_key() {
        let refused = |text: &str| sweep(text).unwrap_err().to_string();
        assert_eq!(
            refused("[sweep]\nspeed = [1]"),
            "a.toml: sweep.speed: is no setting"
        );
        assert_eq!(
            refused("[sweep]\nbits = [4, 40]"),
            "a.toml: bits=40: wbits: is 40, dorefa takes 1 to 24, or 32 for float"
        );
        assert_eq!(
            refused("[sweep]\nseed = [1]\n[[sweep.cell]]\nseed = 1"),
            "a.toml: sweep.seed=1: names two cells"
        );
        assert_eq!(
            refused("[sweep]\ncell = 3"),
            "a.toml: sweep.cell: is no list of tables"
        );
        assert_eq!(
            refused("[[sweep.cell]]\nseed = []"),
            "a.toml: sweep.cell[0].seed: is an empty list, expected values"
        );
        let unknown = refused("epoch = 3\n[sweep]\nseed = [1]");
        assert!(
            unknown.starts_with("a.toml: seed=1: settings: unknown field `epoch`"),
            "{unknown}"
        );
        assert!(refused("x = [").starts_with("a.toml line 1: "));
    }
}
