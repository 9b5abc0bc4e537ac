//! What the engine does, one after the other.

use lowbit_kernels::integer::{Number, add_pixels, sums_of};

use super::convolve::Convolve;
use super::reader::{Pixels, Reader};
use super::stored::{Made, Margins, with_numbers};
use super::{Form, Stored, Workspace, pixels};
use crate::graph::{Graph, TensorId};
use crate::ops::Values;

/// One step of a network.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A convolution or linear layer, and what reads it.
    Convolve(Box<Convolve>),
    /// The sum of two tensors, and what reads it.
    Add(Add),
    /// The average of all pixels, and what reads it.
    Average(Average),
    /// A function of each number.
    Map(Box<Map>),
    /// A function of one byte.
    Table(Table),
    /// Numbers from channels last to channels first.
    Flatten(TensorId, TensorId),
    /// A node, by the interpreter.
    Plain(usize),
}

/// `a m[0] + b m[1] + constant` of numbers as they are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addition {
    pub(crate) inputs: [TensorId; 2],
    pub(crate) multipliers: [i32; 2],
    pub(crate) constant: i32,
}

/// An addition whose sums are read while they are in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Add {
    pub(crate) addition: Addition,
    pub(crate) channels: usize,
    /// Pixels of which sums are made together, whole rows of an image.
    pub(crate) pixels: usize,
    /// What sums fit.
    pub(crate) form: Form,
    pub(crate) readers: Vec<Reader>,
}

/// `sum over pixels of x + constant` for each channel.
#[derive(Debug, Clone)]
pub(crate) struct Average {
    pub(crate) input: TensorId,
    pub(crate) channels: usize,
    pub(crate) constant: i32,
    pub(crate) readers: Vec<Reader>,
}

/// A function of each number of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    pub(crate) input: TensorId,
    pub(crate) channels: usize,
    pub(crate) reader: Reader,
}

/// A table of 256 bytes.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) input: TensorId,
    pub(crate) output: TensorId,
    pub(crate) tables: Vec<[u8; 256]>,
}

impl Step {
    /// What it makes.
    pub(crate) fn made(&self, graph: &Graph) -> Vec<Made> {
        let of = |readers: &[Reader]| readers.iter().flat_map(Reader::made).collect();
        let alone = |tensor: TensorId| {
            let margins = None;
            vec![Made { tensor, margins }]
        };
        match self {
            Self::Convolve(convolve) => convolve.made(),
            Self::Add(add) => of(&add.readers),
            Self::Average(average) => of(&average.readers),
            Self::Map(map) => map.reader.made().collect(),
            Self::Table(table) => alone(table.output),
            Self::Flatten(_, output) => alone(*output),
            Self::Plain(node) => alone(graph.nodes()[*node].output),
        }
    }

    /// Has a tensor lie between its padding from now on; says whether it makes it and can.
    pub(crate) fn leave(&mut self, tensor: TensorId, margins: Margins) -> bool {
        match self {
            Self::Convolve(convolve) => convolve.leave(tensor, margins),
            Self::Add(add) => add
                .readers
                .iter_mut()
                .any(|reader| reader.leave(tensor, margins)),
            _ => false,
        }
    }

    /// Makes the buffers that it needs.
    pub(crate) fn prepare(&self, graph: &Graph, workspace: &mut Workspace) {
        for Made { tensor, margins } in self.made(graph) {
            workspace.tensors[tensor.0] = Stored::made(graph.tensor(tensor), margins);
        }
        match self {
            Self::Convolve(convolve) => convolve.prepare(workspace),
            Self::Add(add) => add.prepare(workspace),
            Self::Average(average) => workspace.reserve_sums(average.channels),
            _ => {}
        }
    }

    pub(crate) fn run(&self, graph: &Graph, workspace: &mut Workspace) {
        match self {
            Self::Convolve(convolve) => convolve.run(workspace),
            Self::Add(add) => add.run(workspace),
            Self::Average(average) => average.run(workspace),
            Self::Map(map) => map.run(&mut workspace.tensors),
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
    fn prepare(&self, workspace: &mut Workspace) {
        let count = self.pixels * self.channels;
        match self.form {
            Form::Shorts | Form::Bytes => workspace.reserve_short_sums(count),
            Form::Words => workspace.reserve_sums(count),
        }
    }

    fn run(&self, workspace: &mut Workspace) {
        let Workspace {
            tensors,
            sums,
            short_sums,
            ..
        } = workspace;
        let [a, b] = self.addition.inputs;
        let a_of = tensors[a.0].take();
        let b_of = (b != a).then(|| tensors[b.0].take());
        let inputs = [&a_of, b_of.as_ref().unwrap_or(&a_of)];
        match self.form {
            Form::Shorts | Form::Bytes => self.sums(inputs, short_sums, tensors),
            Form::Words => self.sums(inputs, sums, tensors),
        }
        tensors[a.0] = a_of;
        if let Some(b_of) = b_of {
            tensors[b.0] = b_of;
        }
    }

    /// Some pixels after the other.
    fn sums<Y: Number>(&self, [a, b]: [&Stored; 2], sums: &mut [Y], tensors: &mut [Stored]) {
        let [m, n] = self.addition.multipliers;
        let m = [m, n, self.addition.constant];
        let count = self.pixels * self.channels;
        with_numbers!(a, a => with_numbers!(b, b => {
            for (place, (a, b)) in a.chunks(count).zip(b.chunks(count)).enumerate() {
                let sums = &mut sums[..a.len()];
                sums_of(a, b, m, sums);
                let pixels = Pixels {
                    line: self.channels,
                    channels: self.channels,
                    first: place * self.pixels,
                };
                for reader in &self.readers {
                    reader.run(sums, pixels, tensors);
                }
            }
        }));
    }
}

impl Average {
    fn run(&self, workspace: &mut Workspace) {
        let Workspace { tensors, sums, .. } = workspace;
        let sums = &mut sums[..self.channels];
        sums.fill(self.constant);
        with_numbers!(&tensors[self.input.0], x => add_pixels(x, sums));
        for reader in &self.readers {
            reader.run(sums, Pixels::all(self.channels), tensors);
        }
    }
}

impl Map {
    fn run(&self, tensors: &mut [Stored]) {
        let input = tensors[self.input.0].take();
        let pixels = Pixels::all(self.channels);
        with_numbers!(&input, x => self.reader.run(x, pixels, tensors));
        tensors[self.input.0] = input;
    }
}

impl Table {
    fn run(&self, tensors: &mut [Stored]) {
        let mut output = tensors[self.output.0].take();
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
    let mut output = tensors[to.0].take();
    match (&tensors[from.0], &mut output) {
        (Stored::Bytes(from), Stored::Bytes(to)) => turn(from, to, channels, pixels),
        (Stored::Shorts(from), Stored::Shorts(to)) => turn(from, to, channels, pixels),
        (Stored::Words(from), Stored::Words(to)) => turn(from, to, channels, pixels),
        _ => unreachable!("planned in one form"),
    }
    tensors[to.0] = output;
}

fn turn<T: Copy>(from: &[T], to: &mut [T], channels: usize, pixels: usize) {
    for (channel, to) in to.chunks_exact_mut(pixels).enumerate() {
        for (to, from) in to.iter_mut().zip(from[channel..].iter().step_by(channels)) {
            *to = *from;
        }
    }
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
