//! `lowbit bench transformers`.

use std::process::ExitCode;

use clap::Args;
use lowbit::config::QPlan;
use lowbit::report::Table;
use lowbit_text::bench::{Inference, inference, names};
use lowbit_text::plans;
use serde::{Deserialize, Serialize};

use super::pytorch::asked;
use super::{prepare, thread_count};
use crate::commands::text::format;
use crate::commands::{DeviceArgument, Ended, print_json};
use crate::output::print;

/// The program that times PyTorch, in the repository.
const SCRIPT: &str = "benches/peers/inference.py";

fn models() -> String {
    format!(
        "The network, with weights that are drawn: {}",
        names().join(", ")
    )
}

/// Time a forward pass of a transformer, in float and with every operand of every product in a format.
///
/// The ways take turns within each round; a ratio is the median over the rounds.
#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long, value_name = "NAME", default_value = "albert-base", help = models())]
    model: String,
    /// Formats, beside float
    #[arg(long, value_name = "FORMAT", num_args = 1..)]
    compare: Vec<String>,
    /// Sequences in a pass
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value_t = 384)]
    length: usize,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Also transformers' network on PyTorch, eager and compiled, before and after ours; run in the
    /// repository, with the Python of LOWBIT_PYTHON or python3, which has torch and transformers
    #[arg(long)]
    against_pytorch: bool,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// The passes of one way.
#[derive(Debug, Serialize, Deserialize)]
struct Passes {
    name: String,
    seconds: Vec<f64>,
}

impl Passes {
    fn median(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl Arguments {
    pub(super) fn run(self) -> Ended {
        prepare([self.batch, self.rounds], self.threads)?;
        let mut plans = vec![QPlan::float()];
        for text in &self.compare {
            plans.push(plans::of_operands(&format(text)?));
        }
        let workload = Inference {
            model: self.model.clone(),
            batch: self.batch,
            length: self.length,
            rounds: self.rounds,
        };
        let mut theirs = Vec::new();
        if self.against_pytorch {
            theirs.extend(self.of_pytorch()?);
        }
        let seconds = inference(&workload, &plans, &self.device.open()?)?;
        if self.against_pytorch {
            theirs.extend(self.of_pytorch()?);
        }
        let names = ["float"]
            .into_iter()
            .chain(self.compare.iter().map(String::as_str));
        let ours = names.zip(seconds).map(|(name, seconds)| Passes {
            name: name.into(),
            seconds,
        });
        let ours: Vec<Passes> = ours.collect();
        match self.json {
            true => print_json(&theirs.iter().chain(&ours).collect::<Vec<_>>())?,
            false => print(table(&ours, &theirs))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn of_pytorch(&self) -> Result<Vec<Passes>, Box<dyn std::error::Error>> {
        let numbers = [
            self.batch,
            self.length,
            self.rounds,
            thread_count(self.threads),
        ];
        let [batch, length, rounds, threads] = numbers.map(|number| number.to_string());
        let arguments = [
            &self.model,
            "--batch",
            &batch,
            "--length",
            &length,
            "--rounds",
            &rounds,
            "--threads",
            &threads,
        ];
        asked(SCRIPT, &arguments)
    }
}

/// Seconds of a pass; ours over our float pass, and over the fastest of PyTorch's, where it was asked.
fn table(ours: &[Passes], theirs: &[Passes]) -> Table {
    let float = &ours[0].seconds;
    let best = theirs.iter().map(Passes::median).fold(f64::NAN, f64::min);
    let row = |passes: &Passes, is_ours: bool| {
        let ratios = passes
            .seconds
            .iter()
            .zip(float)
            .map(|(own, float)| own / float);
        let over_float = Passes {
            name: String::new(),
            seconds: ratios.collect(),
        };
        let median = passes.median();
        vec![
            passes.name.clone(),
            format!("{median:.3}"),
            match is_ours {
                true => format!("{:.3}", over_float.median()),
                false => "-".into(),
            },
            match best.is_nan() {
                true => "-".into(),
                false => format!("{:.3}", best / median),
            },
        ]
    };
    let rows = theirs.iter().map(|passes| row(passes, false));
    let rows = rows.chain(ours.iter().map(|passes| row(passes, true)));
    Table::new(["pass", "s", "over float", "speed over PyTorch's best"]).with_rows(rows)
}
