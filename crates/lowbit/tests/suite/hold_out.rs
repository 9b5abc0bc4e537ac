//! Images that are held out choose the best checkpoint.

use std::path::Path;

use burn::tensor::Device;
use lowbit::data::{HoldOut, Split};
use lowbit::train::{Experiment, Interrupter, Method, Outcome, RunFolder, RunResult, Settings};

use super::training::{assert_same_runs, some_digits, train};

fn experiment(hold_out: Option<HoldOut>) -> Experiment {
    let settings = Settings {
        method: Some(Method::FLOAT),
        hold_out,
        epochs: Some(4),
        batch: Some(32),
        threads: Some(1),
        ..Settings::default()
    };
    settings.complete().unwrap()
}

fn result(path: &Path, experiment: &Experiment, split: &Split) -> (RunFolder, RunResult) {
    let folder = train(path, experiment, split);
    let result = folder.result("float").unwrap().unwrap();
    (folder, result)
}

/// 200 images, 40 held out, so that 160 are trained on; other test images change the numbers of the
/// test and nothing else.
#[test]
fn held_out_images_choose_and_test_images_do_not() {
    let split = some_digits();
    let mut other = split.clone();
    for label in &mut other.test.labels {
        *label = (*label + 1) % 10;
    }
    let temporary = tempfile::tempdir().unwrap();
    let experiment = experiment(Some(HoldOut::Fraction(0.2)));
    let (folder, one) = result(&temporary.path().join("one"), &experiment, &split);
    let (_, two) = result(&temporary.path().join("two"), &experiment, &other);
    assert_eq!(one.best_epoch, two.best_epoch);
    assert_eq!(one.held_out, two.held_out);
    assert_ne!(one.best_accuracy, two.best_accuracy);

    let epochs = folder.epochs("float").unwrap();
    let held_out = |epoch: usize| epochs[epoch - 1].held_out.unwrap();
    let best = (1..=4).fold(1, |best, epoch| {
        let (now, before) = (held_out(epoch), held_out(best));
        let same = now.accuracy == before.accuracy;
        match now.accuracy > before.accuracy || same && now.loss < before.loss {
            true => epoch,
            false => best,
        }
    });
    assert_eq!(one.best_epoch, best);
    assert_eq!(one.best_accuracy, epochs[best - 1].test_accuracy);
    let told = one.held_out.unwrap();
    assert_eq!((told.best, told.last), (held_out(best), held_out(4)));
    // Fortieths.
    let forty = told.last.accuracy * 40.0;
    assert!((forty - forty.round()).abs() < 1e-9);
    // All of an epoch's 160 images are trained on.
    let right = epochs[0].train_accuracy * 160.0;
    assert!((right - right.round()).abs() < 1e-9, "{right}");
}

#[test]
fn without_it_nothing_is_said_of_it() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("a");
    let experiment = experiment(None);
    result(&path, &experiment, &some_digits());
    for file in ["config.toml", "float/metrics.jsonl", "float/result.json"] {
        let text = std::fs::read_to_string(path.join(file)).unwrap();
        assert!(!text.contains("held_out") && !text.contains("hold_out"));
    }
}

#[test]
fn an_interrupted_run_holds_out_the_same_images() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let experiment = experiment(Some(HoldOut::Images(30)));
    let whole = train(&temporary.path().join("whole"), &experiment, &split);
    let path = temporary.path().join("parts");
    RunFolder::create(&path, &experiment).unwrap();
    for steps in [2, 7, usize::MAX] {
        let (folder, experiment) = RunFolder::open(&path).unwrap();
        let interrupter = Interrupter::new();
        let mut stop = super::training::StopAfter(steps, &interrupter);
        let device = Device::flex();
        folder
            .train(&experiment, &split, &device, &interrupter, &mut stop)
            .unwrap();
    }
    let (parts, experiment) = RunFolder::open(&path).unwrap();
    assert_same_runs(&whole, &parts, &experiment);
    let [a, b] = [&whole, &parts].map(|folder| folder.result("float").unwrap().unwrap());
    assert_eq!((a.best_epoch, a.held_out), (b.best_epoch, b.held_out));
}

#[test]
fn too_many_are_refused_before_training() {
    let temporary = tempfile::tempdir().unwrap();
    let experiment = experiment(Some(HoldOut::Images(200)));
    let folder = RunFolder::create(temporary.path().join("a"), &experiment).unwrap();
    let refused: Result<Outcome, _> = folder.train(
        &experiment,
        &some_digits(),
        &Device::flex(),
        &Interrupter::new(),
        &mut (),
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "hold_out: holds out 200 of 200 training images"
    );
}
