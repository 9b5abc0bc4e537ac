//! What the cells of a sweep came to: tables and numbers; [`picture`](super::sweep_picture) draws.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use super::statistics;
use super::table::{Alignment, Table, percent, thousands};
use crate::Error;
use crate::train::sweep::{CellFolder, CellState, SweepFolder};

/// The key whose values repeat a cell with other random numbers.
pub(super) const SEED: &str = "seed";

/// The cells of a sweep and what each came to.
#[derive(Debug, Clone, Serialize)]
pub struct SweepReport {
    /// The name of the sweep's folder.
    pub title: String,
    /// The keys that some cell sets, in the order of the first that has them.
    pub keys: Vec<String>,
    /// The cells, in their order.
    pub cells: Vec<CellReport>,
}

/// A cell of a sweep and what it came to.
#[derive(Debug, Clone, Serialize)]
pub struct CellReport {
    /// Its name.
    #[serde(rename = "cell")]
    pub name: String,
    /// What it says over the settings of all.
    pub settings: Map<String, Value>,
    /// Its folder.
    pub folder: PathBuf,
    /// How far it is.
    #[serde(flatten)]
    pub state: CellState,
}

/// What the finished cells came to that differ in their seed only.
#[derive(Debug, Clone, PartialEq)]
pub struct Mean {
    /// Their settings without the seed.
    pub settings: Map<String, Value>,
    /// The accuracy of each, as a fraction.
    pub accuracies: Vec<f64>,
}

impl Mean {
    /// Their mean.
    pub fn accuracy(&self) -> f64 {
        statistics::mean(&self.accuracies)
    }

    /// Their standard deviation, as of a sample; none for a single cell.
    pub fn deviation(&self) -> Option<f64> {
        statistics::deviation(&self.accuracies)
    }

    /// The least and the most of them.
    pub fn range(&self) -> (f64, f64) {
        let accuracies = self.accuracies.iter().copied();
        let least = accuracies.clone().fold(f64::INFINITY, f64::min);
        (least, accuracies.fold(f64::NEG_INFINITY, f64::max))
    }
}

impl CellReport {
    /// Reads the folder of a cell.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(cell: &CellFolder) -> Result<Self, Error> {
        Ok(Self {
            name: cell.cell.name.clone(),
            settings: cell.cell.to_json(),
            folder: cell.path().into(),
            state: cell.state()?,
        })
    }
}

impl SweepReport {
    /// Reads the folders of the cells.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn read(folder: &SweepFolder) -> Result<Self, Error> {
        let (mut keys, mut cells) = (Vec::new(), Vec::new());
        for found in folder.cells()? {
            for (key, _) in &found.cell.settings {
                if !keys.contains(key) {
                    keys.push(key.clone());
                }
            }
            cells.push(CellReport::read(&found)?);
        }
        let path = std::path::absolute(folder.path()).unwrap_or_else(|_| folder.path().into());
        let title = path.file_name().unwrap_or_default();
        Ok(Self {
            title: title.to_string_lossy().into_owned(),
            keys,
            cells,
        })
    }

    /// One line a cell.
    pub fn cells(&self) -> Table {
        let headings = ["accuracy", "loss", "best (epoch)", "seconds", "model bits"];
        let rows = self.cells.iter().map(|cell| {
            let settings = self.keys.iter().map(|key| shown(cell.settings.get(key)));
            settings.chain(numbers(&cell.state)).collect::<Vec<_>>()
        });
        let keys = self.keys.iter().map(String::as_str);
        let table = Table::new(keys.chain(headings)).with_rows(rows);
        self.aligned(table, &self.keys)
    }

    /// One line for cells that differ in their seed only, with mean, standard deviation, least and
    /// most of their accuracy; none where no two do.
    pub fn means(&self) -> Option<Table> {
        let means = self.grouped();
        if means.iter().all(|mean| mean.accuracies.len() < 2) {
            return None;
        }
        let keys = self.keys.iter().filter(|key| *key != SEED).cloned();
        let keys: Vec<String> = keys.collect();
        let headings = ["runs", "accuracy", "deviation", "least", "most"];
        let rows = means.iter().map(|mean| {
            let settings = keys.iter().map(|key| shown(mean.settings.get(key)));
            let (least, most) = mean.range();
            let numbers = [
                mean.accuracies.len().to_string(),
                percent(mean.accuracy()),
                mean.deviation().map_or("-".into(), percent),
                percent(least),
                percent(most),
            ];
            settings.chain(numbers).collect::<Vec<_>>()
        });
        let table = Table::new(keys.iter().map(String::as_str).chain(headings)).with_rows(rows);
        Some(self.aligned(table, &keys))
    }

    /// The finished cells, those together that differ in their seed only.
    pub fn grouped(&self) -> Vec<Mean> {
        let mut means: Vec<Mean> = Vec::new();
        for cell in &self.cells {
            let Some(result) = &cell.state.result else {
                continue;
            };
            let mut settings = cell.settings.clone();
            settings.remove(SEED);
            match means.iter_mut().find(|mean| mean.settings == settings) {
                Some(mean) => mean.accuracies.push(result.accuracy),
                None => means.push(Mean {
                    settings,
                    accuracies: vec![result.accuracy],
                }),
            }
        }
        means
    }

    /// The cells with all digits, to be written as CSV.
    pub fn numbers(&self) -> Table {
        let headings = [
            "finished_epochs",
            "epochs",
            "accuracy",
            "loss",
            "best_accuracy",
            "best_epoch",
            "seconds",
            "images_per_second",
            "model_bits",
        ];
        let keys = self.keys.iter().map(String::as_str);
        let rows = self.cells.iter().map(|cell| {
            let state = &cell.state;
            let plain = |key: &String| cell.settings.get(key).map_or(String::new(), text);
            let result = state.result.as_ref().map(|result| {
                [
                    result.accuracy.to_string(),
                    result.loss.to_string(),
                    result.best_accuracy.to_string(),
                    result.best_epoch.to_string(),
                    result.seconds.to_string(),
                    result.images_per_second.to_string(),
                    result.model_bits.to_string(),
                ]
            });
            std::iter::once(cell.name.clone())
                .chain(self.keys.iter().map(plain))
                .chain([state.finished_epochs.to_string(), state.epochs.to_string()])
                .chain(result.unwrap_or_default())
                .collect::<Vec<_>>()
        });
        Table::new(["cell"].into_iter().chain(keys).chain(headings)).with_rows(rows)
    }

    /// The table, with texts to the left.
    fn aligned(&self, mut table: Table, keys: &[String]) -> Table {
        for (column, key) in table.columns.iter_mut().zip(keys) {
            let values = self.cells.iter().filter_map(|cell| cell.settings.get(key));
            column.alignment = match values.clone().all(Value::is_number) {
                true => Alignment::Right,
                false => Alignment::Left,
            };
        }
        table
    }
}

/// What a table says of a cell's result.
fn numbers(state: &CellState) -> [String; 5] {
    let Some(result) = &state.result else {
        let told = match state.finished_epochs {
            0 => "not begun".into(),
            finished => format!("epoch {finished} of {}", state.epochs),
        };
        return [told, "-".into(), "-".into(), "-".into(), "-".into()];
    };
    [
        percent(result.accuracy),
        format!("{:.4}", result.loss),
        format!("{} ({})", percent(result.best_accuracy), result.best_epoch),
        format!("{:.1}", result.seconds),
        thousands(result.model_bits),
    ]
}

/// A value in a table.
fn shown(value: Option<&Value>) -> String {
    value.map_or("-".into(), text)
}

/// A value as a person writes it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sweep whose cells have these settings and, where they are finished, accuracies.
    pub(in crate::report) fn report(cells: &[(Value, Option<f64>)]) -> SweepReport {
        let mut keys: Vec<String> = Vec::new();
        let cells = cells.iter().map(|(settings, accuracy)| {
            let settings = settings.as_object().unwrap().clone();
            let new = settings.keys().filter(|key| !keys.contains(key));
            let new: Vec<String> = new.cloned().collect();
            keys.extend(new);
            let result = accuracy.map(|accuracy| {
                let result = serde_json::json!({
                    "name": "run", "accuracy": accuracy, "loss": 0.25, "best_epoch": 2,
                    "best_accuracy": accuracy, "seconds": 1.5, "images_per_second": 100.0,
                    "model_bits": 1000, "epochs": 3,
                });
                serde_json::from_value(result).unwrap()
            });
            CellReport {
                name: settings.values().map(text).collect::<Vec<_>>().join(","),
                settings,
                folder: "a".into(),
                state: CellState {
                    run: "run".into(),
                    finished_epochs: if accuracy.is_some() { 3 } else { 1 },
                    epochs: 3,
                    result,
                },
            }
        });
        let cells = cells.collect();
        SweepReport {
            title: "a".into(),
            keys,
            cells,
        }
    }

    #[test]
    fn a_cell_is_a_line() {
        let settings = |seed: u64| serde_json::json!({ "method": "lsq", "seed": seed });
        let report = report(&[(settings(1), Some(0.5)), (settings(2), None)]);
        let expected = "\
method  seed      accuracy    loss  best (epoch)  seconds  model bits
lsq        1       50.00 %  0.2500   50.00 % (2)      1.5       1,000
lsq        2  epoch 1 of 3       -             -        -           -
";
        assert_eq!(report.cells().to_string(), expected);
        let csv = "\
cell,method,seed,finished_epochs,epochs,accuracy,loss,best_accuracy,best_epoch,seconds,images_per_second,model_bits
\"lsq,1\",lsq,1,3,3,0.5,0.25,0.5,2,1.5,100,1000
\"lsq,2\",lsq,2,1,3,,,,,,,
";
        assert_eq!(report.numbers().csv(), csv);
        assert!(report.means().is_none());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["cells"][0]["result"]["accuracy"], 0.5);
        assert_eq!(json["cells"][1]["finished_epochs"], 1);
    }

    /// The deviation of 0.9, 0.92, 0.94 is 0.02 by hand: squares 0.0004, 0, 0.0004 over two.
    #[test]
    fn seeds_are_averaged() {
        let cell = |bits: u32, seed: u64| serde_json::json!({ "bits": bits, "seed": seed });
        let report = report(&[
            (cell(4, 1), Some(0.9)),
            (cell(2, 1), Some(0.5)),
            (cell(4, 2), Some(0.92)),
            (cell(4, 3), Some(0.94)),
            (cell(2, 2), None),
        ]);
        let expected = "\
bits  runs  accuracy  deviation    least     most
   4     3   92.00 %     2.00 %  90.00 %  94.00 %
   2     1   50.00 %          -  50.00 %  50.00 %
";
        assert_eq!(report.means().unwrap().to_string(), expected);
    }
}
