//! Which nodes become which steps.

use super::convolve::Convolve;
use super::reader::Reader;
use super::requantize::{Function, narrow};
use super::step::{Add, Addition, Average, Map, Step, Table};
use super::{Form, is_bytes, pixels};
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
        let joined = convolve(graph, node, &mut padded, &mut steps)
            .or_else(|| add(graph, node))
            .or_else(|| average(graph, node));
        let alone = || {
            let step = map(graph, node)
                .or_else(|| table(graph, node))
                .or_else(|| flatten(graph, node));
            (step.unwrap_or(Step::Plain(index)), Vec::new())
        };
        let (mut step, mut nodes) = joined.unwrap_or_else(alone);
        if let Step::Convolve(convolve) = &mut step
            && let Some(taken) = take_addition(graph, convolve, &made)
        {
            nodes.extend(taken);
        }
        for node in nodes {
            done[node] = true;
        }
        for output in step.made(graph) {
            made[output.tensor.0] = true;
        }
        steps.push(step);
    }
    steps
}

/// A step and the nodes that it does beside its own.
type Joined = Option<(Step, Vec<usize>)>;

fn convolve(graph: &Graph, node: &Node, padded: &mut usize, before: &mut [Step]) -> Joined {
    let then = narrowed_by(graph, node);
    // What it alone reads may be made between the padding that it reads.
    let alone = only_reader(graph, node.inputs[0]).is_some();
    let leave = |margins| {
        let mut steps = before.iter_mut().rev();
        alone && steps.any(|step| step.leave(node.inputs[0], margins))
    };
    let (convolve, nodes) = Convolve::of(graph, node, then, (padded, leave))?;
    Some((Step::Convolve(Box::new(convolve)), nodes))
}

/// Makes the addition of what a convolution makes, and of a tensor made before, part of it: returns the
/// addition's node and its requantization's.
fn take_addition(graph: &Graph, convolve: &mut Convolve, made: &[bool]) -> Option<[usize; 2]> {
    let own = convolve.finished()?;
    let (index, node) = only_reader(graph, own)?;
    let (next, requantize, output) = narrowed_by(graph, node)?;
    let addition = addition(graph, node)?;
    // What it makes itself is not made yet, so that it is not added to itself.
    let [a, b] = addition.inputs;
    let other = if a == own { b } else { a };
    if !made[other.0] || !is_bytes(graph.tensor(other)) {
        return None;
    }
    let (narrow, offset) = narrow(requantize, graph.tensor(node.output).interval())?;
    let taken = convolve.take(graph, &addition, (&narrow, offset), output);
    taken.then_some([index, next])
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

/// An addition of numbers of at most 32 bits whose sums have as many.
fn addition(graph: &Graph, node: &Node) -> Option<Addition> {
    let Operator::Add(operator) = &node.operator else {
        return None;
    };
    Form::of(graph.tensor(node.output))?;
    let inputs = [node.inputs[0], node.inputs[1]];
    let mut constant = 0i64;
    for (id, multiplier) in inputs.into_iter().zip(operator.multipliers) {
        let tensor = graph.tensor(id);
        // What stands for zero is kept as a number of its own.
        let zero = tensor.numbers.zero_point() - Form::of(tensor)?.base(tensor);
        constant = constant.wrapping_sub(multiplier.wrapping_mul(zero));
    }
    // Modulo 2^32, as are the sums.
    Some(Addition {
        inputs,
        multipliers: operator.multipliers.map(|m| m as i32),
        constant: constant as i32,
    })
}

/// Numbers whose sums stay in a core's first cache.
const TOGETHER: usize = 4096;

fn add(graph: &Graph, node: &Node) -> Joined {
    let addition = addition(graph, node)?;
    let sums = graph.tensor(node.output);
    let (readers, nodes) = Reader::of_sums(graph, node.output)?;
    let (channels, _) = pixels(sums);
    let columns = match sums.shape() {
        [_, .., columns] => *columns,
        _ => 1,
    };
    let add = Add {
        addition,
        channels,
        pixels: (TOGETHER / channels / columns).max(1) * columns,
        form: match sums.interval().bits() {
            ..=16 => Form::Shorts,
            _ => Form::Words,
        },
        readers,
    };
    Some((Step::Add(add), nodes))
}

/// The average of a whole image.
fn average(graph: &Graph, node: &Node) -> Joined {
    let Operator::AveragePool(pool) = &node.operator else {
        return None;
    };
    let input = graph.tensor(node.inputs[0]);
    let base = Form::of(input)?.base(input);
    Form::of(graph.tensor(node.output))?;
    if !pool.windows.is_global() {
        return None;
    }
    let (channels, pixels) = pixels(input);
    let (readers, nodes) = Reader::of_sums(graph, node.output)?;
    let average = Average {
        input: node.inputs[0],
        channels,
        // Modulo 2^32, as are the sums.
        constant: (pixels as i64 * (base - input.numbers.zero_point())) as i32,
        readers,
    };
    Some((Step::Average(average), nodes))
}

/// A function of each number that is not made faster by a table.
fn map(graph: &Graph, node: &Node) -> Option<Step> {
    let (input, output) = (graph.tensor(node.inputs[0]), graph.tensor(node.output));
    let base = Form::of(input)?.base(input);
    let function = Function::of(&node.operator, base, input, output)?.prepare()?;
    if is_bytes(input) && is_bytes(output) && !function.is_of_words() {
        return None;
    }
    Some(Step::Map(Box::new(Map {
        input: node.inputs[0],
        channels: pixels(input).0,
        reader: Reader::new(function, node.output),
    })))
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
    let kept = Form::of(graph.tensor(node.output)).is_some();
    let flattens = matches!(node.operator, Operator::Flatten(_)) && kept;
    flattens.then(|| Step::Flatten(node.inputs[0], node.output))
}
