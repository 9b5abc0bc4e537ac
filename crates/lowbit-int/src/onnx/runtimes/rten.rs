//! rten 0.27.0.

use super::file::{File, groups, integers, is_of_16_bits};
use super::{Found, is_wide};
use crate::graph::{Graph, Node};
use crate::onnx::certificate::Verdict;
use crate::onnx::proto::{DataType, NodeProto};

/// What holds of one node of a file.
pub(super) fn judge(graph: &Graph, node: &Node, file: &File, of_file: &NodeProto) -> Found {
    let differs = |reason: &str| Some((Verdict::Differs, reason.to_owned()));
    if let Some(reason) = missing(file, of_file) {
        return Some((Verdict::CannotRun, reason.to_owned()));
    }
    let kinds = [file.kind(of_file, 0), file.made(of_file)];
    let has_wide = kinds.contains(&(DataType::Int64 as i32));
    match of_file.op_type() {
        // rten/src/model/onnx_loader.rs.
        "Mul" | "Div" | "Add" if has_wide => differs("rten holds int64 in 32 bits"),
        _ if has_wide && is_wide(graph, node) => differs("rten holds int64 in 32 bits"),
        "ConvInteger" if !is_depthwise(file, of_file) => {
            differs("rten's sums of gathered bytes lose zero points")
        }
        _ => None,
    }
}

/// What rten has not, by rten/src/op_registry/onnx_registry.rs and the types that the operators in
/// rten/src/ops take.
fn missing(file: &File, node: &NodeProto) -> Option<&'static str> {
    let kind = file.kind(node, 0);
    let is_byte = [DataType::Uint8 as i32, DataType::Int8 as i32].contains(&kind);
    let mut kinds = (0..node.input.len()).map(|at| file.kind(node, at));
    let has_16_bits = kinds.any(is_of_16_bits) || is_of_16_bits(file.made(node));
    let windows = matches!(
        node.op_type(),
        "Conv" | "ConvInteger" | "ConvTranspose" | "MaxPool" | "AveragePool"
    );
    Some(match node.op_type() {
        _ if !node.domain().is_empty() => "rten has no Quant",
        _ if has_16_bits => "rten has no integers of 16 bits",
        "QLinearConv" => "rten has no QLinearConv",
        "Clip" if is_byte => "rten has no Clip of bytes",
        "Concat" if is_byte => "rten has no Concat of bytes",
        "MaxPool" if is_byte => "rten has no MaxPool of bytes",
        "ReduceMax" if is_byte => "rten has no ReduceMax of bytes",
        "MatMul" if kind != DataType::Float as i32 => "rten has no MatMul of integers",
        "MaxPool" if integers(node, "dilations").iter().any(|&d| d > 1) => {
            "rten has no dilations in MaxPool"
        }
        _ if windows && integers(node, "kernel_shape").len() > 2 => {
            "rten has windows of two dimensions at most"
        }
        _ => return None,
    })
}

/// Whether each channel has a filter alone, which is summed as it is defined
/// (rten/src/ops/conv/depthwise.rs). Others are products of matrices of gathered bytes: in those sums were
/// found that lack the weights' zero point, by which rten shifts them, and what is padded with is the byte 0
/// on processors with VNNI and 128 on others, whatever the zero point (rten-gemm/src/im2col.rs).
fn is_depthwise(file: &File, node: &NodeProto) -> bool {
    let weights = node.input.get(1).and_then(|name| file.shape(name));
    // Outputs, inputs of a group, kernel.
    weights.is_some_and(|dims| dims[1] == 1 && dims[0] == groups(node))
}
