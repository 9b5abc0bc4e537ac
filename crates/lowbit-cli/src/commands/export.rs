//! `lowbit export`.

mod transformers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use lowbit::integer::{Comparison, IntegerNetwork};
use lowbit::report::summary;
use lowbit::train::{
    compare_integers, compare_random_integers, find_run, first_integers, integer_accuracy,
    to_integers, trained_network,
};
use lowbit_formats::new_file;
use lowbit_int::onnx::{self, Dialect};
use lowbit_int::{Graph, Target, TieFree, conformance, source};
use serde::Serialize;

use super::{DeviceArgument, Ended, load_of, print_json};
use crate::options::{Look, Options};
use crate::output::{print, say};
use crate::progress::Bars;

/// Test images in a conformance pack.
const PACKED: usize = 8;

/// Write a trained network as integers, or one of text as a folder of transformers.
///
/// Of integers, every tensor must be on a grid, as `lowbit quantize` leaves them, or a plan that says so
/// (`lowbit config show tqt-integer`). What is on none is named. The integers are compared with the
/// simulation on all test images, and on the first ones layer by layer, before anything is written.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The folder of a run, such as runs/digits-cnn/float; of a folder with several runs, the
    /// float one is taken
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// What is written
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Json)]
    to: Form,
    /// The file, or the folder of c, rust and transformers [default: the run's name]
    #[arg(long, short, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Write beside it a conformance pack, and of ONNX files a certificate that says where runtimes have
    /// the same bits
    #[arg(long)]
    certify: bool,
    /// Make every rounding to the nearest the same, half to even, half up and half away from zero, by
    /// doubled weights or by an offset in requantizations
    #[arg(long, value_enum, value_name = "HOW")]
    tie_free: Option<Construction>,
    /// Compute as that runtime or chip does, and say what it changes: ort-x86, tflite, tflite-single,
    /// cmsis-nn, cmsis-nn-single, esp32-p4, esp32-s3 or finn
    #[arg(long, value_name = "TARGET")]
    target: Option<Target>,
    /// Take the last weights instead of the best
    #[arg(long)]
    last: bool,
    /// Test images on which every layer is compared
    #[arg(long, value_name = "N", default_value_t = 1000)]
    layers: usize,
    /// Random inputs on which the results are compared, too
    #[arg(long, value_name = "N", default_value_t = 0)]
    random: usize,
    /// Write it without comparing
    #[arg(long, conflicts_with_all = ["layers", "random"])]
    unchecked: bool,
    #[command(flatten)]
    options: Options<Look>,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit quantize --from runs/mnist-lenet --out runs/mnist-int8
  lowbit export runs/mnist-int8 --out lenet.json
  lowbit run lenet.json --data mnist
  lowbit export runs/mnist-int8 --to onnx-qdq --certify --out lenet.onnx
  lowbit export runs/mnist-int8 --to c --out lenet
  lowbit export runs/mnist-int8 --target cmsis-nn --to c --out lenet
  lowbit export runs/shakespeare-gpt-nano --to transformers --out gpt";

/// How ties are made impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Construction {
    /// Weights of at most 7 bits are doubled, and biases become odd
    Weights,
    /// Requantizations multiply by 2 and add 1
    Offset,
}

impl From<Construction> for TieFree {
    fn from(how: Construction) -> Self {
        match how {
            Construction::Weights => Self::DoubledWeights,
            Construction::Offset => Self::Offset,
        }
    }
}

/// What a network is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Integers as JSON, which `lowbit run` reads
    Json,
    /// ONNX: floats between quantizers, which runtimes fuse
    OnnxQdq,
    /// ONNX: operators of integers
    OnnxQoperator,
    /// ONNX with the Quant nodes of Brevitas and FINN
    Qonnx,
    /// One file of C99 and its header, without floats
    C,
    /// A crate of Rust without std, alloc and floats
    Rust,
    /// The integers of weights and biases, with what those of every tensor stand for
    Safetensors,
    /// The same as text: integers and fraction lengths
    Text,
    /// A folder that transformers and `lowbit lm` read, of a network of text, and its plan.toml if it is
    /// quantized
    Transformers,
}

impl Form {
    fn dialect(self) -> Option<Dialect> {
        match self {
            Self::OnnxQdq => Some(Dialect::Qdq),
            Self::OnnxQoperator => Some(Dialect::QOperator),
            Self::Qonnx => Some(Dialect::Qonnx),
            _ => None,
        }
    }

    fn default_path(self, name: &str) -> PathBuf {
        match self {
            Self::Json => format!("{name}.json").into(),
            Self::C | Self::Rust | Self::Transformers => name.into(),
            Self::Safetensors => format!("{name}.safetensors").into(),
            Self::Text => format!("{name}.txt").into(),
            _ => format!("{name}.onnx").into(),
        }
    }

    /// What is written at a path.
    fn files(self, graph: &Graph, out: &Path) -> Result<Files, Box<dyn std::error::Error>> {
        let stem = out.file_stem().map(|s| s.to_string_lossy().into_owned());
        let name: String = stem.unwrap_or_default();
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let within = |files: Vec<(PathBuf, String)>| {
            let files = files.into_iter();
            let files = files.map(|(path, text)| (out.join(path), text.into_bytes()));
            files.collect()
        };
        let bytes = match self {
            Self::C => return Ok(within(source::c(graph, &name)?)),
            Self::Rust => return Ok(within(source::rust(graph, &name)?)),
            Self::OnnxQdq => onnx::write(graph, Dialect::Qdq)?,
            Self::OnnxQoperator => onnx::write(graph, Dialect::QOperator)?,
            Self::Qonnx => onnx::write(graph, Dialect::Qonnx)?,
            Self::Json => graph.to_json().into_bytes(),
            Self::Transformers => return Err("a folder of transformers holds no integers".into()),
            Self::Safetensors => graph.to_safetensors(),
            Self::Text => graph.to_text().into_bytes(),
        };
        Ok(vec![(out.to_path_buf(), bytes)])
    }
}

/// Files with their bytes.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    run: &'a str,
    out: &'a Path,
    accuracy: Option<f64>,
    comparison: Option<&'a Comparison>,
    random: Option<&'a Comparison>,
    tie_free: Option<&'a Untied>,
    target: Option<&'a Retargeted>,
}

/// What making ties impossible came to.
#[derive(Serialize)]
struct Untied {
    /// Requantizations that could have a tie.
    requantizations: Vec<String>,
    accuracy: f64,
}

/// What the arithmetic of a target came to.
#[derive(Serialize)]
struct Retargeted {
    target: String,
    /// What it does.
    arithmetic: &'static str,
    /// Nodes whose integers may differ.
    nodes: Vec<String>,
    accuracy: f64,
    comparison: Comparison,
}

/// What running beside the simulation came to.
struct Checked {
    accuracy: f64,
    comparison: Comparison,
    random: Option<Comparison>,
}

/// All that there is to say.
struct Made<'a> {
    run: &'a str,
    network: &'a IntegerNetwork,
    checked: Option<&'a Checked>,
    untied: Option<&'a Untied>,
    retargeted: Option<&'a Retargeted>,
    /// As text.
    certificate: Option<String>,
    out: &'a Path,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let device = self.device.open()?;
        let (folder, name, experiment) = find_run(&self.run)?;
        let split = load_of(&experiment, &self.options.settings, &mut Bars::new())?;
        let (model, _) = trained_network(&folder, &experiment, &name, self.last, &split, &device)?;
        if self.to == Form::Transformers {
            return self.write_folder(&experiment, &name, &model);
        }
        if experiment.model.reads_text() {
            let message = format!(
                "{} reads text, whose networks have no integers yet; expected --to transformers",
                experiment.model
            );
            return Err(message.into());
        }
        let test = &split.test;
        let simulated = to_integers(&model, test, &device)?;
        let mut untied = None;
        let mut network = None;
        if let Some(how) = self.tie_free {
            let (made, requantizations) = simulated.tie_free(how.into())?;
            let accuracy = integer_accuracy(&made, test)?;
            untied = Some(Untied {
                requantizations,
                accuracy,
            });
            network = Some(made);
        }
        let mut retargeted = None;
        if let Some(target) = self.target {
            let (made, nodes) = network.as_ref().unwrap_or(&simulated).for_target(target)?;
            retargeted = Some(Retargeted {
                target: target.to_string(),
                arithmetic: target.facts(),
                nodes,
                accuracy: integer_accuracy(&made, test)?,
                comparison: compare_integers(&made, &model, test, 0, &device)?,
            });
            network = Some(made);
        }
        let network = network.as_ref().unwrap_or(&simulated);
        let default = || self.to.default_path(&name);
        let out = self.out.clone().unwrap_or_else(default);
        let mut files = self.to.files(network.graph(), &out)?;
        let mut certificate = None;
        if self.certify {
            certificate = self.certificate(network.graph(), &out, &mut files)?;
            let images = first_integers(network, test, PACKED)?;
            let images: Vec<&[i64]> = images.iter().map(Vec::as_slice).collect();
            let pack = beside(&out, "conformance");
            let packed = conformance::pack(network.graph(), &images)?.into_iter();
            files.extend(packed.map(|(path, bytes)| (pack.join(path), bytes)));
        }
        let checked = match self.unchecked {
            true => None,
            false => {
                let random = match self.random {
                    0 => None,
                    n => {
                        let seed = experiment.seed;
                        Some(compare_random_integers(
                            &simulated, &model, n, seed, &device,
                        )?)
                    }
                };
                Some(Checked {
                    accuracy: integer_accuracy(&simulated, test)?,
                    comparison: compare_integers(&simulated, &model, test, self.layers, &device)?,
                    random,
                })
            }
        };
        write(&files)?;
        let made = Made {
            run: &name,
            network,
            checked: checked.as_ref(),
            untied: untied.as_ref(),
            retargeted: retargeted.as_ref(),
            certificate,
            out: &out,
        };
        self.report(&made)
    }

    /// The certificate of an ONNX file as text; as JSON it is one of the files.
    fn certificate(
        &self,
        graph: &Graph,
        out: &Path,
        files: &mut Files,
    ) -> Result<Option<String>, Box<dyn std::error::Error>> {
        let Some(dialect) = self.to.dialect() else {
            return Ok(None);
        };
        let certificate = onnx::certificate(graph, dialect)?;
        let path = beside(out, "certificate.json");
        files.push((path, certificate.to_json().into_bytes()));
        Ok(Some(certificate.to_string()))
    }

    fn report(&self, made: &Made<'_>) -> Ended {
        let &Made {
            run,
            network,
            checked,
            untied,
            retargeted,
            ref certificate,
            out,
        } = made;
        let comparison = checked.map(|c| &c.comparison);
        let random = checked.and_then(|c| c.random.as_ref());
        if self.json {
            print_json(&Report {
                run,
                out,
                accuracy: checked.map(|c| c.accuracy),
                comparison,
                random,
                tie_free: untied,
                target: retargeted,
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        print(summary::integers(network, comparison))?;
        if let Some(checked) = checked {
            let accuracy = 100.0 * checked.accuracy;
            print(format_args!(
                "\n{}\naccuracy in integers {accuracy:.2} %\n",
                checked.comparison
            ))?;
        }
        if let Some(random) = random {
            print(format_args!(
                "{} of {} results on random inputs differ from the simulation\n",
                random.different, random.items
            ))?;
        }
        if let Some(untied) = untied {
            let (count, accuracy) = (untied.requantizations.len(), 100.0 * untied.accuracy);
            print(format_args!(
                "{count} requantizations could have ties; without them {accuracy:.2} % are right\n"
            ))?;
        }
        if let Some(made) = retargeted {
            let Retargeted {
                target,
                arithmetic,
                comparison,
                ..
            } = made;
            let (nodes, accuracy) = (made.nodes.len(), 100.0 * made.accuracy);
            print(format_args!(
                "\n{target}: {arithmetic}\n{nodes} nodes may have other integers, {} of {} results differ \
                 from the simulation, accuracy {accuracy:.2} %\n",
                comparison.different, comparison.items
            ))?;
        }
        if let Some(certificate) = certificate {
            print(format_args!("\n{certificate}"))?;
        }
        say(format_args!("written to {}", out.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// The path with more at the end of its name.
fn beside(out: &Path, what: &str) -> PathBuf {
    let name = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{name}.{what}"))
}

fn write(files: &Files) -> Result<(), Box<dyn std::error::Error>> {
    for (path, bytes) in files {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        new_file::write(path, bytes).map_err(failed)?;
    }
    Ok(())
}
