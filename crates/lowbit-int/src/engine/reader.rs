//! What is made of sums while they are in the cache.

use lowbit_kernels::integer::{Number, Requantization};

use super::requantize::Function;
use super::stored::with_numbers;
use super::{Form, Stored};
use crate::graph::{Graph, TensorId};

/// A function of each number, and what it makes.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    function: Requantization,
    output: TensorId,
    /// Tensors that are the same.
    copies: Vec<TensorId>,
}

/// Where some pixels' numbers lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixels {
    /// Numbers from one pixel to the next.
    pub(crate) line: usize,
    /// Those of each that are wanted.
    pub(crate) channels: usize,
    /// The first pixel.
    pub(crate) first: usize,
}

impl Pixels {
    /// All, one after the other.
    pub(crate) fn all(channels: usize) -> Self {
        Self {
            line: channels,
            channels,
            first: 0,
        }
    }
}

impl Reader {
    /// What all that read sums make of them, and the sums themselves where they are wanted as such, with
    /// the nodes that this does. `None` if something cannot be made.
    pub(crate) fn of_sums(graph: &Graph, sums: TensorId) -> Option<(Vec<Self>, Vec<usize>)> {
        let tensor = graph.tensor(sums);
        let (mut functions, mut readers, mut nodes) = (Vec::new(), Vec::<Self>::new(), Vec::new());
        let mut kept = graph.outputs().contains(&sums);
        for (index, node) in graph.nodes().iter().enumerate() {
            if !node.inputs.contains(&sums) {
                continue;
            }
            let function = Function::of(&node.operator, 0, tensor, graph.tensor(node.output));
            let Some(function) = function else {
                kept = true;
                continue;
            };
            let form = Form::of(graph.tensor(node.output));
            if let Some(place) = functions
                .iter()
                .position(|f| *f == (function.clone(), form))
            {
                readers[place].copies.push(node.output);
                nodes.push(index);
            } else if let Some(prepared) = function.prepare() {
                functions.push((function, form));
                readers.push(Self::new(prepared, node.output));
                nodes.push(index);
            } else {
                kept = true;
            }
        }
        if kept || readers.is_empty() {
            readers.push(Self::new(Function::kept(tensor)?.prepare()?, sums));
        }
        Some((readers, nodes))
    }

    pub(crate) fn new(function: Requantization, output: TensorId) -> Self {
        Self {
            function,
            output,
            copies: Vec::new(),
        }
    }

    /// What it makes.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = TensorId> {
        std::iter::once(self.output).chain(self.copies.iter().copied())
    }

    /// Makes numbers of some pixels'.
    pub(crate) fn run<X: Number>(&self, x: &[X], at: Pixels, tensors: &mut [Stored]) {
        let Pixels {
            line,
            channels,
            first,
        } = at;
        let mut output = tensors[self.output.0].take();
        let range = first * channels..(first + x.len() / line) * channels;
        with_numbers!(&mut output, y => {
            self.function.lines(x, line, &mut y[range.clone()], channels);
        });
        for copy in &self.copies {
            tensors[copy.0].copy(&output, range.clone());
        }
        tensors[self.output.0] = output;
    }
}
