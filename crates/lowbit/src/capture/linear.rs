//! Linear layers as one operation.
//!
//! Burn makes a product of matrices, a sum and reshapes of a linear layer, and which of them depends on
//! the sizes: where a batch of small matrices would be slow, its rows are those of one. So a recording for
//! one size of the batch does not hold for another. Put together again, the layer is `linear` for all of
//! them, which chooses anew.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use burn_ir::{
    BaseOperationIr, BinaryOpIr, FloatOperationIr, LinearOpIr, MatmulOpIr, ModuleOperationIr,
    NumericOperationIr, OperationIr, ShapeOpIr, TensorId, TensorIr,
};
use burn_std::{MatmulTransformAction, MatmulTransformAnalysis, MatmulTransformPolicy};

use super::record::Recording;

/// The recording with each linear layer as one operation, whose weight is a parameter or one that was
/// reshaped.
pub(crate) fn with_linear(recording: &Recording) -> Recording {
    with_linear_of(recording, |operation| {
        matches!(operation, OperationIr::BaseFloat(_))
    })
}

/// The same with a weight that the operations accepted by `keeps` made of parameters.
pub(crate) fn with_linear_of(
    recording: &Recording,
    keeps: impl Fn(&OperationIr) -> bool,
) -> Recording {
    let operations = &recording.operations;
    let mut fixed: HashSet<TensorId> = recording.parameters.keys().copied().collect();
    let read_last = read_last(recording);
    let mut together = Vec::with_capacity(operations.len());
    let mut at = 0;
    while at < operations.len() {
        let layer = linear(&operations[at..], &fixed)
            .filter(|(_, count)| !is_read_on_its_way(operations, at..at + count, &read_last));
        match layer {
            Some((linear, count)) => {
                let linear = ModuleOperationIr::Linear(linear);
                together.push(OperationIr::Module(linear));
                at += count;
            }
            None => {
                let operation = &operations[at];
                let mut inputs = operation.inputs();
                if keeps(operation) && inputs.all(|tensor| fixed.contains(&tensor.id)) {
                    fixed.extend(operation.outputs().map(|tensor| tensor.id));
                }
                together.push(operation.clone());
                at += 1;
            }
        }
    }
    let recording = Recording {
        operations: together,
        ..recording.clone()
    };
    recording.numbered()
}

/// The last operation that reads each tensor; one beyond all for what is a result.
fn read_last(recording: &Recording) -> HashMap<TensorId, usize> {
    let operations = recording.operations.iter().enumerate();
    let reads = operations.flat_map(|(at, operation)| {
        let inputs = operation.inputs();
        inputs.map(move |tensor| (tensor.id, at))
    });
    let end = recording.operations.len();
    let results = recording.outputs.iter().map(|&id| (id, end));
    // Of several of a tensor, the last one stays.
    reads.chain(results).collect()
}

/// Whether anything that these operations make, but for the last of it, is read by others or is a result.
fn is_read_on_its_way(
    operations: &[OperationIr],
    layer: Range<usize>,
    read_last: &HashMap<TensorId, usize>,
) -> bool {
    let within = &operations[layer.start..layer.end - 1];
    let mut made = within.iter().flat_map(OperationIr::outputs);
    made.any(|tensor| read_last.get(&tensor.id).is_some_and(|&at| at >= layer.end))
}

/// The linear layer that the first operations are, and how many they are.
fn linear(operations: &[OperationIr], fixed: &HashSet<TensorId>) -> Option<(LinearOpIr, usize)> {
    let is_fixed = |tensor: &TensorIr| fixed.contains(&tensor.id);
    let mut at = 0;
    // The rows of all items as those of one matrix, or the weight as that of a batch.
    let first = reshape(operations.first()?);
    at += usize::from(first.is_some());
    let product = matmul(operations.get(at)?)?;
    at += 1;
    let (x, weight, merged) = match first {
        None => (&product.lhs, &product.rhs, false),
        Some(d) if d.out.id == product.rhs.id && d.input.shape.len() == 2 => {
            (&product.lhs, &d.input, false)
        }
        Some(d) if d.out.id == product.lhs.id && d.out.shape.len() == 2 => {
            (&d.input, &product.rhs, true)
        }
        Some(_) => return None,
    };
    if weight.shape.len() != 2 || !is_fixed(weight) || is_fixed(x) || x.shape.len() < 2 {
        return None;
    }
    let analysis = MatmulTransformAnalysis::from_shapes(&x.shape, &weight.shape);
    let action = MatmulTransformPolicy::default().action(&analysis);
    if merged != matches!(action, MatmulTransformAction::MergeBatches { .. }) {
        return None;
    }
    let mut out = &product.out;
    let mut bias = None;
    if let (Some(d), Some(sum)) = (
        operations.get(at).and_then(reshape),
        operations.get(at + 1).and_then(add),
    ) && d.input.shape.len() == 1
        && sum.lhs.id == out.id
        && sum.rhs.id == d.out.id
    {
        (bias, out) = (Some(d.input.clone()), &sum.out);
        at += 2;
    }
    if merged {
        let back = reshape(operations.get(at)?).filter(|d| d.input.id == out.id)?;
        out = &back.out;
        at += 1;
    }
    let linear = LinearOpIr {
        x: x.clone(),
        weight: weight.clone(),
        bias,
        out: out.clone(),
    };
    Some((linear, at))
}

fn reshape(operation: &OperationIr) -> Option<&ShapeOpIr> {
    match operation {
        OperationIr::BaseFloat(BaseOperationIr::Reshape(d)) => Some(d),
        _ => None,
    }
}

fn matmul(operation: &OperationIr) -> Option<&MatmulOpIr> {
    match operation {
        OperationIr::Float(_, FloatOperationIr::Matmul(d)) => Some(d),
        _ => None,
    }
}

fn add(operation: &OperationIr) -> Option<&BinaryOpIr> {
    match operation {
        OperationIr::NumericFloat(_, NumericOperationIr::Add(d)) => Some(d),
        _ => None,
    }
}
