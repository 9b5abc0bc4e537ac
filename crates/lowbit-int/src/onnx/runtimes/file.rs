//! A file's nodes by the node of the graph that they stand for, with the types and makers of values.

use std::collections::{HashMap, HashSet};

use crate::graph::Graph;
use crate::onnx::proto::{DataType, GraphProto, NodeProto, TensorProto};

/// What is asked of a file.
pub(super) struct File<'f> {
    of: HashMap<&'f str, Vec<&'f NodeProto>>,
    constants: HashMap<&'f str, &'f TensorProto>,
    types: HashMap<&'f str, i32>,
    makers: HashMap<&'f str, &'f NodeProto>,
    readers: HashMap<&'f str, Vec<&'f NodeProto>>,
}

impl<'f> File<'f> {
    pub(super) fn new(graph: &Graph, file: &'f GraphProto) -> Self {
        let constants = file.initializer.iter().map(|t| (t.name(), t));
        let types = file.initializer.iter().map(|t| (t.name(), t.data_type()));
        let mut nodes = Self {
            of: HashMap::new(),
            constants: constants.collect(),
            types: types.collect(),
            makers: HashMap::new(),
            readers: HashMap::new(),
        };
        let names: HashSet<&str> = graph.tensors().map(|(_, tensor)| tensor.name()).collect();
        for node in &file.node {
            let made = nodes.made(node);
            for output in &node.output {
                nodes.types.insert(output, made);
                nodes.makers.insert(output, node);
            }
            // Runtimes leave out what makes an output of a value.
            if node.op_type() != "Identity" {
                // A square reads its value once.
                for input in node.input.iter().collect::<HashSet<&String>>() {
                    nodes.readers.entry(input).or_default().push(node);
                }
            }
            if let Some(owner) = owner(node.name(), &names) {
                nodes.of.entry(owner).or_default().push(node);
            }
        }
        nodes
    }

    /// The file's nodes of a node or an input of the graph.
    pub(super) fn of(&self, name: &str) -> &[&'f NodeProto] {
        self.of.get(name).map_or(&[], Vec::as_slice)
    }

    /// The type of what a node makes; of comparisons it is of no matter.
    pub(super) fn made(&self, node: &NodeProto) -> i32 {
        match node.op_type() {
            "QuantizeLinear" => self.kind(node, 2),
            "QLinearConv" => self.kind(node, 7),
            "ConvInteger" | "MatMulInteger" => DataType::Int32 as i32,
            "DequantizeLinear" => DataType::Float as i32,
            "Cast" => integer(node, "to").unwrap_or(0) as i32,
            _ => self.kind(node, 0),
        }
    }

    /// The type of a node's input; of the file's inputs it is float.
    pub(super) fn kind(&self, node: &NodeProto, at: usize) -> i32 {
        let name = node.input.get(at).map_or("", String::as_str);
        let known = self.types.get(name).copied();
        known.unwrap_or(DataType::Float as i32)
    }

    pub(super) fn constant(&self, node: &NodeProto, at: usize) -> Option<&'f TensorProto> {
        self.constants.get(node.input.get(at)?.as_str()).copied()
    }

    /// The constant of a product or sum with one, and the other input.
    pub(super) fn constant_of_two<'n>(
        &self,
        node: &'n NodeProto,
    ) -> Option<(&'n str, &'f TensorProto)> {
        match &node.input[..] {
            [x, _] => self
                .constant(node, 1)
                .map(|constant| (x.as_str(), constant)),
            _ => None,
        }
    }

    /// The node that makes a value.
    pub(super) fn maker(&self, value: &str) -> Option<&'f NodeProto> {
        self.makers.get(value).copied()
    }

    /// The only node that reads a value; an output of the network does not count.
    pub(super) fn only_reader(&self, value: &str) -> Option<&'f NodeProto> {
        match self.readers.get(value)?[..] {
            [reader] => Some(reader),
            _ => None,
        }
    }

    /// The shape of a constant, dequantized or not.
    pub(super) fn shape(&self, name: &str) -> Option<&'f [i64]> {
        match self.constants.get(name) {
            Some(constant) => Some(&constant.dims),
            None => self.shape(self.makers.get(name)?.input.first()?),
        }
    }
}

/// The name of the graph that a file's name is, or begins with before a slash; the longest.
fn owner<'f>(name: &'f str, names: &HashSet<&str>) -> Option<&'f str> {
    let slashes = name.rmatch_indices('/').map(|(at, _)| at);
    let mut starts = std::iter::once(name.len()).chain(slashes);
    let end = starts.find(|&end| names.contains(&name[..end]))?;
    Some(&name[..end])
}

/// The floats of a constant.
pub(super) fn floats(constant: &TensorProto) -> impl Iterator<Item = f32> {
    let raw = constant.raw_data().chunks_exact(4);
    raw.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Whether all floats of a constant are powers of two.
pub(super) fn are_powers(constant: &TensorProto) -> bool {
    floats(constant).all(|f| f.is_normal() && f.to_bits() << 9 == 0)
}

/// An integer option.
fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name() == name)?.i
}

/// An option of integers.
pub(super) fn integers<'n>(node: &'n NodeProto, name: &str) -> &'n [i64] {
    let found = node.attribute.iter().find(|a| a.name() == name);
    found.map_or(&[], |a| &a.ints)
}

/// The groups of a convolution.
pub(super) fn groups(node: &NodeProto) -> i64 {
    integer(node, "group").unwrap_or(1)
}

/// Whether a type is of 16 bits.
pub(super) fn is_of_16_bits(kind: i32) -> bool {
    [DataType::Uint16 as i32, DataType::Int16 as i32].contains(&kind)
}
