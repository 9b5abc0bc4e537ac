use std::collections::BTreeMap;

use burn::tensor::{Device, TensorData};
use burn::train::Interrupter;

use super::*;
use crate::analysis::{RunOptions, analyze_run};
use crate::config::Method;
use crate::data::{ImageSet, Split, digits};
use crate::report::AnalysisReport;
use crate::tensorboard::proto::{Content, What};
use crate::tensorboard::reader::events;
use crate::train::{Outcome, RunFolder, Settings};

/// 96 images: three steps of 32 an epoch.
fn few_digits() -> Split {
    let split = digits::load().unwrap();
    let first = |set: &ImageSet| ImageSet {
        images: set.images[..96 * set.image_len()].to_vec(),
        labels: set.labels[..96].to_vec(),
        ..set.clone()
    };
    Split {
        train: first(&split.train),
        test: first(&split.test),
    }
}

fn experiment() -> Experiment {
    let settings = Settings {
        method: Some(Method::TQT),
        epochs: Some(2),
        batch: Some(32),
        threads: Some(1),
        ..Settings::default()
    };
    settings.complete().unwrap()
}

/// Stops after some steps.
struct StopAfter<'a>(usize, &'a Interrupter);

impl Progress for StopAfter<'_> {
    fn step(&mut self, _step: &StepMetrics<'_>) {
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 {
            self.1.stop(None);
        }
    }
}

/// Trains at most so many steps of what is left.
fn train(folder: &RunFolder, experiment: &Experiment, board: &Path, steps: usize) -> Outcome {
    let interrupter = Interrupter::new();
    let mut stop = StopAfter(steps, &interrupter);
    let mut board = TensorBoard::new(board, experiment, &mut stop).unwrap();
    let (split, device) = (few_digits(), Device::flex());
    let outcome = folder.train(experiment, &split, &device, &interrupter, &mut board);
    board.finish().unwrap();
    outcome.unwrap()
}

/// The scalars of a run by tag and step, without what a later file drops, as TensorBoard reads them.
fn scalars(run: &Path) -> BTreeMap<(String, i64), f32> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut found = BTreeMap::new();
    for event in files.iter().flat_map(|file| events(file)) {
        match event.what {
            Some(What::SessionLog(_)) => found.retain(|(_, step), _| *step < event.step),
            Some(What::Summary(summary)) => {
                for value in summary.value {
                    if let Some(Content::Scalar(number)) = value.content {
                        found.insert((value.tag, event.step), number);
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// A run that was stopped in its second epoch, after its fourth step, which are six and four with those of
/// the float run before it, and goes on to its end has the scalars of one that was not, though the second
/// of its files begins in the middle of an epoch.
#[test]
fn a_run_that_was_stopped_is_seen_as_one_that_was_not() {
    let temporary = tempfile::tempdir().unwrap();
    let experiment = experiment();
    let folder = |name: &str| {
        let path = temporary.path().join(name);
        RunFolder::create(path, &experiment).unwrap()
    };
    let boards = ["whole", "parts"].map(|name| temporary.path().join(name).join("board"));
    let [whole, parts] = ["a", "b"].map(folder);
    train(&whole, &experiment, &boards[0], usize::MAX);
    let outcome = train(&parts, &experiment, &boards[1], 6 + 4);
    assert!(matches!(outcome, Outcome::Interrupted(..)));
    train(&parts, &experiment, &boards[1], usize::MAX);
    let run = &experiment.runs[1].name;
    let [whole, parts] = boards.map(|board| scalars(&board.join(run)));
    assert_eq!(whole, parts);
    let steps = |tag: &str| {
        let of_tag = whole.keys().filter(|(known, _)| known == tag);
        of_tag.map(|(_, step)| *step).collect::<Vec<_>>()
    };
    assert_eq!(steps("step/loss"), [1, 2, 3, 4, 5, 6]);
    for tag in [
        "epoch/test accuracy",
        "threshold/conv2.weight",
        "clipped/conv2.input",
        "gradient norm/conv2.weight",
    ] {
        assert_eq!(steps(tag), [3, 6], "{tag}");
    }
}

#[test]
fn tensors_are_seen_after_each_epoch() {
    let temporary = tempfile::tempdir().unwrap();
    let experiment = experiment();
    let folder = RunFolder::create(temporary.path().join("a"), &experiment).unwrap();
    let board = temporary.path().join("board");
    train(&folder, &experiment, &board, usize::MAX);
    let run = board.join(&experiment.runs[1].name);
    let file = std::fs::read_dir(run).unwrap().next().unwrap().unwrap();
    let found = events(&file.path());
    let values = found.iter().filter_map(|event| match &event.what {
        Some(What::Summary(summary)) => Some(&summary.value),
        _ => None,
    });
    let tags: Vec<(&str, bool)> = values
        .flatten()
        .map(|value| {
            let of_numbers = matches!(value.content, Some(Content::Histogram(_)));
            (value.tag.as_str(), of_numbers)
        })
        .collect();
    for tag in [
        "weights/conv2.weight",
        "gradients/conv2.weight",
        "outputs/conv2",
        "quantizers/conv2.quantizers.weight.TrainedThreshold.log2_threshold",
    ] {
        assert!(tags.contains(&(tag, true)), "{tag}: {tags:?}");
    }
    for tag in [
        "config",
        "filters/conv1.weight",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    ] {
        assert!(tags.contains(&(tag, false)), "{tag}: {tags:?}");
    }
}

/// Two kernels of 2 by 2 side by side: 1, -1, 0, 1/2 and four zeros, with a grey column between.
#[test]
fn filters_by_hand() {
    let tensor = |values: Vec<f32>, shape: [usize; 4]| NamedTensor {
        path: "conv1.weight".into(),
        tensor: TensorData::new(values, shape),
    };
    let weight = tensor(vec![1.0, -1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0], [2, 1, 2, 2]);
    let (size, pixels) = filters(&weight).unwrap();
    assert_eq!(size, [5, 2]);
    assert_eq!(pixels, [255, 0, 128, 128, 128, 128, 191, 128, 128, 128]);
    assert_eq!(filters(&tensor(vec![0.0; 8], [2, 4, 1, 1])), None);
}

/// What TensorBoard's own reader finds of a run, by kind, tag and step: numbers as they are, of a histogram how
/// many numbers it counts, of a picture its size, and all else as text.
fn as_tensorboard_reads(board: &Path, run: &str) -> BTreeMap<(String, String, i64), String> {
    let python = std::env::var("LOWBIT_TENSORBOARD").expect("LOWBIT_TENSORBOARD names a Python");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/reference/tensorboard.py"
    );
    let mut command = std::process::Command::new(python);
    let output = command.arg(script).arg(board).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line
    });
    let found = lines.filter(|line| line["run"] == run).map(|line| {
        let text = |key: &str| line[key].as_str().unwrap().to_string();
        let value = &line["value"];
        let seen = match line["kind"].as_str().unwrap() {
            "scalar" => (value.as_f64().unwrap() as f32).to_string(),
            "histogram" => value["num"].as_f64().unwrap().to_string(),
            "image" => format!("{} {}", value[0][0], value[0][1]),
            "text" => value[0].as_str().unwrap().to_string(),
            _ => String::new(),
        };
        let step = line["step"].as_i64().unwrap();
        ((text("kind"), text("tag"), step), seen)
    });
    found.collect()
}

/// The same of what was written.
fn as_written(file: &Path) -> BTreeMap<(String, String, i64), String> {
    let mut found = BTreeMap::new();
    for event in events(file) {
        let Some(What::Summary(summary)) = event.what else {
            continue;
        };
        for value in summary.value {
            let (kind, seen) = match value.content {
                Some(Content::Scalar(number)) => ("scalar", number.to_string()),
                Some(Content::Histogram(counts)) => ("histogram", counts.num.to_string()),
                Some(Content::Image(image)) => {
                    ("image", format!("{} {}", image.width, image.height))
                }
                Some(Content::Tensor(text)) => {
                    let text = String::from_utf8(text.string_val[0].clone());
                    ("text", text.unwrap())
                }
                None => ("hparams", String::new()),
            };
            found.insert((kind.into(), value.tag, event.step), seen);
        }
    }
    found
}

/// Trains, analyzes, and writes the analysis to a board; the run's name on it, and the file.
fn analyzed(temporary: &Path) -> (String, PathBuf) {
    let experiment = experiment();
    let folder = RunFolder::create(temporary.join("a"), &experiment).unwrap();
    let board = temporary.join("board");
    train(
        &folder,
        &experiment,
        &temporary.join("training"),
        usize::MAX,
    );
    let run = &experiment.runs[1].name;
    let options = RunOptions {
        images: Some(32),
        gradients: true,
        ..RunOptions::default()
    };
    let (split, device) = (few_digits(), Device::flex());
    let found = analyze_run((&folder, &experiment, run), &options, &split, &device).unwrap();
    let report = AnalysisReport::new(&found, &split.test);
    report.write_events(&board).unwrap();
    let run = format!("{run}-analysis");
    let mut files = std::fs::read_dir(board.join(&run)).unwrap();
    (run, files.next().unwrap().unwrap().path())
}

/// Every weight of the network and the gradient of it has as many numbers as there are.
#[test]
fn an_analysis_is_seen() {
    let temporary = tempfile::tempdir().unwrap();
    let (_, file) = analyzed(temporary.path());
    let written = as_written(&file);
    let of = |kind: &str, tag: &str| {
        let key = (kind.to_string(), tag.to_string(), 2);
        written.get(&key).unwrap_or_else(|| panic!("{tag}"))
    };
    let weights = of("histogram", "weights/conv2.weight");
    assert_eq!(weights, of("histogram", "gradients/conv2.weight"));
    for tag in ["activations/conv2.input", "gradients/conv2.input"] {
        of("histogram", tag);
    }
    for tag in [
        "analysis/float accuracy",
        "analysis/quantized loss",
        "predicted loss/conv2",
        "measured loss/conv2",
        "SQNR alone/conv2.weight",
        "SQNR accumulated/fc.input",
        "clipped/conv2.input",
    ] {
        of("scalar", tag);
    }
    assert!(of("text", "summary").contains("test images"));
}

#[test]
#[ignore = "needs a Python with tensorboard, which LOWBIT_TENSORBOARD names"]
fn tensorboard_reads_every_tag_and_value_of_an_analysis() {
    let temporary = tempfile::tempdir().unwrap();
    let (run, file) = analyzed(temporary.path());
    let read = as_tensorboard_reads(&temporary.path().join("board"), &run);
    assert_eq!(read, as_written(&file));
    println!("{} values", read.len());
}

#[test]
#[ignore = "needs a Python with tensorboard, which LOWBIT_TENSORBOARD names"]
fn tensorboard_reads_every_tag_and_value() {
    let temporary = tempfile::tempdir().unwrap();
    let experiment = experiment();
    let folder = RunFolder::create(temporary.path().join("a"), &experiment).unwrap();
    let board = temporary.path().join("board");
    train(&folder, &experiment, &board, usize::MAX);
    let run = &experiment.runs[1].name;
    let mut files = std::fs::read_dir(board.join(run)).unwrap();
    let written = as_written(&files.next().unwrap().unwrap().path());
    let read = as_tensorboard_reads(&board, run);
    assert_eq!(read, written);
    println!("{} values", read.len());
}
