//! What generated code does, in either language: steps, their constants, and where tensors lie.

use std::collections::BTreeMap;

use super::SourceError;
use super::finish::{Chain, Finish};
use super::kind::{Call, Kind};
use super::memory::{Life, arrange};
use super::names::Names;
use super::storage::{Int, Storage};
use crate::graph::{Graph, Node, TensorId};
use crate::ops::Operator;
use crate::tensor::Tensor;

/// An input or output of the network.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) id: TensorId,
    /// What it is called in the code.
    pub(crate) name: String,
    pub(crate) int: Int,
    pub(crate) elements: usize,
}

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Memory {
    Input(usize),
    Output(usize),
    /// Memory of this type, from this element on.
    Buffer(Int, usize),
}

/// A tensor as a step reads or writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) memory: Memory,
    pub(crate) elements: usize,
    pub(crate) storage: Storage,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// What its constants are called, in lower case.
    pub(crate) name: String,
    /// The node's name and what it makes, for a comment.
    pub(crate) comment: String,
    pub(crate) kind: Kind,
    pub(crate) finish: Finish,
    pub(crate) inputs: Vec<Place>,
    pub(crate) output: Place,
}

/// The code of a network.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) steps: Vec<Step>,
    /// How many elements of each type the buffers have.
    pub(crate) buffers: Vec<(Int, usize)>,
}

/// A node with those that are joined to it.
struct Joined<'a> {
    node: &'a Node,
    chain: Chain<'a>,
}

impl Plan {
    pub(crate) fn of(graph: &Graph) -> Result<Self, SourceError> {
        let (inputs, outputs) = (ports(graph, true)?, ports(graph, false)?);
        let needed = needed(graph);
        let joined = join(graph, &needed);
        let places = places(graph, &inputs, &outputs, &joined);
        let mut names = Names::default();
        for name in ["run", "buffers", "memory"] {
            names.keep(name);
        }
        let mut steps = Vec::new();
        for Joined { node, chain } in &joined {
            let (read, output) = (&node.inputs, places.tensors[&chain.output.0]);
            let read: Vec<Place> = read.iter().map(|id| places.tensors[&id.0]).collect();
            if matches!(node.operator, Operator::Flatten(_)) && read[0].memory == output.memory {
                continue;
            }
            let read = &read;
            let call = Call { graph, node, read };
            for part in call.parts()? {
                let inputs: Vec<Place> = part.inputs.iter().map(|&input| read[input]).collect();
                let mut finish =
                    chain.finish(graph, values(graph, node), part.base, output.storage);
                finish.wide = finish.wide.max(part.kind.values(&inputs));
                steps.push(Step {
                    name: names.constant(&node.name),
                    comment: comment(graph, node, chain),
                    finish,
                    inputs,
                    kind: part.kind,
                    output,
                });
            }
        }
        steps.extend(copies(graph, &inputs, &outputs, &mut names));
        Ok(Self {
            inputs,
            outputs,
            steps,
            buffers: places.buffers,
        })
    }

    /// Bytes of the buffers.
    pub(crate) fn memory(&self) -> usize {
        let bytes = self.buffers.iter().map(|(int, n)| int.bytes() * n);
        bytes.sum()
    }

    /// The type of multipliers and offsets of what is computed in a type: 32 bits if all of the network
    /// fit.
    pub(crate) fn constant(&self, wide: Int) -> Int {
        let lists = |step: &Step| [step.finish.multiplier.clone(), step.finish.offset.clone()];
        let all = self.steps.iter().flat_map(lists).flatten();
        match Int::of_sums(all.map(i128::from)) {
            Int::I32 => Int::I32,
            _ => wide,
        }
    }

    /// Bytes of weights, biases and tables.
    pub(crate) fn constants(&self) -> usize {
        let bytes = self.steps.iter().map(|step| {
            let finish = &step.finish;
            let lists = finish.multiplier.len() + finish.offset.len();
            step.kind.constants(step.kind.values(&step.inputs))
                + lists * self.constant(finish.wide).bytes()
                + finish.shift.len()
        });
        bytes.sum()
    }
}

fn ports(graph: &Graph, inputs: bool) -> Result<Vec<Port>, SourceError> {
    let (ids, what) = if inputs {
        (graph.inputs(), "input")
    } else {
        (graph.outputs(), "output")
    };
    if ids.is_empty() {
        return Err(SourceError::new("graph", format!("it has no {what}")));
    }
    let mut names = Names::default();
    let port = |&id: &TensorId| {
        let tensor = graph.tensor(id);
        let name = if ids.len() == 1 {
            what.into()
        } else {
            names.constant(&format!("{what}_{}", tensor.name))
        };
        Port {
            id,
            name,
            int: Int::of_numbers(tensor.numbers),
            elements: tensor.elements(),
        }
    };
    Ok(ids.iter().map(port).collect())
}

/// Which nodes an output depends on.
fn needed(graph: &Graph) -> Vec<&Node> {
    let mut tensors: Vec<TensorId> = graph.outputs().to_vec();
    let mut nodes: Vec<&Node> = Vec::new();
    for node in graph.nodes().iter().rev() {
        if tensors.contains(&node.output) {
            tensors.extend(&node.inputs);
            nodes.push(node);
        }
    }
    nodes.reverse();
    nodes
}

/// Nodes with the clamps and the requantization that nobody else reads.
fn join<'a>(graph: &Graph, needed: &[&'a Node]) -> Vec<Joined<'a>> {
    let mut joined: Vec<Joined> = Vec::new();
    let mut taken: Vec<TensorId> = Vec::new();
    for &node in needed {
        if taken.contains(&node.output) {
            continue;
        }
        let mut chain = match &node.operator {
            Operator::Clamp(_) | Operator::Rectifier(_) | Operator::Requantize(_) => {
                let input = node.inputs[0];
                let mut chain = Chain::new(graph.tensor(input).interval(), input);
                chain.join(graph, node);
                chain
            }
            _ => Chain::new(graph.tensor(node.output).interval(), node.output),
        };
        let alone = matches!(node.operator, Operator::Concat(_) | Operator::Flatten(_));
        while !alone && !graph.outputs().contains(&chain.output) {
            let reads = |other: &&&Node| other.inputs.contains(&chain.output);
            let mut readers = needed.iter().filter(reads);
            let (Some(reader), None) = (readers.next(), readers.next()) else {
                break;
            };
            if !chain.join(graph, reader) {
                break;
            }
            taken.push(chain.output);
        }
        joined.push(Joined { node, chain });
    }
    joined
}

struct Places {
    tensors: BTreeMap<usize, Place>,
    buffers: Vec<(Int, usize)>,
}

/// Where each tensor lies that is stored: inputs and outputs where the caller has them, others in
/// buffers. What is only flattened lies where it was.
fn places(graph: &Graph, inputs: &[Port], outputs: &[Port], joined: &[Joined]) -> Places {
    let mut tensors = BTreeMap::new();
    for (ports, memory) in [
        (outputs, Memory::Output as fn(usize) -> Memory),
        (inputs, Memory::Input),
    ] {
        for (index, port) in ports.iter().enumerate() {
            let place = Place {
                memory: memory(index),
                elements: port.elements,
                storage: Storage::plain(port.int),
            };
            tensors.insert(port.id.0, place);
        }
    }
    let lives = lives(joined, &tensors);
    let mut buffers = Vec::new();
    for int in [Int::I8, Int::I16, Int::I32, Int::I64] {
        let of = |id: usize| Storage::within(graph.tensor(TensorId(id)).interval());
        let ids = lives.keys().copied();
        let ids: Vec<usize> = ids.filter(|&id| of(id).int == int).collect();
        let lives: Vec<Life> = ids
            .iter()
            .map(|&id| Life {
                elements: graph.tensor(TensorId(id)).elements(),
                made: lives[&id].0,
                last: lives[&id].1,
            })
            .collect();
        let (starts, total) = arrange(&lives);
        for ((id, start), life) in ids.into_iter().zip(starts).zip(lives) {
            let place = Place {
                memory: Memory::Buffer(int, start),
                elements: life.elements,
                storage: of(id),
            };
            tensors.insert(id, place);
        }
        if total > 0 {
            buffers.push((int, total));
        }
    }
    for Joined { node, chain } in joined {
        if matches!(node.operator, Operator::Flatten(_)) && !tensors.contains_key(&chain.output.0) {
            tensors.insert(chain.output.0, tensors[&node.inputs[0].0]);
        }
    }
    Places { tensors, buffers }
}

/// The values that a node's calls requantize.
fn values<'a>(graph: &'a Graph, node: &Node) -> &'a Tensor {
    match &node.operator {
        Operator::Clamp(_) | Operator::Rectifier(_) | Operator::Requantize(_) => {
            graph.tensor(node.inputs[0])
        }
        _ => graph.tensor(node.output),
    }
}

/// From which to which joined node each tensor lives that is neither input nor output.
fn lives(joined: &[Joined], elsewhere: &BTreeMap<usize, Place>) -> BTreeMap<usize, (usize, usize)> {
    let mut lives: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut roots: BTreeMap<usize, usize> = BTreeMap::new();
    for (step, Joined { node, chain }) in joined.iter().enumerate() {
        let output = chain.output.0;
        let read = node
            .inputs
            .iter()
            .map(|id| *roots.get(&id.0).unwrap_or(&id.0));
        let read: Vec<usize> = read.collect();
        for root in &read {
            if let Some(life) = lives.get_mut(root) {
                life.1 = step;
            }
        }
        if elsewhere.contains_key(&output) {
            continue;
        }
        if matches!(node.operator, Operator::Flatten(_)) {
            roots.insert(output, read[0]);
        } else {
            lives.insert(output, (step, step));
        }
    }
    lives
}

/// Inputs that are outputs.
fn copies(graph: &Graph, inputs: &[Port], outputs: &[Port], names: &mut Names) -> Vec<Step> {
    let mut steps = Vec::new();
    for (from, input) in inputs.iter().enumerate() {
        let Some(to) = outputs.iter().position(|output| output.id == input.id) else {
            continue;
        };
        let (tensor, storage) = (graph.tensor(input.id), Storage::plain(input.int));
        let place = |memory| Place {
            memory,
            elements: input.elements,
            storage,
        };
        let chain = Chain::new(tensor.interval(), input.id);
        steps.push(Step {
            name: names.constant(&format!("copy {}", tensor.name)),
            comment: format!("{}: copied", super::names::printable(&tensor.name)),
            kind: Kind::Map {
                pixels: input.elements,
            },
            finish: Finish {
                wide: input.int.widened(),
                ..chain.finish(graph, tensor, 0, storage)
            },
            inputs: vec![place(Memory::Input(from))],
            output: place(Memory::Output(to)),
        });
    }
    steps
}

/// What a step does, for people.
fn comment(graph: &Graph, node: &Node, chain: &Chain) -> String {
    let shape = |tensor: &Tensor| format!("{:?}", tensor.shape);
    let inputs: Vec<String> = graph.inputs_of(node).into_iter().map(shape).collect();
    let output = graph.tensor(chain.output);
    let names = if node.output == chain.output {
        super::names::printable(&node.name)
    } else {
        let names = [&node.name, &output.name].map(|name| super::names::printable(name));
        format!("{} to {}", names[0], names[1])
    };
    format!("{names}: {} to {}", inputs.join(", "), shape(output))
}
