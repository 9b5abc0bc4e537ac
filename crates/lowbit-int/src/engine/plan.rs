//! Which nodes become which steps.

use super::convolve::Convolve;
use super::requantize::narrow;
use super::step::{Add, Average, Step, Table};
use super::{is_bytes, pixels};
use crate::graph::{Graph, Node, TensorId};
use crate::ops::{Operator, Requantize, Values};
use crate::tensor::Tensor;

/// The steps of a network.
pub(crate) fn steps(graph: &Graph) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut done = vec![false; graph.nodes().len()];
    let mut made = vec![false; graph.tensors().len()];
    for input in graph.inputs() {
        made[input.0] = true;
    }
    let mut padded = 0;
    for (index, node) in graph.nodes().iter().enumerate() {
        if done[index] {
            continue;
        }
        let next = narrowed_by(graph, node);
        let then = next.map(|(_, requantize, output)| (requantize, output));
        let joined = Convolve::of(graph, node, then, &mut padded)
            .map(|convolve| Step::Convolve(Box::new(convolve)))
            .or_else(|| add(graph, node, then).map(Step::Add))
            .or_else(|| average(graph, node, then).map(Step::Average));
        if let (Some(_), Some((next, ..))) = (&joined, next) {
            done[next] = true;
        }
        let alone = || table(graph, node).or_else(|| flatten(graph, node));
        let mut step = joined.or_else(alone).unwrap_or(Step::Plain(index));
        if let Step::Convolve(convolve) = &mut step
            && let Some(taken) = take_addition(graph, convolve, &made)
        {
            taken.into_iter().for_each(|node| done[node] = true);
        }
        made[step.output(graph).0] = true;
        steps.push(step);
    }
    steps
}

/// Makes the addition of what a convolution makes, and of a tensor made before, part of it: returns the
/// addition's node and its requantization's.
fn take_addition(graph: &Graph, convolve: &mut Convolve, made: &[bool]) -> Option<[usize; 2]> {
    let (index, node) = only_reader(graph, convolve.output())?;
    let (next, requantize, output) = narrowed_by(graph, node)?;
    let add = add(graph, node, Some((requantize, output)))?;
    // What it makes itself is not made yet, so that it is not added to itself.
    let [a, b] = add.inputs;
    let other = if a == convolve.output() { b } else { a };
    (made[other.0] && convolve.take(graph, &add)).then_some([index, next])
}

/// The one node that reads a tensor, which is no output.
fn only_reader(graph: &Graph, id: TensorId) -> Option<(usize, &Node)> {
    if graph.outputs().contains(&id) {
        return None;
    }
    let reads = |(_, other): &(usize, &Node)| other.inputs.contains(&id);
    let mut readers = graph.nodes().iter().enumerate().filter(reads);
    match (readers.next(), readers.next()) {
        (Some(reader), None) => Some(reader),
        _ => None,
    }
}

/// The requantization to bytes that is all that reads a node's output: its place, itself, and what it
/// makes.
fn narrowed_by<'a>(graph: &'a Graph, node: &Node) -> Option<(usize, &'a Requantize, TensorId)> {
    let (index, reader) = only_reader(graph, node.output)?;
    let Operator::Requantize(requantize) = &reader.operator else {
        return None;
    };
    let narrows = is_bytes(graph.tensor(reader.output));
    narrows.then_some((index, requantize, reader.output))
}

fn add(graph: &Graph, node: &Node, then: Option<(&Requantize, TensorId)>) -> Option<Add> {
    let Operator::Add(operator) = &node.operator else {
        return None;
    };
    let (requantize, made) = then?;
    let [a, b] = [node.inputs[0], node.inputs[1]];
    let tensors = [a, b].map(|id| graph.tensor(id));
    let small = operator.multipliers.iter().all(|m| m.abs() < 1 << 20);
    if !tensors.iter().all(|tensor| is_bytes(tensor)) || !small {
        return None;
    }
    let (narrow, offset) = narrow(requantize, graph.tensor(node.output).interval())?;
    // What stands for zero is stored as a byte of its own.
    let zero = |tensor: &Tensor| tensor.numbers.zero_point() - tensor.numbers.least();
    let zeros = [0, 1].map(|i| operator.multipliers[i] * zero(tensors[i]));
    Some(Add {
        inputs: [a, b],
        output: made,
        multipliers: operator.multipliers.map(|m| m as i32),
        constant: (i64::from(offset) - zeros[0] - zeros[1]) as i32,
        narrow,
    })
}

/// The average of a whole image.
fn average(graph: &Graph, node: &Node, then: Option<(&Requantize, TensorId)>) -> Option<Average> {
    let Operator::AveragePool(pool) = &node.operator else {
        return None;
    };
    let (requantize, made) = then?;
    let (input, output) = (graph.tensor(node.inputs[0]), graph.tensor(node.output));
    let (channels, pixels) = pixels(input);
    let whole = pool.windows.is_global();
    if !whole || !is_bytes(input) || pixels > 1 << 20 {
        return None;
    }
    let (narrow, offset) = narrow(requantize, output.interval())?;
    let zero = input.numbers.zero_point() - input.numbers.least();
    Some(Average {
        input: node.inputs[0],
        output: made,
        channels,
        constant: offset - (pixels as i64 * zero) as i32,
        narrow,
    })
}

/// A node that makes a byte of a byte.
fn table(graph: &Graph, node: &Node) -> Option<Step> {
    let (input, output) = (graph.tensor(node.inputs[0]), graph.tensor(node.output));
    let of_one = matches!(
        node.operator,
        Operator::Rectifier(_) | Operator::Clamp(_) | Operator::LookUp(_) | Operator::Requantize(_)
    );
    if !of_one || !is_bytes(input) || !is_bytes(output) {
        return None;
    }
    let channels = match &node.operator {
        Operator::Requantize(requantize) => requantize.channels(),
        _ => 1,
    };
    let least = input.numbers.least();
    let all = input.interval();
    let known = match channels {
        1 => vec![all],
        _ => input.intervals.clone(),
    };
    // One number a channel, so that each says what it makes of it.
    let one_each = |tensor: &Tensor| {
        let mut one = Tensor::any(vec![channels], tensor.numbers).expect("fewer elements");
        one.intervals.clone_from(&known);
        one
    };
    let (of_input, of_output) = (one_each(input), one_each(output));
    let mut tables = vec![[0; 256]; channels];
    for x in all.least..=all.greatest {
        // Beyond what is proven of a channel its constants may overflow; no such number is read.
        let values: Vec<i64> = known
            .iter()
            .map(|known| x.clamp(known.least, known.greatest))
            .collect();
        let values = Values {
            tensor: &of_input,
            values: &values,
        };
        let made = node.operator.operation().evaluate(&[values], &of_output);
        for (table, y) in tables.iter_mut().zip(made) {
            table[(x - least) as usize] = (y - output.numbers.least()) as u8;
        }
    }
    Some(Step::Table(Table {
        input: node.inputs[0],
        output: node.output,
        tables,
    }))
}

fn flatten(graph: &Graph, node: &Node) -> Option<Step> {
    let bytes = is_bytes(graph.tensor(node.output));
    let flattens = matches!(node.operator, Operator::Flatten(_)) && bytes;
    flattens.then(|| Step::Flatten(node.inputs[0], node.output))
}
