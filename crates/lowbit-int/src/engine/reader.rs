//! What is made of sums while they are in the cache.

use lowbit_kernels::integer::{Number, Requantization};

use super::requantize::Function;
use super::stored::{Made, Margins, with_numbers};
use super::{Form, Stored};
use crate::graph::{Graph, TensorId};

/// A function of each number, and what it makes.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    function: Requantization,
    output: TensorId,
    margins: Option<Margins>,
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
            margins: None,
            copies: Vec::new(),
        }
    }

    /// What it makes.
    pub(crate) fn made(&self) -> impl Iterator<Item = Made> {
        let tensors = std::iter::once(self.output).chain(self.copies.iter().copied());
        let margins = self.margins;
        tensors.map(move |tensor| Made { tensor, margins })
    }

    /// Has a tensor lie between its padding from now on; says whether it makes it and can.
    pub(crate) fn leave(&mut self, tensor: TensorId, margins: Margins) -> bool {
        let can = self.output == tensor && self.copies.is_empty();
        if can {
            self.margins = Some(margins);
        }
        can
    }

    /// Makes numbers of some pixels', which are whole rows of an image.
    pub(crate) fn run<X: Number>(&self, x: &[X], at: Pixels, tensors: &mut [Stored]) {
        let Pixels {
            line,
            channels,
            first,
        } = at;
        let mut output = tensors[self.output.0].take();
        if let Some(margins) = self.margins {
            let rows = x.chunks_exact(margins.columns * line).enumerate();
            for (row, x) in rows {
                let start = margins.start(first / margins.columns + row) * channels;
                let y = &mut output.bytes_mut()[start..][..margins.columns * channels];
                self.function.lines(x, line, y, channels);
            }
        } else {
            let range = first * channels..(first + x.len() / line) * channels;
            with_numbers!(&mut output, y => {
                self.function.lines(x, line, &mut y[range.clone()], channels);
            });
            for copy in &self.copies {
                tensors[copy.0].copy(&output, range.clone());
            }
        }
        tensors[self.output.0] = output;
    }
}
