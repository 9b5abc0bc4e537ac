//! tract 0.23.9.

use super::file::{File, are_powers, floats, is_of_16_bits};
use super::{Found, agreement};
use crate::graph::{Graph, Node};
use crate::onnx::certificate::{Verdict, of_agreement};
use crate::onnx::proto::{DataType, NodeProto};
use crate::onnx::requantize::Form;

/// What holds of one node of a file.
pub(super) fn judge(graph: &Graph, node: &Node, file: &File, of_file: &NodeProto) -> Found {
    let cannot = |reason: &str| Some((Verdict::CannotRun, reason.to_owned()));
    let differs = |reason: &str| Some((Verdict::Differs, reason.to_owned()));
    let kind = file.kind(of_file, 0);
    let is_wide = kind == DataType::Int64 as i32;
    match of_file.op_type() {
        _ if !of_file.domain().is_empty() => cannot("tract has no Quant"),
        "QuantizeLinear" if is_of_16_bits(file.made(of_file)) => {
            cannot("tract quantizes to 8 bits alone")
        }
        // With a scale for each channel it is a product of floats.
        "DequantizeLinear" if is_of_16_bits(kind) && !has_scales(file, of_file) => {
            cannot("tract dequantizes 8 and 32 bits alone")
        }
        // tract-onnx/src/ops/cast.rs: int64 are the symbolic numbers of which it makes shapes (`TDim`).
        "MatMul" if is_wide => cannot("tract has no MatMul of int64"),
        "MatMul" if kind == DataType::Int32 as i32 && has_side_of_one(graph, node) => {
            differs("tract may fail to leave out a dimension of 1 of integers")
        }
        "Mul" if is_wide && of_file.input[0] == of_file.input[1] => {
            cannot("tract has no squares of int64")
        }
        "Mul" | "Div" | "Mod" if is_wide => differs("tract's int64 are symbolic numbers"),
        "DequantizeLinear" if is_table_of_other_type(file, of_file) => {
            cannot("tract makes a table of quantizers of two types")
        }
        "Mul" | "Add" | "Sub" if is_folded(file, of_file) => {
            differs("tract makes constants of channels part of the convolution before")
        }
        "Mul" if is_second_factor(file, of_file) => differs("tract multiplies two factors first"),
        "QLinearConv" => requantized(graph, node, file, of_file),
        _ => None,
    }
}

/// Whether a dequantizer has a scale for each channel.
fn has_scales(file: &File, node: &NodeProto) -> bool {
    let scale = file.constant(node, 1);
    scale.is_some_and(|scale| scale.dims.iter().product::<i64>() > 1)
}

/// Whether an image has a side of one pixel, which tract tries to leave out everywhere (`ChangeAxes`), of
/// products of integers with a wrong shape.
fn has_side_of_one(graph: &Graph, node: &Node) -> bool {
    let tensors = [graph.tensor(node.inputs()[0]), graph.tensor(node.output())];
    let mut sides = tensors.into_iter().flat_map(|tensor| &tensor.shape()[1..]);
    sides.any(|&side| side == 1)
}

/// `DequantizeLinearF32::declutter` in tract-core/src/ops/quant.rs: from a dequantizer to the only
/// quantizer that reads it, itself or rounded or squared in between, all is one table of 256 bytes,
/// indexed by the type that is made, which has to be that of what is read.
fn is_table_of_other_type(file: &File, node: &NodeProto) -> bool {
    let mut at = node;
    while let Some(reader) = at.output.first().and_then(|value| file.only_reader(value)) {
        match reader.op_type() {
            "QuantizeLinear" => return file.made(reader) != file.kind(node, 0),
            "Floor" | "Round" | "Sign" | "Abs" => at = reader,
            // A square has one input.
            "Mul" if reader.input[0] == reader.input[1] => at = reader,
            _ => return false,
        }
    }
    false
}

/// `Conv::declutter_channel_arithmetic_succ` in tract-core/src/ops/cnn/conv/conv.rs: whether a product
/// or sum with a constant for each channel, which a float may not have, is made part of the convolution
/// that it reads, or of what is part of that.
fn is_folded(file: &File, node: &NodeProto) -> bool {
    let mut at = node;
    let mut is_exact = true;
    while let Some((x, constant)) = file.constant_of_two(at) {
        is_exact &= at.op_type() == "Mul" && are_powers(constant);
        let count: i64 = constant.dims.iter().product();
        let Some(before) = file.maker(x) else {
            return false;
        };
        if file.only_reader(x).is_none() {
            return false;
        }
        match before.op_type() {
            "Conv" => {
                let weights = before.input.get(1).and_then(|name| file.shape(name));
                let outputs = weights.and_then(|dims| dims.first()).copied();
                return outputs == Some(count) && !is_exact;
            }
            "Mul" | "Add" | "Sub" => at = before,
            _ => return false,
        }
    }
    false
}

/// `declutter_mul_const_mul_const` in tract-core/src/ops/math/mod.rs: `a (b x)` becomes `(a b) x`, which
/// is the same if one of them is a power of two.
fn is_second_factor(file: &File, node: &NodeProto) -> bool {
    let Some((x, constant)) = file.constant_of_two(node) else {
        return false;
    };
    let before = file.maker(x).filter(|before| before.op_type() == "Mul");
    let first = before.and_then(|before| file.constant_of_two(before));
    first.is_some_and(|(_, first)| !are_powers(constant) && !are_powers(first))
}

/// tract-core/src/ops/matmul/quant.rs and tract-linalg/src/generic/rounding.rs: a sum times a scale that
/// all channels share is rounded once, as a product of integers; with a scale for each it is rounded to
/// a float before.
fn requantized(graph: &Graph, node: &Node, file: &File, of_file: &NodeProto) -> Found {
    let scales = file.constant(of_file, 4)?;
    let ratio = floats(scales).next()?;
    if floats(scales).any(|other| other != ratio) {
        return None;
    }
    // Its shift is of 64 bits.
    if ratio < (-31f32).exp2() {
        return Some((
            Verdict::Differs,
            format!("tract shifts too far for {ratio}"),
        ));
    }
    let agreement = agreement(graph, node, scales, Form::Product)?;
    let (verdict, reason) = of_agreement(&agreement);
    Some((verdict, format!("tract rounds once: {reason}")))
}
