//! `lowbit finetune`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowbit::config::QPlan;
use lowbit::train::Interrupter;
use lowbit_formats::Format;
use lowbit_text::finetune::FineTune;
use lowbit_text::plans;
use serde::Serialize;

use super::text::{at_least_one, format, plan};
use super::{DeviceArgument, Ended, print_json, use_threads};
use crate::interrupt;
use crate::output::{print, say};
use crate::progress::Bars;

/// Train a transformer of a folder on: a language model on a text, or one that answers questions on a file in
/// SQuAD's format; in float, or with weights and operands in any formats, and from a teacher.
///
/// The new folder is one that `lowbit lm`, `lowbit qa` and transformers read: weights as they were trained,
/// in float32, and beside them the plan, with which they were read.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The folder of the model, as transformers' save_pretrained writes it
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// A text, or questions in SQuAD's format
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    data: Option<PathBuf>,
    /// The same to test with [default: the last tenth of --data, which is not trained on then]
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
    /// The new folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What is quantized: a plan's file, posit-albert, posit-albert-16, or a name that `lowbit config show` takes
    /// [default: nothing]
    #[arg(long, value_name = "FILE|NAME")]
    plan: Option<String>,
    /// In its place every operand of every product in this format; intN stands for affine(N,symmetric)
    #[arg(long, value_name = "FORMAT", conflicts_with = "plan")]
    format: Option<String>,
    /// Times that it sees every window
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    epochs: usize,
    /// Highest learning rate: it rises over the first tenth, and falls to nothing
    #[arg(long, value_name = "RATE", default_value_t = 5e-5)]
    lr: f64,
    /// The same of what quantizers learn, such as thresholds [default: --lr]
    #[arg(long, value_name = "RATE")]
    threshold_lr: Option<f64>,
    /// What AdamW takes away of each weight in a step, times the rate
    #[arg(long, value_name = "DECAY", default_value_t = 0.01)]
    weight_decay: f32,
    /// Windows in a step
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one)]
    batch: usize,
    /// Tokens of a window [default: 384, or the model's positions if those are fewer]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    length: Option<usize>,
    /// Tokens that windows of a long context share [default: a third of a window]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Where all randomness comes from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The folder of a model of the same tokens to learn from, too, such as --model itself
    #[arg(long, value_name = "DIR")]
    teacher: Option<PathBuf>,
    /// What both models' scores are divided by
    #[arg(long, value_name = "T", default_value_t = 2.0, requires = "teacher")]
    temperature: f64,
    /// How much of the loss is the teacher's, 0 to 1
    #[arg(long, value_name = "W", default_value_t = 0.5, requires = "teacher")]
    distill_weight: f64,
    /// Go on with the folder in --out, with its own options
    #[arg(long, conflicts_with_all = OPTIONS)]
    resume: bool,
    #[command(flatten)]
    device: DeviceArgument,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print JSON: the folder, and whether it came to the end
    #[arg(long)]
    json: bool,
}

/// What a folder in the making says itself.
const OPTIONS: [&str; 14] = [
    "model",
    "data",
    "test",
    "plan",
    "format",
    "epochs",
    "lr",
    "threshold_lr",
    "weight_decay",
    "batch",
    "length",
    "stride",
    "seed",
    "teacher",
];

const EXAMPLES: &str = "\
Examples:
  lowbit finetune --model gpt2 --data train.txt --format mxfp4 --out gpt2-mxfp4
  lowbit finetune --model albert --data train.json --plan posit-albert --teacher albert --out albert-posit
  lowbit finetune --resume --out albert-posit
  lowbit qa --model albert-posit --plan albert-posit/plan.toml --data dev.json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    out: &'a Path,
    finished: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        if let Some(threads) = self.threads {
            use_threads(threads)?;
        }
        let device = self.device.open()?;
        let options = match self.resume {
            true => FineTune::of(&self.out)?,
            false => self.options()?,
        };
        if !self.resume {
            options.begin(&self.out)?;
        }
        let interrupter = Interrupter::new();
        interrupt::stop_gently(&interrupter);
        let finished = options.run(&self.out, &device, &interrupter, &mut Bars::new());
        interrupt::end_at_once();
        let finished = finished.inspect_err(|_| {
            if !self.resume {
                FineTune::discard_unstarted(&self.out);
            }
        })?;
        let out = self.out.display();
        if self.json {
            print_json(&Report {
                out: &self.out,
                finished,
            })?;
        } else if finished {
            print(format_args!("written to {out}\n"))?;
        } else {
            say(format_args!(
                "stopped; go on with: lowbit finetune --resume --out {out}"
            ));
        }
        Ok(match finished {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(130),
        })
    }

    fn options(&self) -> Result<FineTune, Box<dyn std::error::Error>> {
        let (Some(model), Some(data)) = (&self.model, &self.data) else {
            return Err("--model and --data are expected".into());
        };
        let absolute = |path: &PathBuf| std::path::absolute(path);
        let positions =
            lowbit_text::models::ModelConfig::read(&model.join("config.json"))?.positions();
        let length = self.length.unwrap_or(positions.min(384));
        let plan = match (&self.plan, &self.format) {
            (Some(text), _) => plan(text)?,
            (None, Some(text)) => {
                let found: Format =
                    format(text).map_err(|error| format!("--format {text}: {error}"))?;
                plans::of_operands(&found)
            }
            (None, None) => QPlan::float(),
        };
        Ok(FineTune {
            model: absolute(model)?,
            data: absolute(data)?,
            test: self.test.as_ref().map(absolute).transpose()?,
            epochs: self.epochs,
            lr: self.lr,
            threshold_lr: self.threshold_lr.unwrap_or(self.lr),
            weight_decay: self.weight_decay,
            batch: self.batch,
            length,
            stride: self.stride.unwrap_or(length / 3),
            seed: self.seed,
            teacher: self.teacher.as_ref().map(absolute).transpose()?,
            temperature: self.temperature,
            distill_weight: self.distill_weight,
            plan,
        })
    }
}
