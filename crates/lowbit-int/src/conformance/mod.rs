//! Packs that say whether another program has a network's integers: inputs, every tensor's integers,
//! and a program of NumPy that computes them again.
//!
//! | file | holds |
//! |---|---|
//! | `graph.json` | the network ([`json`](crate::json)) |
//! | `cases.json` | which file has which tensor; probes; a checksum of each file |
//! | `0.npy`, ... | integers, an image after the other, of the narrowest signed type |
//! | `run.py` | `python run.py` computes every node from what is recorded of its inputs, names the first that differs, and ends with 1 |
//!
//! Beside the tensors of the given images each node has probes: inputs of its own, within what is
//! proven of them, that tell its arithmetic from another's.
//!
//! - Of sums and products the witnesses of the least and the greatest one, and images of numbers that
//!   are not the zero point wherever the proof leaves one: a factor that is changed alone changes a sum,
//!   unless all that it meets is known to be zero.
//! - Of requantizations both sides of every step of the output, for each channel. None of them falls,
//!   so that two that agree there agree for every number of the proven interval: a multiplier, offset,
//!   shift, rounding or zero point that matters for any number is noticed. (With more than 1,024 steps
//!   or 1,024 images: of those that are chosen.)
//! - Of clamps their limits and the neighbours of these; of tables every entry.
//!
//! A change that alters no output for any input, such as a rounding where there are no ties, is noticed
//! by the checksum of the graph: Fletcher's, which every change of one byte alters. It is against
//! mistakes, not against forgers.

mod npy;
mod probes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::GraphError;
use crate::graph::{Graph, Node, TensorId};
use crate::interpret::{evaluate, trace};
use crate::tensor::{Interval, Tensor};
use probes::probes;

const FORMAT: &str = "lowbit-conformance";
const VERSION: u32 = 1;
const PROGRAM: &str = include_str!("run.py");

/// Why a pack does not say what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConformanceError {
    /// A node makes other integers of what is recorded of its inputs.
    #[error(
        "{node}: element {element} of case {case} in {file} is {recorded}, computed {computed}"
    )]
    Differs {
        /// The first node that differs.
        node: String,
        /// The file of what was recorded.
        file: String,
        /// Which image or probe.
        case: usize,
        /// Which element, the last dimension's index moving fastest.
        element: usize,
        /// What the file has.
        recorded: i64,
        /// What the node makes.
        computed: i64,
    },
    /// A file is missing, damaged, or not the one that was recorded.
    #[error("{file}: {reason}")]
    File {
        /// Its name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph is none.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl ConformanceError {
    fn file(file: &str, reason: impl Into<String>) -> Self {
        Self::File {
            file: file.into(),
            reason: reason.into(),
        }
    }
}

/// What a pack that is as it should be has been found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Nodes, all of which make what is recorded.
    pub nodes: usize,
    /// Integers that were compared.
    pub integers: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    format: String,
    version: u32,
    tensors: BTreeMap<String, String>,
    probes: Vec<Probe>,
    checksums: BTreeMap<String, String>,
}

/// Images of a node's own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    node: String,
    inputs: Vec<String>,
    output: String,
}

/// The files of a pack, and what they are called.
struct Pack {
    files: Vec<(PathBuf, Vec<u8>)>,
    cases: Cases,
}

impl Pack {
    /// Adds images of a tensor; returns the file's name.
    fn add(&mut self, tensor: &Tensor, values: &[i64]) -> String {
        let name = format!("{}.npy", self.files.len());
        let mut shape = vec![values.len() / tensor.elements()];
        shape.extend(&tensor.shape);
        self.add_file(&name, npy::write(&shape, values, tensor.interval()));
        name
    }

    fn add_file(&mut self, name: &str, bytes: Vec<u8>) {
        self.cases.checksums.insert(name.into(), checksum(&bytes));
        self.files.push((name.into(), bytes));
    }
}

/// The files of a pack, paths and bytes: of each input the images one after the other.
///
/// # Errors
///
/// As [`interpret`](crate::interpret()).
pub fn pack(graph: &Graph, inputs: &[&[i64]]) -> Result<Vec<(PathBuf, Vec<u8>)>, GraphError> {
    let mut pack = Pack {
        files: Vec::new(),
        cases: Cases {
            format: FORMAT.into(),
            version: VERSION,
            tensors: BTreeMap::new(),
            probes: Vec::new(),
            checksums: BTreeMap::new(),
        },
    };
    let tensors = traces(graph, inputs)?;
    for ((_, tensor), values) in graph.tensors().zip(&tensors) {
        let file = pack.add(tensor, values);
        pack.cases.tensors.insert(tensor.name.clone(), file);
    }
    for node in graph.nodes() {
        let images = probes(graph, node);
        let inputs = node.inputs.iter().enumerate().map(|(index, &id)| {
            let all: Vec<i64> = images
                .iter()
                .flat_map(|image| image[index].clone())
                .collect();
            pack.add(graph.tensor(id), &all)
        });
        let inputs = inputs.collect();
        let made = images.iter().flat_map(|image| {
            let inputs: Vec<&[i64]> = image.iter().map(Vec::as_slice).collect();
            evaluate(graph, node, &inputs)
        });
        let output = pack.add(graph.tensor(node.output), &made.collect::<Vec<_>>());
        pack.cases.probes.push(Probe {
            node: node.name.clone(),
            inputs,
            output,
        });
    }
    pack.add_file("graph.json", graph.to_json().into_bytes());
    pack.add_file("run.py", PROGRAM.as_bytes().to_vec());
    let cases = serde_json::to_vec_pretty(&pack.cases).expect("names and lists are JSON");
    pack.files.push(("cases.json".into(), cases));
    Ok(pack.files)
}

/// Every tensor's integers, of all images.
fn traces(graph: &Graph, inputs: &[&[i64]]) -> Result<Vec<Vec<i64>>, GraphError> {
    let batch = graph.batch(inputs)?;
    let mut tensors = vec![Vec::new(); graph.tensors().len()];
    for image in 0..batch {
        let of_image = |values: &&[i64]| -> Vec<i64> {
            let elements = values.len() / batch;
            values[image * elements..][..elements].to_vec()
        };
        let inputs: Vec<Vec<i64>> = inputs.iter().map(of_image).collect();
        let inputs: Vec<&[i64]> = inputs.iter().map(Vec::as_slice).collect();
        let trace = trace(graph, &inputs)?;
        for ((id, _), all) in graph.tensors().zip(&mut tensors) {
            all.extend(trace.tensor(id));
        }
    }
    Ok(tensors)
}

/// Fletcher's checksum (1982) of bytes, two sums modulo 2^32 - 1.
fn checksum(bytes: &[u8]) -> String {
    const MODULUS: u64 = u32::MAX as u64;
    let (mut sum, mut sums) = (0, 0);
    for &byte in bytes {
        sum = (sum + u64::from(byte)) % MODULUS;
        sums = (sums + sum) % MODULUS;
    }
    format!("{sums:08x}{sum:08x}")
}

/// Computes every node of a pack from what is recorded of its inputs, by the
/// [interpreter](crate::interpret()), and compares.
///
/// # Errors
///
/// The first node that differs; else the first file that is not what was recorded.
pub fn check(folder: &Path) -> Result<Checked, ConformanceError> {
    let read = |name: &str| {
        // A pack's files lie in its folder, and their names in one line.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !name.chars().all(plain) {
            let reason = format!("{name:?} is no name of a file of a pack");
            return Err(ConformanceError::file("cases.json", reason));
        }
        let bytes = std::fs::read(folder.join(name));
        bytes.map_err(|error| ConformanceError::file(name, error.to_string()))
    };
    let text = |name: &str| {
        let text = String::from_utf8(read(name)?);
        text.map_err(|_| ConformanceError::file(name, "is no text"))
    };
    let cases: Cases = serde_json::from_str(&text("cases.json")?)
        .map_err(|error| ConformanceError::file("cases.json", error.to_string()))?;
    if (cases.format.as_str(), cases.version) != (FORMAT, VERSION) {
        let reason = format!("expected format \"{FORMAT}\" version {VERSION}");
        return Err(ConformanceError::file("cases.json", reason));
    }
    let graph = Graph::from_json(&text("graph.json")?)?;
    let mut checked = Checked {
        nodes: 0,
        integers: 0,
    };
    for node in graph.nodes() {
        for (inputs, output) in recorded(&graph, node, &cases)? {
            checked.integers += compare(&graph, node, &inputs, &output, &read)?;
        }
        checked.nodes += 1;
    }
    complete(&graph, &cases)?;
    for (name, recorded) in &cases.checksums {
        if checksum(&read(name)?) != *recorded {
            return Err(ConformanceError::file(name, "is not what was recorded"));
        }
    }
    Ok(checked)
}

/// Refuses a list in which something is missing: a node's probes, or a file's checksum.
fn complete(graph: &Graph, cases: &Cases) -> Result<(), ConformanceError> {
    let missing = |what: String| Err(ConformanceError::file("cases.json", what));
    for node in graph.nodes() {
        if !cases.probes.iter().any(|probe| probe.node == node.name) {
            return missing(format!("has no probes of {}", node.name));
        }
    }
    let probes = cases
        .probes
        .iter()
        .flat_map(|probe| probe.inputs.iter().chain([&probe.output]));
    let graph = "graph.json".to_owned();
    for name in cases.tensors.values().chain(probes).chain([&graph]) {
        if !cases.checksums.contains_key(name) {
            return missing(format!("has no checksum of {name:?}"));
        }
    }
    Ok(())
}

/// The files of a node: of the images, and of its probes.
fn recorded(
    graph: &Graph,
    node: &Node,
    cases: &Cases,
) -> Result<Vec<(Vec<String>, String)>, ConformanceError> {
    let file = |id: &TensorId| {
        let name = &graph.tensor(*id).name;
        let missing = || ConformanceError::file("cases.json", format!("has no tensor {name:?}"));
        cases.tensors.get(name).cloned().ok_or_else(missing)
    };
    let inputs = node.inputs.iter().map(file).collect::<Result<_, _>>()?;
    let mut files = vec![(inputs, file(&node.output)?)];
    for probe in cases.probes.iter().filter(|probe| probe.node == node.name) {
        if probe.inputs.len() != node.inputs.len() {
            let reason = format!("{}: probes have other inputs", node.name);
            return Err(ConformanceError::file("cases.json", reason));
        }
        files.push((probe.inputs.clone(), probe.output.clone()));
    }
    Ok(files)
}

/// Compares a node with a file; returns how many integers there were.
fn compare(
    graph: &Graph,
    node: &Node,
    inputs: &[String],
    output: &str,
    read: &impl Fn(&str) -> Result<Vec<u8>, ConformanceError>,
) -> Result<usize, ConformanceError> {
    let load = |name: &str, tensor: &Tensor| {
        let values = npy::read(&read(name)?, &tensor.shape);
        values.map_err(|reason| ConformanceError::file(name, reason))
    };
    let made = graph.tensor(node.output);
    let recorded = load(output, made)?;
    let mut given = Vec::new();
    for (name, &id) in inputs.iter().zip(&node.inputs) {
        let tensor = graph.tensor(id);
        let values = load(name, tensor)?;
        within(tensor, &values).map_err(|reason| ConformanceError::file(name, reason))?;
        if values.len() / tensor.elements() != recorded.len() / made.elements() {
            return Err(ConformanceError::file(
                name,
                format!("has not as many images as {output}"),
            ));
        }
        given.push(
            values
                .chunks_exact(tensor.elements())
                .map(<[i64]>::to_vec)
                .collect::<Vec<_>>(),
        );
    }
    for (case, recorded) in recorded.chunks_exact(made.elements()).enumerate() {
        let inputs: Vec<&[i64]> = given.iter().map(|images| images[case].as_slice()).collect();
        let computed = evaluate(graph, node, &inputs);
        if let Some(element) = (0..computed.len()).find(|&e| computed[e] != recorded[e]) {
            return Err(ConformanceError::Differs {
                node: node.name.clone(),
                file: output.into(),
                case,
                element,
                recorded: recorded[element],
                computed: computed[element],
            });
        }
    }
    Ok(recorded.len())
}

/// Refuses numbers that a tensor is proven not to have, on which a node's arithmetic is not defined.
fn within(tensor: &Tensor, values: &[i64]) -> Result<(), String> {
    let elements = tensor.elements();
    for (place, value) in values.iter().enumerate() {
        let Interval { least, greatest } = tensor.intervals[tensor.channel(place % elements)];
        if !(least..=greatest).contains(value) {
            let name = &tensor.name;
            return Err(format!(
                "{name} has {value}, expected {least} to {greatest}"
            ));
        }
    }
    Ok(())
}
