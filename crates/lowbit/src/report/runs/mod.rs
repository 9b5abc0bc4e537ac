//! Several runs side by side: what each came to, what it costs, and what differs in what they are.

mod differences;
mod figures;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use serde::Serialize;

use super::page::{Figure, NamedTable, Section, document, figure_html, table_html, text::escaped};
use super::table::{Table, percent, thousands};
use crate::Error;
use crate::analysis::bit_operations;
use crate::data::DataSet;
use crate::quantizers::{LearnedWidths, Slot};
use crate::train::checkpoint::load_model;
use crate::train::{EpochMetrics, Experiment, RunConfig, RunFolder, RunResult};

use differences::differences;

/// Runs side by side.
#[derive(Debug, Clone, Serialize)]
pub struct RunsReport {
    /// The runs, in the order in which they were named.
    pub runs: Vec<ComparedRun>,
    /// The keys in which their configurations differ, with the value of each run, if it has one.
    pub differences: Vec<(String, Vec<Option<String>>)>,
}

/// A run and what it came to.
#[derive(Debug, Clone, Serialize)]
pub struct ComparedRun {
    /// The folder of its experiment, and its name.
    pub title: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The network.
    pub network: String,
    /// The data set.
    pub data: String,
    /// Products that an image takes, each times the bits of its weight and of its input, 32 for a float;
    /// learned widths are those that it came to. `None` of a folder, whose images are not looked at.
    pub bit_operations: Option<u64>,
    /// What it came to, if it is finished.
    pub result: Option<RunResult>,
    /// Its epochs.
    pub epochs: Vec<EpochMetrics>,
}

impl RunsReport {
    /// Reads the runs at these paths; of a folder with several runs, all.
    ///
    /// # Errors
    /// If one cannot be read, or a network cannot be built.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut runs = Vec::new();
        let mut configs = Vec::new();
        for path in paths {
            for (folder, experiment, run) in runs_at(path)? {
                runs.push(ComparedRun::read(&folder, &experiment, &run)?);
                configs.push((experiment, run));
            }
        }
        Ok(Self {
            differences: differences(&configs),
            runs,
        })
    }

    /// One line a run.
    pub fn table(&self) -> Table {
        let headings = [
            "run",
            "network",
            "data",
            "accuracy",
            "best (epoch)",
            "loss",
            "epochs",
            "model bits",
            "bit operations",
            "seconds",
        ];
        Table::new(headings).with_rows(self.runs.iter().map(|run| {
            let result = run.result.as_ref();
            let of = |text: &dyn Fn(&RunResult) -> String| result.map_or("-".into(), text);
            [
                run.title.clone(),
                run.network.clone(),
                run.data.clone(),
                of(&|r| percent(r.accuracy)),
                of(&|r| format!("{} ({})", percent(r.best_accuracy), r.best_epoch)),
                of(&|r| format!("{:.4}", r.loss)),
                of(&|r| r.epochs.to_string()),
                of(&|r| thousands(r.model_bits)),
                run.bit_operations.map_or("-".into(), thousands),
                of(&|r| format!("{:.1}", r.seconds)),
            ]
        }))
    }

    /// What differs in what they are, one line a key.
    pub fn differences_table(&self) -> Table {
        let titles = self.runs.iter().map(|run| run.title.clone());
        let headings = std::iter::once("key".to_string()).chain(titles);
        Table::new(headings).with_rows(self.differences.iter().map(|(key, values)| {
            let values = values
                .iter()
                .map(|value| value.clone().unwrap_or("-".into()));
            std::iter::once(key.clone())
                .chain(values)
                .collect::<Vec<_>>()
        }))
    }

    /// Its pictures.
    pub fn figures(&self) -> Vec<Figure> {
        figures::all(self)
    }

    /// Its tables.
    pub fn tables(&self) -> Vec<NamedTable> {
        let named = |name: &str, table| NamedTable {
            name: name.into(),
            table,
        };
        vec![
            named("runs", self.table()),
            named("differences", self.differences_table()),
        ]
    }

    /// One HTML file that needs no other.
    pub fn html(&self) -> String {
        let pictures: String = self.figures().iter().map(figure_html).collect();
        let sections = [
            Section {
                id: "runs",
                name: "Runs",
                html: table_html(
                    &self.table(),
                    "Accuracies and losses are those of the test images.",
                    true,
                ),
            },
            Section {
                id: "pictures",
                name: "Pictures",
                html: pictures,
            },
            Section {
                id: "differences",
                name: "Differences",
                html: table_html(
                    &self.differences_table(),
                    "What differs in their configurations.",
                    true,
                ),
            },
        ];
        document(&escaped(&format!("{} runs", self.runs.len())), &sections)
    }
}

/// The runs that a path means: that one, or all of an experiment.
fn runs_at(path: &Path) -> Result<Vec<(RunFolder, Experiment, RunConfig)>, Error> {
    if let Ok((folder, experiment)) = RunFolder::open(path) {
        let runs = experiment.runs.iter();
        return Ok(runs
            .map(|run| (folder.clone(), experiment.clone(), run.clone()))
            .collect());
    }
    let (folder, name, experiment) = crate::train::find_run(path)?;
    let run = experiment.runs.iter().find(|run| run.name == name).cloned();
    let run = run.ok_or_else(|| Error::Checkpoint {
        path: path.into(),
        message: format!("is no run of its experiment, which has no `{name}`"),
    })?;
    Ok(vec![(folder, experiment, run)])
}

impl ComparedRun {
    fn read(folder: &RunFolder, experiment: &Experiment, run: &RunConfig) -> Result<Self, Error> {
        let experiment_name = folder.path().file_name().unwrap_or_default();
        Ok(Self {
            title: format!("{}/{}", experiment_name.to_string_lossy(), run.name),
            folder: folder.path().join(&run.name),
            network: experiment.model.to_string(),
            data: experiment.data.to_string(),
            bit_operations: operations(folder, experiment, run)?,
            result: folder.result(&run.name)?,
            epochs: folder.epochs(&run.name)?,
        })
    }
}

/// The bit operations of a run's network, as it is in its best checkpoint if it has one.
fn operations(
    folder: &RunFolder,
    experiment: &Experiment,
    run: &RunConfig,
) -> Result<Option<u64>, Error> {
    if experiment.data == DataSet::Folder {
        return Ok(None);
    }
    // The images of a data set are those of its usual network.
    let images = experiment.data.defaults().model.usual_images();
    let ([channels, height, width], _) = images;
    let device = Device::flex();
    let network = experiment.network_for(run, images, &device)?;
    let learned = LearnedWidths::of(&network);
    let learns = [Slot::WEIGHT, Slot::INPUT]
        .iter()
        .any(|slot| learned.layers(slot) > 0);
    let network = match folder.checkpoints(&run.name).best()? {
        Some(checkpoint) if learns => load_model(network, &checkpoint)?,
        _ => network,
    };
    let image = Tensor::zeros([1, channels, height, width], &device);
    Ok(Some(bit_operations(&network, image)))
}
