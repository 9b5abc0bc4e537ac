//! ONNX's reference evaluator, onnx 1.23.

use super::file::File;
use super::{Found, agreement};
use crate::graph::{Graph, Node};
use crate::onnx::Dialect;
use crate::onnx::certificate::{Verdict, of_agreement};
use crate::onnx::requantize::Form;
use crate::ops::{AveragePool, MaxPool, Operator, Windows};

/// What holds of a node of the graph.
pub(super) fn judge(graph: &Graph, node: &Node, file: &File, dialect: Dialect) -> Found {
    match defect(node.operator(), dialect) {
        Some(reason) => Some((Verdict::Differs, reason.to_owned())),
        None => requantized(graph, node, file),
    }
}

/// What ONNX's reference evaluator does not do by the book.
fn defect(operator: &Operator, dialect: Dialect) -> Option<&'static str> {
    match operator {
        Operator::Convolution(convolution) if convolution.transposed.is_some() => {
            Some("numpy's transposed convolutions are others where they have groups or padding")
        }
        Operator::Convolution(convolution)
            if dialect == Dialect::QOperator && convolution.weights.shape.len() == 3 =>
        {
            Some("numpy's QLinearConv of sequences fails where it has a bias")
        }
        Operator::MaxPool(MaxPool {
            windows: Windows::Sliding { sliding, .. },
        })
        | Operator::AveragePool(AveragePool {
            windows: Windows::Sliding { sliding, .. },
            ..
        }) => {
            let padding = sliding.padding.as_flattened();
            let padded = padding.iter().any(|&p| p > 0);
            let uneven = padding.iter().any(|&p| p != padding[0]);
            let sequence = sliding.padding.len() == 1;
            (uneven || sequence && padded)
                .then_some("numpy's pools fail or are others with uneven padding or of sequences")
        }
        _ => None,
    }
}

/// `QLinearConv` in onnx/reference/ops/op_qlinear_conv.py: NumPy's product of `int32` and `float32` is of
/// `float64`, and the zero point is added before it is rounded.
fn requantized(graph: &Graph, node: &Node, file: &File) -> Found {
    let mut nodes = file.of(node.name()).iter();
    let convolution = nodes.find(|of_file| of_file.op_type() == "QLinearConv")?;
    let scales = file.constant(convolution, 4)?;
    let agreement = agreement(graph, node, scales, Form::ProductZeroFirst)?;
    let (verdict, reason) = of_agreement(&agreement);
    Some((verdict, format!("numpy rounds float64: {reason}")))
}
