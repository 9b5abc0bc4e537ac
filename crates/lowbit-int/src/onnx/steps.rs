//! The step that a file gives each tensor: a power of two, so that floats hold its integers exactly.
//!
//! Numbers whose step is a power of two keep theirs. Others get the nearest power of two inside of the
//! network, and their own scale where floats enter and leave: the integers are what counts, and the
//! requantizations have their multipliers as they are.

use crate::graph::{Graph, Node};
use crate::numbers::Numbers;
use crate::ops::Operator;

/// The exponent of the nearest power of two.
pub(super) fn nearest(numbers: Numbers) -> i32 {
    numbers
        .exponent()
        .unwrap_or_else(|| numbers.scale().log2().round() as i32)
}

/// Of an average: the output holds sums in its input's step, divided by this number.
pub(super) fn divisor(input: Numbers, output: Numbers) -> i64 {
    (input.scale() / output.scale()).round() as i64
}

/// The exponents of all tensors' steps, in the order of the tensors.
pub(super) fn exponents(graph: &Graph) -> Vec<i32> {
    let numbers = graph.tensors().map(|(_, tensor)| nearest(tensor.numbers()));
    let mut exponents: Vec<i32> = numbers.collect();
    for node in graph.nodes() {
        exponents[node.output().0] = of_node(graph, node, &exponents);
    }
    exponents
}

fn of_node(graph: &Graph, node: &Node, exponents: &[i32]) -> i32 {
    let first = exponents[node.inputs()[0].0];
    let output = graph.tensor(node.output()).numbers();
    match node.operator() {
        Operator::Convolution(node) => first + nearest(node.weights.numbers),
        Operator::Linear(node) => first + nearest(node.weights.numbers),
        Operator::Mul(_) => first + exponents[node.inputs()[1].0],
        Operator::Add(add) => output
            .exponent()
            .unwrap_or(first - add.multipliers[0].unsigned_abs().ilog2() as i32),
        Operator::AveragePool(_) => {
            let input = graph.tensor(node.inputs()[0]).numbers();
            first - divisor(input, output).ilog2() as i32
        }
        Operator::Concat(_)
        | Operator::MaxPool(_)
        | Operator::Rectifier(_)
        | Operator::Clamp(_)
        | Operator::Flatten(_) => first,
        Operator::Requantize(_) | Operator::LookUp(_) | Operator::Embedding(_) => nearest(output),
    }
}

/// `2^exponent`.
pub(super) fn power(exponent: i32) -> f32 {
    f64::from(exponent).exp2() as f32
}
