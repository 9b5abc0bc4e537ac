//! What holds for every input: how wide each sum is, and where arithmetic in `f32` has the integers'
//! bits.
//!
//! A sum's interval comes from the real weights and from what has been proven of the inputs, from
//! tensor to tensor. It is tight: [`witness`] gives inputs, within their proven intervals, for which
//! the sum is the least or the greatest one. (Within their intervals, one tensor beside the other, and
//! a tensor that a node reads twice as one: that the network's own inputs reach them all at once is not
//! claimed.)
//!
//! In `f32`, integers below 2^24 times a power of two are exact, and so are their products and sums
//! while these stay below 2^24 in units of their step: then every order of the sum, with or without
//! fused multiply-add, gives the same bits. It is asked of every partial sum in every order, so that
//! `a + b - b` is not a counterexample. What is left are the ties of requantization, which a simulation
//! that rounds half to even and hardware that rounds half up see differently.

use std::fmt;

use crate::error::GraphError;
use crate::graph::{Graph, Node, TensorId};
use crate::interpret::trace;
use crate::ops::{Operator, Requantize, Rounding, SumBound};
use crate::tensor::{Interval, Tensor};

/// Magnitudes that are exact in `f32` in every order of a sum.
const EXACT: u64 = 1 << 24;

/// Whether an operator's arithmetic in `f32`, rounding half to even, has the integers' bits on the
/// same inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exactness {
    /// For every input, in every order.
    Proven,
    /// For every input for which no number lies halfway between two of the output:
    /// [`count_ties`] counts them on data.
    ProvenIfNoTie,
    /// Not proven, and why.
    Not(String),
}

impl fmt::Display for Exactness {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("proven"),
            Self::ProvenIfNoTie => f.write_str("proven if no tie"),
            Self::Not(reason) => write!(f, "not proven: {reason}"),
        }
    }
}

/// What is proven of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProof {
    /// The node's name.
    pub node: String,
    /// Of a sum, its bounds for each index of the output's first dimension.
    pub sums: Option<Vec<SumBound>>,
    /// All that its output can be.
    pub interval: Interval,
    /// The fewest bits, two's complement, that hold the output: of a sum, the accumulator's width,
    /// bias included. One bit less overflows.
    pub bits: u32,
    /// Whether `f32` has the same bits.
    pub exactness: Exactness,
}

/// What is proven of a graph, node by node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    nodes: Vec<NodeProof>,
}

impl Proof {
    /// The proof of a graph.
    pub fn of(graph: &Graph) -> Self {
        let nodes = graph.nodes().iter().map(|node| of_node(graph, node));
        Self {
            nodes: nodes.collect(),
        }
    }

    /// The nodes, in the order in which they run.
    pub fn nodes(&self) -> &[NodeProof] {
        &self.nodes
    }

    /// Of the network: the first node that is not proven, else whether ties are left.
    pub fn exactness(&self) -> Exactness {
        let not = self.nodes.iter().find_map(|proof| match &proof.exactness {
            Exactness::Not(reason) => Some(format!("{}: {reason}", proof.node)),
            _ => None,
        });
        let tie = |proof: &NodeProof| proof.exactness == Exactness::ProvenIfNoTie;
        match not {
            Some(reason) => Exactness::Not(reason),
            None if self.nodes.iter().any(tie) => Exactness::ProvenIfNoTie,
            None => Exactness::Proven,
        }
    }
}

/// A line a node: name, bits, least and greatest output, exactness.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let width = self.nodes.iter().map(|proof| proof.node.chars().count());
        let width = width.max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:width$}  bits  {:>12}  {:>12}  in f32",
            "node", "least", "greatest"
        )?;
        for proof in &self.nodes {
            let Interval { least, greatest } = proof.interval;
            let (node, bits, exactness) = (&proof.node, proof.bits, &proof.exactness);
            writeln!(
                f,
                "{node:width$}  {bits:4}  {least:12}  {greatest:12}  {exactness}"
            )?;
        }
        Ok(())
    }
}

fn of_node(graph: &Graph, node: &Node) -> NodeProof {
    let inputs = graph.inputs_of(node);
    let output = graph.tensor(node.output);
    let sums = node.operator.operation().bounds(&inputs, &output.shape);
    let exactness = exactness(node, &inputs, output, sums.as_deref());
    let interval = output.interval();
    NodeProof {
        node: node.name.clone(),
        sums,
        interval,
        bits: interval.bits(),
        exactness,
    }
}

fn exactness(
    node: &Node,
    inputs: &[&Tensor],
    output: &Tensor,
    sums: Option<&[SumBound]>,
) -> Exactness {
    for tensor in inputs.iter().copied().chain([output]) {
        let Some(exponent) = tensor.numbers.exponent() else {
            return Exactness::Not(format!("the scale of {} is no power of two", tensor.name));
        };
        let magnitude = tensor.interval().magnitude();
        if magnitude >= EXACT {
            return Exactness::Not(format!(
                "{} reaches {magnitude}, f32 holds 2^24",
                tensor.name
            ));
        }
        if exponent > 127 - 24 {
            return Exactness::Not(format!("{} is beyond the greatest f32", tensor.name));
        }
    }
    if let Some(weights) = node.operator.weights()
        && !weights.are_finite_in_f32()
    {
        return Exactness::Not("its weights are beyond the greatest f32".into());
    }
    for bound in sums.unwrap_or_default() {
        let partial = bound.partial.magnitude();
        if partial >= EXACT {
            return Exactness::Not(format!("partial sums reach {partial}, f32 holds 2^24"));
        }
    }
    match &node.operator {
        Operator::Requantize(requantize) => rounded(requantize, inputs[0]),
        Operator::LookUp(_) => {
            Exactness::Not("a table is a function's only if it is compared with it".into())
        }
        _ => Exactness::Proven,
    }
}

/// Of a requantization whose input and output are exact in `f32`.
fn rounded(requantize: &Requantize, input: &Tensor) -> Exactness {
    let channels = 0..input.shape[0];
    let zero = input.numbers.zero_point();
    for channel in channels.clone() {
        let (multiplier, offset, _) = requantize.constants(channel);
        if !(multiplier as u64).is_power_of_two() {
            return Exactness::Not(format!("the multiplier {multiplier} is no power of two"));
        }
        let scaled = input.intervals[channel].map(|x| multiplier * (x - zero) + offset);
        if offset != 0 && scaled.magnitude() >= EXACT {
            let magnitude = scaled.magnitude();
            return Exactness::Not(format!("with the offset it reaches {magnitude}"));
        }
    }
    let shifts = |channel| requantize.constants(channel).2 > 0;
    match requantize.rounding {
        Rounding::HalfEven => Exactness::Proven,
        Rounding::Floor if channels.clone().any(shifts) => {
            Exactness::Not("it rounds down, f32 to the nearest".into())
        }
        _ if channels
            .clone()
            .any(|channel| requantize.can_tie(input, channel)) =>
        {
            Exactness::ProvenIfNoTie
        }
        _ => Exactness::Proven,
    }
}

/// Inputs of one node for which an element of its output is as small or as great as any can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The node's inputs, within what has been proven of them.
    pub inputs: Vec<Vec<i64>>,
    /// The element of the output, counted with the last dimension's index moving fastest.
    pub element: usize,
    /// What it is.
    pub sum: i64,
}

/// Inputs for which a sum or product of a node is the least or the greatest there is. `None` of other
/// operators.
pub fn witness(graph: &Graph, node: &Node, greatest: bool) -> Option<Witness> {
    let inputs = graph.inputs_of(node);
    let output = graph.tensor(node.output);
    let end = |interval: &Interval| {
        if greatest {
            interval.greatest
        } else {
            interval.least
        }
    };
    let all = output.interval();
    let channel = output.intervals.iter().position(|i| end(i) == end(&all))?;
    let operation = node.operator.operation();
    let element = match operation.bounds(&inputs, &output.shape) {
        Some(bounds) if greatest => bounds[channel].greatest_at,
        Some(bounds) => bounds[channel].least_at,
        None => channel * (output.elements() / output.shape[0]),
    };
    let inputs = operation.witness(&inputs, &output.shape, element, greatest)?;
    Some(Witness {
        inputs,
        element,
        sum: end(&all),
    })
}

/// The ties of a requantization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ties {
    /// The node's name.
    pub node: String,
    /// Whether there is no input, of those that the proof knows, with a tie.
    pub impossible: bool,
    /// Numbers that lay halfway between two that the output has.
    pub ties: u64,
    /// All numbers.
    pub numbers: u64,
}

/// Counts the ties of every requantization on images: of each input the images one after the other.
///
/// # Errors
///
/// As [`interpret`](crate::interpret::interpret).
pub fn count_ties(graph: &Graph, inputs: &[&[i64]]) -> Result<Vec<Ties>, GraphError> {
    let batch = graph.batch(inputs)?;
    let nodes = graph.nodes().iter();
    let mut counted: Vec<(TensorId, &Requantize, Ties)> = nodes
        .filter_map(|node| match &node.operator {
            Operator::Requantize(requantize) => {
                let input = graph.tensor(node.inputs[0]);
                let mut channels = 0..input.shape[0];
                let ties = Ties {
                    node: node.name.clone(),
                    impossible: !channels.any(|channel| requantize.can_tie(input, channel)),
                    ties: 0,
                    numbers: 0,
                };
                Some((node.inputs[0], requantize, ties))
            }
            _ => None,
        })
        .collect();
    for image in 0..batch {
        let of_image = |values: &&'_ [i64]| {
            let elements = values.len() / batch;
            image * elements..(image + 1) * elements
        };
        let image: Vec<&[i64]> = inputs
            .iter()
            .map(|values| &values[of_image(values)])
            .collect();
        let trace = trace(graph, &image)?;
        for (id, requantize, ties) in &mut counted {
            let tensor = graph.tensor(*id);
            let zero = tensor.numbers.zero_point();
            for (element, &x) in trace.tensor(*id).iter().enumerate() {
                ties.ties += u64::from(requantize.is_tie(x, zero, tensor.channel(element)));
                ties.numbers += 1;
            }
        }
    }
    Ok(counted.into_iter().map(|(_, _, ties)| ties).collect())
}
