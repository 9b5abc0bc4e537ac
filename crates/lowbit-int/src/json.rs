//! Graphs as JSON, in integers: for circuits, proofs, other tools, and people.
//!
//! ```json
//! {"format":"lowbit-int","version":1,
//! "inputs":[
//! {"name":"x","shape":[2],"numbers":{"bits":8,"signed":true,"exponent":-7}}],
//! "nodes":[
//! {"name":"y","inputs":["x"],"op":"rectifier"}],
//! "outputs":["y"]}
//! ```
//!
//! An input's rounding says how real numbers become its integers
//! ([`Graph::round_input`]); files without it are rounded half to even.
//! A node's other keys are its operator's fields ([`ops`](crate::ops)). What a reader makes of a file
//! goes through the same checks as a graph that is built, so that a file that is read can be run.

use std::path::Path;

use lowbit_formats::new_file;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::GraphError;
use crate::graph::{Graph, TensorId};
use crate::numbers::Numbers;
use crate::ops::{Operator, Rounding};
use crate::tensor::Interval;

const FORMAT: &str = "lowbit-int";
const VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    inputs: Vec<Value>,
    nodes: Vec<Value>,
    outputs: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    shape: Vec<usize>,
    numbers: Numbers,
    #[serde(default = "half_even", skip_serializing_if = "is_half_even")]
    rounding: Rounding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limits: Option<[i64; 2]>,
}

/// The rounding of inputs in files that do not say it.
fn half_even() -> Rounding {
    Rounding::HalfEven
}

fn is_half_even(rounding: &Rounding) -> bool {
    *rounding == half_even()
}

#[derive(Serialize)]
struct NodeText<'a> {
    name: &'a str,
    inputs: Vec<&'a str>,
    #[serde(flatten)]
    operator: &'a Operator,
}

impl Graph {
    /// The graph as JSON, a line for each input and node.
    pub fn to_json(&self) -> String {
        fn text(value: &impl Serialize) -> String {
            serde_json::to_string(value).expect("integers, finite numbers and names are JSON")
        }
        let name = |id: &TensorId| self.tensor(*id).name();
        let inputs = self
            .inputs()
            .iter()
            .zip(&self.roundings)
            .map(|(&id, &rounding)| {
                let tensor = self.tensor(id);
                let numbers = tensor.numbers();
                let Interval { least, greatest } = tensor.interval();
                let limited = [least, greatest] != [numbers.least(), numbers.greatest()];
                text(&Input {
                    name: tensor.name().into(),
                    shape: tensor.shape().to_vec(),
                    numbers,
                    rounding,
                    limits: limited.then_some([least, greatest]),
                })
            });
        let nodes = self.nodes().iter().map(|node| {
            text(&NodeText {
                name: node.name(),
                inputs: node.inputs().iter().map(name).collect(),
                operator: node.operator(),
            })
        });
        let outputs: Vec<&str> = self.outputs().iter().map(name).collect();
        format!(
            "{{\"format\":\"{FORMAT}\",\"version\":{VERSION},\n\"inputs\":[\n{}],\n\"nodes\":[\n{}],\n\
             \"outputs\":{}}}\n",
            inputs.collect::<Vec<_>>().join(",\n"),
            nodes.collect::<Vec<_>>().join(",\n"),
            text(&outputs)
        )
    }

    /// The graph of a text that [`to_json`](Self::to_json) wrote, or another program.
    ///
    /// # Errors
    ///
    /// One line: where the text is no JSON, or which node does not fit and why.
    pub fn from_json(text: &str) -> Result<Self, GraphError> {
        let failed = |reason: String| GraphError::file(Path::new("JSON"), reason);
        let file: File = serde_json::from_str(text).map_err(|error| failed(error.to_string()))?;
        if (file.format.as_str(), file.version) != (FORMAT, VERSION) {
            return Err(failed(format!(
                "format {:?} version {}, expected \"{FORMAT}\" version {VERSION}",
                file.format, file.version
            )));
        }
        let mut graph = Self::new();
        for (index, input) in file.inputs.into_iter().enumerate() {
            let name = name_of(&input, "input", index);
            let input: Input = serde_json::from_value(input)
                .map_err(|error| GraphError::node(name, error.to_string()))?;
            let id = graph.input(&input.name, &input.shape, input.numbers)?;
            graph.round_input(id, input.rounding)?;
            if let Some([least, greatest]) = input.limits {
                graph.limit(id, Interval { least, greatest })?;
            }
        }
        for (index, node) in file.nodes.into_iter().enumerate() {
            graph.push_json(node, index)?;
        }
        for name in &file.outputs {
            let id = graph.find(name);
            let id = id.ok_or_else(|| GraphError::node(name, "is an output, but no tensor"))?;
            graph.output(id)?;
        }
        Ok(graph)
    }

    fn push_json(&mut self, node: Value, index: usize) -> Result<(), GraphError> {
        let name = name_of(&node, "node", index);
        let failed = |reason: String| GraphError::node(&name, reason);
        let Value::Object(mut fields) = node else {
            return Err(failed("is no object".into()));
        };
        let given: String = field(&mut fields, "name").map_err(failed)?;
        let inputs: Vec<String> = field(&mut fields, "inputs").map_err(failed)?;
        let operator = Operator::deserialize(Value::Object(fields));
        let operator = operator.map_err(|error| failed(error.to_string()))?;
        let find = |input: &String| {
            let id = self.find(input);
            id.ok_or_else(|| failed(format!("no tensor {input:?} comes before it")))
        };
        let inputs = inputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        self.push(&given, operator, &inputs).map(drop)
    }

    /// Writes the graph as JSON. The file appears when it is complete.
    ///
    /// # Errors
    ///
    /// If the system does not let it be written.
    pub fn write(&self, path: &Path) -> Result<(), GraphError> {
        new_file::write(path, self.to_json().as_bytes())
            .map_err(|error| GraphError::file(path, error))
    }

    /// Reads a graph of JSON.
    ///
    /// # Errors
    ///
    /// One line with the path, and the node that does not fit.
    pub fn read(path: &Path) -> Result<Self, GraphError> {
        let text = std::fs::read_to_string(path).map_err(|error| GraphError::file(path, error))?;
        Self::from_json(&text).map_err(|error| match error {
            GraphError::File { reason, .. } => GraphError::file(path, reason),
            GraphError::Node { .. } => GraphError::file(path, error),
        })
    }
}

/// What a node or input is called before it is known to have a name.
fn name_of(value: &Value, what: &str, index: usize) -> String {
    match value.get("name").and_then(Value::as_str) {
        Some(name) => name.into(),
        None => format!("{what} {index}"),
    }
}

fn field<T: for<'a> Deserialize<'a>>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<T, String> {
    let value = fields.remove(name).ok_or(format!("has no {name}"))?;
    serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))
}
