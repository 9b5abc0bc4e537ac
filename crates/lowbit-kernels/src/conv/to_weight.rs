//! The gradient with respect to the weight.

// Register tiles work on raw pointers; the call says why they are in bounds.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::taps::Taps;
use super::{Forward, STRIP, Shape};
use crate::packing::Packing;
use crate::tile::{ChannelTile, Products, ProductsTiles, channel_tiles};
use crate::vector::LANES;

/// The sum of what the groups contribute to the gradient of the weight, each as [`add_products`]
/// leaves it, stored as the weight.
pub(super) fn add_up(shape: &Shape, taps: &Taps, groups: &[&[f32]]) -> Vec<f32> {
    let [inputs, outputs] = shape.channels;
    let [kh, kw] = shape.kernel;
    let filter = inputs * kh * kw;
    let places: Vec<(usize, usize)> = taps
        .places()
        .enumerate()
        .filter(|&(_, (from, _))| from < inputs)
        .map(|(j, (from, [y, x]))| (j, (from * kh + y) * kw + x))
        .collect();
    let mut weights = vec![0.0; outputs * filter];
    let tiles: Vec<ChannelTile> = channel_tiles(outputs).collect();
    weights
        .par_chunks_mut(2 * LANES * filter)
        .zip(tiles)
        .for_each(|(weights, tile)| {
            let mut line = [0.0; 2 * LANES];
            let line = &mut line[..tile.width()];
            for &(j, place) in &places {
                line.fill(0.0);
                let start = tile.first * taps.length + j * tile.width();
                for sums in groups {
                    for (line, sum) in line.iter_mut().zip(&sums[start..]) {
                        *line += sum;
                    }
                }
                for (weights, &sum) in weights.chunks_exact_mut(filter).zip(&*line) {
                    weights[place] = sum;
                }
            }
        });
    weights
}

/// The output's gradient of some images: how it lies, and its numbers.
pub(super) struct Stored<'a> {
    pub(super) gradient: &'a [f32],
    /// The first pixel.
    first: usize,
    /// From one pixel to the next, one row, one image.
    step: [usize; 3],
    /// From one vector of channels to the next.
    plane: usize,
}

impl<'a> Stored<'a> {
    /// As it was packed.
    pub(super) fn packed(packing: &Packing, gradient: &'a [f32]) -> Self {
        Self {
            gradient,
            first: packing.top * packing.row() + packing.left * LANES,
            step: [LANES, packing.row(), packing.len()],
            plane: packing.plane(),
        }
    }

    /// As it came, if its channels fill vectors.
    pub(super) fn as_it_is(shape: &Shape, gradient: &'a [f32]) -> Option<Self> {
        let outputs = shape.channels[1];
        let row = shape.output[1] * outputs;
        outputs.is_multiple_of(LANES).then_some(Self {
            gradient,
            first: 0,
            step: [outputs, row, shape.output_image()],
            plane: LANES,
        })
    }
}

/// Adds the contribution of some images to the gradient of the weight: for each tile of channels,
/// `[taps][tile]`.
pub(super) fn add_products(
    shape: &Shape,
    Forward {
        packing,
        taps,
        stride,
    }: &Forward,
    tiles: &ProductsTiles,
    packed: &[f32],
    gradient: &Stored,
    sums: &mut [f32],
) {
    let [height, width] = shape.output;
    let images = packed.len() / packing.len();
    // Parts whose pixels stay in the first cache: some images, or some rows of one.
    let together = (STRIP / (height * width)).clamp(1, images);
    let strip = (STRIP / width).clamp(1, height);
    for image in (0..images).step_by(together) {
        for row in (0..height).step_by(strip) {
            for tile in channel_tiles(shape.channels[1]) {
                let input = image * packing.len() + row * stride[0] * packing.row();
                let start = gradient.first
                    + image * gradient.step[2]
                    + tile.first / LANES * gradient.plane
                    + row * gradient.step[1];
                let mut place = 0;
                for run in &taps.runs {
                    let first = Products {
                        input: packed[input + run.offset..].as_ptr(),
                        input_step: [
                            packing.block * stride[1],
                            packing.row() * stride[0],
                            packing.len(),
                        ],
                        gradient: gradient.gradient[start..].as_ptr(),
                        gradient_step: gradient.step,
                        gradient_plane: gradient.plane,
                        size: [together.min(images - image), strip.min(height - row), width],
                        sums: sums[tile.first * taps.length + place * tile.width()..].as_mut_ptr(),
                        sums_row: tile.width(),
                    };
                    // SAFETY: the packed input reaches as far as the taps of the last pixel, the
                    // gradient holds whole vectors of channels, and so do the sums.
                    unsafe { tiles.run(tile.vectors, run.length, first) };
                    place += run.length;
                }
            }
        }
    }
}
