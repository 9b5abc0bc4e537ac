//! `lowbit formats apply`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::table::{Table, thousands};
use lowbit_formats::Format;
use lowbit_formats::tensor_file::{Applied, ApplyConfig, CodeLayout, Output, apply_with};

use super::{FileArguments, RoundingArguments, number};
use crate::commands::{Ended, print_json};
use crate::output::{print, say};

/// Round the tensors of a .npy, .npz or .safetensors file.
///
/// Tensors of f16, bf16, f32, f64 and float8 are rounded and keep their type; others are copied. The
/// new file appears under its name when it is complete. In stochastic rounding each tensor draws
/// from a stream found from its name and its file's, without folders: it gets the same numbers
/// wherever the file lies, and so do files of one name in two folders. With
/// --rounding "stochastic(stream=N)", tensors draw from streams N, N + 1, ... in the order of the
/// file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The format, such as e4m3, "fixed(8,6)" or "posit(8,1)"
    #[arg(value_name = "F")]
    format: Format,
    /// The .npy, .npz or .safetensors file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The new file, of the same kind
    #[arg(short, long, value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    rounding: RoundingArguments,
    #[command(flatten)]
    file: FileArguments,
    /// Write the packed codes instead of the rounded numbers; those of a .npy file may go into a
    /// .safetensors file, and must where they share scales
    #[arg(long)]
    codes: bool,
    /// How codes are stored in a .safetensors file: lowbit, safetensors (types and names that
    /// PyTorch's libraries read), or bitsandbytes (its state dict of nf4 and fp4)
    #[arg(long, value_name = "L", default_value_t, requires = "codes")]
    layout: CodeLayout,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit formats apply e4m3 weights.safetensors -o rounded.safetensors
  lowbit formats apply \"bfp(8,dim=0)\" x.npy -o y.npy --rounding stochastic --seed 7
  lowbit formats apply mxfp4 weights.safetensors -o codes.safetensors --codes
  lowbit formats apply \"scaled(bitsandbytes-nf4,block=64,reciprocal,double)\" w.safetensors \\
    -o nf4.safetensors --codes --layout bitsandbytes";

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let output = if self.codes {
            Output::Codes
        } else {
            Output::Numbers
        };
        let config = ApplyConfig {
            rounding: self.rounding.rounding()?,
            streams: self.rounding.streams(),
            output,
            layout: self.layout,
            bytes: self.file.dtype,
        };
        let applied = apply_with(&self.format, &self.input, &self.out, &config)?;
        warn(&applied);
        if self.json {
            print_json(&applied)?;
        } else {
            print(text(&applied))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says what codes could not hold.
fn warn(applied: &Applied) {
    for tensor in &applied.tensors {
        let lost = [
            (tensor.error.nan_lost, "NaN"),
            (tensor.error.infinite_lost, "infinities"),
        ];
        for (count, what) in lost.into_iter().filter(|(count, _)| *count > 0) {
            say(format_args!(
                "warning: {}: {} {what} became finite numbers of {}",
                tensor.name,
                thousands(count),
                applied.format
            ));
        }
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
    let types = match &applied.copied_types[..] {
        [] => String::new(),
        types => format!(" ({})", types.join(", ")),
    };
    text += &format!(
        "{} rounded to {}, {} copied{types}; {} bytes in, {} out\n",
        applied.tensors.len(),
        applied.format,
        applied.copied,
        thousands(applied.bytes_in),
        thousands(applied.bytes_out)
    );
    text
}
