//! `lowbit compress`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::Table;
use lowbit_text::compress::{Algorithm, Compress, Compressed};
use lowbit_text::models::ModelConfig;

use super::text::{at_least_one, format};
use super::{DeviceArgument, Ended, print_json, use_threads};
use crate::output::{print, say};
use crate::progress::Bars;

/// Round the weights of a transformer's linear layers to few bits, by what they read of a text, and write them
/// packed.
///
/// The new folder has the layout of compressed-tensors, vLLM's library, which `lowbit lm`, `lowbit qa` and
/// transformers read; activations stay in float. The head and the tables of embeddings stay as they are.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The folder of the model, as transformers' save_pretrained writes it
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The new folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What weights become, seen as [outputs, inputs]: affine of 2 to 8 bits with `dim=0` or `block=N`, mxfp4,
    /// nvfp4, mxfp8(e4m3), or scaled(e4m3), of the tensor, with `dim=0` or `block=128x128`
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "affine(4,symmetric,block=128)"
    )]
    format: String,
    /// How they are rounded: nearest, gptq, awq, or awq-gptq [default: gptq with --text, else nearest]
    #[arg(long, value_name = "NAME")]
    algorithm: Option<Algorithm>,
    /// A text that the layers are to read, which gptq and awq go by
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens of a window of the text [default: 2048, or the model's positions if those are fewer]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    length: Option<usize>,
    /// Windows of the text, one after the other from its beginning, at most
    #[arg(long, value_name = "N", default_value = "128", value_parser = at_least_one)]
    windows: usize,
    /// Write weights as numbers of the type that they had, on the format's grid
    #[arg(long)]
    unpacked: bool,
    #[command(flatten)]
    device: DeviceArgument,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print JSON: each layer's error, and the sizes
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit compress --model llama --text train.txt --out llama-int4
  lowbit compress --model llama --format \"affine(4,block=32)\" --algorithm awq --text train.txt --out llama-awq
  lowbit compress --model llama --format nvfp4 --out llama-nvfp4
  lowbit lm --model llama-int4 --text test.txt";

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        if let Some(threads) = self.threads {
            use_threads(threads)?;
        }
        let device = self.device.open()?;
        let format =
            format(&self.format).map_err(|error| format!("--format {}: {error}", self.format))?;
        let positions = ModelConfig::read(&self.model.join("config.json"))?.positions();
        let usual = match self.text {
            Some(_) => Algorithm::Gptq,
            None => Algorithm::Nearest,
        };
        let compress = Compress {
            model: self.model,
            format,
            algorithm: self.algorithm.unwrap_or(usual),
            text: self.text,
            length: self.length.unwrap_or(positions.min(2048)),
            windows: self.windows,
            unpacked: self.unpacked,
        };
        let mut bars = Bars::new();
        let made = compress.run(&self.out, &device, &mut |done, all| {
            bars.count("rounding", done, all);
        })?;
        for warning in &made.warnings {
            say(format_args!("warning: {warning}"));
        }
        if self.json {
            print_json(&made)?;
            return Ok(ExitCode::SUCCESS);
        }
        if made.layers.iter().any(|layer| layer.error.is_some()) {
            print(format_args!("{}\n", table(&made)))?;
        }
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        print(format_args!(
            "{} weights, {:.2} MB of safetensors in place of {:.2}; written to {}\n",
            made.layers.len(),
            megabytes(made.bytes),
            megabytes(made.bytes_before),
            self.out.display()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The error of each weight.
fn table(made: &Compressed) -> Table {
    let headings = ["layer", "to nearest", "error over signal"];
    let mut table = Table::new(headings);
    for layer in &made.layers {
        let number = |error: Option<f64>| error.map_or("-".into(), |error| format!("{error:.2e}"));
        table.rows.push(vec![
            layer.layer.clone(),
            number(layer.nearest),
            number(layer.error),
        ]);
    }
    table
}
