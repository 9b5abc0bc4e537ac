//! Averaged weights: what they are, what is tested and kept, and that runs repeat.

use std::path::Path;

use burn::tensor::{Bytes, Device};
use lowbit::data::Split;
use lowbit::train::{
    AveragingInterval, EpochMetrics, Experiment, Interrupter, Method, Outcome, RunFolder, Settings,
    evaluate_run,
};

use crate::training::{StopAfter, assert_same_runs, noise, some_digits, train};

/// Three epochs of seven steps, the last two of which are averaged.
fn settings() -> Settings {
    Settings {
        method: Some(Method::FLOAT),
        epochs: Some(3),
        batch: Some(32),
        swa_start: Some(1),
        swa_rate: Some(0.01),
        threads: Some(1),
        ..Settings::default()
    }
}

/// Trains on for so many steps; whether the run is finished then.
fn go_on(path: &Path, split: &Split, steps: usize) -> bool {
    let interrupter = Interrupter::new();
    let (folder, experiment) = RunFolder::open(path).unwrap();
    let mut stop = StopAfter(steps, &interrupter);
    let outcome = folder.train(&experiment, split, &Device::flex(), &interrupter, &mut stop);
    matches!(outcome.unwrap(), Outcome::Finished(_))
}

/// Names and values of a file of the run's last checkpoint.
fn tensors(folder: &RunFolder, file: &str) -> Vec<(String, Vec<u8>)> {
    let path = folder.checkpoints("float").last().unwrap().unwrap();
    let bytes = std::fs::read(path.join(file)).unwrap();
    let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(bytes)).unwrap();
    let names = reader.tensor_names().into_iter();
    let named = names.map(|name| (name.to_string(), reader.tensor_data(name).unwrap()));
    named.collect()
}

/// A tensor in a file of the run's last checkpoint.
fn tensor(folder: &RunFolder, file: &str, name: &str) -> Vec<f32> {
    let mut all = tensors(folder, file).into_iter();
    let (_, bytes) = all.find(|(found, _)| found == name).unwrap();
    let words = bytes.chunks_exact(4);
    let values = words.map(|word| f32::from_le_bytes(word.try_into().unwrap()));
    values.collect()
}

fn metrics(folder: &RunFolder) -> Vec<EpochMetrics> {
    let text = std::fs::read_to_string(folder.path().join("float/metrics.jsonl")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The mean of the weights after the first, the second and the third epoch.
#[test]
fn a_run_ends_with_the_mean_of_its_epochs() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let experiment = settings().complete().unwrap();
    let folder = RunFolder::create(temporary.path(), &experiment).unwrap();
    let weights = ["conv2.weight", "bn2.gamma", "fc.bias"];
    let mut seen = Vec::new();
    for epoch in 1..=3 {
        // The stop in the last step comes too late to be heard.
        assert_eq!(go_on(temporary.path(), &split, 7), epoch == 3);
        seen.push(weights.map(|name| tensor(&folder, "training.bpk", name)));
    }
    for (i, name) in weights.into_iter().enumerate() {
        let mut mean = seen[0][i].clone();
        for (n, later) in seen[1..].iter().enumerate() {
            for (mean, weight) in mean.iter_mut().zip(&later[i]) {
                *mean += (weight - *mean) / (n + 2) as f32;
            }
        }
        assert_eq!(tensor(&folder, "model.bpk", name), mean, "{name}");
        assert_eq!(tensor(&folder, "average.bpk", name), mean, "{name}");
    }
    let statistics = |file| tensor(&folder, file, "bn2.running_mean");
    assert_ne!(statistics("model.bpk"), statistics("training.bpk"));
}

#[test]
fn the_average_is_what_is_tested_and_kept() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let experiment = settings().complete().unwrap();
    let folder = train(temporary.path(), &experiment, &split);
    let epochs = metrics(&folder);
    let weights = epochs.iter().map(|m| m.average.as_ref().map(|a| a.weights));
    let weights: Vec<Option<u64>> = weights.collect();
    // The first epoch ends with the average of one, whose statistics alone are others.
    assert_eq!(weights, [Some(1), Some(2), Some(3)]);
    // The default schedule of one cycle ends where averaging begins.
    assert!(epochs[0].lr < 0.01 && epochs[1].lr == 0.01 && epochs[2].lr == 0.01);

    let result = folder.result("float").unwrap().unwrap();
    let average = epochs[2].average.as_ref().unwrap();
    assert_eq!(
        (result.accuracy, result.loss),
        (average.test_accuracy, average.test_loss)
    );
    let last = result.last_weights.unwrap();
    assert_eq!(
        (last.averaged, last.accuracy, last.loss),
        (3, epochs[2].test_accuracy, epochs[2].test_loss)
    );
    let device = Device::flex();
    let tested = evaluate_run(&folder, &experiment, "float", true, &split, &device).unwrap();
    assert_eq!(
        (tested.accuracy, tested.loss),
        (result.accuracy, result.loss)
    );
}

fn assert_resumed_is_unbroken(experiment: &Experiment, split: &Split, stops: &[usize]) {
    let temporary = tempfile::tempdir().unwrap();
    let whole = train(&temporary.path().join("whole"), experiment, split);
    let path = temporary.path().join("parts");
    let parts = RunFolder::create(&path, experiment).unwrap();
    for &steps in stops {
        assert!(!go_on(&path, split, steps));
    }
    assert!(go_on(&path, split, usize::MAX));
    assert_same_runs(&whole, &parts, experiment);
    for file in ["average.bpk", "training.bpk"] {
        let (whole, parts) = (tensors(&whole, file), tensors(&parts, file));
        assert!(!whole.is_empty() && whole == parts, "{file} differs");
    }
    let average = |folder: &RunFolder| {
        let lines = metrics(folder).into_iter();
        lines.map(|m| m.average).collect::<Vec<_>>()
    };
    assert_eq!(average(&whole), average(&parts));
}

/// In the middle of an epoch, at its end, between two steps that are averaged; the average itself
/// rounded at random.
#[test]
fn a_resumed_run_ends_with_the_average_of_an_unbroken_one() {
    let split = some_digits();
    let settings = Settings {
        swa_every: Some(AveragingInterval::Steps(3)),
        swa_format: Some("fixed(12,8):stochastic".parse().unwrap()),
        ..settings()
    };
    let experiment = settings.complete().unwrap();
    assert_resumed_is_unbroken(&experiment, &split, &[3, 4, 2, 1, 5]);
}

/// What is dropped repeats, too: resumed, and on one thread and two.
#[test]
fn a_resumed_run_with_dropout_is_an_unbroken_one() {
    let split = noise([3, 32, 32], 12);
    let settings = Settings {
        data: Some("cifar10".parse().unwrap()),
        model: Some("vgg16-bn".parse().unwrap()),
        epochs: Some(1),
        batch: Some(4),
        lr: Some(0.01),
        swa_start: None,
        swa_rate: None,
        ..settings()
    };
    let experiment = settings.complete().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let path = temporary.path().join(threads.to_string());
        let pool = pool.build().unwrap();
        pool.install(|| train(&path, &experiment, &split))
    };
    let whole = on(1);
    assert_same_runs(&whole, &on(2), &experiment);
    let path = temporary.path().join("parts");
    let parts = RunFolder::create(&path, &experiment).unwrap();
    assert!(!go_on(&path, &split, 2));
    assert!(go_on(&path, &split, usize::MAX));
    assert_same_runs(&whole, &parts, &experiment);
}

/// An epoch of each of the networks, quantized.
#[test]
fn every_network_trains() {
    for (data, model, shape) in [
        ("mnist", "mnist-cnn", [1, 28, 28]),
        ("cifar10", "vgg7", [3, 32, 32]),
        ("cifar10", "vgg19", [3, 32, 32]),
        ("cifar10", "preresnet20", [3, 32, 32]),
        ("cifar10", "densenet-bc-22-12", [3, 32, 32]),
        ("cifar10", "resnet8-v1", [3, 32, 32]),
        ("cifar10", "mobilenetv2-x0.25", [3, 32, 32]),
    ] {
        let split = noise(shape, 8);
        let settings = Settings {
            data: Some(data.parse().unwrap()),
            model: Some(model.parse().unwrap()),
            baseline: Some(false),
            method: Some(Method::DOREFA),
            epochs: Some(1),
            batch: Some(4),
            lr: Some(0.001),
            ..Settings::default()
        };
        let temporary = tempfile::tempdir().unwrap();
        let folder = train(temporary.path(), &settings.complete().unwrap(), &split);
        let result = folder.result("dorefa-w4a4").unwrap().unwrap();
        assert!(result.loss.is_finite(), "{model}");
    }
}
