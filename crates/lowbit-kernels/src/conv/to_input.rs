//! The gradient with respect to the input.

// Register tiles work on raw pointers; the call says why they are in bounds.
#![allow(unsafe_code)]

use super::Shape;
use super::taps::{Tap, Taps};
use super::to_image::ToImage;
use crate::packing::{Packing, RoundSlice};
use crate::scratch::Scratch;
use crate::tile::{Run, Sums, SumsTiles, channel_tiles};
use crate::vector::LANES;

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
    way: InputGradient,
}

/// How the gradient with respect to the input is made.
enum InputGradient {
    Phases(Vec<Phase>),
    Image(ToImage),
}

/// One dimension of a phase.
pub(super) struct Line {
    /// The first pixel of the input.
    pub(super) first: usize,
    /// Pixels of the input.
    pub(super) count: usize,
    /// Every place of the kernel that they meet, and the output's pixel that the first of them meets
    /// there, which may lie outside.
    pub(super) met: Vec<(usize, isize)>,
}

impl Line {
    /// The phases along a dimension.
    pub(super) fn all(shape: &Shape, d: usize) -> Vec<Self> {
        (0..shape.stride[d].min(shape.input[d]))
            .map(|first| Self::new(shape, d, first))
            .collect()
    }

    fn new(shape: &Shape, d: usize, first: usize) -> Self {
        let stride = shape.stride[d] as isize;
        let met = (0..shape.kernel[d]).filter_map(|k| {
            let at = (first + shape.padding[d]) as isize - (k * shape.dilation[d]) as isize;
            (at.rem_euclid(stride) == 0).then_some((k, at.div_euclid(stride)))
        });
        Self {
            first,
            count: shape.input[d]
                .saturating_sub(first)
                .div_ceil(shape.stride[d]),
            met: met.collect(),
        }
    }

    /// The margin before the output's first pixel, and the pixels with both margins, so that every
    /// pixel which the phases meet is inside.
    pub(super) fn extent(phases: &[Self], output: usize) -> (usize, usize) {
        let met = || {
            phases
                .iter()
                .flat_map(|line| line.met.iter().map(|&(_, at)| (line.count as isize, at)))
        };
        let before = met().map(|(_, at)| -at).max().unwrap_or(0).max(0);
        let end = met().map(|(count, at)| count + at).max().unwrap_or(0);
        let end = end.max(output as isize);
        (before as usize, (before + end) as usize)
    }
}

/// The taps of a phase in the packed gradient of the output.
fn taps(packing: &Packing, rows: &Line, columns: &Line) -> Taps {
    let mut taps = Vec::new();
    for block in 0..packing.blocks() {
        for &(ky, row) in &rows.met {
            for &(kx, column) in &columns.met {
                let row = (row + packing.top as isize) as usize;
                let column = (column + packing.left as isize) as usize;
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
    Taps::new(packing.block, taps)
}

impl Transposed {
    /// Of a gradient that is packed in whole vectors of channels, or as its channels fit.
    pub(super) fn new(
        shape: &Shape,
        weight: &[f32],
        rounding: Option<RoundSlice>,
        in_vectors: bool,
    ) -> Self {
        if ToImage::is_for(shape) {
            return Self {
                packing: ToImage::packing(shape),
                way: InputGradient::Image(ToImage::new(shape, weight, rounding)),
            };
        }
        let (rows, columns) = (Line::all(shape, 0), Line::all(shape, 1));
        let (top, height) = Line::extent(&rows, shape.output[0]);
        let (left, width) = Line::extent(&columns, shape.output[1]);
        let [inputs, outputs] = shape.channels;
        let mut packing = Packing::new(shape.output, outputs, [height, width], [top, left]);
        if in_vectors {
            packing.block = LANES;
        }
        let [kh, kw] = shape.kernel;
        let phase = |rows: &Line, columns: &Line| {
            let taps = taps(&packing, rows, columns);
            let weights = taps.pack_weights(inputs, outputs, rounding, |to, from, [y, x]| {
                weight[((from * inputs + to) * kh + y) * kw + x]
            });
            Phase {
                first: [rows.first, columns.first],
                size: [rows.count, columns.count],
                taps,
                weights,
            }
        };
        let phases = rows
            .iter()
            .flat_map(|rows| columns.iter().map(move |columns| (rows, columns)))
            .map(|(rows, columns)| phase(rows, columns));
        Self {
            packing,
            way: InputGradient::Phases(phases.collect()),
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
            InputGradient::Phases(phases) => phases,
            InputGradient::Image(way) => {
                return way.images(shape, tiles, &self.packing, packed, gradients);
            }
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
                    unsafe { tiles.run(tile.vectors, self.packing.block, phase.size, first) };
                }
                weights = &weights[tile.width() * phase.taps.length..];
            }
        }
    }
}
