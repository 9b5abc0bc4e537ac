//! Convolutions and linear layers of bytes, with the requantization that follows, and the addition
//! after that.

use lowbit_kernels::integer::binary::{self, BinaryConvolution, Image};
use lowbit_kernels::integer::{self, Finish, LEVELS, Narrow};

use super::codes::codes;
use super::requantize::{PerChannel, narrow, thresholds};
use super::step::Add;
use super::{Stored, Workspace, pixels};
use crate::graph::{Graph, Node, TensorId};
use crate::ops::{Operator, Requantize, Weights};
use crate::tensor::Tensor;

/// What becomes of sums.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    /// A byte, before the sum leaves the registers, to which the byte of another tensor may be added.
    Finish(Finish, Option<TensorId>),
    /// A byte, by a shift.
    Narrow(Narrow),
    /// A byte, by a multiplier or a shift of its own for each channel.
    PerChannel(PerChannel),
    /// They are the output.
    Nothing,
}

/// What makes the sums.
#[derive(Debug, Clone)]
enum Kernel {
    /// Products of bytes.
    Bytes(integer::Convolution),
    /// Counts of bits.
    Bits(BinaryConvolution),
}

/// A convolution of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Convolve {
    kernel: Kernel,
    input: TensorId,
    /// The tensor of the sums.
    sums: TensorId,
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
        let sums = graph.tensor(node.output);
        let fits = weights.values.iter().all(|&w| i8::try_from(w).is_ok());
        if !super::is_bytes(input) || !fits || sums.interval().magnitude() >= 1 << 30 {
            return None;
        }
        let (then, offset, output) = match then {
            Some((requantize, output)) => {
                let (then, offset) = finish(requantize, sums, shape.sums());
                (then, offset, output)
            }
            None => (Then::Nothing, 0, node.output),
        };
        let bias = |o: usize| bias.as_ref().map_or(0, |bias| bias[o]) + i64::from(offset);
        let bias: Vec<i64> = (0..shape.outputs).map(bias).collect();
        let zero = input.numbers.zero_point() - input.numbers.least();
        let bits = codes(graph, node.inputs[0]).and_then(|codes| {
            let image = Image {
                size: [image[0], image[1]],
                before,
                zero: zero as i32,
                codes,
            };
            of_bits(shape, image, weights, &bias)
        });
        let is_padded = shape.image != [image[0], image[1]] || shape.pixel() != shape.inputs;
        let is_padded = is_padded || bits.is_some();
        *padded += usize::from(is_padded);
        Some(Self {
            kernel: bits.unwrap_or_else(|| of_bytes(shape, zero, weights, &bias)),
            input: node.inputs[0],
            sums: node.output,
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

    /// The tensor of its sums, if they are counts of bits.
    pub(crate) fn counted(&self) -> Option<TensorId> {
        matches!(self.kernel, Kernel::Bits(_)).then_some(self.sums)
    }

    /// Makes an addition of what it makes and another tensor, which is there when it runs, part of it;
    /// says whether it could.
    pub(crate) fn take(&mut self, graph: &Graph, add: &Add) -> bool {
        let Then::Finish(finish, None) = &self.then else {
            return false;
        };
        let own = usize::from(add.inputs[0] != self.output);
        let (m, other) = (add.multipliers, add.inputs[1 - own]);
        let numbers = graph.tensor(other).numbers;
        let most = (numbers.greatest() - numbers.least()) as u8;
        let m = [m[own], m[1 - own], add.constant];
        let Some(finish) = finish.clone().plus(m, most, &add.narrow) else {
            return false;
        };
        self.then = Then::Finish(finish, Some(other));
        self.output = add.output;
        true
    }

    fn shape(&self) -> &integer::Shape {
        match &self.kernel {
            Kernel::Bytes(kernel) => kernel.shape(),
            Kernel::Bits(kernel) => kernel.shape(),
        }
    }

    /// Makes the buffers that it needs.
    pub(crate) fn prepare(&self, workspace: &mut Workspace) {
        let shape = self.shape();
        match &self.kernel {
            Kernel::Bytes(_) if self.padded.is_some() => {
                workspace.padded.push(vec![self.zero; shape.bytes()]);
            }
            Kernel::Bytes(_) => {}
            Kernel::Bits(kernel) => {
                workspace.padded.push(kernel.blank());
                workspace.reserve_windows(kernel.scratch());
            }
        }
        if !matches!(self.then, Then::Finish(..)) {
            workspace.reserve_sums(shape.output()[1] * shape.sums());
        }
    }

    pub(crate) fn run(&self, workspace: &mut Workspace) {
        let Workspace {
            tensors,
            padded,
            sums,
            windows,
        } = workspace;
        let mut output = std::mem::replace(&mut tensors[self.output.0], Stored::Nowhere);
        let input = tensors[self.input.0].bytes();
        let image = match self.padded {
            Some(place) => {
                match &self.kernel {
                    Kernel::Bytes(_) => self.pad(input, &mut padded[place]),
                    Kernel::Bits(kernel) => kernel.pack(input, &mut padded[place]),
                }
                &padded[place]
            }
            None => input,
        };
        match &self.then {
            Then::Finish(finish, other) => {
                let other = other.map_or(&[][..], |other| tensors[other.0].bytes());
                self.finish((finish, other), image, windows, output.bytes_mut());
            }
            _ => self.sums(image, windows, sums, &mut output),
        }
        tensors[self.output.0] = output;
    }

    /// Row after row, as bytes.
    fn finish(
        &self,
        (finish, other): (&Finish, &[u8]),
        image: &[u8],
        windows: &mut [u32],
        bytes: &mut [u8],
    ) {
        let shape = self.shape();
        let [_, columns] = shape.output();
        let of_row = columns * shape.outputs;
        for (row, bytes) in bytes.chunks_exact_mut(of_row).enumerate() {
            let other = match finish.adds() {
                true => &other[row * of_row..][..of_row],
                false => other,
            };
            match &self.kernel {
                Kernel::Bytes(kernel) => kernel.finished_row(image, row, finish, other, bytes),
                Kernel::Bits(kernel) => {
                    let windows = &mut windows[..kernel.scratch()];
                    kernel.finished_row(image, row, windows, (finish, other), bytes);
                }
            }
        }
    }

    /// Row after row, as sums, which become bytes or the output.
    fn sums(&self, image: &[u8], windows: &mut [u32], sums: &mut [i32], output: &mut Stored) {
        let shape = self.shape();
        let [rows, columns] = shape.output();
        let (line, count) = (shape.sums(), shape.outputs);
        let sums = &mut sums[..columns * line];
        for row in 0..rows {
            match &self.kernel {
                Kernel::Bytes(kernel) => kernel.row(image, row, sums),
                Kernel::Bits(kernel) => {
                    kernel.row(image, row, &mut windows[..kernel.scratch()], sums);
                }
            }
            let pixels = row * columns;
            match (&self.then, &mut *output) {
                (Then::Narrow(narrow), Stored::Bytes(bytes)) => {
                    let bytes = &mut bytes[pixels * count..][..columns * count];
                    narrow.lines(sums, line, bytes, count);
                }
                (Then::PerChannel(requantize), Stored::Bytes(bytes)) => {
                    let bytes = &mut bytes[pixels * count..][..columns * count];
                    requantize.lines(sums, line, bytes);
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
    }

    /// Copies the image between its padding, which is there from the start.
    fn pad(&self, image: &[u8], padded: &mut [u8]) {
        let [rows, columns, channels] = self.image;
        let shape = self.shape();
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

/// What a requantization to bytes makes of sums of `padded` channels, and what is added to each
/// before.
fn finish(requantize: &Requantize, sums: &Tensor, padded: usize) -> (Then, i32) {
    if let Some((narrow, offset)) = narrow(requantize, sums.interval()) {
        let reach = sums.interval().magnitude() + u64::from(offset.unsigned_abs());
        return match Finish::shift(&narrow, reach) {
            Some((finish, added)) => (Then::Finish(finish, None), offset + added),
            None => (Then::Narrow(narrow), offset),
        };
    }
    let numbers = requantize.numbers;
    if numbers.greatest() - numbers.least() <= LEVELS as i64 {
        let thresholds = thresholds(requantize, sums, padded);
        return (Then::Finish(Finish::levels(&thresholds), None), 0);
    }
    let prepared = PerChannel::of(requantize, sums.shape[0]);
    (Then::PerChannel(prepared), 0)
}

/// The weight of an output and an input of its group, in a window's row and column.
fn weight_of(
    shape: integer::Shape,
    weights: &Weights,
) -> impl Fn(usize, usize, usize, usize) -> i8 {
    let [rows, columns] = shape.kernel;
    let inputs = shape.inputs / shape.groups;
    move |o, i, ky, kx| weights.values[((o * inputs + i) * rows + ky) * columns + kx] as i8
}

/// By counts of bits, where the weights and the image allow it and it is faster.
fn of_bits(shape: integer::Shape, image: Image, weights: &Weights, bias: &[i64]) -> Option<Kernel> {
    if !binary::pays(&shape, image.codes.bits) {
        return None;
    }
    // Modulo 2^32, as are the sums.
    let bias: Vec<i32> = bias.iter().map(|&bias| bias as i32).collect();
    let kernel = BinaryConvolution::new(shape, image, weight_of(shape, weights), &bias)?;
    Some(Kernel::Bits(kernel))
}

/// By products of bytes, which are counted from `zero`.
fn of_bytes(shape: integer::Shape, zero: i64, weights: &Weights, bias: &[i64]) -> Kernel {
    let of_output = weights.values.len() / shape.outputs;
    let weights_of = weights.values.chunks_exact(of_output);
    let bias = bias.iter().zip(weights_of).map(|(bias, weights)| {
        // Modulo 2^32, as are the sums.
        (bias - zero * weights.iter().sum::<i64>()) as i32
    });
    let bias: Vec<i32> = bias.collect();
    let weight = weight_of(shape, weights);
    Kernel::Bytes(integer::Convolution::new(shape, weight, &bias))
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
