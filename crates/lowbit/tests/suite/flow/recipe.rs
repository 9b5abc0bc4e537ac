use burn::tensor::{Bytes, Device};
use lowbit::calibrate::measure;
use lowbit::data::{DataSet, ImageSet, Split};
use lowbit::models::{Classifier, Tolerance};
use lowbit::optim::{Schedule, ThresholdOptimizer};
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
    fn step(&mut self, _step: &lowbit::train::StepMetrics<'_>) {
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

    let device = Device::flex();
    let plan = &experiment().runs[1].plan;
    let (model, _) =
        load_weights(build("cnn", plan, &device), &last, Tolerance::default()).unwrap();
    let measured = measure(&model, |model: &lowbit::models::Network| {
        model.forward(images("cnn", 4, &device));
    });
    // Weight, bias, input and sum of three convolutions and a linear layer, what the mean reads,
    // and the result.
    assert_eq!(measured.len(), 18);
    for tensor in &measured {
        assert!(tensor.cosine.unwrap() > 0.9, "{tensor:?}");
    }
    let sums = measured
        .iter()
        .filter(|tensor| tensor.log2_threshold.is_empty());
    let sums: Vec<(&str, u32, f64)> = sums.map(|m| (&m.path[..], m.bits, m.clipped)).collect();
    let layers = ["conv1", "conv2", "conv3", "fc"].map(|layer| format!("{layer}.accumulator"));
    assert_eq!(sums, layers.each_ref().map(|path| (&path[..], 32, 0.0)));
    super::scales::check(&model, images("cnn", 4, &device));
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
