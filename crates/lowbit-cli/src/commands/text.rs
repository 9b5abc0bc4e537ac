//! What the commands on text share.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use lowbit::Device;
use lowbit::config::{PlanFile, Preset, QPlan};
use lowbit_formats::Format;
use lowbit_text::{ModelFolder, plans};

use super::{DeviceArgument, use_threads};

/// A model's folder, and what computes.
#[derive(Args)]
pub(super) struct ModelArguments {
    /// A folder as transformers' save_pretrained writes it: config.json, safetensors in one file or
    /// several, tokenizer.json
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What is quantized: a plan's file, posit-albert, posit-albert-16 (the first and last layer in
    /// posit(16,1)), or a name that `lowbit config show` takes [default: nothing]
    #[arg(long, value_name = "FILE|NAME")]
    plan: Option<String>,
    /// Beside it, the model with every operand of every product in each of these formats; intN stands for
    /// affine(N,symmetric), integers under a scale for each tensor. Commas inside parentheses are a format's own
    #[arg(long, value_name = "FORMAT", num_args = 1..)]
    compare: Vec<String>,
    #[command(flatten)]
    device: DeviceArgument,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// One of the ways in which a model is run.
pub(super) struct Way {
    pub(super) name: String,
    pub(super) plan: QPlan,
}

impl Way {
    /// Bits of the parameters, from what they are with the plan: weights that the folder has packed take less, where
    /// the plan leaves them as they are.
    pub(super) fn bits(
        &self,
        folder: &ModelFolder,
        planned: u64,
    ) -> Result<u64, lowbit_text::Error> {
        Ok(match self.plan == QPlan::float() {
            true => planned.saturating_sub(folder.weights.saved_bits()?),
            false => planned,
        })
    }
}

impl ModelArguments {
    /// The folder, the device, and what is compared: the plan alone, or the model in float and then in the
    /// plan and each format.
    pub(super) fn open(&self) -> Result<(ModelFolder, Device, Vec<Way>), Box<dyn Error>> {
        if let Some(threads) = self.threads {
            use_threads(threads)?;
        }
        let planned = match &self.plan {
            Some(text) => Some(Way {
                name: text.clone(),
                plan: plan(text)?,
            }),
            None => None,
        };
        let mut ways = Vec::new();
        if planned.is_none() || !self.compare.is_empty() {
            ways.push(Way {
                name: "float".into(),
                plan: QPlan::float(),
            });
        }
        ways.extend(planned);
        for text in &self.compare {
            let found = format(text).map_err(|error| format!("--compare {text}: {error}"))?;
            ways.push(Way {
                name: text.clone(),
                plan: plans::of_operands(&found),
            });
        }
        Ok((ModelFolder::open(&self.model)?, self.device.open()?, ways))
    }
}

/// A plan by its name or file.
pub(super) fn plan(text: &str) -> Result<QPlan, Box<dyn Error>> {
    if let Some(plan) = plans::named(text)? {
        return Ok(plan);
    }
    if Path::new(text).exists() || text.ends_with(".toml") {
        return Ok(PlanFile::read(Path::new(text), None)?.plan);
    }
    let preset: Preset = text
        .parse()
        .map_err(|error| format!("{error}; {}; or a file", plans::NAMES))?;
    Ok(preset.plan(None, None)?)
}

/// A format, or integers of so many bits under a scale.
pub(super) fn format(text: &str) -> Result<Format, Box<dyn Error>> {
    let bits = text
        .strip_prefix("int")
        .and_then(|bits| bits.parse::<u32>().ok());
    Ok(match bits {
        Some(bits) => format!("affine({bits},symmetric)").parse()?,
        None => text.parse()?,
    })
}

/// A number from 1.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a number from 1".into())
}

/// What one line of a comparison says of a model's size, in MB.
pub(super) fn megabytes(bits: u64) -> String {
    format!("{:.2}", bits as f64 / 8e6)
}
