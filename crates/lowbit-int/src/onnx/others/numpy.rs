//! ONNX's reference evaluator, onnx 1.23.

use super::file::File;
use super::{Found, agreement};
use crate::graph::{Graph, Node};
use crate::onnx::certificate::{Verdict, of_agreement};
use crate::onnx::proto::NodeProto;
use crate::onnx::requantize::Form;

/// `QLinearConv` in onnx/reference/ops/op_qlinear_conv.py: NumPy's product of `int32` and `float32` is of
/// `float64`, and the zero point is added before it is rounded.
pub(super) fn judge(graph: &Graph, node: &Node, file: &File, of_file: &NodeProto) -> Found {
    if of_file.op_type() != "QLinearConv" {
        return None;
    }
    let agreement = agreement(
        graph,
        node,
        file.constant(of_file, 4)?,
        Form::ProductZeroFirst,
    )?;
    let (verdict, reason) = of_agreement(&agreement);
    (verdict != Verdict::Exact).then(|| (verdict, format!("numpy rounds float64: {reason}")))
}
