//! `lowbit config`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lowbit::Device;
use lowbit::config::{CheckedLayer, FilePlace, Layer, PlanCheck, PlanFile, Preset, Problem, QPlan};
use lowbit::data::DataSet;
use lowbit::models::{Architecture, Classifier};
use lowbit::report::Table;
use lowbit::report::table::Alignment;
use serde::Serialize;

use super::{Ended, print_json};
use crate::output::{print, say};

#[derive(Subcommand)]
pub(crate) enum Command {
    Check(Check),
    Show(Show),
}

impl Command {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::Check(check) => check.run(),
            Self::Show(show) => show.run(),
        }
    }
}

/// Say what a plan makes of a network.
///
/// For every layer and slot: what it is quantized to, and the line of the file that says so. Patterns
/// that match no layer and slots that no layer has are named with the nearest that there are.
#[derive(Args)]
pub(crate) struct Check {
    /// The plan, or a file for --config of `lowbit train` with a [plan]
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The network [default: that of the file]
    #[arg(long, value_name = "NAME")]
    model: Option<Architecture>,
    /// The data set that it is for, whose images it takes [default: that of the file, or the network's
    /// usual]
    #[arg(long, value_name = "NAME")]
    data: Option<DataSet>,
    /// The run whose plan is meant, in a file with several
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Print the plan that a name stands for.
///
/// The names are those of `lowbit methods`, io-strict, which has the widths of the wageubn package, and
/// tqt-integer, which also quantizes biases, sums and what
/// layers without a weight read. Under [plan] in a file for --config it may be changed in any tensor of
/// any layer; with --model, what it makes of that network follows as comments.
#[derive(Args)]
pub(crate) struct Show {
    /// The name
    #[arg(value_name = "NAME")]
    name: Preset,
    /// Bits of weights [default: the usual]
    #[arg(long, value_name = "N")]
    wbits: Option<u32>,
    /// Bits of activations [default: the usual]
    #[arg(long, value_name = "N")]
    abits: Option<u32>,
    /// The network
    #[arg(long, value_name = "NAME")]
    model: Option<Architecture>,
}

#[derive(Clone, Copy)]
struct Network {
    model: Architecture,
    data: Option<DataSet>,
}

impl Network {
    /// The layers, of which a plan may fold some.
    fn layers(&self, plan: &QPlan) -> Result<Vec<Layer>, lowbit::Error> {
        let images = self.data.map(|data| data.defaults().model);
        let (input, classes) = images.unwrap_or(self.model).usual_images();
        let float = QPlan {
            fold: plan.fold,
            ..QPlan::float()
        };
        let network = self
            .model
            .init(input, classes, &float, 0, &Device::flex())?;
        Ok(network.layers().to_vec())
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    file: String,
    model: Architecture,
    layers: Vec<LayerReport>,
    problems: Vec<ProblemReport>,
}

#[derive(Serialize)]
struct LayerReport {
    path: String,
    #[serde(rename = "type")]
    layer_type: &'static str,
    /// Its place among the layers with a weight.
    position: Option<usize>,
    slots: BTreeMap<String, SlotReport>,
}

#[derive(Serialize)]
struct SlotReport {
    /// None in float.
    quantized: Option<String>,
    said_by: Vec<Said>,
}

#[derive(Serialize)]
struct Said {
    entry: String,
    line: usize,
    column: usize,
}

#[derive(Serialize)]
struct ProblemReport {
    #[serde(flatten)]
    said: Said,
    message: String,
}

impl Said {
    fn at(file: &PlanFile, entry: String) -> Self {
        let FilePlace { line, column, .. } = file.place(&entry);
        Self {
            entry,
            line,
            column,
        }
    }
}

impl Check {
    fn run(self) -> Ended {
        let file = PlanFile::read(&self.file, self.run.as_deref())?;
        let network = self.network(&file)?;
        let checked = file.plan.check_on(&network.layers(&file.plan)?);
        let code = code(&checked);
        let problems = problems(&checked, &file);
        match self.json {
            true => print_json(&self.report(&file, network.model, checked))?,
            false => print(table(&checked, &file))?,
        }
        problems.iter().for_each(say);
        Ok(code)
    }

    /// What the flags say, or the file.
    fn network(&self, file: &PlanFile) -> Result<Network, Box<dyn std::error::Error>> {
        let named = || file.model.as_deref().map(str::parse).transpose();
        let model = self.model.map_or_else(named, |model| Ok(Some(model)))?;
        let name = self.file.display();
        let model = model.ok_or_else(|| format!("{name}: names no model; --model does"))?;
        let named = || file.data.as_deref().map(str::parse).transpose();
        let data = self.data.map_or_else(named, |data| Ok(Some(data)))?;
        Ok(Network { model, data })
    }

    fn report(&self, file: &PlanFile, model: Architecture, checked: PlanCheck) -> Report {
        let slots = |layer: &CheckedLayer| {
            let slots = layer.slots.iter().map(|slot| {
                let entries = slot.entries.iter().cloned();
                let report = SlotReport {
                    quantized: slot.quantized.clone(),
                    said_by: entries.map(|entry| Said::at(file, entry)).collect(),
                };
                (slot.slot.clone(), report)
            });
            slots.collect()
        };
        let layers = checked.layers.iter().map(|layer| LayerReport {
            path: layer.path.clone(),
            layer_type: layer.layer_type,
            position: layer.position,
            slots: slots(layer),
        });
        let layers = layers.collect();
        let problems = checked.problems.into_iter().map(|problem| ProblemReport {
            said: Said::at(file, problem.entry),
            message: problem.message,
        });
        Report {
            file: self.file.display().to_string(),
            model,
            layers,
            problems: problems.collect(),
        }
    }
}

fn code(checked: &PlanCheck) -> ExitCode {
    match checked.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A line for each problem, with its place in the file.
fn problems(checked: &PlanCheck, file: &PlanFile) -> Vec<String> {
    let problems = checked.problems.iter();
    let lines = problems.map(|Problem { entry, message }| {
        let place = file.place(entry);
        format!("error: {place}: {message}")
    });
    lines.collect()
}

/// A line for each slot that is quantized, and one for the others of its layer that are in float for the
/// same reason.
fn table(checked: &PlanCheck, file: &PlanFile) -> Table {
    let mut rows = Vec::new();
    for layer in &checked.layers {
        let first = rows.len();
        let mut floats: Vec<(Vec<&str>, &[String])> = Vec::new();
        for slot in &layer.slots {
            let Some(quantized) = &slot.quantized else {
                match floats.iter_mut().find(|(_, by)| *by == slot.entries) {
                    Some((slots, _)) => slots.push(&slot.slot),
                    None => floats.push((vec![&slot.slot], &slot.entries)),
                }
                continue;
            };
            rows.push(row(slot.slot.clone(), quantized, &slot.entries, file));
        }
        for (slots, by) in floats {
            rows.push(row(slots.join(" "), "float", by, file));
        }
        let position = layer.position.map_or(String::new(), |at| at.to_string());
        let named = [layer.path.clone(), layer.layer_type.into(), position];
        if let Some(row) = rows.get_mut(first) {
            row.splice(..3, named);
        }
    }
    let headings = ["layer", "type", "position", "slot", "quantized to", "line"];
    let headings = headings.into_iter().chain(["said by"]);
    let mut table = Table::new(headings).with_rows(rows);
    for i in [1, 3, 4, 5, 6] {
        table.columns[i].alignment = Alignment::Left;
    }
    table
}

fn row(slots: String, quantized: &str, entries: &[String], file: &PlanFile) -> Vec<String> {
    let lines = entries.iter().map(|entry| file.place(entry).line);
    let lines: Vec<String> = lines.map(|line| line.to_string()).collect();
    let or_none = |text: String| if text.is_empty() { "-".into() } else { text };
    let named = ["", "", ""].map(String::from).into_iter();
    let said = [
        slots,
        quantized.into(),
        or_none(lines.join(" ")),
        or_none(entries.join(" ")),
    ];
    named.chain(said).collect()
}

impl Show {
    fn run(self) -> Ended {
        let plan = self.name.plan(self.wbits, self.abits)?;
        let text = plan.to_toml();
        let Some(model) = self.model else {
            print(text)?;
            return Ok(ExitCode::SUCCESS);
        };
        let network = Network { model, data: None };
        let file = PlanFile::parse(self.name.name(), &text, None)?;
        let checked = plan.check_on(&network.layers(&plan)?);
        let table = table(&checked, &file).to_string();
        let lines = table.lines().map(|line| format!("# {line}\n"));
        let comments: String = lines.collect();
        print(format_args!(
            "{text}\n# What it makes of {model}:\n#\n{comments}"
        ))?;
        problems(&checked, &file).iter().for_each(say);
        Ok(code(&checked))
    }
}
