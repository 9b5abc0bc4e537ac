//! `lowbit eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::summary;
use lowbit::train::{Evaluation, Experiment, evaluate_run, find_run};
use serde::Serialize;

use super::{DeviceArgument, Ended, load_of, print_json};
use crate::options::{Look, Options};
use crate::output::{print, say};
use crate::progress::Bars;

/// Test a trained network on the test images of its data set.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of a run, such as runs/digits-cnn/float; of a folder with several runs, the
    /// float one is taken
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Test the last weights instead of the best
    #[arg(long)]
    last: bool,
    /// Fail unless the weights have this SHA-256, or one that starts with these digits, as training
    /// prints it of the last weights
    #[arg(long, value_name = "SHA256", value_parser = digits)]
    expect: Option<String>,
    #[command(flatten)]
    options: Options<Look>,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--json` prints, in the form of `lowbit train`.
#[derive(Serialize)]
struct Report<'a> {
    runs: [&'a Evaluation; 1],
    seed: u64,
    config: &'a Experiment,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let device = self.device.open()?;
        let (folder, name, experiment) = find_run(&self.run)?;
        let split = load_of(&experiment, &self.options.settings, &mut Bars::new())?;
        let evaluation = evaluate_run(&folder, &experiment, &name, self.last, &split, &device)?;
        if let Some(expected) = &self.expect {
            compare(expected, &evaluation)?;
        }
        for warning in &evaluation.warnings {
            say(format_args!("warning: {warning}"));
        }
        if self.json {
            print_json(&Report {
                runs: [&evaluation],
                seed: experiment.seed,
                config: &experiment,
            })?;
        } else {
            print(summary::evaluation(&evaluation))?;
            if let Some(hash) = &evaluation.weights_sha256 {
                print(format_args!("\nweights sha256  {hash}\n"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What `--expect` takes: digits of a hash, of which eight are enough.
fn digits(text: &str) -> Result<String, String> {
    let are_digits = text.chars().all(|digit| digit.is_ascii_hexdigit());
    if !are_digits || !(8..=64).contains(&text.len()) {
        return Err("expected 8 to 64 hexadecimal digits".into());
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether the weights are those that are expected.
fn compare(expected: &str, evaluation: &Evaluation) -> Result<(), Box<dyn std::error::Error>> {
    let hash = evaluation.weights_sha256.as_deref().unwrap_or_default();
    if hash.starts_with(expected) {
        return Ok(());
    }
    let checkpoint = evaluation.checkpoint.display();
    Err(format!("{checkpoint}: weights sha256 is {hash}, expected {expected}").into())
}
