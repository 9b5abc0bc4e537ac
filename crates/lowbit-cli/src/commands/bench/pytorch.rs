//! PyTorch's float step beside ours.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use lowbit::bench::{StepTimes, Workload};
use lowbit::report::Table;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The program that times it, in the repository.
const SCRIPT: &str = "benches/peers/step.py";

/// How PyTorch is asked for its best: eager and compiled, of images both channels-last.
const OF_IMAGES: [&[&str]; 2] = [&["--channels-last"], &["--channels-last", "--compile"]];
const OF_TEXT: [&[&str]; 2] = [&[], &["--compile"]];

/// A step of PyTorch's.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct PytorchStep {
    name: String,
    seconds: f64,
    images_per_second: f64,
    inference_images_per_second: f64,
    memory_bytes: u64,
}

/// PyTorch's steps of the workload, each in a process of its own. A configuration that does not run here
/// is named on standard error and left out.
///
/// # Errors
/// If none runs, or the workload is of another network than the script's.
pub(super) fn steps(
    workload: &Workload,
    threads: usize,
) -> Result<Vec<PytorchStep>, Box<dyn Error>> {
    let model = workload.model.to_string();
    let configurations = match model.as_str() {
        "resnet20" => OF_IMAGES,
        "gpt-nano" | "gpt-micro" | "gpt-mini" => OF_TEXT,
        _ => {
            let message = format!(
                "--against-pytorch: the model is {model}, expected resnet20, gpt-nano, gpt-micro or gpt-mini"
            );
            return Err(message.into());
        }
    };
    let mut steps = Vec::new();
    let mut failed = String::new();
    for configuration in configurations {
        match step(workload, threads, configuration) {
            Ok(step) => steps.push(step),
            Err(message) => {
                let configuration = match configuration {
                    [] => "eager".into(),
                    some => some.join(" "),
                };
                eprintln!("PyTorch {configuration} is left out: {message}");
                failed = message.to_string();
            }
        }
    }
    match steps.is_empty() {
        true => Err(format!("--against-pytorch: {failed}").into()),
        false => Ok(steps),
    }
}

fn step(
    workload: &Workload,
    threads: usize,
    configuration: &[&str],
) -> Result<PytorchStep, Box<dyn Error>> {
    let numbers = [workload.batch, workload.rounds, threads].map(|number| number.to_string());
    let [batch, rounds, threads] = numbers.each_ref().map(String::as_str);
    let model = workload.model.to_string();
    let own = ["pytorch-float32", "--model", &model, "--batch", batch];
    let arguments = [
        &own[..],
        &["--rounds", rounds],
        &["--threads", threads],
        configuration,
    ]
    .concat();
    asked(SCRIPT, &arguments)
}

/// What a program of the repository prints last, in a process of its own.
///
/// # Errors
/// If it is not there, does not run, or prints something else.
pub(super) fn asked<T: DeserializeOwned>(
    script: &str,
    arguments: &[&str],
) -> Result<T, Box<dyn Error>> {
    if !Path::new(script).is_file() {
        let message = "is not there; expected to be run in the repository";
        return Err(format!("--against-pytorch: {script} {message}").into());
    }
    let python = std::env::var("LOWBIT_PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(&python)
        .arg(script)
        .args(arguments)
        .output()
        .map_err(|error| format!("{python}: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.trim_end().lines().last().unwrap_or("no output");
        return Err(format!("{python} {script}: {last}").into());
    }
    let text = String::from_utf8(output.stdout)?;
    let last = text.trim_end().lines().last().unwrap_or_default();
    Ok(serde_json::from_str(last).map_err(|error| format!("{python} {script}: {error}"))?)
}

/// PyTorch's steps, and ours over the fastest of them, in training and in inference.
pub(super) fn table(times: &StepTimes, steps: &[PytorchStep]) -> Table {
    let headings = [
        "step",
        "images/s",
        "over PyTorch's best",
        "inference images/s",
        "over PyTorch's best",
    ];
    let best = |speed: fn(&PytorchStep) -> f64| steps.iter().map(speed).fold(0.0, f64::max);
    let training = best(|step| step.images_per_second);
    let inference = best(|step| step.inference_images_per_second);
    let row = |name: &str, [train, infer]: [f64; 2]| {
        [
            name.into(),
            format!("{train:.0}"),
            format!("{:.3}", train / training),
            format!("{infer:.0}"),
            format!("{:.3}", infer / inference),
        ]
    };
    let theirs = steps.iter().map(|step| {
        let speeds = [step.images_per_second, step.inference_images_per_second];
        row(&step.name, speeds)
    });
    let ours = times.steps.iter().map(|step| {
        let speeds = [step.images_per_second, step.inference_images_per_second];
        row(&step.name, speeds)
    });
    Table::new(headings).with_rows(theirs).with_rows(ours)
}
