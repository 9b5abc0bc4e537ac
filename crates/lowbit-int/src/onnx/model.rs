//! A file that grows: nodes, constants, and names that nothing else has.

use std::collections::HashSet;

use super::proto::{
    AttributeProto, DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};
use super::{Dialect, QONNX_DOMAIN};
use crate::graph::Graph;
use crate::tensor::Tensor;

/// The IR version of ONNX 1.16, the first with opset 21.
const IR_VERSION: i64 = 10;
/// The first opset whose QuantizeLinear has 16 bits.
const OPSET: i64 = 21;

/// Nodes and constants so far.
pub(super) struct Model {
    graph: GraphProto,
    names: HashSet<String>,
}

/// An option of an operator.
#[derive(Debug, Clone)]
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, Vec<i64>),
    Text(&'a str, &'a str),
}

impl From<Attribute<'_>> for AttributeProto {
    fn from(attribute: Attribute) -> Self {
        match attribute {
            Attribute::Int(name, value) => Self {
                name: Some(name.into()),
                i: Some(value),
                r#type: Some(2),
                ..Self::default()
            },
            Attribute::Ints(name, values) => Self {
                name: Some(name.into()),
                ints: values,
                r#type: Some(7),
                ..Self::default()
            },
            Attribute::Text(name, text) => Self {
                name: Some(name.into()),
                s: Some(text.into()),
                r#type: Some(3),
                ..Self::default()
            },
        }
    }
}

/// Sizes as ONNX has them.
pub(super) fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&size| size as i64).collect()
}

impl Model {
    /// A file with the graph's inputs and outputs, whose names no other value gets.
    pub(super) fn new(graph: &Graph) -> Self {
        let names = graph.tensors().map(|(_, tensor)| tensor.name().to_owned());
        Self {
            names: names.collect(),
            graph: GraphProto {
                name: Some("lowbit".into()),
                ..GraphProto::default()
            },
        }
    }

    /// A name that begins with this and that nothing has.
    pub(super) fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        let mut count = 1;
        while !self.names.insert(unique.clone()) {
            count += 1;
            unique = format!("{name}_{count}");
        }
        unique
    }

    /// An input of floats, with a free batch.
    pub(super) fn input(&mut self, tensor: &Tensor) -> String {
        self.graph.input.push(value_info(tensor.name(), tensor));
        tensor.name().into()
    }

    /// An output of floats; its name is the tensor's, but where an input has that.
    pub(super) fn output(&mut self, tensor: &Tensor, value: &str, is_input: bool) {
        let name = if is_input {
            self.unique(&format!("{}/output", tensor.name()))
        } else {
            tensor.name().into()
        };
        let node = self.unique(&format!("{name}/Identity"));
        self.push("Identity", "", &node, &name, &[value], vec![]);
        self.graph.output.push(value_info(&name, tensor));
    }

    /// The node that carries the name of the graph's node, and its value.
    pub(super) fn main(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> String {
        let value = self.unique(&format!("{name}/{op}"));
        self.push(op, "", name, &value, inputs, attributes);
        value
    }

    /// A node beside it.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> String {
        self.beside(op, "", name, inputs, attributes)
    }

    /// A node of QONNX.
    pub(super) fn qonnx(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> String {
        self.beside(op, QONNX_DOMAIN, name, inputs, attributes)
    }

    /// A node that is called as its value.
    fn beside(
        &mut self,
        op: &str,
        domain: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> String {
        let value = self.unique(&format!("{name}/{op}"));
        self.push(op, domain, &value, &value, inputs, attributes);
        value
    }

    fn push(
        &mut self,
        op: &str,
        domain: &str,
        name: &str,
        output: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            name: Some(name.into()),
            op_type: Some(op.into()),
            attribute: attributes.into_iter().map(AttributeProto::from).collect(),
            domain: (!domain.is_empty()).then(|| domain.into()),
        });
    }

    /// A constant of floats.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.constant(name, DataType::Float, shape, bytes.collect())
    }

    /// A constant of integers, which the type holds.
    pub(super) fn integers(
        &mut self,
        name: &str,
        data_type: DataType,
        shape: &[usize],
        values: &[i64],
    ) -> String {
        let width = match data_type {
            DataType::Uint8 | DataType::Int8 => 1,
            DataType::Uint16 | DataType::Int16 => 2,
            DataType::Int32 | DataType::Float => 4,
            DataType::Int64 => 8,
        };
        // The low bytes of a two's complement number that fits are that number, with or without sign.
        let bytes = values.iter().flat_map(|value| {
            let bytes = value.to_le_bytes();
            bytes.into_iter().take(width)
        });
        self.constant(name, data_type, shape, bytes.collect())
    }

    /// An operator with integer constants: one for all, or one for each index of the first of `rank`
    /// dimensions; nothing if they change nothing.
    pub(super) fn with_integers(
        &mut self,
        op: &str,
        name: &str,
        value: &str,
        (constants, data_type): (&[i64], DataType),
        rank: usize,
    ) -> String {
        let neutral = i64::from(matches!(op, "Mul" | "Div"));
        if constants.iter().all(|&c| c == neutral) {
            return value.into();
        }
        let mut shape = vec![];
        if constants.len() > 1 {
            shape = vec![1; rank];
            shape[0] = constants.len();
        }
        let constant_name = format!("{name}/{op}/constant");
        let constant = self.integers(&constant_name, data_type, &shape, constants);
        self.node(op, name, &[value, &constant], vec![])
    }

    /// A conversion.
    pub(super) fn cast(&mut self, name: &str, value: &str, to: DataType) -> String {
        let to = vec![Attribute::Int("to", to as i64)];
        self.node("Cast", name, &[value], to)
    }

    fn constant(
        &mut self,
        name: &str,
        data_type: DataType,
        shape: &[usize],
        bytes: Vec<u8>,
    ) -> String {
        let name = self.unique(name);
        self.graph.initializer.push(TensorProto {
            dims: sizes(shape),
            data_type: Some(data_type as i32),
            name: Some(name.clone()),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
        name
    }

    /// The whole file.
    pub(super) fn finish(self, dialect: Dialect) -> ModelProto {
        let mut domains = vec![("", OPSET)];
        if dialect == Dialect::Qonnx {
            domains.push((QONNX_DOMAIN, 1));
        }
        let opset = |(domain, version): (&str, i64)| OperatorSetIdProto {
            domain: Some(domain.into()),
            version: Some(version),
        };
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("lowbit".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(self.graph),
            opset_import: domains.into_iter().map(opset).collect(),
            metadata_props: vec![StringStringEntryProto {
                key: Some("lowbit.dialect".into()),
                value: Some(dialect.to_string()),
            }],
        }
    }
}

fn value_info(name: &str, tensor: &Tensor) -> ValueInfoProto {
    let free = Dimension::Free("batch".into());
    let sizes = tensor
        .shape()
        .iter()
        .map(|&size| Dimension::Size(size as i64));
    let dimension = |value| DimensionProto { value: Some(value) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(DataType::Float as i32),
                shape: Some(TensorShapeProto {
                    dim: std::iter::once(free).chain(sizes).map(dimension).collect(),
                }),
            }),
        }),
    }
}
