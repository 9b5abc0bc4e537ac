//! Networks whose requantizations have no ties, so that rounding half to even, half up and half away
//! from zero agree.
//!
//! A sum `S` that is shifted by `s` has a tie where `S` is `2^(s-1)` modulo `2^s`. If `2 S + 1` is
//! shifted by `s + 1` instead, what is shifted is odd and a tie, `2^s`, is even: there is none. Half a
//! unit of the sum is added, which moves nothing to another integer but the ties themselves: they go
//! up. So the new network has, with any rounding to the nearest, the bits of the old one with half up.
//! (Where the old sums were exact in `f32` below 2^24, the new ones are below 2^23 of the old units.)

use crate::error::GraphError;
use crate::graph::{Graph, Node};
use crate::numbers::Numbers;
use crate::ops::{Operator, Requantize, Rounding, Weights};

/// Where the doubled sum and the odd number come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TieFree {
    /// Weights of at most 7 bits are doubled, with half their step, and biases become odd: an ordinary
    /// network of 8-bit weights, for any runtime. Only convolutions and linear layers have weights;
    /// an addition is left without ties by one step for both inputs and the output.
    DoubledWeights,
    /// Requantizations multiply by 2 and add 1, which any sum allows where the runtime does.
    Offset,
}

/// The network without ties, and the names of the requantizations that could have one before. Those
/// that round down are left as they are.
///
/// # Errors
///
/// One line with the node's name: of [`TieFree::DoubledWeights`], where a requantization with a tie
/// follows no convolution or linear layer, something else reads its sums, a weight needs 8 bits, or it
/// is no shift of every channel; of both, where a sum would not fit.
pub fn tie_free(graph: &Graph, how: TieFree) -> Result<(Graph, Vec<String>), GraphError> {
    let mut changed = Vec::new();
    let result = graph.rebuilt(|node| match &node.operator {
        Operator::Requantize(requantize) if has_tie(graph, node) => {
            changed.push(node.name.clone());
            match how {
                TieFree::Offset => Ok(with_offset(requantize).into()),
                TieFree::DoubledWeights => {
                    let source = graph.nodes().iter().find(|n| n.output == node.inputs[0]);
                    match source.map(|source| &source.operator) {
                        Some(Operator::Convolution(_) | Operator::Linear(_)) => {
                            let after = after_doubled(requantize);
                            after
                                .map(Operator::from)
                                .map_err(|reason| refused(node, reason))
                        }
                        _ => Err(refused(node, "has ties, but follows no weights to double")),
                    }
                }
            }
        }
        Operator::Convolution(_) | Operator::Linear(_) if how == TieFree::DoubledWeights => {
            let reads = |n: &&Node| n.inputs.contains(&node.output);
            let readers: Vec<&Node> = graph.nodes().iter().filter(reads).collect();
            if !readers.iter().any(|reader| has_tie(graph, reader)) {
                return Ok(node.operator.clone());
            }
            if readers.len() > 1 || graph.outputs().contains(&node.output) {
                return Err(refused(
                    node,
                    "its sums are read by more than one requantization",
                ));
            }
            doubled(&node.operator, graph.tensor(node.output).shape()[0])
                .map_err(|reason| refused(node, &reason))
        }
        other => Ok(other.clone()),
    })?;
    Ok((result, changed))
}

fn refused(node: &Node, reason: &str) -> GraphError {
    GraphError::node(&node.name, reason)
}

/// Whether a node is a requantization to the nearest that can have a tie.
fn has_tie(graph: &Graph, node: &Node) -> bool {
    match &node.operator {
        Operator::Requantize(requantize) if requantize.rounding != Rounding::Floor => {
            let input = graph.tensor(node.inputs[0]);
            (0..input.shape[0]).any(|channel| requantize.can_tie(input, channel))
        }
        _ => false,
    }
}

/// Shifts by one more, where there is a shift: without one there are no ties, and half a unit more
/// would make one.
fn longer(requantize: &Requantize, channels: usize) -> Vec<u32> {
    let shifts = 0..channels;
    shifts
        .map(|channel| requantize.constants(channel).2 + 1)
        .collect()
}

/// `(2 (m x + offset) + 1) / 2^(s + 1)`; of a channel that is not shifted `2 (m x + offset) / 2`.
fn with_offset(requantize: &Requantize) -> Requantize {
    let channels = requantize.channels();
    let constants = (0..channels).map(|channel| requantize.constants(channel));
    let (mut multiplier, mut offset) = (Vec::new(), Vec::new());
    for (m, o, shift) in constants {
        multiplier.push(m.saturating_mul(2));
        offset.push(o.saturating_mul(2).saturating_add(i64::from(shift > 0)));
    }
    Requantize {
        multiplier,
        offset,
        shift: longer(requantize, channels),
        ..requantize.clone()
    }
}

/// `(x + 2 offset) / 2^(s + 1)` of a sum that was doubled and made odd.
fn after_doubled(requantize: &Requantize) -> Result<Requantize, &'static str> {
    if requantize.multiplier.iter().any(|&m| m != 1) {
        return Err("has a multiplier, with which half a unit of the sum moves more than ties");
    }
    if requantize.shift.contains(&0) {
        return Err("does not shift every channel, and half a unit more would be a tie");
    }
    let doubled = requantize.offset.iter().map(|o| o.saturating_mul(2));
    Ok(Requantize {
        offset: doubled.collect(),
        shift: longer(requantize, requantize.shift.len()),
        ..requantize.clone()
    })
}

/// Twice the weights in half their step, and `2 bias + 1`.
fn doubled(operator: &Operator, outputs: usize) -> Result<Operator, String> {
    let twice = |weights: &Weights| {
        let numbers = weights.numbers;
        let (bits, signed) = (numbers.bits(), numbers.signed());
        let most = if signed { 64 } else { 128 };
        let fits = |w: &i64| (-most..most).contains(w);
        if let Some(weight) = weights.values.iter().find(|w| !fits(w)) {
            return Err(format!("a weight is {weight}, of more than 7 bits"));
        }
        let bits = (bits + 1).min(8);
        Ok(Weights {
            shape: weights.shape.clone(),
            numbers: match numbers {
                Numbers::PowerOfTwo(grid) => {
                    Numbers::power_of_two(bits, signed, grid.exponent() - 1)
                }
                Numbers::Affine(_) => Numbers::affine(bits, signed, numbers.scale() / 2.0, 0),
            }?,
            values: weights.values.iter().map(|w| 2 * w).collect(),
        })
    };
    let odd = |bias: &Option<Vec<i64>>| {
        let bias = bias.clone().unwrap_or_else(|| vec![0; outputs]);
        Some(
            bias.into_iter()
                .map(|b| b.saturating_mul(2).saturating_add(1))
                .collect(),
        )
    };
    let mut operator = operator.clone();
    match &mut operator {
        Operator::Convolution(node) => {
            node.weights = twice(&node.weights)?;
            node.bias = odd(&node.bias);
        }
        Operator::Linear(node) => {
            let outputs = node.weights.shape[0];
            node.weights = twice(&node.weights)?;
            let bias = node.bias.clone().unwrap_or_else(|| vec![0; outputs]);
            node.bias = odd(&Some(bias));
        }
        _ => {}
    }
    Ok(operator)
}
