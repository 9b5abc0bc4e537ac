//! Chains of widths: networks that learn alone, from the first of a list of widths, and each from the
//! one before it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn::train::Interrupter;
use lowbit_formats::new_file::holds_something;
use serde::{Deserialize, Serialize};

use super::defaults;
use super::distillation::TeacherConfig;
use super::experiment::Experiment;
use super::folder::{RunFolder, RunResult};
use super::options::Settings;
use super::progress::Progress;
use super::run::Outcome;
use crate::Error;
use crate::config::{FLOAT_BITS, Method};
use crate::data::{self, DataSet, HoldOut, Split};
use crate::files::write_atomic;
use crate::models::Architecture;

const CHAIN: &str = "chain.toml";

/// Part of the training images that a chain holds out unless told.
pub const USUAL_HOLD_OUT: HoldOut = HoldOut::Fraction(0.1);

/// Networks of a list of widths, for each seed: each trained alone; each distilled from the first;
/// and each from the one before it, which so is an assistant (Mirzadeh et al., "Improved Knowledge
/// Distillation via Teacher Assistant", arXiv 1902.03393, of widths in place of depths). The second of
/// the list has one teacher either way, and is trained once.
///
/// A teacher is the best checkpoint of its cell; held-out training images choose it, never the test
/// images. Written as `chain.toml` into the chain's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Bits of weights and activations, the first teacher's first; 32 is float.
    pub bits: Vec<u32>,
    /// The network of each of them, or one for all.
    pub models: Vec<Architecture>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// What is said of every cell beside.
    pub settings: Settings,
}

/// How a network is taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// By labels alone.
    Alone,
    /// By the first network of the list.
    Direct,
    /// By the one before it, which was taught that way, too.
    Chain,
}

impl Curve {
    /// All, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Alone, Self::Direct, Self::Chain];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Direct => "direct",
            Self::Chain => "chain",
        }
    }
}

/// A network of a chain: an ordinary run in a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Its seed.
    pub seed: u64,
    /// Its place in the list of widths.
    pub step: usize,
    /// How it is taught.
    pub curve: Curve,
}

/// What the cell of a chain came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellResult {
    /// Its network.
    pub model: Architecture,
    /// Its bits of weights and activations.
    pub bits: u32,
    /// How it was taught.
    pub curve: Curve,
    /// Its seed.
    pub seed: u64,
    /// Fraction of the test images that is right, of the checkpoint that held-out images chose.
    pub accuracy: f64,
    /// Fraction of the held-out images that is right.
    pub held_out: f64,
    /// The epoch of that checkpoint, from 1.
    pub best_epoch: usize,
    /// Its folder within that of the chain.
    pub folder: PathBuf,
}

/// What a chain came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChainResults {
    /// The data set.
    pub data: DataSet,
    /// The method of all widths below 32.
    pub method: Method,
    /// The widths.
    pub bits: Vec<u32>,
    /// The network of each of them.
    pub models: Vec<Architecture>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Every cell, by seed, curve and step.
    pub cells: Vec<CellResult>,
}

impl ChainResults {
    /// The cells of all seeds at a place in the list. What is taught by the one before it is, of the
    /// second, what is taught by the first.
    pub fn at(&self, curve: Curve, step: usize) -> Vec<&CellResult> {
        let curve = trained_as(curve, step);
        let (bits, model) = (self.bits[step], self.models[step]);
        let here = |cell: &&CellResult| (cell.curve, cell.bits, cell.model) == (curve, bits, model);
        self.cells.iter().filter(here).collect()
    }
}

/// The curve that a cell is trained for.
fn trained_as(curve: Curve, step: usize) -> Curve {
    match (curve, step) {
        (Curve::Chain, 1) => Curve::Direct,
        _ => curve,
    }
}

impl Chain {
    /// A chain with what is usual where nothing is said: DoReFa-Net, a tenth of the training images
    /// held out, the data set's usual network.
    ///
    /// # Errors
    /// If a list is empty or does not fit the other; a network and width are there twice; or a cell
    /// cannot be trained.
    pub fn new(
        bits: Vec<u32>,
        models: Vec<Architecture>,
        seeds: usize,
        settings: Settings,
    ) -> Result<Self, Error> {
        let first = settings.seed.unwrap_or(defaults::SEED);
        let data = settings.data.unwrap_or(defaults::DATA);
        let models = match models.is_empty() {
            true => vec![data.defaults().model],
            false => models,
        };
        let chain = Self {
            bits,
            models,
            seeds: (0..seeds as u64).map(|i| first.saturating_add(i)).collect(),
            settings: Settings {
                data: Some(data),
                method: Some(settings.method.unwrap_or(defaults::METHOD)),
                hold_out: Some(settings.hold_out.unwrap_or(USUAL_HOLD_OUT)),
                seed: None,
                ..settings
            },
        };
        chain.check()?;
        Ok(chain)
    }

    /// Whether every cell can be trained, as far as it can be told before.
    fn check(&self) -> Result<(), Error> {
        if self.bits.is_empty() {
            return Err(Error::config(
                "bits",
                "is empty, expected at least one width",
            ));
        }
        if self.seeds.is_empty() {
            return Err(Error::config("seeds", "is 0, expected at least 1"));
        }
        let (bits, models) = (self.bits.len(), self.models.len());
        if models != 1 && models != bits {
            let message =
                format!("names {models} networks for {bits} widths, expected 1 or {bits}");
            return Err(Error::config("models", message));
        }
        let mut seen = BTreeSet::new();
        for step in 0..bits {
            let label = self.label(step);
            if !seen.insert(label.clone()) {
                let message = format!("{label} is there twice");
                return Err(Error::config("bits", message));
            }
        }
        if self.method() == Method::FLOAT && self.bits.iter().any(|&bits| bits != FLOAT_BITS) {
            let message = format!("is float, which has no widths below {FLOAT_BITS}");
            return Err(Error::config("method", message));
        }
        let nobody = TeacherConfig::nobody();
        self.settings.distillation_of(nobody)?;
        for step in 0..bits {
            if self.is_calibrated(step) {
                self.calibrated_on()?;
            }
            let alone = self.said_of(step, self.seeds[0], Curve::Alone);
            let calibrated = self.is_calibrated(step).then_some(true);
            let baseline = calibrated.or(alone.baseline);
            Settings { baseline, ..alone }.complete()?;
        }
        Ok(())
    }

    fn method(&self) -> Method {
        self.settings.method.unwrap_or(defaults::METHOD)
    }

    /// The data set.
    pub fn data(&self) -> DataSet {
        self.settings.data.unwrap_or(defaults::DATA)
    }

    /// Loads the data set; `on_progress` hears of downloads.
    ///
    /// # Errors
    /// As [`Experiment::load`].
    pub fn load(&self, on_progress: &mut dyn FnMut(data::Progress<'_>)) -> Result<Split, Error> {
        let given = self.settings.clone();
        let of_data = Settings {
            data: Some(self.data()),
            data_dir: given.data_dir,
            image_resize: given.image_resize,
            image_crop: given.image_crop,
            image_mean: given.image_mean,
            image_std: given.image_std,
            method: Some(Method::FLOAT),
            ..Settings::default()
        };
        of_data.complete()?.load(None, on_progress)
    }

    fn model(&self, step: usize) -> Architecture {
        self.models[if self.models.len() == 1 { 0 } else { step }]
    }

    /// Whether a step starts from a trained network, on which its thresholds are calibrated.
    fn is_calibrated(&self, step: usize) -> bool {
        let bits = self.bits[step];
        bits < FLOAT_BITS && self.method().plan(bits, bits).needs_calibration()
    }

    /// The step of that network.
    fn calibrated_on(&self) -> Result<usize, Error> {
        if self.bits[0] == FLOAT_BITS && self.models.iter().all(|model| *model == self.models[0]) {
            return Ok(0);
        }
        let method = self.method();
        let message = format!(
            "{method} is calibrated on a trained network, expected {FLOAT_BITS} first, and one network"
        );
        Err(Error::config("bits", message))
    }

    /// What tells a step from others, in names of folders.
    fn label(&self, step: usize) -> String {
        let width = match self.bits[step] {
            FLOAT_BITS => "float".into(),
            bits => format!("w{bits}a{bits}"),
        };
        match self.models.len() {
            1 => width,
            _ => format!("{}-{width}", self.model(step)),
        }
    }

    /// Every cell, each after its teacher.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &seed in &self.seeds {
            for curve in Curve::ALL {
                let first = match curve {
                    Curve::Alone => 0,
                    Curve::Direct => 1,
                    Curve::Chain => 2,
                };
                let steps = first..self.bits.len();
                cells.extend(steps.map(|step| Cell { seed, step, curve }));
            }
        }
        cells
    }

    /// The folder of a cell within that of the chain.
    pub fn folder(&self, cell: Cell) -> PathBuf {
        let seed = format!("seed-{}", cell.seed);
        let name = format!("{}-{}", cell.curve.name(), self.label(cell.step));
        Path::new(&seed).join(name)
    }

    /// The cell that a cell learns from.
    pub fn teacher(&self, cell: Cell) -> Option<Cell> {
        let (step, curve) = match cell.curve {
            Curve::Alone => return None,
            Curve::Direct => (0, Curve::Alone),
            Curve::Chain => (cell.step - 1, trained_as(Curve::Chain, cell.step - 1)),
        };
        Some(Cell {
            step,
            curve,
            ..cell
        })
    }

    /// What is said of a network before it has a teacher or a start.
    fn said_of(&self, step: usize, seed: u64, curve: Curve) -> Settings {
        let bits = self.bits[step];
        let said = Settings {
            model: Some(self.model(step)),
            seed: Some(seed),
            baseline: Some(false),
            ..self.settings.clone()
        };
        let said = match bits {
            FLOAT_BITS => Settings {
                method: Some(Method::FLOAT),
                ..said.without_quantization()
            },
            bits => Settings {
                wbits: Some(bits),
                abits: Some(bits),
                ..said
            },
        };
        match curve {
            Curve::Alone => Settings {
                temperature: None,
                distill_weight: None,
                feature_weight: None,
                attention_weight: None,
                start_from_teacher: None,
                ..said
            },
            Curve::Direct | Curve::Chain => said,
        }
    }

    /// The experiment of a cell; its teacher is trained.
    fn experiment(&self, folder: &Path, cell: Cell) -> Result<Experiment, Error> {
        let mut settings = self.said_of(cell.step, cell.seed, cell.curve);
        if let Some(teacher) = self.teacher(cell) {
            settings.teacher = Some(folder.join(self.folder(teacher)));
        }
        if self.is_calibrated(cell.step) {
            let (step, curve) = (self.calibrated_on()?, Curve::Alone);
            let trained = Cell {
                step,
                curve,
                ..cell
            };
            settings.from = Some(folder.join(self.folder(trained)));
        }
        settings.complete()
    }

    /// A new folder, which holds the chain as `chain.toml` from here on.
    ///
    /// # Errors
    /// If the folder already holds something.
    pub fn create(&self, folder: &Path) -> Result<(), Error> {
        if holds_something(folder) {
            let path = folder.display();
            let message = match folder.join(CHAIN).is_file() {
                true => format!(
                    "already holds a chain; to go on with it: lowbit chain --resume --out {path}"
                ),
                false => "already holds something, expected a new or an empty folder".into(),
            };
            let path = folder.into();
            return Err(Error::Checkpoint { path, message });
        }
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let text = toml::to_string(self).map_err(|e| Error::config("chain", e.to_string()))?;
        write_atomic(&folder.join(CHAIN), text.as_bytes())
    }

    /// The chain in a folder.
    ///
    /// # Errors
    /// If there is none, or it is none.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(CHAIN);
        fs::metadata(folder).map_err(Error::io(folder))?;
        let text = fs::read_to_string(&path).map_err(|_| Error::Checkpoint {
            path: folder.into(),
            message: format!("is not the folder of a chain: it has no {CHAIN}"),
        })?;
        let source = path.display().to_string();
        let chain: Self =
            toml::from_str(&text).map_err(|error| Error::toml(&source, &text, &error))?;
        chain.check()?;
        Ok(chain)
    }

    /// Trains what is not finished of the cells in a folder, each from where it stands. Returns
    /// nothing if it was interrupted.
    ///
    /// # Errors
    /// If a cell cannot be trained, or its folder holds another run.
    pub fn train(
        &self,
        folder: &Path,
        split: &Split,
        device: &Device,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<Option<ChainResults>, Error> {
        // Teachers are named by their whole paths.
        let folder = std::path::absolute(folder).map_err(Error::io(folder))?;
        let cells = self.cells();
        let mut results = Vec::new();
        for (i, &cell) in cells.iter().enumerate() {
            progress.cell(&self.folder(cell), i, cells.len());
            let trained = self.train_cell(&folder, cell, split, device, interrupter, progress)?;
            let Some(result) = trained else {
                return Ok(None);
            };
            results.push(self.result(cell, &result));
        }
        let steps = 0..self.bits.len();
        Ok(Some(ChainResults {
            data: self.data(),
            method: self.method(),
            bits: self.bits.clone(),
            models: steps.map(|step| self.model(step)).collect(),
            seeds: self.seeds.clone(),
            cells: results,
        }))
    }

    fn train_cell(
        &self,
        folder: &Path,
        cell: Cell,
        split: &Split,
        device: &Device,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<Option<RunResult>, Error> {
        let path = folder.join(self.folder(cell));
        let expected = self.experiment(folder, cell)?;
        let run_folder = match RunFolder::open(&path) {
            Ok((run_folder, found)) => {
                check_same(&path, &expected, found)?;
                run_folder
            }
            Err(_) => RunFolder::create(&path, &expected)?,
        };
        let outcome = run_folder.train(&expected, split, device, interrupter, progress)?;
        Ok(match outcome {
            Outcome::Finished(mut results) => results.pop(),
            Outcome::Interrupted(..) => None,
        })
    }

    fn result(&self, cell: Cell, result: &RunResult) -> CellResult {
        let held_out = result.held_out.map(|held_out| held_out.best.accuracy);
        CellResult {
            model: self.model(cell.step),
            bits: self.bits[cell.step],
            curve: cell.curve,
            seed: cell.seed,
            accuracy: result.best_accuracy,
            held_out: held_out.expect("a chain holds images out"),
            best_epoch: result.best_epoch,
            folder: self.folder(cell),
        }
    }
}

/// Whether a cell's folder holds what the chain means, but for what cannot change its numbers.
fn check_same(path: &Path, expected: &Experiment, found: Experiment) -> Result<(), Error> {
    let found = Experiment {
        threads: expected.threads,
        data_dir: expected.data_dir.clone(),
        ..found
    };
    if found == *expected {
        return Ok(());
    }
    Err(Error::Checkpoint {
        path: path.into(),
        message: "holds another run than the chain's; was a teacher changed, or the folder moved?"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(bits: &[u32], models: &[&str], settings: Settings) -> Result<Chain, Error> {
        let models = models.iter().map(|name| name.parse().unwrap());
        Chain::new(bits.to_vec(), models.collect(), 1, settings)
    }

    #[test]
    fn each_cell_comes_after_its_teacher() {
        let chain = chain(&[32, 8, 4, 2], &[], Settings::default()).unwrap();
        let cells = chain.cells();
        let named = |cell: Cell| chain.folder(cell).display().to_string();
        let taught: Vec<(String, Option<String>)> = cells
            .iter()
            .map(|&cell| (named(cell), chain.teacher(cell).map(named)))
            .collect();
        let of = |name: &str| {
            let found = taught.iter().position(|(cell, _)| cell == name).unwrap();
            (found, taught[found].1.as_deref())
        };
        assert_eq!(cells.len(), 4 + 3 + 2);
        assert_eq!(of("seed-0/alone-w4a4").1, None);
        assert_eq!(of("seed-0/direct-w2a2").1, Some("seed-0/alone-float"));
        assert_eq!(of("seed-0/chain-w4a4").1, Some("seed-0/direct-w8a8"));
        assert_eq!(of("seed-0/chain-w2a2").1, Some("seed-0/chain-w4a4"));
        for (i, (_, teacher)) in taught.iter().enumerate() {
            assert!(teacher.as_deref().is_none_or(|name| of(name).0 < i));
        }
    }

    #[test]
    fn mistakes_are_told_before_anything_is_trained() {
        let refused = |bits: &[u32], models: &[&str], text: &str| {
            let settings = toml::from_str(text).unwrap();
            chain(bits, models, settings).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&[], &[], ""),
            "bits: is empty, expected at least one width"
        );
        assert_eq!(refused(&[32, 4, 4], &[], ""), "bits: w4a4 is there twice");
        assert_eq!(
            refused(&[32, 4, 2], &["cnn", "lenet"], ""),
            "models: names 2 networks for 3 widths, expected 1 or 3"
        );
        assert_eq!(
            refused(&[32, 20], &[], ""),
            "abits: is 20, dorefa takes 1 to 16, or 32 for float"
        );
        assert_eq!(
            refused(&[32, 4], &[], "temperature = 0.0"),
            "temperature: is 0, expected a positive number"
        );
        assert_eq!(
            refused(&[8, 4], &[], "method = \"tqt\""),
            "bits: tqt is calibrated on a trained network, expected 32 first, and one network"
        );
        assert_eq!(
            refused(&[32, 4], &[], "method = \"float\""),
            "method: is float, which has no widths below 32"
        );
    }

    #[test]
    fn a_chain_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let settings = toml::from_str("epochs = 3\nhold_out = 100\ntemperature = 4.0").unwrap();
        let models = ["cnn", "lenet", "cnn"];
        let chain = chain(&[32, 8, 4], &models, settings).unwrap();
        chain.create(folder.path()).unwrap();
        assert_eq!(Chain::open(folder.path()).unwrap(), chain);
        let again = chain.create(folder.path()).unwrap_err().to_string();
        assert!(again.contains("lowbit chain --resume --out"), "{again}");
    }
}
