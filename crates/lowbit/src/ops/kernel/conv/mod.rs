//! Two-dimensional convolution and its gradients, on images stored channels last.
//!
//! Each thread takes whole images. An image is packed once: its channels in blocks whose pixels
//! lie a fixed distance apart, with its padding, so that the register tiles of [`super::tile`]
//! need no bounds. Every sum runs in an order that depends on the shape alone, so the result does
//! not depend on the number of threads.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

mod taps;
mod to_image;
mod to_input;
mod to_weight;

use rayon::prelude::*;

use taps::Taps;
use to_input::Transposed;
use to_weight::{Stored, add_products, add_up};

use super::packing::{Packing, Rounding, Unrounding};
use super::scratch;
use super::tile::{ProductsTiles, Sums, SumsTiles, channel_tiles, padded};
use super::vector::LANES;
use crate::ops::backend::buffer::Buffer;

/// Pixels whose input and gradient stay in the first cache while weights are differentiated.
const STRIP: usize = 128;

/// Numbers of packed images that a thread keeps in the second cache while it goes through large
/// weights, and the numbers of weights that are large.
const STACK: usize = 3 << 16;
const LARGE_WEIGHTS: usize = 1 << 16;

/// Images that are packed together at most.
const STACKED: usize = 16;

/// Groups of images with sums of their own when weights are differentiated, and the numbers that
/// they may take together.
const GROUPS: usize = 32;
const GROUP_NUMBERS: usize = 1 << 24;

/// Weights whose rounding a thread differentiates at a time.
const PART: usize = 1 << 14;

/// What a convolution works on. One group of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    /// Channels in and out.
    pub(crate) channels: [usize; 2],
    /// Height and width.
    pub(crate) input: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Zeros above and to the left.
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Height and width.
    pub(crate) output: [usize; 2],
}

impl Shape {
    fn input_image(&self) -> usize {
        self.channels[0] * self.input[0] * self.input[1]
    }

    fn output_image(&self) -> usize {
        self.channels[1] * self.output[0] * self.output[1]
    }

    /// Multiplications and additions of the forward pass, padding included.
    pub(crate) fn operations(&self) -> f64 {
        let summed = self.channels[0] * self.kernel[0] * self.kernel[1];
        2.0 * (self.batch * self.output_image()) as f64 * summed as f64
    }

    /// Whether the register tiles reach the pixels of this convolution.
    pub(crate) fn is_supported(&self) -> bool {
        let near = self.stride[1] <= 2 || self.kernel[1] == 1;
        let sizes = [self.channels, self.input, self.output];
        near && sizes.as_flattened().iter().all(|&n| n > 0)
    }
}

/// The forward pass: how the input is packed, and what is summed.
struct Forward {
    packing: Packing,
    taps: Taps,
    /// From one pixel of the output to the next, in pixels of the packed input.
    stride: [usize; 2],
}

impl Forward {
    fn new(shape: &Shape) -> Self {
        // Where the kernel is one pixel, those between two of its places are not packed.
        let step = [0, 1].map(|d| {
            if shape.kernel[d] == 1 {
                shape.stride[d]
            } else {
                1
            }
        });
        let stride = [0, 1].map(|d| shape.stride[d] / step[d]);
        let size = [0, 1].map(|d| {
            (shape.output[d] - 1) * stride[d] + (shape.kernel[d] - 1) * shape.dilation[d] + 1
        });
        let packing = Packing::every(step, shape.input, shape.channels[0], size, shape.padding);
        let taps = Taps::forward(shape, &packing);
        Self {
            packing,
            taps,
            stride,
        }
    }
}

/// The convolution of `input`, `[batch][height][width][channels]`, with `weight`,
/// `[channels out][channels in][kernel height][kernel width]`, into `output`, stored as `input`.
/// The input and the weight are rounded as they are packed.
pub(crate) fn forward(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    roundings: [Option<Rounding>; 2],
    output: &mut [f32],
) {
    let Forward {
        packing,
        taps,
        stride,
    } = Forward::new(shape);
    let [inputs, outputs] = shape.channels;
    let [kh, kw] = shape.kernel;
    let weights = taps.pack_weights(outputs, inputs, roundings[1], |to, from, [y, x]| {
        weight[((to * inputs + from) * kh + y) * kw + x]
    });
    let bias = bias.map(padded);
    let pixel = packing.block * stride[1];
    let tiles = SumsTiles::new(pixel);
    // Rows that follow each other are one row.
    let [height, width] = shape.output;
    let size = match stride[0] * packing.row() == width * pixel {
        true => [1, height * width],
        false => shape.output,
    };
    let stack = stacked(&packing, taps.length * outputs, shape.output);
    output
        .par_chunks_mut(stack * shape.output_image())
        .zip(input.par_chunks(stack * shape.input_image()))
        .for_each(|(output, input)| {
            let mut packed = scratch::take(stack * packing.len());
            packing.pack_all(input, &mut packed, roundings[0]);
            let mut weights = &weights[..];
            for tile in channel_tiles(outputs) {
                let images = packed.chunks(packing.len());
                for (packed, output) in images.zip(output.chunks_mut(shape.output_image())) {
                    let first = Sums {
                        input: packed.as_ptr(),
                        input_row: stride[0] * packing.row(),
                        runs: &taps.runs,
                        weights: weights.as_ptr(),
                        bias: match &bias {
                            Some(bias) => bias[tile.first..].as_ptr(),
                            None => std::ptr::null(),
                        },
                        output: output[tile.first..].as_mut_ptr(),
                        output_step: [outputs, shape.output[1] * outputs],
                        channels: tile.channels,
                    };
                    // SAFETY: `Forward` made the packing as large as the taps of the last pixel
                    // need; weights and bias are padded to whole tiles.
                    unsafe { tiles.run(tile.vectors, pixel, size, first) };
                }
                weights = &weights[tile.width() * taps.length..];
            }
        });
}

/// Images that are packed together: so many that large weights are fetched seldom, and that sums
/// over small images run long, and no more than the second cache holds.
fn stacked(packing: &Packing, weights: usize, output: [usize; 2]) -> usize {
    let room = (STACK / packing.len().max(1)).clamp(1, STACKED);
    if weights >= LARGE_WEIGHTS {
        return room;
    }
    STRIP.div_ceil(output[0] * output[1]).min(room)
}

/// What [`backward`] shall make.
pub(crate) struct Wanted<'a> {
    /// Room for the gradient of the input, stored as the input.
    pub(crate) input: Option<&'a mut [f32]>,
    /// Whether the gradient of the weight is wanted.
    pub(crate) weight: bool,
    /// Whether the gradient of the bias is wanted.
    pub(crate) bias: bool,
}

/// What a group of images contributes to the gradients of the parameters.
struct Sum {
    // Handed to the thread that adds up, so not one of this thread's own buffers.
    weight: Buffer,
    bias: Vec<f32>,
}

/// The gradients of [`forward`], given `gradient`, that of its output: of the weight (as the
/// weight is stored), of the bias (both empty where not wanted), and the sums of what the two
/// `unroundings` returned.
pub(crate) fn backward(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    roundings: [Option<Rounding>; 2],
    unroundings: [Option<Unrounding>; 2],
    wanted: Wanted,
) -> (Vec<f32>, Vec<f32>, [f64; 2]) {
    let forward = Forward::new(shape);
    let Forward { packing, taps, .. } = &forward;
    let transposed = Transposed::new(shape, weight, roundings[1]);
    let outputs = shape.channels[1];
    let width = outputs.next_multiple_of(LANES);
    let numbers = taps.length * width;
    let groups = (GROUP_NUMBERS / numbers.max(1))
        .clamp(1, GROUPS)
        .min(shape.batch.max(1));
    let images = shape.batch.div_ceil(groups).max(1);
    let stack = stacked(packing, numbers, shape.output)
        .min(stacked(&transposed.packing, numbers, shape.output))
        .min(images);
    let sums_tiles = SumsTiles::new(LANES);
    let products_tiles = ProductsTiles::new();

    let group = |input: &[f32], gradient: &[f32], mut input_gradient: Option<&mut [f32]>| {
        let mut sum = Sum {
            weight: Buffer::new(if wanted.weight { numbers } else { 0 }),
            bias: vec![0.0; if wanted.bias { outputs } else { 0 }],
        };
        sum.weight.fill(0.0);
        let mut total = 0.0;
        let mut packed_gradients = scratch::take(stack * transposed.packing.len());
        let mut packed = scratch::take(stack * packing.len());
        let inputs = input.chunks(stack * shape.input_image());
        let gradients = gradient.chunks(stack * shape.output_image());
        for (index, (input, gradient)) in inputs.zip(gradients).enumerate() {
            let images = input.len() / shape.input_image();
            let packed_gradients = &mut packed_gradients[..images * transposed.packing.len()];
            // It is packed for the sums over it; without them, it can be read where it is.
            let as_it_is = match input_gradient {
                Some(_) => None,
                None => Stored::as_it_is(shape, gradient),
            };
            if as_it_is.is_none() {
                transposed
                    .packing
                    .pack_all(gradient, packed_gradients, None);
            }
            if let Some(all) = &mut input_gradient {
                let start = index * stack * shape.input_image();
                let to_input = &mut all[start..start + input.len()];
                transposed.images(shape, &sums_tiles, packed_gradients, to_input);
                if let Some(unrounding) = unroundings[0] {
                    total += unrounding(input, to_input);
                }
            }
            if wanted.weight {
                let packed = &mut packed[..images * packing.len()];
                packing.pack_all(input, packed, roundings[0]);
                let stored = as_it_is
                    .unwrap_or_else(|| Stored::packed(&transposed.packing, packed_gradients));
                add_products(
                    shape,
                    &forward,
                    &products_tiles,
                    packed,
                    &stored,
                    &mut sum.weight,
                );
            }
            if wanted.bias {
                for pixel in gradient.chunks(outputs) {
                    for (sum, g) in sum.bias.iter_mut().zip(pixel) {
                        *sum += g;
                    }
                }
            }
        }
        (sum, total)
    };
    let inputs = input.par_chunks(images * shape.input_image());
    let gradients = gradient.par_chunks(images * shape.output_image());
    let pairs = inputs.zip(gradients);
    let sums: Vec<(Sum, f64)> = match wanted.input {
        Some(all) => pairs
            .zip(all.par_chunks_mut(images * shape.input_image()))
            .map(|((x, g), dx)| group(x, g, Some(dx)))
            .collect(),
        None => pairs.map(|(x, g)| group(x, g, None)).collect(),
    };

    let to_input = sums.iter().map(|sum| sum.1).sum();
    let mut bias = vec![0.0; if wanted.bias { outputs } else { 0 }];
    for (sum, _) in &sums {
        for (bias, sum) in bias.iter_mut().zip(&sum.bias) {
            *bias += sum;
        }
    }
    let mut weights = Vec::new();
    let mut to_weight = 0.0;
    if wanted.weight {
        weights = add_up(shape, taps, &sums);
        if let Some(unrounding) = unroundings[1] {
            let parts = weights.par_chunks_mut(PART).zip(weight.par_chunks(PART));
            let sums: Vec<f64> = parts
                .map(|(grad, weight)| unrounding(weight, grad))
                .collect();
            to_weight = sums.into_iter().sum();
        }
    }
    (weights, bias, [to_input, to_weight])
}
