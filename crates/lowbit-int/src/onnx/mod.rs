//! Graphs as ONNX files, in three dialects, with the same bits in a runtime of floats.
//!
//! Inputs and outputs are floats: the real numbers that the integers stand for. What enters is brought
//! to the input's integers by the file itself. The batch is a free first dimension.
//!
//! [`certificate`] says, operator by operator and runtime by runtime, where the bits are the
//! interpreter's and why; `docs/onnx.md` has the rules and what was measured.
//!
//! ```
//! use lowbit_int::onnx::{self, Dialect};
//! use lowbit_int::ops::{Linear, Requantize, Weights};
//! use lowbit_int::{Graph, Numbers, Rounding};
//!
//! let mut graph = Graph::new();
//! let x = graph.input("x", &[3], Numbers::power_of_two(4, false, -4)?)?;
//! let weights = Weights {
//!     shape: vec![2, 3],
//!     numbers: Numbers::power_of_two(4, true, -3)?,
//!     values: vec![1, -2, 3, 7, 0, -8],
//! };
//! let sums = graph.push("linear", Linear { weights, bias: Some(vec![4, -5]) }, &[x])?;
//! let output = Numbers::power_of_two(4, true, -4)?;
//! let y = graph.push("y", Requantize::by_shift(3, Rounding::HalfEven, output), &[sums])?;
//! graph.output(y)?;
//!
//! let file = onnx::write(&graph, Dialect::Qdq)?;
//! assert!(onnx::certificate(&graph, Dialect::Qdq)?.is_exact());
//! # assert!(file.len() > 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod certificate;
mod float;
mod input;
mod integer;
mod model;
mod plan;
pub mod proto;
mod read;
mod requantize;
mod runtimes;
mod shift;
mod steps;
mod windows;

use std::fmt;
use std::str::FromStr;

use prost::Message;
use thiserror::Error;

pub use certificate::{Certificate, Elsewhere, Entry, Runtime, Verdict, certificate};
pub use read::read;

use crate::graph::Graph;

/// The domain of QONNX's operators.
const QONNX_DOMAIN: &str = "qonnx.custom_op.general";

/// How a file says that numbers are quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Floats between `QuantizeLinear` and `DequantizeLinear`, which runtimes fuse.
    Qdq,
    /// Operators on integers: `QLinearConv`, `ConvInteger`, `MatMulInteger`.
    QOperator,
    /// Floats with `Quant` nodes, as Brevitas and FINN have them.
    Qonnx,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Qdq, Self::QOperator, Self::Qonnx];
}

/// Its name, as [`from_str`](FromStr::from_str) reads it.
impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Qdq => "onnx-qdq",
            Self::QOperator => "onnx-qoperator",
            Self::Qonnx => "qonnx",
        })
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|d| d.to_string() == text);
        found.ok_or_else(|| {
            format!("dialect is {text:?}, expected onnx-qdq, onnx-qoperator or qonnx")
        })
    }
}

/// What becomes of requantizations that do not round half to even and can have a tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ties {
    /// They get rounding operators of their own, which nothing fuses: the same bits, slower.
    #[default]
    Exact,
    /// They are quantizers, which round half to even: other bits at ties, which the certificate names.
    ToEven,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Options {
    /// The dialect.
    pub dialect: Dialect,
    /// What becomes of ties.
    pub ties: Ties,
}

/// With the same bits at ties.
impl From<Dialect> for Options {
    fn from(dialect: Dialect) -> Self {
        Self {
            dialect,
            ties: Ties::Exact,
        }
    }
}

/// What a dialect cannot say.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{node}: {reason}")]
pub struct ExportError {
    /// The node's name, or the input's.
    pub node: String,
    /// What cannot be said.
    pub reason: String,
}

impl ExportError {
    fn new(node: &str, reason: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            reason: reason.into(),
        }
    }
}

/// A graph as the bytes of an ONNX file. The same graph always gives the same bytes.
///
/// # Errors
///
/// One line with the node's name: an operator or a width that the dialect cannot say.
pub fn write(graph: &Graph, options: impl Into<Options>) -> Result<Vec<u8>, ExportError> {
    let (model, _) = model(graph, options.into())?;
    Ok(model.encode_to_vec())
}

/// The file before it is bytes, and how one of floats says requantizations.
fn model(
    graph: &Graph,
    options: Options,
) -> Result<(proto::ModelProto, float::Plans), ExportError> {
    check(graph)?;
    match options.dialect {
        Dialect::QOperator => Ok((integer::write(graph)?, float::Plans::new())),
        Dialect::Qdq | Dialect::Qonnx => float::write(graph, options),
    }
}

/// Checks that there is an output, and that floats hold every step of tensors and weights.
fn check(graph: &Graph) -> Result<(), ExportError> {
    if graph.outputs().is_empty() {
        return Err(ExportError::new("outputs", "a file has one or more"));
    }
    let exponents = steps::exponents(graph);
    let beyond = |bits: u32, exponent: i32| {
        let fits = exponent >= -126 && exponent + bits as i32 <= 126;
        (!fits).then(|| {
            format!("{bits} bits in steps of 2^{exponent} are beyond the floats of a file")
        })
    };
    for ((_, tensor), exponent) in graph.tensors().zip(exponents) {
        if let Some(reason) = beyond(tensor.numbers().bits(), exponent) {
            return Err(ExportError::new(tensor.name(), reason));
        }
    }
    for node in graph.nodes() {
        let numbers = node.operator().weights().map(|weights| weights.numbers);
        let found = numbers.and_then(|numbers| beyond(numbers.bits(), steps::nearest(numbers)));
        if let Some(reason) = found {
            return Err(ExportError::new(
                node.name(),
                format!("weights of {reason}"),
            ));
        }
    }
    Ok(())
}
