//! The gradient with respect to an input of few channels, such as an image.
//!
//! Sums for a pixel's channels would leave most of a vector empty. Here a vector holds the places
//! of the kernel: a pixel of the output's gradient times the weight is what each place adds to the
//! pixel of the input under it, `[kernel height][kernel width][channels]`, and that is added up.

// Register tiles work on raw pointers; the call says why they are in bounds.
#![allow(unsafe_code)]

use super::Shape;
use super::taps::{Tap, Taps};
use crate::packing::{Packing, RoundSlice};
use crate::scratch::{self, Scratch};
use crate::tile::{Run, Sums, SumsTiles, channel_tiles};
use crate::vector::LANES;

/// What one pixel of the output's gradient adds to the input's.
pub(super) struct ToImage {
    taps: Taps,
    weights: Scratch,
    /// Places of the kernel, times channels.
    places: usize,
}

impl ToImage {
    /// Whether this is the way for a shape: its places fill vectors better than its channels do,
    /// and those of a row of the kernel lie together.
    pub(super) fn is_for(shape: &Shape) -> bool {
        let [height, width] = shape.kernel;
        shape.channels[0] <= 4 && height * width > 4 && shape.dilation[1] == 1
    }

    /// How the output's gradient is packed: without margins.
    pub(super) fn packing(shape: &Shape) -> Packing {
        let mut packing = Packing::new(shape.output, shape.channels[1], shape.output, [0, 0]);
        // The gradient to the weight reads it in whole vectors.
        packing.block = LANES;
        packing
    }

    pub(super) fn new(shape: &Shape, weight: &[f32], rounding: Option<RoundSlice>) -> Self {
        let packing = Self::packing(shape);
        let taps = (0..packing.blocks()).map(|block| Tap {
            run: Run {
                offset: block * packing.plane(),
                length: packing.filled(block),
            },
            channel: block * packing.block,
            kernel: [0, 0],
        });
        let taps = Taps::new(packing.block, taps.collect());
        let [inputs, outputs] = shape.channels;
        let kernel: usize = shape.kernel.iter().product();
        let places = kernel * inputs;
        let weights = taps.pack_weights(places, outputs, rounding, |to, from, _| {
            weight[(from * inputs + to % inputs) * kernel + to / inputs]
        });
        Self {
            taps,
            weights,
            places,
        }
    }

    /// The gradients with respect to some images of the input.
    pub(super) fn images(
        &self,
        shape: &Shape,
        tiles: &SumsTiles,
        packing: &Packing,
        packed: &[f32],
        gradients: &mut [f32],
    ) {
        let channels = shape.channels[0];
        // The image with its padding, so that every place of the kernel is in it.
        let size = [0, 1].map(|d| {
            let reached = (shape.output[d] - 1) * shape.stride[d]
                + (shape.kernel[d] - 1) * shape.dilation[d]
                + 1;
            reached.max(shape.padding[d] + shape.input[d])
        });
        let row = size[1] * channels;
        let mut padded = scratch::take(size[0] * row);
        let mut line = scratch::take(shape.output[1] * self.places);
        let images = packed.chunks(packing.len());
        for (packed, gradient) in images.zip(gradients.chunks_mut(shape.input_image())) {
            padded.fill(0.0);
            for y in 0..shape.output[0] {
                self.row(shape, tiles, &packed[y * packing.row()..], &mut line);
                self.add_row(shape, &line, &mut padded[y * shape.stride[0] * row..], row);
            }
            let inside = padded[shape.padding[0] * row..].chunks(row);
            let lines = gradient.chunks_mut(shape.input[1] * channels);
            for (line, padded) in lines.zip(inside) {
                line.copy_from_slice(&padded[shape.padding[1] * channels..][..line.len()]);
            }
        }
    }

    /// What the pixels of a row of the output's gradient add, `[pixels][places]`.
    fn row(&self, shape: &Shape, tiles: &SumsTiles, packed: &[f32], line: &mut [f32]) {
        let mut weights = &self.weights[..];
        for tile in channel_tiles(self.places) {
            let first = Sums {
                input: packed.as_ptr(),
                input_row: 0,
                runs: &self.taps.runs,
                weights: weights.as_ptr(),
                bias: std::ptr::null(),
                output: line[tile.first..].as_mut_ptr(),
                output_step: [self.places, 0],
                channels: tile.channels,
            };
            // SAFETY: a row is packed with all its pixels, and `line` has room for their places.
            unsafe { tiles.run(tile.vectors, LANES, [1, shape.output[1]], first) };
            weights = &weights[tile.width() * self.taps.length..];
        }
    }

    /// Adds what [`row`](Self::row) made to rows of an image, the first of which is `image`'s.
    fn add_row(&self, shape: &Shape, line: &[f32], image: &mut [f32], row: usize) {
        let channels = shape.channels[0];
        let together = shape.kernel[1] * channels;
        for (x, places) in line.chunks_exact(self.places).enumerate() {
            let first = x * shape.stride[1] * channels;
            for (y, places) in places.chunks_exact(together).enumerate() {
                let image = &mut image[y * shape.dilation[0] * row + first..][..together];
                for (sum, &place) in image.iter_mut().zip(places) {
                    *sum += place;
                }
            }
        }
    }
}
