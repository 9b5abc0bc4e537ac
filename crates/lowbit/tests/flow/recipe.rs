use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bytes, Device, Tensor};
use lowbit::calibrate::measure;
use lowbit::data::{DataSet, ImageSet, Split};
use lowbit::models::Classifier;
use lowbit::ops::trained_threshold;
use lowbit::optim::{Schedule, ThresholdOptimizer};
use lowbit::quantizers::ModulePath;
use lowbit::train::checkpoint::{load_state, load_weights};
use lowbit::train::recipe::{FreezeThresholds, Recipe};
use lowbit::train::{Experiment, Interrupter, Outcome, Progress, RunFolder, Settings};

use super::{all_tensors, build, images};

fn some_digits() -> Split {
    let split = DataSet::Digits.load(None, &mut |_| {}).unwrap();
    let first = |set: &ImageSet, count: usize| ImageSet {
        images: set.images[..count * set.image_len()].to_vec(),
        labels: set.labels[..count].to_vec(),
        ..set.clone()
    };
    Split {
        train: first(&split.train, 200),
        test: first(&split.test, 100),
    }
}

/// Everything that the recipe has, within three epochs of seven steps.
fn experiment() -> Experiment {
    let settings = Settings {
        plan: Some(lowbit::config::QPlan {
            fold: lowbit::config::Fold::Training,
            ..all_tensors()
        }),
        baseline: Some(true),
        epochs: Some(3),
        batch: Some(32),
        threads: Some(1),
        calibration_images: Some(64),
        recipe: Some(Recipe {
            freeze_statistics: Some(1.0),
            freeze_thresholds: Some(FreezeThresholds { from: 4, every: 3 }),
            threshold_optimizer: ThresholdOptimizer::NormedSgd { beta: 0.9 },
            threshold_schedule: Some(Schedule::Exponential {
                factor: 0.5,
                steps: 5,
            }),
        }),
        ..Settings::default()
    };
    settings.complete().unwrap()
}

/// Stops a run after some steps.
struct StopAfter<'a>(usize, &'a Interrupter);

impl Progress for StopAfter<'_> {
    fn step(&mut self, _sums: &lowbit::train::checkpoint::Sums, _images: usize) {
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 {
            self.1.stop(None);
        }
    }
}

fn train(folder: &RunFolder, split: &Split, steps: usize) -> Outcome {
    let interrupter = Interrupter::new();
    let mut stop = StopAfter(steps, &interrupter);
    let device = Device::flex();
    folder
        .train(&experiment(), split, &device, &interrupter, &mut stop)
        .unwrap()
}

fn parameters(folder: &RunFolder) -> Vec<(String, Vec<u8>)> {
    let last = folder.checkpoints("plan").last().unwrap().unwrap();
    let bytes = std::fs::read(last.join("model.bpk")).unwrap();
    let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(bytes)).unwrap();
    let names = reader.tensor_names().into_iter().map(String::from);
    names
        .map(|name| (name.clone(), reader.tensor_data(&name).unwrap()))
        .collect()
}

#[test]
fn the_recipe_resumes_to_the_bit_freezes_and_keeps_powers_of_two() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let whole = RunFolder::create(temporary.path().join("whole"), &experiment()).unwrap();
    train(&whole, &split, usize::MAX);
    let parts = RunFolder::create(temporary.path().join("parts"), &experiment()).unwrap();
    // Through the float run, then around every freezing: before steps 7, 10, 13, ...
    for steps in [21, 6, 1, 1, 3, 2, 4] {
        train(&parts, &split, steps);
    }
    assert!(matches!(
        train(&parts, &split, usize::MAX),
        Outcome::Finished(_)
    ));
    let (a, b) = (parameters(&whole), parameters(&parts));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert!(a == b, "{} differs", a.0);
    }

    // Steps 7, 10, 13, 16 and 19 may each freeze one threshold; nearly all have settled by then.
    let last = whole.checkpoints("plan").last().unwrap().unwrap();
    let state = load_state(&last).unwrap();
    let frozen = state.thresholds.frozen.len();
    assert!((1..=5).contains(&frozen), "{frozen}");

    // Every effective scale is a power of two, and every quantized weight a multiple of its own.
    let device = Device::flex();
    let plan = &experiment().runs[1].plan;
    let (model, _) = load_weights(build("cnn", plan, &device), &last).unwrap();
    let measured = measure(&model, |model: &lowbit::models::Network| {
        model.forward(images("cnn", 4, &device));
    });
    // Weight, bias and input of three convolutions and a linear layer, what the mean reads, and
    // the result.
    assert_eq!(measured.len(), 14);
    for tensor in &measured {
        for threshold in &tensor.threshold {
            assert_eq!(threshold.to_bits() & 0x007f_ffff, 0, "{}", tensor.path);
        }
        assert!(tensor.cosine.unwrap() > 0.9, "{tensor:?}");
    }
    let mut grids = Grids::default();
    model.visit(&mut grids);
    assert_eq!(grids.checked, 1);
}

/// Checks the linear layer's weight against its grid.
#[derive(Default)]
struct Grids {
    path: ModulePath,
    weight: Vec<f32>,
    log2_threshold: Option<f32>,
    checked: usize,
}

impl ModuleVisitor for Grids {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let read = || param.val().into_data().iter::<f32>().collect::<Vec<_>>();
        match self.path.key().as_str() {
            "fc.weight" => self.weight = read(),
            "fc.quantizers.weight.TrainedThreshold.log2_threshold" => {
                let log2 = read()[0];
                self.log2_threshold = Some(log2);
                let device = Device::flex();
                let tensor = |x: &[f32]| Tensor::<1>::from_floats(x, &device);
                let weight = tensor(&self.weight);
                let q = trained_threshold(weight, tensor(&[log2]), tensor(&[1.0]), 8, 0);
                // 8 bits, signed: a step of the power of two at or above t, over 128.
                let step = log2.exp2().log2().ceil().exp2() / 128.0;
                for q in q.into_data().iter::<f32>() {
                    let integer = q / step;
                    assert_eq!(integer.fract(), 0.0);
                    assert!((-128.0..=127.0).contains(&integer));
                }
                self.checked += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn a_run_of_no_epochs_is_calibrated_tested_and_saved() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let mut experiment = experiment();
    experiment.runs[0].epochs = 1;
    experiment.runs[1].epochs = 0;
    let folder = RunFolder::create(temporary.path(), &experiment).unwrap();
    let interrupter = Interrupter::new();
    let device = Device::flex();
    let outcome = folder
        .train(&experiment, &split, &device, &interrupter, &mut ())
        .unwrap();
    let Outcome::Finished(results) = outcome else {
        panic!("not finished")
    };
    assert_eq!((results[1].epochs, results[1].best_epoch), (0, 0));
    let best = folder.checkpoints("plan").best().unwrap().unwrap();
    assert!(best.ends_with("epoch-00000"));
    experiment.runs[0].epochs = 0;
    assert_eq!(
        experiment.check().unwrap_err().to_string(),
        "runs[0].epochs: is 0, expected 1 to 1000000"
    );
}
