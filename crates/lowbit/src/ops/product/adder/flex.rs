//! The adder's passes on Flex: a thread takes a group of an image, and unfolds it into a row for each
//! term of the sums, so that neighbouring places are neighbours in memory.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use rayon::prelude::*;

use crate::ops::backend::flex::{contiguous, in_f32};
use crate::ops::product::adder::{AdderOptions, Windows};
use lowbit_kernels::vector::{Kernel, dispatch};

pub(crate) fn forward(input: FlexTensor, weight: FlexTensor, options: &AdderOptions) -> FlexTensor {
    in_f32(input, |input| {
        in_f32(weight, |weight| {
            let (input, weight) = (contiguous(input), contiguous(weight));
            let windows = Windows::of::<Flex>(&input, &weight, options);
            let output = windows.distances(input.storage(), weight.storage());
            let [_, group_out] = windows.channels;
            let [height, width] = windows.output;
            tensor(
                output,
                [windows.batch, windows.groups * group_out, height, width],
            )
        })
    })
}

pub(crate) fn input_gradient(
    input: FlexTensor,
    weight: FlexTensor,
    grad: FlexTensor,
    options: &AdderOptions,
) -> FlexTensor {
    in_f32(grad, |grad| {
        in_f32(input, |input| {
            in_f32(weight, |weight| {
                let (input, weight) = (contiguous(input), contiguous(weight));
                let grad = contiguous(grad);
                let windows = Windows::of::<Flex>(&input, &weight, options);
                let output =
                    windows.input_gradient(input.storage(), weight.storage(), grad.storage());
                tensor(output, input.shape().dims())
            })
        })
    })
}

/// A row-major tensor of the values.
fn tensor(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    let layout = Layout::contiguous(Shape::new(shape));
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// Sums that are computed together, in the first cache.
///
/// Their number is a slice's, not an array's: of a loop over a short array the compiler makes
/// scalars, of one of unknown length vectors.
const SUMS: usize = 256;

impl Windows {
    fn distances(&self, input: &[f32], weight: &[f32]) -> Vec<f32> {
        let [group_in, group_out] = self.channels;
        let (plane_in, places) = (self.plane(self.input), self.plane(self.output));
        let terms = group_in * self.plane(self.kernel);
        let mut output = vec![0.0f32; self.batch * self.groups * group_out * places];
        output
            .par_chunks_mut(group_out * places)
            .zip(input.par_chunks(group_in * plane_in))
            .enumerate()
            .for_each_init(
                || vec![0.0; terms * places],
                |columns, (i, (output, input))| {
                    self.unfold(input, columns);
                    let group = i % self.groups * group_out * terms;
                    dispatch(Distances {
                        columns,
                        weight: &weight[group..][..group_out * terms],
                        terms,
                        output,
                    });
                },
            );
        output
    }

    fn input_gradient(&self, input: &[f32], weight: &[f32], grad: &[f32]) -> Vec<f32> {
        let [group_in, group_out] = self.channels;
        let (plane_in, places) = (self.plane(self.input), self.plane(self.output));
        let terms = group_in * self.plane(self.kernel);
        let mut output = vec![0.0f32; input.len()];
        output
            .par_chunks_mut(group_in * plane_in)
            .zip(input.par_chunks(group_in * plane_in))
            .zip(grad.par_chunks(group_out * places))
            .enumerate()
            .for_each_init(
                || [0, 1].map(|_| vec![0.0; terms * places]),
                |[columns, slopes], (i, ((output, input), grad))| {
                    self.unfold(input, columns);
                    let group = i % self.groups * group_out * terms;
                    slopes.fill(0.0);
                    dispatch(Slopes {
                        columns,
                        weight: &weight[group..][..group_out * terms],
                        terms,
                        grad,
                        slopes,
                    });
                    self.fold(slopes, output);
                },
            );
        output
    }

    /// A row for each kernel element of each channel: what it sees, place after place.
    fn unfold(&self, input: &[f32], columns: &mut [f32]) {
        self.for_each_term(|row, plane, element| {
            let places = self.plane(self.output);
            let row = &mut columns[row * places..][..places];
            let input = &input[plane..];
            self.for_each_row(element, |row_in, row_out| {
                let seen = input[row_in..].iter().step_by(self.stride[1]);
                for (y, x) in row[row_out..][..self.output[1]].iter_mut().zip(seen) {
                    *y = *x;
                }
            });
        });
    }

    /// Adds each row to what it was taken from.
    fn fold(&self, columns: &[f32], output: &mut [f32]) {
        self.for_each_term(|row, plane, element| {
            let places = self.plane(self.output);
            let row = &columns[row * places..][..places];
            let output = &mut output[plane..];
            self.for_each_row(element, |row_in, row_out| {
                let seen = output[row_in..].iter_mut().step_by(self.stride[1]);
                for (y, x) in seen.zip(&row[row_out..][..self.output[1]]) {
                    *y += *x;
                }
            });
        });
    }

    /// Calls `body` with the number of each term of a sum, the start of its channel's plane in a
    /// group of the input, and the number of its kernel element.
    fn for_each_term(&self, mut body: impl FnMut(usize, usize, usize)) {
        let kernel = self.plane(self.kernel);
        for term in 0..self.channels[0] * kernel {
            body(term, term / kernel * self.plane(self.input), term % kernel);
        }
    }

    /// Calls `body` with the start of each row that a kernel element sees in a plane of the input,
    /// and of the row of the output it goes to.
    fn for_each_row(&self, element: usize, mut body: impl FnMut(usize, usize)) {
        let [row, column] = [element / self.kernel[1], element % self.kernel[1]];
        for y in 0..self.output[0] {
            let row_in = y * self.stride[0] + self.offset(0, row);
            body(
                row_in * self.input[1] + self.offset(1, column),
                y * self.output[1],
            );
        }
    }

    fn plane(&self, size: [usize; 2]) -> usize {
        size[0] * size[1]
    }
}

/// `-sum |column - weight|` for every channel and place of one group.
struct Distances<'a> {
    columns: &'a [f32],
    weight: &'a [f32],
    terms: usize,
    output: &'a mut [f32],
}

impl Kernel for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let places = self.columns.len() / self.terms;
        let channels = self.weight.chunks_exact(self.terms);
        for (row, output) in channels.zip(self.output.chunks_exact_mut(places)) {
            for (block, sums) in output.chunks_mut(SUMS).enumerate() {
                for (seen, w) in self.columns.chunks_exact(places).zip(row) {
                    for (sum, x) in sums.iter_mut().zip(&seen[block * SUMS..]) {
                        *sum -= (x - w).abs();
                    }
                }
            }
        }
    }
}

/// `sum g clamp(weight - column, -1, 1)` over the channels out, for every column and place of one
/// group.
struct Slopes<'a> {
    columns: &'a [f32],
    weight: &'a [f32],
    terms: usize,
    grad: &'a [f32],
    slopes: &'a mut [f32],
}

impl Kernel for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let places = self.columns.len() / self.terms;
        let columns = self.columns.chunks_exact(places);
        let slopes = self.slopes.chunks_exact_mut(places);
        for (term, (column, slopes)) in columns.zip(slopes).enumerate() {
            for (block, sums) in slopes.chunks_mut(SUMS).enumerate() {
                let seen = &column[block * SUMS..];
                let weights = self.weight.chunks_exact(self.terms);
                for (grad, row) in self.grad.chunks_exact(places).zip(weights) {
                    let w = row[term];
                    for ((sum, x), g) in sums.iter_mut().zip(seen).zip(&grad[block * SUMS..]) {
                        *sum += g * (w - x).clamp(-1.0, 1.0);
                    }
                }
            }
        }
    }
}
