//! Convolutions and linear layers of bytes, with the requantization that follows, and the addition
//! after that.

use lowbit_kernels::integer::binary::{self, BinaryConvolution, Image};
use lowbit_kernels::integer::{self, Finish, LEVELS, Narrow};

use super::codes::codes;
use super::reader::{Pixels, Reader};
use super::requantize::{narrow, thresholds};
use super::step::Addition;
use super::stored::{Made, Margins};
use super::{Stored, Workspace, pixels};
use crate::graph::{Graph, Node, TensorId};
use crate::ops::{Operator, Requantize, Weights};
use crate::tensor::Tensor;

/// What becomes of sums.
#[derive(Debug, Clone)]
enum Then {
    /// Bytes, before the sums leave the registers.
    Finish(Finished),
    /// What all that read them make of them, row after row.
    Readers(Vec<Reader>),
}

/// Bytes of sums in registers.
#[derive(Debug, Clone)]
struct Finished {
    finish: Finish,
    output: TensorId,
    margins: Option<Margins>,
    /// The tensor whose bytes are added.
    other: Option<TensorId>,
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
    then: Then,
    /// Rows, columns and channels of the image.
    image: [usize; 3],
    /// Rows above and columns to the left of it.
    before: [usize; 2],
    /// The byte of zero.
    zero: u8,
    /// Which of the workspace's padded images; `None` if the image is read where it is.
    padded: Option<usize>,
}

impl Convolve {
    /// The step of a convolution or linear layer and of what reads its sums, with the nodes that it does
    /// beside its own; `then` is the requantization to bytes that is all that reads them, and its node.
    /// `None` if it is not of bytes. `padded` counts the padded images; `leave` has its input made between
    /// its padding, and says whether it could.
    pub(crate) fn of(
        graph: &Graph,
        node: &Node,
        then: Option<(usize, &Requantize, TensorId)>,
        (padded, leave): (&mut usize, impl FnOnce(Margins) -> bool),
    ) -> Option<(Self, Vec<usize>)> {
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
        let finished = then.and_then(|(index, requantize, output)| {
            let (finish, offset) = finish(requantize, sums, shape.sums())?;
            let finished = Finished {
                finish,
                output,
                margins: None,
                other: None,
            };
            Some((Then::Finish(finished), offset, vec![index]))
        });
        let (then, offset, nodes) = finished.or_else(|| {
            let (readers, nodes) = Reader::of_sums(graph, node.output)?;
            Some((Then::Readers(readers), 0, nodes))
        })?;
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
        let margins = Margins {
            columns: image[1],
            width: shape.image[1],
            before,
            bytes: shape.bytes(),
            zero: zero as u8,
        };
        let between = is_padded && bits.is_none() && shape.pixel() == shape.inputs;
        let is_padded = (is_padded || bits.is_some()) && !(between && leave(margins));
        *padded += usize::from(is_padded);
        let convolve = Self {
            kernel: bits.unwrap_or_else(|| of_bytes(shape, zero, weights, &bias)),
            input: node.inputs[0],
            sums: node.output,
            then,
            image,
            before,
            zero: zero as u8,
            padded: is_padded.then(|| *padded - 1),
        };
        Some((convolve, nodes))
    }

    /// What it makes.
    pub(crate) fn made(&self) -> Vec<Made> {
        match &self.then {
            Then::Finish(finished) => vec![Made {
                tensor: finished.output,
                margins: finished.margins,
            }],
            Then::Readers(readers) => readers.iter().flat_map(Reader::made).collect(),
        }
    }

    /// What it makes of the sums before they leave the registers, to which nothing is added yet.
    pub(crate) fn finished(&self) -> Option<TensorId> {
        match &self.then {
            Then::Finish(finished) if finished.other.is_none() => Some(finished.output),
            _ => None,
        }
    }

    /// Has a tensor lie between its padding from now on; says whether it makes it and can.
    pub(crate) fn leave(&mut self, tensor: TensorId, margins: Margins) -> bool {
        match &mut self.then {
            Then::Finish(finished) => {
                let makes = finished.output == tensor;
                if makes {
                    finished.margins = Some(margins);
                }
                makes
            }
            Then::Readers(readers) => {
                let mut readers = readers.iter_mut();
                readers.any(|reader| reader.leave(tensor, margins))
            }
        }
    }

    /// The tensor of its sums, if they are counts of bits.
    pub(crate) fn counted(&self) -> Option<TensorId> {
        matches!(self.kernel, Kernel::Bits(_)).then_some(self.sums)
    }

    /// Makes an addition of what it makes and another tensor, which is there when it runs, and the
    /// requantization that is all that reads the sum, part of it; says whether it could.
    pub(crate) fn take(
        &mut self,
        graph: &Graph,
        add: &Addition,
        (narrow, offset): (&Narrow, i32),
        output: TensorId,
    ) -> bool {
        let Then::Finish(finished) = &mut self.then else {
            return false;
        };
        let own = usize::from(add.inputs[0] != finished.output);
        let (m, other) = (add.multipliers, add.inputs[1 - own]);
        let numbers = graph.tensor(other).numbers;
        let most = (numbers.greatest() - numbers.least()) as u8;
        let m = [m[own], m[1 - own], add.constant.wrapping_add(offset)];
        let Some(finish) = finished.finish.clone().plus(m, most, narrow) else {
            return false;
        };
        finished.finish = finish;
        finished.output = output;
        finished.other = Some(other);
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
        if let Then::Readers(_) = self.then {
            workspace.reserve_sums(shape.output()[1] * shape.sums());
        }
    }

    pub(crate) fn run(&self, workspace: &mut Workspace) {
        let Workspace {
            tensors,
            padded,
            sums,
            windows,
            ..
        } = workspace;
        let input = tensors[self.input.0].take();
        let image = match self.padded {
            Some(place) => {
                match &self.kernel {
                    Kernel::Bytes(_) => self.pad(input.bytes(), &mut padded[place]),
                    Kernel::Bits(kernel) => kernel.pack(input.bytes(), &mut padded[place]),
                }
                &padded[place]
            }
            None => input.bytes(),
        };
        match &self.then {
            Then::Finish(finished) => {
                let mut output = tensors[finished.output.0].take();
                let other = match finished.other {
                    Some(other) if other == self.input => input.bytes(),
                    Some(other) => tensors[other.0].bytes(),
                    None => &[],
                };
                self.finish((finished, other), image, windows, output.bytes_mut());
                tensors[finished.output.0] = output;
            }
            Then::Readers(readers) => {
                let sums = &mut sums[..self.shape().output()[1] * self.shape().sums()];
                self.sums(image, windows, sums, (readers, tensors));
            }
        }
        tensors[self.input.0] = input;
    }

    /// Row after row, as bytes.
    fn finish(
        &self,
        (finished, other): (&Finished, &[u8]),
        image: &[u8],
        windows: &mut [u32],
        bytes: &mut [u8],
    ) {
        let shape = self.shape();
        let [rows, columns] = shape.output();
        let of_row = columns * shape.outputs;
        let finish = &finished.finish;
        for row in 0..rows {
            let start = match finished.margins {
                Some(margins) => margins.start(row) * shape.outputs,
                None => row * of_row,
            };
            let bytes = &mut bytes[start..][..of_row];
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

    /// Row after row, as sums that are read.
    fn sums(
        &self,
        image: &[u8],
        windows: &mut [u32],
        sums: &mut [i32],
        (readers, tensors): (&[Reader], &mut [Stored]),
    ) {
        let shape = self.shape();
        let [rows, columns] = shape.output();
        for row in 0..rows {
            match &self.kernel {
                Kernel::Bytes(kernel) => kernel.row(image, row, sums),
                Kernel::Bits(kernel) => {
                    kernel.row(image, row, &mut windows[..kernel.scratch()], sums);
                }
            }
            let pixels = Pixels {
                line: shape.sums(),
                channels: shape.outputs,
                first: row * columns,
            };
            for reader in readers {
                reader.run(sums, pixels, tensors);
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

/// What a requantization to bytes makes of sums of `padded` channels in registers, and what is added to
/// each before. `None` if it can't there.
fn finish(requantize: &Requantize, sums: &Tensor, padded: usize) -> Option<(Finish, i32)> {
    if let Some((narrow, offset)) = narrow(requantize, sums.interval()) {
        let reach = sums.interval().magnitude() + u64::from(offset.unsigned_abs());
        let (finish, added) = Finish::shift(&narrow, reach)?;
        return Some((finish, offset + added));
    }
    let numbers = requantize.numbers;
    if numbers.greatest() - numbers.least() > LEVELS as i64 {
        return None;
    }
    let thresholds = thresholds(requantize, sums, padded);
    Some((Finish::levels(&thresholds), 0))
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
