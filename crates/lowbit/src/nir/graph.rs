//! A graph of nodes as a file holds it.

use std::collections::BTreeMap;

/// Numbers or texts with their shape, row-major; a scalar has no dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Values,
}

/// What an [`Array`] holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers of 64 bits, in which those of 32 are exact.
    Float(Vec<f64>),
    /// Whole numbers.
    Integer(Vec<i64>),
    /// Texts.
    Text(Vec<String>),
}

impl Array {
    /// A vector of numbers.
    pub fn vector(values: Vec<f64>) -> Self {
        Self {
            shape: vec![values.len()],
            values: Values::Float(values),
        }
    }

    /// Numbers of that shape.
    pub fn float(shape: Vec<usize>, values: Vec<f64>) -> Self {
        Self {
            shape,
            values: Values::Float(values),
        }
    }

    /// A vector of whole numbers.
    pub fn integers(values: Vec<i64>) -> Self {
        Self {
            shape: vec![values.len()],
            values: Values::Integer(values),
        }
    }

    /// One whole number.
    pub fn integer(value: i64) -> Self {
        Self {
            shape: Vec::new(),
            values: Values::Integer(vec![value]),
        }
    }

    /// A text.
    pub fn text(value: impl Into<String>) -> Self {
        Self {
            shape: Vec::new(),
            values: Values::Text(vec![value.into()]),
        }
    }

    /// The numbers, whole or not; none of texts.
    pub fn numbers(&self) -> Vec<f64> {
        match &self.values {
            Values::Float(values) => values.clone(),
            Values::Integer(values) => values.iter().map(|&x| x as f64).collect(),
            Values::Text(_) => Vec::new(),
        }
    }
}

/// A node: its type and fields, by NIR's names
/// ([nir documentation](https://neuroir.org/docs/primitives.html)).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Such as `Affine` or `LIF`.
    pub kind: String,
    /// Such as `weight`, `tau`, `v_threshold`.
    pub fields: BTreeMap<String, Array>,
    /// What no simulator needs: ours keeps what is quantized here.
    pub metadata: BTreeMap<String, Array>,
    /// The nodes of a `NIRGraph` within.
    pub graph: Option<Graph>,
}

impl Node {
    /// A node of that type without fields.
    pub fn new(kind: &str) -> Self {
        Self {
            kind: kind.into(),
            ..Self::default()
        }
    }

    /// The same with a field.
    pub fn with(mut self, field: &str, value: Array) -> Self {
        self.fields.insert(field.into(), value);
        self
    }

    /// The same with a text among its metadata.
    pub fn with_metadata(mut self, key: &str, text: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), Array::text(text));
        self
    }
}

/// Nodes by name, and the edges between them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// The nodes.
    pub nodes: BTreeMap<String, Node>,
    /// From and to.
    pub edges: Vec<(String, String)>,
    /// Of the graph itself.
    pub metadata: BTreeMap<String, Array>,
}

impl Graph {
    /// Nodes one after the other, between an input and an output of these shapes, without batch and
    /// time.
    pub fn chain(
        input: &[usize],
        nodes: impl IntoIterator<Item = (String, Node)>,
        output: &[usize],
    ) -> Self {
        let shape = |shape: &[usize]| Array::integers(shape.iter().map(|&n| n as i64).collect());
        let ends = |kind: &str, dims| Node::new(kind).with("shape", shape(dims));
        let mut graph = Self::default();
        let mut last = String::from("input");
        graph.nodes.insert(last.clone(), ends("Input", input));
        let output = (String::from("output"), ends("Output", output));
        for (name, node) in nodes.into_iter().chain([output]) {
            graph.edges.push((last, name.clone()));
            graph.nodes.insert(name.clone(), node);
            last = name;
        }
        graph
    }
}
