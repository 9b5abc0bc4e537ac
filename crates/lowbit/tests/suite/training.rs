//! Runs repeat: after an interruption, and on any number of threads.

use std::path::Path;

use burn::tensor::{Bytes, Device};
use lowbit::data::{DataSet, ImageSet, Split};
use lowbit::models::{Classifier, Tolerance};
use lowbit::train::checkpoint::load_weights;
use lowbit::train::{
    EpochMetrics, Experiment, Interrupter, Method, Outcome, Progress, RunFolder, Settings,
    StepMetrics,
};

/// A few of the embedded digits, so that a run takes a moment.
pub(crate) fn some_digits() -> Split {
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

fn experiment(method: Method) -> Experiment {
    let settings = Settings {
        method: Some(method),
        epochs: Some(3),
        batch: Some(32),
        threads: Some(1),
        ..Settings::default()
    };
    settings.complete().unwrap()
}

/// Every number of the loop in a format, some of them rounded at random.
fn low_precision() -> Experiment {
    let number = |text: &str| Some(text.parse().unwrap());
    let settings = Settings {
        method: Some(Method::FLOAT),
        activation_format: number("e4m3"),
        error_format: number("e5m2:stochastic"),
        weight_format: number("e4m3"),
        gradient_format: number("e5m2:stochastic"),
        momentum_format: number("bf16"),
        accumulator_format: number("fixed(16,12):stochastic"),
        epochs: Some(3),
        batch: Some(32),
        threads: Some(1),
        ..Settings::default()
    };
    settings.complete().unwrap()
}

/// Clipped gradients, smoothed labels, and images that are cut and mixed.
fn regularized() -> Experiment {
    let settings = Settings {
        method: Some(Method::DOREFA),
        clip_norm: Some(0.5),
        label_smoothing: Some(0.1),
        mixup: Some(0.4),
        cutout: Some(3),
        epochs: Some(3),
        batch: Some(32),
        threads: Some(1),
        ..Settings::default()
    };
    settings.complete().unwrap()
}

/// Stops a run after some steps.
pub(crate) struct StopAfter<'a>(pub(crate) usize, pub(crate) &'a Interrupter);

impl Progress for StopAfter<'_> {
    fn step(&mut self, _step: &StepMetrics<'_>) {
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 {
            self.1.stop(None);
        }
    }
}

/// Names and values of a checkpoint's parameters.
pub(crate) fn weights(folder: &RunFolder, run: &str) -> Vec<(String, Vec<u8>)> {
    let path = folder
        .checkpoints(run)
        .last()
        .unwrap()
        .unwrap()
        .join("model.bpk");
    let bytes = Bytes::from_bytes_vec(std::fs::read(path).unwrap());
    let reader = burn_pack::Reader::from_bytes(bytes).unwrap();
    let names: Vec<String> = reader
        .tensor_names()
        .into_iter()
        .map(String::from)
        .collect();
    names
        .into_iter()
        .map(|name| (name.clone(), reader.tensor_data(&name).unwrap()))
        .collect()
}

/// The numbers of a run's metrics, times left out.
fn metrics(folder: &RunFolder, run: &str) -> Vec<[u64; 5]> {
    let text = std::fs::read_to_string(folder.path().join(run).join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<EpochMetrics>(line).unwrap())
        .map(|m| {
            let numbers = [
                m.lr,
                m.train_loss,
                m.train_accuracy,
                m.test_loss,
                m.test_accuracy,
            ];
            numbers.map(f64::to_bits)
        })
        .collect()
}

pub(crate) fn train(path: &Path, experiment: &Experiment, split: &Split) -> RunFolder {
    let folder = RunFolder::create(path, experiment).unwrap();
    let interrupter = Interrupter::new();
    let outcome = folder.train(experiment, split, &Device::flex(), &interrupter, &mut ());
    assert!(matches!(outcome.unwrap(), Outcome::Finished(_)));
    folder
}

pub(crate) fn assert_same_runs(a: &RunFolder, b: &RunFolder, experiment: &Experiment) {
    for run in &experiment.runs {
        assert_eq!(metrics(a, &run.name), metrics(b, &run.name), "{}", run.name);
        let (a, b) = (weights(a, &run.name), weights(b, &run.name));
        assert!(!a.is_empty());
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert_eq!(a.0, b.0);
            assert!(a.1 == b.1, "{} of {} differs", a.0, run.name);
        }
    }
}

#[test]
fn an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let experiments = [
        ("dorefa", experiment(Method::DOREFA)),
        ("tqt", experiment(Method::TQT)),
        ("low-precision", low_precision()),
        ("regularized", regularized()),
    ];
    for (method, experiment) in experiments {
        let whole = train(
            &temporary.path().join(format!("{method}-whole")),
            &experiment,
            &split,
        );
        let path = temporary.path().join(format!("{method}-parts"));
        let parts = RunFolder::create(&path, &experiment).unwrap();
        // Stops fall into the middle of an epoch, on its end, and into either run.
        for steps in [1, 4, 7, 9, 3, 5, 2] {
            let interrupter = Interrupter::new();
            let (folder, experiment) = RunFolder::open(&path).unwrap();
            let mut stop = StopAfter(steps, &interrupter);
            folder
                .train(
                    &experiment,
                    &split,
                    &Device::flex(),
                    &interrupter,
                    &mut stop,
                )
                .unwrap();
        }
        let interrupter = Interrupter::new();
        let outcome = parts.train(&experiment, &split, &Device::flex(), &interrupter, &mut ());
        let Outcome::Finished(results) = outcome.unwrap() else {
            panic!("not finished")
        };
        assert_eq!(results.len(), 2);
        assert_same_runs(&whole, &parts, &experiment);
    }
}

/// Each option alone makes another network of the same seed.
#[test]
fn every_regularization_changes_the_weights() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let trained = |name: &str, text: &str| {
        let text = format!("method = \"float\"\nepochs = 1\nthreads = 1\n{text}");
        let settings: Settings = toml::from_str(&text).unwrap();
        let experiment = settings.complete().unwrap();
        let folder = train(&temporary.path().join(name), &experiment, &split);
        weights(&folder, "float")
    };
    let all = [
        "",
        "clip_norm = 0.5",
        "label_smoothing = 0.1",
        "mixup = 0.4",
        "cutout = 3",
    ];
    let all: std::collections::BTreeSet<_> = all
        .iter()
        .map(|text| trained(&format!("run-{}", text.len()), text))
        .collect();
    assert_eq!(all.len(), 5);
}

#[test]
fn two_threads_give_the_numbers_of_one() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    for (name, experiment) in [
        ("tqt", experiment(Method::TQT)),
        ("low", low_precision()),
        ("regularized", regularized()),
    ] {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let path = temporary.path().join(format!("{name}-{threads}"));
            pool.install(|| train(&path, &experiment, &split))
        };
        assert_same_runs(&on(1), &on(2), &experiment);
    }
}

/// Noise in the shape of a data set.
pub(crate) fn noise([channels, height, width]: [usize; 3], images: usize) -> Split {
    let some = some_digits();
    let bytes = (0..images * channels * height * width).map(|i| (i * i % 251) as u8);
    let set = ImageSet {
        images: bytes.collect(),
        labels: (0..images).map(|i| (i % 10) as u8).collect(),
        channels,
        height,
        width,
        scale: 1.0 / 255.0,
        mean: vec![0.5; channels],
        std: vec![0.3; channels],
        ..some.train
    };
    Split {
        test: set.clone(),
        train: set,
    }
}

#[test]
fn two_threads_give_the_numbers_of_one_in_large_networks() {
    let temporary = tempfile::tempdir().unwrap();
    for (model, shape, images) in [("lenet", [1, 28, 28], 256), ("resnet8", [3, 32, 32], 96)] {
        let split = noise(shape, images);
        let settings = Settings {
            model: Some(model.parse().unwrap()),
            method: Some(Method::TQT),
            epochs: Some(1),
            batch: Some(images / 2),
            ..Settings::default()
        };
        let experiment = settings.complete().unwrap();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let path = temporary.path().join(format!("{model}-{threads}"));
            pool.install(|| train(&path, &experiment, &split))
        };
        assert_same_runs(&on(1), &on(2), &experiment);
    }
}

#[test]
fn a_folder_that_holds_something_is_not_overwritten() {
    let temporary = tempfile::tempdir().unwrap();
    std::fs::write(temporary.path().join("precious"), "data").unwrap();
    let error = RunFolder::create(temporary.path(), &experiment(Method::FLOAT)).unwrap_err();
    assert!(
        error.to_string().contains("already holds something"),
        "{error}"
    );
}

/// The thresholds of a checkpoint.
fn thresholds(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = Bytes::from_bytes_vec(std::fs::read(path.join("model.bpk")).unwrap());
    let reader = burn_pack::Reader::from_bytes(bytes).unwrap();
    let names: Vec<String> = reader
        .tensor_names()
        .into_iter()
        .filter(|name| name.ends_with("log2_threshold"))
        .map(String::from)
        .collect();
    names
        .into_iter()
        .map(|name| (name.clone(), reader.tensor_data(&name).unwrap()))
        .collect()
}

#[test]
fn thresholds_of_an_earlier_run_are_kept() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let first = experiment(Method::TQT);
    let folder = train(&temporary.path().join("first"), &first, &split);
    let best = folder.checkpoints("tqt-w8a8").best().unwrap().unwrap();
    // Static thresholds show where they started.
    let text = r#"
        [default]
        weight = { method = "tqt", bits = 8, retrain = false }
        input = { method = "tqt", bits = 8, retrain = false }
        bias = { method = "tqt", bits = 16, retrain = false }
        [first]
        weight = { method = "tqt", bits = 8, retrain = false }
        input = { method = "tqt", bits = 8, retrain = false }
        bias = { method = "tqt", bits = 16, retrain = false }
        [last]
        weight = { method = "tqt", bits = 8, retrain = false }
        input = { method = "tqt", bits = 8, retrain = false }
        bias = { method = "tqt", bits = 16, retrain = false }
        output = { method = "tqt", bits = 8, retrain = false }
        [unweighted]
        input = { method = "tqt", bits = 8, retrain = false }
    "#;
    let settings = Settings {
        plan: Some(lowbit::config::QPlan::from_toml(text).unwrap()),
        from: Some(folder.path().join("tqt-w8a8")),
        epochs: Some(1),
        ..Settings::default()
    };
    let second = train(
        &temporary.path().join("second"),
        &settings.complete().unwrap(),
        &split,
    );
    let last = second.checkpoints("plan").last().unwrap().unwrap();
    // Weights and inputs of four layers, the only bias, what the mean reads, and the result.
    assert_eq!(thresholds(&last).len(), 11);
    assert_eq!(thresholds(&last), thresholds(&best));
}

#[test]
fn a_run_that_leaves_the_numbers_says_so_and_keeps_its_checkpoints() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let mut experiment = experiment(Method::FLOAT);
    let folder = RunFolder::create(temporary.path(), &experiment).unwrap();
    // An epoch of 7 steps and a step of the next go well.
    let interrupter = Interrupter::new();
    let mut stop = StopAfter(8, &interrupter);
    folder
        .train(
            &experiment,
            &split,
            &Device::flex(),
            &interrupter,
            &mut stop,
        )
        .unwrap();
    let kept = |folder: &RunFolder| {
        let entries = std::fs::read_dir(folder.path().join("float/checkpoints")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        (names, weights(folder, "float"))
    };
    let before = kept(&folder);
    experiment.runs[0].lr = 1e38;
    experiment.runs[0].schedule = lowbit::optim::Schedule::Constant;
    let interrupter = Interrupter::new();
    let error = folder
        .train(&experiment, &split, &Device::flex(), &interrupter, &mut ())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("float: the ") && error.contains("loss is"),
        "{error}"
    );
    assert!(kept(&folder) == before, "{:?}", kept(&folder).0);
    assert_eq!(before.0, ["epoch-00001", "epoch-00001-batch-0000001"]);
    let [best, last] = [
        folder.checkpoints("float").best().unwrap().unwrap(),
        folder.checkpoints("float").last().unwrap().unwrap(),
    ];
    assert!(best.ends_with("epoch-00001"), "{best:?}");
    for checkpoint in [best, last] {
        let device = Device::flex();
        let plan = lowbit::config::QPlan::float();
        let model = experiment.model.init([1, 8, 8], 10, &plan, 1, &device);
        let model = load_weights(model.unwrap(), &checkpoint, Tolerance::default());
        let images = lowbit::train::batch(&split.test, &[0, 1, 2], None, &device).images;
        let scores = model.unwrap().0.forward(images).into_data();
        assert!(scores.iter::<f32>().all(f32::is_finite), "{checkpoint:?}");
    }
}

#[test]
fn the_last_and_the_best_checkpoint_are_kept() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let folder = train(temporary.path(), &experiment(Method::FLOAT), &split);
    let checkpoints = folder.checkpoints("float");
    let kept = std::fs::read_dir(folder.path().join("float/checkpoints"))
        .unwrap()
        .count();
    let (last, best) = (
        checkpoints.last().unwrap().unwrap(),
        checkpoints.best().unwrap().unwrap(),
    );
    assert!(last.ends_with("epoch-00003"));
    assert_eq!(kept, if last == best { 1 } else { 2 });
    assert!(best.join("model.bpk").exists());
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let mut float = experiment(Method::FLOAT);
    float.runs[0].epochs = 1;
    let folder = train(&temporary.path().join("cnn"), &float, &split);
    let settings = Settings {
        method: Some(Method::TQT),
        model: Some("resnet8".parse().unwrap()),
        from: Some(folder.path().into()),
        ..Settings::default()
    };
    let experiment = settings.complete().unwrap();
    let other = RunFolder::create(temporary.path().join("resnet"), &experiment).unwrap();
    let interrupter = Interrupter::new();
    let error = other
        .train(&experiment, &split, &Device::flex(), &interrupter, &mut ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("holds another network"), "{error}");
    assert!(error.contains("layer1.0.conv1.weight"), "{error}");
    assert!(error.contains("conv2.weight"), "{error}");
}

#[test]
fn burns_learner_trains_our_network() {
    use burn::optim::AdamConfig;
    use burn::train::Learner;
    use lowbit::config::QPlan;

    let split = some_digits();
    let device = Device::flex().autodiff();
    let architecture: lowbit::models::Architecture = "cnn".parse().unwrap();
    let model = architecture
        .init([1, 8, 8], 10, &QPlan::dorefa(4, 4), 0, &device)
        .unwrap();
    let mut learner = Learner::new(model, AdamConfig::new().init(), 1e-2);
    let indices: Vec<u32> = (0..64).collect();
    let mut losses = Vec::new();
    for _ in 0..20 {
        let output =
            learner.train_step(lowbit::train::batch(&split.train, &indices, None, &device));
        losses.push(output.item.loss.into_scalar::<f32>());
        learner.lr_step();
        learner.optimizer_step(output.grads);
    }
    assert!(losses[19] < 0.5 * losses[0], "{losses:?}");
    assert_eq!(learner.model().layers().len(), 12);
}
