//! `lowbit formats sums`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::summary;
use lowbit_formats::Accumulation;
use lowbit_formats::swamping::swamping;

use crate::commands::{Ended, print_json};
use crate::output::print;
use crate::picture::write_svg;

/// Points of a curve.
const POINTS: usize = 64;

/// Show what long sums lose in low precision, as the figure on chunks of Wang et al. (arXiv 1812.08011)
/// does.
///
/// The products are uniform with mean 1 and deviation 1, in 1-5-2: the exact sum grows by 1 with each.
/// A sum to which a product is less than half a step stands still, which chunks avoid.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// How sums are made, such as e6m9 "e6m9 chunk 64" hopper-fp8
    #[arg(value_name = "SUM", required = true)]
    sums: Vec<Accumulation>,
    /// Products, a multiple of 64
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = products)]
    products: usize,
    /// Where the products and stochastic roundings come from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A picture of the running sums, an SVG file
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Example:
  lowbit formats sums e6m9 \"e6m9 chunk 64\" fp32 -o sums.svg";

fn products(text: &str) -> Result<usize, String> {
    let count = text.parse().ok();
    let known = |&n: &usize| n > 0 && n.is_multiple_of(POINTS) && n <= 1 << 20;
    count
        .filter(known)
        .ok_or_else(|| format!("expected a multiple of {POINTS} up to {}", 1 << 20))
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let points = [POINTS, self.products / POINTS];
        let found = swamping(&self.sums, points, self.seed);
        let names: Vec<String> = self.sums.iter().map(Accumulation::to_string).collect();
        if let Some(path) = &self.out {
            write_svg(path, &found.svg(&names))?;
        }
        if self.json {
            print_json(&found)?;
        } else {
            print(summary::sums(&found, &names))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
