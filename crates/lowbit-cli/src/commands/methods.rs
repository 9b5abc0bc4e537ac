//! `lowbit methods`.

use std::process::ExitCode;

use clap::Args;
use lowbit::config::Method;
use lowbit::report::summary;
use serde::Serialize;

use super::{Ended, print_json};
use crate::output::print;

/// List the quantization methods, or print what one quantizes.
///
/// `lowbit train --method NAME --wbits W --abits A` trains a network with one. What NAME prints is a
/// plan: under [plan] in a file for --config it may be changed in any tensor of any layer.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The method whose plan is printed
    #[arg(value_name = "NAME")]
    name: Option<Method>,
    /// Bits of weights in the plan [default: the method's usual]
    #[arg(long, value_name = "N", requires = "name")]
    wbits: Option<u32>,
    /// Bits of activations in the plan [default: the method's usual]
    #[arg(long, value_name = "N", requires = "name")]
    abits: Option<u32>,
    /// Print one JSON array instead of a table
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

/// What `--json` prints of each.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    quantizes: &'static str,
    source: &'static str,
    /// First and last width.
    weight_bits: Option<(u32, u32)>,
    activation_bits: Option<(u32, u32)>,
    /// Slots, and what is learned there.
    learns: Vec<(String, &'static str)>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        match self.name {
            Some(method) => {
                let [wbits, abits] = method.widths(self.wbits, self.abits)?;
                print(method.plan(wbits, abits).to_toml())?;
            }
            None if self.json => print_json(&entries())?,
            None => print(summary::methods(Method::ALL))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn entries() -> Vec<Entry> {
    let ends = |widths: std::ops::RangeInclusive<u32>| (*widths.start(), *widths.end());
    let entries = Method::ALL.iter().map(|method| Entry {
        name: method.name(),
        quantizes: method.what(),
        source: method.source(),
        weight_bits: method.weight_bits().map(ends),
        activation_bits: method.activation_bits().map(ends),
        learns: method.learns(),
    });
    entries.collect()
}
