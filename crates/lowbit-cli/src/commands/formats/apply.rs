//! `lowbit formats apply`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::table::{Table, thousands};
use lowbit_formats::Format;
use lowbit_formats::tensor_file::{Applied, Output, apply};

use super::{RoundingArguments, number};
use crate::commands::{Ended, print_json};

/// Round the tensors of a .npy or .safetensors file.
///
/// Tensors of f16, bf16, f32 and f64 are rounded and keep their type; others are copied. The new
/// file appears under its name when it is complete. In stochastic rounding each tensor draws from
/// a stream of its own, counted in the order of the file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The format, such as e4m3, "fixed(8,6)" or "posit(8,1)"
    #[arg(value_name = "F")]
    format: Format,
    /// The .npy or .safetensors file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The new file, of the same kind
    #[arg(short, long, value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    rounding: RoundingArguments,
    /// Write the packed codes instead of the rounded numbers; those of a .npy file may go into a
    /// .safetensors file, and must where they share scales
    #[arg(long)]
    codes: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit formats apply e4m3 weights.safetensors -o rounded.safetensors
  lowbit formats apply \"bfp(8,dim=0)\" x.npy -o y.npy --rounding stochastic --seed 7
  lowbit formats apply mxfp4 weights.safetensors -o codes.safetensors --codes";

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let rounding = self.rounding.rounding()?;
        let output = if self.codes {
            Output::Codes
        } else {
            Output::Numbers
        };
        let applied = apply(&self.format, rounding, &self.input, &self.out, output)?;
        if self.json {
            print_json(&applied)?;
        } else {
            print!("{}", text(&applied));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(applied: &Applied) -> String {
    let headings = [
        "tensor",
        "type",
        "shape",
        "max error",
        "rms error",
        "SQNR dB",
        "saturated",
        "overflowed",
    ];
    let table = Table::new(headings).with_rows(applied.tensors.iter().map(|tensor| {
        let error = &tensor.error;
        [
            tensor.name.clone(),
            tensor.dtype.clone(),
            format!("{:?}", tensor.shape),
            number(error.max_error as f32),
            number(error.rms_error as f32),
            error
                .sqnr_db
                .map_or("-".into(), |ratio| format!("{ratio:.2}")),
            thousands(error.saturated),
            thousands(error.overflowed),
        ]
    }));
    let mut text = if applied.tensors.is_empty() {
        String::new()
    } else {
        table.to_string()
    };
    text += &format!(
        "{} rounded to {}, {} copied; {} bytes in, {} out\n",
        applied.tensors.len(),
        applied.format,
        applied.copied,
        thousands(applied.bytes_in),
        thousands(applied.bytes_out)
    );
    text
}
