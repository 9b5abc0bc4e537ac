//! `lowbit lm`.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use lowbit::Device;
use lowbit::models::parameter_bits;
use lowbit::report::Table;
use lowbit_text::{Language, ModelFolder, Sampling};
use serde::Serialize;

use super::text::{ModelArguments, Way, megabytes};
use super::{Ended, print_json};
use crate::output::{print, say};
use crate::progress::Bars;

/// Measure how well a language model (GPT-2, Llama, Mistral, Qwen2) expects a text, or let it go on with one,
/// in float or any number format.
///
/// With --text it prints the perplexity, in windows that overlap as transformers' page on perplexity has
/// them; with --prompt it writes on.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A text file whose perplexity is measured; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// What the model goes on with
    #[arg(long, value_name = "TEXT", conflicts_with = "text")]
    prompt: Option<String>,
    /// Tokens of a window [default: 1024, or the model's positions]
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Tokens between the beginnings of windows [default: half a window]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Tokens that are written, at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    tokens: usize,
    /// Scores are divided by it before a token is drawn; with 0 the most likely is taken
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// How many of the most likely tokens are drawn from [default: all]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    top: usize,
    /// What is drawn depends on
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON: of each way what it came to
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of one way and a text.
#[derive(Serialize)]
struct Expected {
    way: String,
    perplexity: f64,
    loss: f64,
    tokens: usize,
    parameter_bits: u64,
    seconds: f64,
}

/// What `--json` prints of one way and a prompt.
#[derive(Serialize)]
struct Written {
    way: String,
    text: String,
    tokens: Vec<u32>,
    seconds: f64,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            let message = format!("--temperature: is {}, expected 0 or more", self.temperature);
            return Err(message.into());
        }
        if self.text.is_none() && self.prompt.is_none() {
            return Err("--text: is missing, expected a file, or --prompt".into());
        }
        let (folder, device, ways) = self.model.open()?;
        match (&self.text, &self.prompt) {
            (Some(text), _) => self.expect(&folder, &device, &ways, text)?,
            (None, prompt) => {
                let prompt = prompt.as_deref().unwrap_or_default();
                self.write(&folder, &device, &ways, prompt)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs `f` on the model in one of the ways; returns the bits of its parameters, too.
    fn with<T>(
        folder: &ModelFolder,
        device: &Device,
        way: &Way,
        f: impl FnOnce(&Language<'_>) -> Result<T, lowbit_text::Error>,
    ) -> Result<(T, u64), Box<dyn Error>> {
        let loaded = folder.language_model(&way.plan, device)?;
        for warning in loaded.warnings() {
            say(format_args!("warning: {}: {warning}", way.name));
        }
        let language = Language {
            network: &loaded.network,
            positions: folder.config.positions(),
            device: device.clone(),
        };
        let bits = way.bits(folder, parameter_bits(&loaded.network, &loaded.layers))?;
        Ok((f(&language)?, bits))
    }

    fn expect(
        &self,
        folder: &ModelFolder,
        device: &Device,
        ways: &[Way],
        text: &Path,
    ) -> Result<(), Box<dyn Error>> {
        let tokens = folder.tokenizer.encode(&read(text)?)?.ids;
        let length = self.length.unwrap_or(folder.config.positions().min(1024));
        let stride = self.stride.unwrap_or(length.div_ceil(2));
        let (mut bars, mut all) = (Bars::new(), Vec::new());
        for way in ways {
            let started = Instant::now();
            let (found, parameter_bits) = Self::with(folder, device, way, |language| {
                let progress = &mut |done, all| bars.count(&way.name, done, all);
                language.perplexity(&tokens, length, stride, progress)
            })?;
            all.push(Expected {
                way: way.name.clone(),
                perplexity: found.perplexity(),
                loss: found.loss,
                tokens: found.tokens,
                parameter_bits,
                seconds: started.elapsed().as_secs_f64(),
            });
        }
        match self.json {
            true => print_json(&all),
            false => Ok(print(perplexities(&all))?),
        }
    }

    fn write(
        &self,
        folder: &ModelFolder,
        device: &Device,
        ways: &[Way],
        prompt: &str,
    ) -> Result<(), Box<dyn Error>> {
        let tokenizer = &folder.tokenizer;
        let tokens = tokenizer.encode(prompt)?.ids;
        let ends: Vec<u32> = tokenizer.special().eos.into_iter().collect();
        let sampling = Sampling {
            tokens: self.tokens,
            temperature: self.temperature,
            top: self.top,
            seed: self.seed,
        };
        let mut all = Vec::new();
        for way in ways {
            let started = Instant::now();
            let (made, _) = Self::with(folder, device, way, |language| {
                language.go_on(&tokens, &sampling, &ends)
            })?;
            let whole = [&tokens[..], &made].concat();
            all.push(Written {
                way: way.name.clone(),
                text: tokenizer.decode(&whole)?,
                tokens: made,
                seconds: started.elapsed().as_secs_f64(),
            });
        }
        if self.json {
            return print_json(&all);
        }
        for one in &all {
            if all.len() > 1 {
                print(format_args!("{}:\n", one.way))?;
            }
            print(format_args!("{}\n", one.text))?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

fn perplexities(all: &[Expected]) -> Table {
    let rows = all.iter().map(|one| {
        vec![
            one.way.clone(),
            format!("{:.3}", one.perplexity),
            format!("{:.4}", one.loss),
            megabytes(one.parameter_bits),
            format!("{:.0}", one.tokens as f64 / one.seconds),
        ]
    });
    let tokens = all.first().map_or(0, |one| one.tokens);
    Table::new(["", "perplexity", "loss", "parameters, MB", "tokens a s"])
        .with_caption(format!("{tokens} tokens"))
        .with_rows(rows)
}
