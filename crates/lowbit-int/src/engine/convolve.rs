//! Convolutions and linear layers of bytes, with the requantization that follows.

use lowbit_kernels::integer::{self, Narrow};

use super::requantize::{PerChannel, narrow};
use super::{Stored, Workspace, pixels};
use crate::graph::{Graph, Node, TensorId};
use crate::ops::{Operator, Requantize};
use crate::tensor::Tensor;

/// What becomes of sums.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    /// A byte, by a shift.
    Narrow(Narrow),
    /// A byte, by a multiplier or a shift of its own for each channel.
    PerChannel(PerChannel),
    /// They are the output.
    Nothing,
}

/// A convolution of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Convolve {
    kernel: integer::Convolution,
    input: TensorId,
    output: TensorId,
    then: Then,
    /// Rows, columns and channels of the image.
    image: [usize; 3],
    /// Rows above and columns to the left of it.
    before: [usize; 2],
    /// The byte of zero.
    zero: u8,
    /// The least integer of sums that are the output.
    least: i64,
    /// Which of the workspace's padded images; `None` if the image is read where it is.
    padded: Option<usize>,
}

impl Convolve {
    /// The step of a convolution or linear layer and the requantization that follows it, if there is
    /// one, with what that makes. `None` if it is not of bytes. `padded` counts the padded images.
    pub(crate) fn of(
        graph: &Graph,
        node: &Node,
        then: Option<(&Requantize, TensorId)>,
        padded: &mut usize,
    ) -> Option<Self> {
        let input = graph.tensor(node.inputs[0]);
        let (shape, image, before) = shape(&node.operator, input)?;
        let (weights, bias) = match &node.operator {
            Operator::Convolution(node) => (&node.weights, &node.bias),
            Operator::Linear(node) => (&node.weights, &node.bias),
            _ => return None,
        };
        let sums = graph.tensor(node.output).interval();
        let fits = weights.values.iter().all(|&w| i8::try_from(w).is_ok());
        if !super::is_bytes(input) || !fits || sums.magnitude() >= 1 << 30 {
            return None;
        }
        let (then, offset, output) = match then {
            Some((requantize, output)) => match narrow(requantize, sums) {
                Some((narrow, offset)) => (Then::Narrow(narrow), offset, output),
                None => {
                    let prepared = PerChannel::of(requantize, shape.outputs);
                    (Then::PerChannel(prepared), 0, output)
                }
            },
            None => (Then::Nothing, 0, node.output),
        };
        let zero = input.numbers.zero_point() - input.numbers.least();
        let of_output = weights.values.len() / shape.outputs;
        let biases = (0..shape.outputs).map(|o| {
            let weights = &weights.values[o * of_output..(o + 1) * of_output];
            let bias = bias.as_ref().map_or(0, |bias| bias[o]);
            // Modulo 2^32, as are the sums.
            (bias - zero * weights.iter().sum::<i64>() + i64::from(offset)) as i32
        });
        let biases: Vec<i32> = biases.collect();
        let [rows, columns] = shape.kernel;
        let inputs = shape.inputs / shape.groups;
        let weight = |o: usize, i: usize, ky: usize, kx: usize| {
            weights.values[((o * inputs + i) * rows + ky) * columns + kx] as i8
        };
        let is_padded = shape.image != [image[0], image[1]] || shape.pixel() != shape.inputs;
        *padded += usize::from(is_padded);
        Some(Self {
            kernel: integer::Convolution::new(shape, weight, &biases),
            input: node.inputs[0],
            output,
            then,
            image,
            before,
            zero: zero as u8,
            least: graph.tensor(output).numbers.least(),
            padded: is_padded.then(|| *padded - 1),
        })
    }

    /// What it makes.
    pub(crate) fn output(&self) -> TensorId {
        self.output
    }

    /// Makes the buffers that it needs.
    pub(crate) fn prepare(&self, workspace: &mut Workspace) {
        let shape = self.kernel.shape();
        if self.padded.is_some() {
            workspace.padded.push(vec![self.zero; shape.bytes()]);
        }
        let row = shape.output()[1] * shape.sums();
        workspace.reserve_sums(row);
    }

    pub(crate) fn run(&self, workspace: &mut Workspace) {
        let Workspace {
            tensors,
            padded,
            sums,
        } = workspace;
        let mut output = std::mem::replace(&mut tensors[self.output.0], Stored::Nowhere);
        let input = tensors[self.input.0].bytes();
        let image = match self.padded {
            Some(place) => {
                self.pad(input, &mut padded[place]);
                &padded[place]
            }
            None => input,
        };
        let shape = self.kernel.shape();
        let [rows, columns] = shape.output();
        let (line, count) = (shape.sums(), shape.outputs);
        let sums = &mut sums[..columns * line];
        for row in 0..rows {
            self.kernel.row(image, row, sums);
            let pixels = row * columns;
            match (&self.then, &mut output) {
                (Then::Narrow(narrow), Stored::Bytes(bytes)) => {
                    let bytes = &mut bytes[pixels * count..][..columns * count];
                    narrow.lines(sums, line, bytes, count);
                }
                (Then::PerChannel(requantize), Stored::Bytes(bytes)) => {
                    let bytes = &mut bytes[pixels * count..][..columns * count];
                    let lines = sums.chunks_exact(line).zip(bytes.chunks_exact_mut(count));
                    lines.for_each(|(sums, bytes)| requantize.pixel(sums, bytes));
                }
                (Then::Nothing, stored) => {
                    for (pixel, sums) in sums.chunks_exact(line).enumerate() {
                        let place = [pixels + pixel, rows * columns];
                        keep(&sums[..count], place, self.least, stored);
                    }
                }
                _ => unreachable!("a requantization to more than 8 bits is a step of its own"),
            }
        }
        tensors[self.output.0] = output;
    }

    /// Copies the image between its padding, which is there from the start.
    fn pad(&self, image: &[u8], padded: &mut [u8]) {
        let [rows, columns, channels] = self.image;
        let shape = self.kernel.shape();
        let (pixel, width) = (shape.pixel(), shape.image[1]);
        for row in 0..rows {
            let from = &image[row * columns * channels..][..columns * channels];
            let start = ((row + self.before[0]) * width + self.before[1]) * pixel;
            let to = &mut padded[start..][..columns * pixel];
            if pixel == channels {
                to.copy_from_slice(from);
                continue;
            }
            for (from, to) in from.chunks_exact(channels).zip(to.chunks_exact_mut(pixel)) {
                to[..channels].copy_from_slice(from);
            }
        }
    }
}

/// The sums of one pixel of so many as a tensor's integers.
fn keep(sums: &[i32], [pixel, pixels]: [usize; 2], least: i64, stored: &mut Stored) {
    let channels = sums.iter().map(|&sum| i64::from(sum)).enumerate();
    for (channel, sum) in channels {
        match stored {
            Stored::Wide(wide) => wide[channel * pixels + pixel] = sum,
            Stored::Bytes(bytes) => bytes[pixel * sums.len() + channel] = (sum - least) as u8,
            Stored::Nowhere => unreachable!("an output is kept"),
        }
    }
}

/// The kernel's shape, the image's rows, columns and channels, and its padding above and to the left.
fn shape(operator: &Operator, input: &Tensor) -> Option<(integer::Shape, [usize; 3], [usize; 2])> {
    let (channels, _) = pixels(input);
    match operator {
        Operator::Convolution(node) if node.transposed.is_none() => {
            let axes = node.geometry_over(&input.shape).ok()?.axes;
            let mut after = [0; 2];
            let paddings = &node.sliding.padding;
            for (after, padding) in after.iter_mut().rev().zip(paddings.iter().rev()) {
                *after = padding[1];
            }
            let [rows, columns] = [0, 1].map(|d| axes[d].before + axes[d].input + after[d]);
            let shape = integer::Shape {
                image: [rows, columns],
                inputs: channels,
                outputs: node.weights.shape[0],
                groups: node.groups,
                kernel: axes.map(|axis| axis.kernel),
                stride: axes.map(|axis| axis.stride),
                dilation: axes.map(|axis| axis.dilation),
            };
            let image = [axes[0].input, axes[1].input, channels];
            Some((shape, image, axes.map(|axis| axis.before)))
        }
        Operator::Linear(node) if input.shape.len() == 1 => {
            let shape = integer::Shape {
                image: [1, 1],
                inputs: channels,
                outputs: node.weights.shape[0],
                groups: 1,
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
            };
            Some((shape, [1, 1, channels], [0, 0]))
        }
        _ => None,
    }
}
