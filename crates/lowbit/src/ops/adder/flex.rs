//! The adder's passes on Flex: one thread a plane of the result.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use rayon::prelude::*;

use super::{AdderOptions, Windows};
use crate::ops::flex::{contiguous, in_f32};

pub(super) fn forward(input: FlexTensor, weight: FlexTensor, options: &AdderOptions) -> FlexTensor {
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

pub(super) fn input_gradient(
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

impl Windows {
    fn distances(&self, input: &[f32], weight: &[f32]) -> Vec<f32> {
        let [group_in, group_out] = self.channels;
        let channels_out = self.groups * group_out;
        let (plane_in, plane_out) = (self.plane(self.input), self.plane(self.output));
        let kernel = self.plane(self.kernel);
        let mut output = vec![0.0f32; self.batch * channels_out * plane_out];
        output
            .par_chunks_mut(plane_out)
            .enumerate()
            .for_each(|(i, output)| {
                let (image, channel_out) = (i / channels_out, i % channels_out);
                let group = channel_out / group_out;
                for channel in 0..group_in {
                    let plane = (image * self.groups + group) * group_in + channel;
                    let input = &input[plane * plane_in..][..plane_in];
                    let weight = &weight[(channel_out * group_in + channel) * kernel..][..kernel];
                    for (element, &weight) in weight.iter().enumerate() {
                        self.for_each_row(element, |row_in, row_out| {
                            let output = &mut output[row_out..][..self.output[1]];
                            let seen = input[row_in..].iter().step_by(self.stride[1]);
                            // A step of one is a slice, which the compiler turns into vectors.
                            if self.stride[1] == 1 {
                                for (y, x) in output.iter_mut().zip(&input[row_in..]) {
                                    *y -= (x - weight).abs();
                                }
                            } else {
                                for (y, x) in output.iter_mut().zip(seen) {
                                    *y -= (x - weight).abs();
                                }
                            }
                        });
                    }
                }
            });
        output
    }

    fn input_gradient(&self, input: &[f32], weight: &[f32], grad: &[f32]) -> Vec<f32> {
        let [group_in, group_out] = self.channels;
        let channels_in = self.groups * group_in;
        let (plane_in, plane_out) = (self.plane(self.input), self.plane(self.output));
        let kernel = self.plane(self.kernel);
        let mut output = vec![0.0f32; self.batch * channels_in * plane_in];
        output
            .par_chunks_mut(plane_in)
            .enumerate()
            .for_each(|(i, output)| {
                let (image, channel_in) = (i / channels_in, i % channels_in);
                let (group, channel) = (channel_in / group_in, channel_in % group_in);
                let input = &input[i * plane_in..][..plane_in];
                for channel_out in group * group_out..(group + 1) * group_out {
                    let plane = image * self.groups * group_out + channel_out;
                    let grad = &grad[plane * plane_out..][..plane_out];
                    let weight = &weight[(channel_out * group_in + channel) * kernel..][..kernel];
                    for (element, &weight) in weight.iter().enumerate() {
                        self.for_each_row(element, |row_in, row_out| {
                            let grad = &grad[row_out..][..self.output[1]];
                            let step = self.stride[1];
                            if step == 1 {
                                let output = &mut output[row_in..][..grad.len()];
                                for ((sum, x), g) in
                                    output.iter_mut().zip(&input[row_in..]).zip(grad)
                                {
                                    *sum += g * (weight - x).clamp(-1.0, 1.0);
                                }
                            } else {
                                let output = output[row_in..].iter_mut().step_by(step);
                                let input = input[row_in..].iter().step_by(step);
                                for ((sum, x), g) in output.zip(input).zip(grad) {
                                    *sum += g * (weight - x).clamp(-1.0, 1.0);
                                }
                            }
                        });
                    }
                }
            });
        output
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
