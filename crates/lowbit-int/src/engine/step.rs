//! What the engine does, one after the other.

use lowbit_kernels::integer::Narrow;

use super::convolve::Convolve;
use super::{Stored, Workspace, pixels};
use crate::graph::{Graph, TensorId};
use crate::ops::Values;

/// One step of a network.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A convolution or linear layer, and its requantization.
    Convolve(Box<Convolve>),
    /// The sum of two tensors of bytes, and its requantization.
    Add(Add),
    /// The average of all pixels, and its requantization.
    Average(Average),
    /// A function of one byte.
    Table(Table),
    /// Bytes from channels last to channels first.
    Flatten(TensorId, TensorId),
    /// A node, by the interpreter.
    Plain(usize),
}

/// `narrow(a m[0] + b m[1] + constant)` of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Add {
    pub(crate) inputs: [TensorId; 2],
    pub(crate) output: TensorId,
    pub(crate) multipliers: [i32; 2],
    pub(crate) constant: i32,
    pub(crate) narrow: Narrow,
}

/// `narrow(sum over pixels of x + constant)` for each channel.
#[derive(Debug, Clone)]
pub(crate) struct Average {
    pub(crate) input: TensorId,
    pub(crate) output: TensorId,
    pub(crate) channels: usize,
    pub(crate) constant: i32,
    pub(crate) narrow: Narrow,
}

/// A table of 256 bytes, or one for each channel.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) input: TensorId,
    pub(crate) output: TensorId,
    pub(crate) tables: Vec<[u8; 256]>,
}

impl Step {
    /// What it makes.
    pub(crate) fn output(&self, graph: &Graph) -> TensorId {
        match self {
            Self::Convolve(convolve) => convolve.output(),
            Self::Add(add) => add.output,
            Self::Average(average) => average.output,
            Self::Table(table) => table.output,
            Self::Flatten(_, output) => *output,
            Self::Plain(node) => graph.nodes()[*node].output,
        }
    }

    /// Makes the buffers that it needs.
    pub(crate) fn prepare(&self, graph: &Graph, workspace: &mut Workspace) {
        let output = self.output(graph);
        workspace.tensors[output.0] = Stored::of(graph.tensor(output));
        match self {
            Self::Convolve(convolve) => convolve.prepare(workspace),
            Self::Average(average) => workspace.reserve_sums(average.channels),
            _ => {}
        }
    }

    pub(crate) fn run(&self, graph: &Graph, workspace: &mut Workspace) {
        match self {
            Self::Convolve(convolve) => convolve.run(workspace),
            Self::Add(add) => add.run(&mut workspace.tensors),
            Self::Average(average) => average.run(workspace),
            Self::Table(table) => table.run(&mut workspace.tensors),
            Self::Flatten(input, output) => {
                let tensor = graph.tensor(*input);
                flatten(pixels(tensor), *input, *output, &mut workspace.tensors);
            }
            Self::Plain(node) => plain(graph, *node, &mut workspace.tensors),
        }
    }
}

impl Add {
    fn run(&self, tensors: &mut [Stored]) {
        let mut output = std::mem::replace(&mut tensors[self.output.0], Stored::Nowhere);
        let [a, b] = self.inputs.map(|id| tensors[id.0].bytes());
        let ([m, n], constant, narrow) = (self.multipliers, self.constant, self.narrow);
        narrow.sums_of(a, b, [m, n, constant], output.bytes_mut());
        tensors[self.output.0] = output;
    }
}

impl Average {
    fn run(&self, workspace: &mut Workspace) {
        let tensors = &mut workspace.tensors;
        let mut output = std::mem::replace(&mut tensors[self.output.0], Stored::Nowhere);
        let sums = &mut workspace.sums[..self.channels];
        sums.fill(self.constant);
        for pixel in tensors[self.input.0].bytes().chunks_exact(self.channels) {
            for (sum, &x) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(x);
            }
        }
        self.narrow
            .lines(sums, self.channels, output.bytes_mut(), self.channels);
        tensors[self.output.0] = output;
    }
}

impl Table {
    fn run(&self, tensors: &mut [Stored]) {
        let mut output = std::mem::replace(&mut tensors[self.output.0], Stored::Nowhere);
        let input = tensors[self.input.0].bytes();
        let channels = self.tables.len();
        let pixels = input.chunks_exact(channels);
        for (input, output) in pixels.zip(output.bytes_mut().chunks_exact_mut(channels)) {
            for ((&x, y), table) in input.iter().zip(output).zip(&self.tables) {
                *y = table[usize::from(x)];
            }
        }
        tensors[self.output.0] = output;
    }
}

fn flatten(
    (channels, pixels): (usize, usize),
    from: TensorId,
    to: TensorId,
    tensors: &mut [Stored],
) {
    let mut output = std::mem::replace(&mut tensors[to.0], Stored::Nowhere);
    let (input, bytes) = (tensors[from.0].bytes(), output.bytes_mut());
    for channel in 0..channels {
        for pixel in 0..pixels {
            bytes[channel * pixels + pixel] = input[pixel * channels + channel];
        }
    }
    tensors[to.0] = output;
}

/// A node, by its definition.
fn plain(graph: &Graph, node: usize, tensors: &mut [Stored]) {
    let node = &graph.nodes()[node];
    let loaded: Vec<Vec<i64>> = node
        .inputs
        .iter()
        .map(|&id| {
            let mut values = vec![0; graph.tensor(id).elements()];
            tensors[id.0].save(graph.tensor(id), &mut values);
            values
        })
        .collect();
    let inputs = node.inputs.iter().zip(&loaded).map(|(&id, values)| Values {
        tensor: graph.tensor(id),
        values,
    });
    let inputs: Vec<Values> = inputs.collect();
    let output = graph.tensor(node.output);
    let values = node.operator.operation().evaluate(&inputs, output);
    tensors[node.output.0].load(output, &values);
}
