//! Two-dimensional convolution and its gradients, on images stored channels last.
//!
//! Each thread takes whole images. An image is packed once: its channels in blocks whose pixels
//! lie a fixed distance apart, with its padding, so that the register tiles need no
//! bounds. Every sum runs in an order that depends on the shape alone, so the result does
//! not depend on the number of threads.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

mod backward;
mod bfloat16;
mod integers;
mod numbers;
mod taps;
mod to_image;
mod to_input;
mod to_weight;

use rayon::prelude::*;

pub use backward::{Wanted, backward};
pub use integers::forward_in_integers;
use taps::Taps;

use crate::after::After;
use crate::packing::{Packing, RoundSlice};
use crate::scratch::{self, Scratch};
use crate::tile::{Sums, SumsTiles, Terms, channel_tiles, padded};

/// Pixels whose input and gradient stay in the first cache while weights are differentiated.
const STRIP: usize = 128;

/// Numbers of packed images that a thread keeps in the second cache while it goes through large
/// weights, and the numbers of weights that are large.
const STACK: usize = 3 << 16;
const LARGE_WEIGHTS: usize = 1 << 16;

/// Images that are packed together at most.
const STACKED: usize = 16;

/// What a convolution works on. One group of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Images.
    pub batch: usize,
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Height and width.
    pub input: [usize; 2],
    /// Height and width.
    pub kernel: [usize; 2],
    /// From one pixel of the output to the next, in pixels of the input, down and to the right.
    pub stride: [usize; 2],
    /// Zeros above and to the left. Those below and to the right are as many as the last pixel of
    /// the output needs.
    pub padding: [usize; 2],
    /// From one place of the kernel to the next, in pixels of the input, down and to the right.
    pub dilation: [usize; 2],
    /// Height and width.
    pub output: [usize; 2],
}

impl Shape {
    fn input_image(&self) -> usize {
        self.channels[0] * self.input[0] * self.input[1]
    }

    fn output_image(&self) -> usize {
        self.channels[1] * self.output[0] * self.output[1]
    }

    /// Multiplications and additions of the forward pass, padding included.
    pub fn operations(&self) -> f64 {
        let summed = self.channels[0] * self.kernel[0] * self.kernel[1];
        2.0 * (self.batch * self.output_image()) as f64 * summed as f64
    }

    /// Refuses slices of other lengths: what follows writes through pointers.
    fn check(&self, input: &[f32], weight: &[f32], output: &[f32]) {
        assert!(self.is_supported(), "no kernel for {self:?}");
        let filter = self.channels[0] * self.kernel[0] * self.kernel[1];
        assert_eq!(input.len(), self.batch * self.input_image());
        assert_eq!(weight.len(), self.channels[1] * filter);
        assert_eq!(output.len(), self.batch * self.output_image());
    }

    /// Whether the register tiles reach the pixels of this convolution.
    pub fn is_supported(&self) -> bool {
        // A tile knows how far its pixels lie apart when it is compiled.
        let near = self.stride[1] <= 2 || self.kernel[1] == 1;
        let steps = [self.stride, self.dilation, self.kernel];
        let sizes = [self.channels, self.input, self.output];
        let sizes = [sizes, steps].into_iter().flatten().flatten();
        near && sizes.into_iter().all(|n| n > 0)
    }
}

/// Where a convolution goes, stored as the input, and what is done to its results while they are in the
/// cache.
#[derive(Debug)]
pub struct Output<'a> {
    /// `[batch][height][width][channels]`.
    pub numbers: &'a mut [f32],
    /// What follows.
    pub after: Option<&'a After<'a>>,
}

impl<'a> From<&'a mut [f32]> for Output<'a> {
    /// Nothing follows.
    fn from(numbers: &'a mut [f32]) -> Self {
        Self {
            numbers,
            after: None,
        }
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
/// `[channels out][channels in][kernel height][kernel width]`, plus `bias`, `[channels out]`, into
/// `output`. The input and the weight are rounded as they are packed by what
/// `roundings` says of each; to bfloat16, too, where `terms` are such.
///
/// # Panics
/// Where the shape is not [supported](Shape::is_supported), or a slice is not as long as it says.
pub fn forward(
    shape: &Shape,
    [input, weight]: [&[f32]; 2],
    bias: Option<&[f32]>,
    roundings: [Option<RoundSlice>; 2],
    terms: Terms,
    output: Output,
) {
    let Output { numbers, after } = output;
    shape.check(input, weight, numbers);
    assert!(bias.is_none_or(|bias| bias.len() == shape.channels[1]));
    let sums = ForwardSums::new(shape, weight, bias, roundings, terms);
    let stack = sums.stack();
    let images = stack * shape.output_image();
    numbers
        .par_chunks_mut(images)
        .zip(input.par_chunks(stack * shape.input_image()))
        .enumerate()
        .for_each(|(i, (output, input))| {
            sums.images(input, output);
            if let Some(after) = after {
                after.apply(output, i * images);
            }
        });
}

/// The sums of a forward pass.
struct ForwardSums<'a> {
    /// Where terms are pairs, so are the channels of the input.
    shape: Shape,
    /// Of the input.
    rounding: Option<RoundSlice<'a>>,
    channels: usize,
    terms: Terms,
    forward: Forward,
    tiles: SumsTiles,
    /// Padded to whole tiles.
    weights: Scratch,
    bias: Option<Vec<f32>>,
}

impl<'a> ForwardSums<'a> {
    fn new(
        shape: &Shape,
        weight: &[f32],
        bias: Option<&[f32]>,
        [of_input, of_weight]: [Option<RoundSlice<'a>>; 2],
        terms: Terms,
    ) -> Self {
        let pairs;
        let (of_terms, weight, of_weight) = match terms {
            Terms::Numbers => (*shape, weight, of_weight),
            Terms::Bfloat16 => {
                pairs = bfloat16::paired_weights(shape, weight, of_weight);
                (bfloat16::paired_inputs(shape), &pairs[..], None)
            }
        };
        let forward = Forward::new(&of_terms);
        let [inputs, outputs] = of_terms.channels;
        let [kh, kw] = shape.kernel;
        let at = |to, from, [y, x]: [usize; 2]| weight[((to * inputs + from) * kh + y) * kw + x];
        Self {
            weights: forward.taps.pack_weights(outputs, inputs, of_weight, at),
            bias: bias.map(padded),
            tiles: SumsTiles::new(forward.pixel(), terms),
            rounding: of_input,
            channels: shape.channels[0],
            shape: of_terms,
            terms,
            forward,
        }
    }

    /// Images that are packed together.
    fn stack(&self) -> usize {
        let weights = self.forward.taps.length * self.shape.channels[1];
        stacked(&self.forward.packing, weights, self.shape.output)
    }

    /// Sums some images.
    fn images(&self, input: &[f32], output: &mut [f32]) {
        let packing = &self.forward.packing;
        let images = output.len() / self.shape.output_image();
        let mut packed = scratch::take(images * packing.len());
        match self.terms {
            Terms::Numbers => packing.pack_all(input, &mut packed, self.rounding),
            Terms::Bfloat16 => {
                bfloat16::pack_pairs(packing, input, self.channels, self.rounding, &mut packed);
            }
        }
        let (weights, bias) = (&self.weights, self.bias.as_deref());
        self.forward
            .images(&self.shape, &self.tiles, &packed, weights, bias, output);
    }
}

impl Forward {
    /// Sums some images, packed, into `output`. `weights` and `bias` are padded to whole tiles.
    ///
    /// The tiles of channels are the outer loop: the weights of one stay in the first cache while
    /// they meet every pixel of every image of the stack, and an image comes back from the second.
    fn images(
        &self,
        shape: &Shape,
        tiles: &SumsTiles,
        packed: &[f32],
        mut weights: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let outputs = shape.channels[1];
        let (packing, pixel) = (&self.packing, self.pixel());
        // Rows that follow each other are one row.
        let [height, width] = shape.output;
        let size = match self.stride[0] * packing.row() == width * pixel {
            true => [1, height * width],
            false => shape.output,
        };
        for tile in channel_tiles(outputs) {
            let images = packed.chunks(packing.len());
            for (packed, output) in images.zip(output.chunks_mut(shape.output_image())) {
                let first = Sums {
                    input: packed.as_ptr(),
                    input_row: self.stride[0] * packing.row(),
                    runs: &self.taps.runs,
                    weights: weights.as_ptr(),
                    bias: match bias {
                        Some(bias) => bias[tile.first..].as_ptr(),
                        None => std::ptr::null(),
                    },
                    output: output[tile.first..].as_mut_ptr(),
                    output_step: [outputs, shape.output[1] * outputs],
                    channels: tile.channels,
                };
                // SAFETY: `new` made the packing as large as the taps of the last pixel need;
                // weights and bias are padded to whole tiles; `output` is a whole image.
                unsafe { tiles.run(tile.vectors, pixel, size, first) };
            }
            weights = &weights[tile.width() * self.taps.length..];
        }
    }

    /// From one pixel of the output to the next, in numbers of the packed input.
    fn pixel(&self) -> usize {
        self.packing.block * self.stride[1]
    }
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
