//! What tract 0.23 and rten 0.27 have of a file's operators, as measured by `benches/peers/onnx_rust`.

use std::collections::HashMap;

use super::certificate::{Runtime, Verdict};
use super::proto::{DataType, GraphProto, NodeProto, TensorProto};
use crate::graph::{Graph, Node};

/// What holds of an operator, and why.
pub(super) type Found = Option<(Verdict, &'static str)>;

/// The nodes of a file, by the node or input of the graph that they stand for.
pub(super) struct Nodes<'f> {
    of: HashMap<&'f str, Vec<&'f NodeProto>>,
    constants: HashMap<&'f str, &'f TensorProto>,
    types: HashMap<&'f str, i32>,
    makers: HashMap<&'f str, &'f NodeProto>,
    readers: HashMap<&'f str, usize>,
}

impl<'f> Nodes<'f> {
    pub(super) fn new(graph: &'f Graph, file: &'f GraphProto) -> Self {
        let constants = file.initializer.iter().map(|t| (t.name(), t));
        let types = file.initializer.iter().map(|t| (t.name(), t.data_type()));
        let mut nodes = Self {
            of: HashMap::new(),
            constants: constants.collect(),
            types: types.collect(),
            makers: HashMap::new(),
            readers: HashMap::new(),
        };
        // An output of the network does not count.
        let readers = file.node.iter().filter(|node| node.op_type() != "Identity");
        for input in readers.flat_map(|node| &node.input) {
            *nodes.readers.entry(input).or_default() += 1;
        }
        for node in &file.node {
            let made = nodes.made(node);
            for output in &node.output {
                nodes.types.insert(output, made);
                nodes.makers.insert(output, node);
            }
            let names = graph.tensors().map(|(_, tensor)| tensor.name());
            let owners = names.filter(|name| {
                let rest = node.name().strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            if let Some(owner) = owners.max_by_key(|name| name.len()) {
                nodes.of.entry(owner).or_default().push(node);
            }
        }
        nodes
    }

    /// The type of what a node makes; of comparisons it is of no matter.
    fn made(&self, node: &NodeProto) -> i32 {
        let to = node.attribute.iter().find(|a| a.name() == "to");
        match node.op_type() {
            "QuantizeLinear" => self.kind(node, 2),
            "QLinearConv" => DataType::Uint8 as i32,
            "ConvInteger" | "MatMulInteger" => DataType::Int32 as i32,
            "DequantizeLinear" => DataType::Float as i32,
            "Cast" => to.map_or(0, |to| to.i() as i32),
            _ => self.kind(node, 0),
        }
    }

    /// The type of a node's input; of the file's inputs it is float.
    fn kind(&self, node: &NodeProto, at: usize) -> i32 {
        let name = node.input.get(at).map_or("", String::as_str);
        self.types.get(name).copied().unwrap_or(1)
    }

    /// What a runtime has of a node of the graph, and of the inputs that it reads.
    pub(super) fn judge(&self, graph: &Graph, node: &Node, runtime: Runtime) -> Found {
        let inputs = node
            .inputs()
            .iter()
            .filter(|id| graph.inputs().contains(id));
        let names = inputs.map(|&id| graph.tensor(id).name());
        let names = names.chain([node.name()]);
        let nodes = names.filter_map(|name| self.of.get(name)).flatten();
        let found = nodes.filter_map(|node| match runtime {
            Runtime::Tract => self.tract(node),
            Runtime::Rten => self.rten(node),
            _ => None,
        });
        found.max_by_key(|(verdict, _)| *verdict)
    }

    fn tract(&self, node: &NodeProto) -> Found {
        let wide = DataType::Int64 as i32;
        let is_wide = self.kind(node, 0) == wide;
        let kinds = [self.kind(node, 0), self.made(node)];
        let quantizes = matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear");
        match node.op_type() {
            "Quant" => Some((Verdict::CannotRun, "tract has no Quant")),
            _ if quantizes && kinds.into_iter().any(is_of_16_bits) => {
                Some((Verdict::CannotRun, "tract quantizes to 8 bits alone"))
            }
            "MatMul" if is_wide => Some((Verdict::CannotRun, "tract has no MatMul of int64")),
            "Mul" if is_wide && node.input[0] == node.input[1] => {
                Some((Verdict::CannotRun, "tract has no squares of int64"))
            }
            "Div" if is_wide => Some((Verdict::Differs, "tract divides int64 otherwise")),
            "Mul" | "Add" | "Sub" if self.is_folded(node) => Some((
                Verdict::Differs,
                "tract makes constants of channels part of the convolution before",
            )),
            _ => None,
        }
    }

    /// Whether a product or sum with a constant for each channel, which a float may not have, is made part
    /// of the convolution that it reads, or of what is part of that.
    fn is_folded(&self, node: &NodeProto) -> bool {
        let mut at = node;
        let mut is_exact = true;
        loop {
            let [x, constant] = &at.input[..] else {
                return false;
            };
            let Some(constant) = self.constants.get(constant.as_str()) else {
                return false;
            };
            let floats = constant.raw_data().chunks_exact(4);
            let mut floats = floats.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let powers = floats.all(|f| f.is_normal() && f.to_bits() << 9 == 0);
            is_exact &= at.op_type() == "Mul" && powers;
            let count: i64 = constant.dims.iter().product();
            let Some(before) = self.makers.get(x.as_str()) else {
                return false;
            };
            if self.readers.get(x.as_str()) != Some(&1) {
                return false;
            }
            if before.op_type() == "Conv" {
                let weights = before.input.get(1);
                let weights = weights.and_then(|name| self.shape(name));
                let outputs = weights.and_then(|dims| dims.first()).copied();
                return outputs == Some(count) && !is_exact;
            }
            if !matches!(before.op_type(), "Mul" | "Add" | "Sub") {
                return false;
            }
            at = before;
        }
    }

    /// The shape of a constant, dequantized or not.
    fn shape(&self, name: &str) -> Option<&[i64]> {
        match self.constants.get(name) {
            Some(constant) => Some(&constant.dims),
            None => self.shape(self.makers.get(name)?.input.first()?),
        }
    }

    fn rten(&self, node: &NodeProto) -> Found {
        let kind = self.kind(node, 0);
        let bytes = [DataType::Uint8 as i32, DataType::Int8 as i32].contains(&kind);
        let is_wide = kind == DataType::Int64 as i32;
        let is_float = kind == DataType::Float as i32;
        let inputs = 0..node.input.len();
        let mut kinds = inputs.map(|at| self.kind(node, at));
        let reason = match node.op_type() {
            _ if kinds.any(is_of_16_bits) || is_of_16_bits(self.made(node)) => {
                "rten has no integers of 16 bits"
            }
            "Quant" => "rten has no Quant",
            "QLinearConv" => "rten has no QLinearConv",
            "Clip" if bytes => "rten has no Clip of bytes",
            "MaxPool" if bytes => "rten has no MaxPool of bytes",
            "ReduceMax" if bytes => "rten has no ReduceMax of bytes",
            "MatMul" if !is_float => "rten has no MatMul of integers",
            "MaxPool" if is_beyond(node, "dilations", 1) => "rten has no dilations in MaxPool",
            "Div" | "Mul" | "Add" if is_wide => {
                return Some((Verdict::Differs, "rten holds int64 in 32 bits"));
            }
            "ConvInteger" if is_beyond(node, "pads", 0) && self.has_zero(node) => {
                let reason = "rten pads with 0 in place of the zero point";
                return Some((Verdict::Differs, reason));
            }
            _ => return None,
        };
        Some((Verdict::CannotRun, reason))
    }

    /// Whether a product of integers has an input zero point that is not 0.
    fn has_zero(&self, node: &NodeProto) -> bool {
        let zero = node
            .input
            .get(2)
            .and_then(|name| self.constants.get(name.as_str()));
        zero.is_some_and(|zero| zero.raw_data().iter().any(|&b| b != 0))
    }
}

fn is_of_16_bits(kind: i32) -> bool {
    [DataType::Uint16 as i32, DataType::Int16 as i32].contains(&kind)
}

/// Whether an attribute has a number that is greater.
fn is_beyond(node: &NodeProto, name: &str, number: i64) -> bool {
    let found = node.attribute.iter().find(|a| a.name() == name);
    found.is_some_and(|a| a.ints.iter().any(|&i| i > number))
}
