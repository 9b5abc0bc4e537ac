//! `lowbit bench`.

mod kernels;
mod pytorch;
mod transformers;

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lowbit::bench::{StepKind, StepTimes, Workload, convolutions, training_steps};
use lowbit::models::Architecture;
use lowbit::quantizers::Number;
use lowbit::report::{Table, summary};
use lowbit::train::{NamedRecipe, Settings};
use serde::Serialize;

use self::pytorch::PytorchStep;

use super::{DeviceArgument, Ended, print_json, use_threads};
use crate::output::print;

#[derive(Subcommand)]
pub(crate) enum Command {
    Train(TrainArguments),
    Convolutions(ConvolutionArguments),
    /// Time the rounding kernels against a copy of the same memory.
    Kernels(kernels::Arguments),
    Transformers(transformers::Arguments),
}

impl Command {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::Train(arguments) => arguments.run(),
            Self::Convolutions(arguments) => arguments.run(),
            Self::Kernels(arguments) => arguments.run(),
            Self::Transformers(arguments) => arguments.run(),
        }
    }
}

fn ways() -> String {
    format!(
        "Ways to make the step: {}; tqt quantizes every tensor, tqt-operands what dorefa does \
         (weights and their layers' inputs), stock is float on Burn's own operators [default: all; \
         stock is there for lenet and the resnets of basic blocks]",
        StepKind::names()
    )
}

/// Time whole training steps (forward, backward, optimizer) of a network, float and quantized.
///
/// The methods take turns within each round, so that a slow moment of the machine meets all of
/// them; a ratio is the median over the rounds.
#[derive(Args)]
pub(crate) struct TrainArguments {
    /// The network, on images of the shape it is made for
    #[arg(long, value_name = "NAME", default_value = "resnet20")]
    model: Architecture,
    #[arg(long, value_name = "LIST", value_delimiter = ',', help = ways())]
    ways: Option<Vec<StepKind>>,
    /// Also the float step with weights, activations, errors, gradients and momentum in a number
    /// format, such as `bfp(8)` or `e5m2:stochastic`; may be given several times
    #[arg(long, value_name = "NUMBER")]
    numbers: Vec<Number>,
    /// Also each way that quantizes with errors in a number format; with `bf16`, products with them are
    /// made in bfloat16; may be given several times
    #[arg(long, value_name = "NUMBER")]
    error_format: Vec<Number>,
    /// Also the step with what a recipe's last run quantizes and its optimizer, such as `wageubn`; may
    /// be given several times
    #[arg(long, value_name = "NAME")]
    recipe: Vec<String>,
    /// Images in a step
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch: usize,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Also PyTorch's float step of resnet20, eager and compiled, channels-last, before and after ours,
    /// and ours over the fastest; run in the repository, with the Python of LOWBIT_PYTHON or python3,
    /// which has torch
    #[arg(long)]
    against_pytorch: bool,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl TrainArguments {
    fn run(self) -> Ended {
        prepare([self.batch, self.rounds], self.threads)?;
        let ways = self.ways.unwrap_or_else(|| StepKind::usual(self.model));
        let errors = self.error_format.iter();
        let of_errors =
            errors.flat_map(|error| ways.iter().filter_map(|way| way.with_errors(error)));
        let numbers = self.numbers.into_iter().map(StepKind::Numbers);
        let mut kinds: Vec<StepKind> = ways.iter().cloned().chain(of_errors).collect();
        kinds.extend(numbers);
        for name in &self.recipe {
            kinds.push(of_recipe(name, self.model)?);
        }
        let workload = Workload {
            model: self.model,
            kinds,
            batch: self.batch,
            rounds: self.rounds,
        };
        let mut of_pytorch = Vec::new();
        let threads = thread_count(self.threads);
        if self.against_pytorch {
            of_pytorch = pytorch::steps(&workload, threads)?;
        }
        let times = training_steps(&workload, &self.device.open()?)?;
        if self.against_pytorch {
            of_pytorch.extend(pytorch::steps(&workload, threads)?);
        }
        if self.json {
            let steps = Beside {
                times: &times,
                pytorch: &of_pytorch,
            };
            print_json(&steps)?;
        } else {
            let mut tables = summary::step_times(&times);
            if self.against_pytorch {
                tables.insert(1, pytorch::table(&times, &of_pytorch));
            }
            let tables: Vec<String> = tables.iter().map(Table::to_string).collect();
            print(tables.join("\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Our steps and PyTorch's.
#[derive(Serialize)]
struct Beside<'a> {
    #[serde(flatten)]
    times: &'a StepTimes,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pytorch: &'a [PytorchStep],
}

/// The step of a recipe's last run, on a network.
fn of_recipe(name: &str, model: Architecture) -> Result<StepKind, lowbit::Error> {
    let settings = Settings {
        model: Some(model),
        ..Settings::default()
    };
    let mut experiment = NamedRecipe::find(name)?.read()?.complete(settings)?;
    let run = experiment.runs.pop().expect("an experiment has runs");
    Ok(StepKind::Planned {
        name: name.into(),
        plan: Box::new(run.plan),
        optimizer: Box::new(run.optimizer),
        numbers: Box::new(run.numbers),
    })
}

/// Time the convolutions of ResNet-20 and ResNet-18 alone, over the multiply-add peak of the CPU.
#[derive(Args)]
pub(crate) struct ConvolutionArguments {
    /// Images
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch: usize,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl ConvolutionArguments {
    fn run(self) -> Ended {
        prepare([self.batch, self.rounds], self.threads)?;
        let times = convolutions(self.batch, self.rounds, &self.device.open()?);
        if self.json {
            print_json(&times)?;
        } else {
            print(summary::convolution_times(&times))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Checks batch and rounds, and sets the number of threads.
fn prepare(batch_and_rounds: [usize; 2], threads: Option<usize>) -> Result<(), Box<dyn Error>> {
    if batch_and_rounds.contains(&0) {
        return Err("--batch and --rounds: expected at least 1".into());
    }
    use_threads(thread_count(threads))?;
    Ok(())
}

/// So many threads, or all cores.
fn thread_count(threads: Option<usize>) -> usize {
    threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
