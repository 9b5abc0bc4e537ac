//! The gradient with respect to the input.

#![allow(unsafe_code)]

use super::Shape;
use super::taps::{Tap, Taps};
use super::to_image::ToImage;
use crate::ops::kernel::packing::{Packing, Rounding};
use crate::ops::kernel::scratch::Scratch;
use crate::ops::kernel::tile::{Run, Sums, SumsTiles, channel_tiles};
use crate::ops::kernel::vector::LANES;

/// Pixels of the input whose gradients read the same taps: those at `first` plus multiples of the
/// stride.
struct Phase {
    first: [usize; 2],
    size: [usize; 2],
    taps: Taps,
    weights: Scratch,
}

/// The gradient with respect to the input: how the output's gradient is packed, and how sums are
/// made of it.
pub(super) struct Transposed {
    pub(super) packing: Packing,
    way: Way,
}

enum Way {
    Phases(Vec<Phase>),
    Image(ToImage),
}

/// Along one dimension, for the pixels of the input at `phase` plus multiples of the stride: how
/// many there are, and for every place of the kernel that they meet, the output's pixel at the
/// first of them.
fn reached(shape: &Shape, d: usize, phase: usize) -> (usize, Vec<(usize, isize)>) {
    let stride = shape.stride[d] as isize;
    let count = shape.input[d]
        .saturating_sub(phase)
        .div_ceil(shape.stride[d]);
    let taps = (0..shape.kernel[d]).filter_map(|k| {
        let at = (phase + shape.padding[d]) as isize - (k * shape.dilation[d]) as isize;
        (at.rem_euclid(stride) == 0).then_some((k, at.div_euclid(stride)))
    });
    (count, taps.collect())
}

impl Transposed {
    pub(super) fn new(shape: &Shape, weight: &[f32], rounding: Option<Rounding>) -> Self {
        if ToImage::is_for(shape) {
            return Self {
                packing: ToImage::packing(shape),
                way: Way::Image(ToImage::new(shape, weight, rounding)),
            };
        }
        let along = |d: usize| -> Vec<_> {
            (0..shape.stride[d].min(shape.input[d]))
                .map(|phase| reached(shape, d, phase))
                .collect()
        };
        let (rows, columns) = (along(0), along(1));
        // Margins so large that every tap of every phase is inside.
        let extent = |phases: &[(usize, Vec<(usize, isize)>)], output: usize| {
            let taps = || {
                phases
                    .iter()
                    .flat_map(|(n, taps)| taps.iter().map(move |t| (*n as isize, t.1)))
            };
            let before = taps().map(|(_, at)| -at).max().unwrap_or(0).max(0);
            let last = taps()
                .map(|(n, at)| n + at)
                .max()
                .unwrap_or(0)
                .max(output as isize);
            (before as usize, (before + last) as usize)
        };
        let (top, height) = extent(&rows, shape.output[0]);
        let (left, width) = extent(&columns, shape.output[1]);
        let [inputs, outputs] = shape.channels;
        let mut packing = Packing::new(shape.output, outputs, [height, width], [top, left]);
        // The gradient to the weight reads it in whole vectors.
        packing.block = LANES;
        let [kh, kw] = shape.kernel;
        let mut phases = Vec::new();
        for (y, (phase_rows, row_taps)) in rows.iter().enumerate() {
            for (x, (phase_columns, column_taps)) in columns.iter().enumerate() {
                let mut taps = Vec::new();
                for block in 0..packing.blocks() {
                    for &(ky, row) in row_taps {
                        for &(kx, column) in column_taps {
                            let row = (row + top as isize) as usize;
                            let column = (column + left as isize) as usize;
                            taps.push(Tap {
                                run: Run {
                                    offset: block * packing.plane()
                                        + row * packing.row()
                                        + column * packing.block,
                                    length: packing.filled(block),
                                },
                                channel: block * packing.block,
                                kernel: [ky, kx],
                            });
                        }
                    }
                }
                let taps = Taps::new(packing.block, taps);
                let weights = taps.pack_weights(inputs, outputs, rounding, |to, from, [y, x]| {
                    weight[((from * inputs + to) * kh + y) * kw + x]
                });
                phases.push(Phase {
                    first: [y, x],
                    size: [*phase_rows, *phase_columns],
                    taps,
                    weights,
                });
            }
        }
        Self {
            packing,
            way: Way::Phases(phases),
        }
    }

    /// The gradients with respect to some images of the input.
    pub(super) fn images(
        &self,
        shape: &Shape,
        tiles: &SumsTiles,
        packed: &[f32],
        gradients: &mut [f32],
    ) {
        let phases = match &self.way {
            Way::Phases(phases) => phases,
            Way::Image(way) => return way.images(shape, tiles, &self.packing, packed, gradients),
        };
        let channels = shape.channels[0];
        for phase in phases {
            let mut weights = &phase.weights[..];
            let first_pixel = phase.first[0] * shape.input[1] + phase.first[1];
            for tile in channel_tiles(channels) {
                let images = packed.chunks(self.packing.len());
                for (packed, gradient) in images.zip(gradients.chunks_mut(shape.input_image())) {
                    let first = Sums {
                        input: packed.as_ptr(),
                        input_row: self.packing.row(),
                        runs: &phase.taps.runs,
                        weights: weights.as_ptr(),
                        bias: std::ptr::null(),
                        output: gradient[first_pixel * channels + tile.first..].as_mut_ptr(),
                        output_step: [
                            channels * shape.stride[1],
                            channels * shape.input[1] * shape.stride[0],
                        ],
                        channels: tile.channels,
                    };
                    // SAFETY: the margins reach as far as the taps of the last pixel.
                    unsafe { tiles.run(tile.vectors, LANES, phase.size, first) };
                }
                weights = &weights[tile.width() * phase.taps.length..];
            }
        }
    }
}
