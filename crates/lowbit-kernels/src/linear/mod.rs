//! Product of rows with a weight, and its gradients.
//!
//! The register tiles are those of convolutions (`tile`): a row of the input is a pixel.
//! A weight is much larger than what meets it, so every number of it is read once in each
//! direction, where it is rounded and packed for the thread that needs it. Every sum runs in an
//! order that depends on the shape alone.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

mod backward;

use rayon::prelude::*;

pub use backward::{Wanted, backward};

use crate::bfloat16::{pair_channels, pair_pixels};
use crate::packing::RoundSlice;
use crate::scratch::{self, Scratch};
use crate::tile::{ChannelTile, Run, Sums, SumsTiles, Terms, channel_tiles, padded};
use crate::vector::LANES;

/// Rows that a thread takes at a time.
const ROWS: usize = 512;

/// Rows that are packed at a time, of the weight forward: what is rounded stays in the first cache. Even, so
/// that no pair is cut.
const PACKED: usize = 128;

/// Numbers of the gradient that a thread rounds at a time.
const ROUNDED: usize = 1 << 12;

/// What a product works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the input and of the output.
    pub rows: usize,
    /// Features in and out.
    pub features: [usize; 2],
}

impl Shape {
    /// Multiplications and additions of the forward pass.
    pub fn operations(&self) -> f64 {
        2.0 * (self.rows * self.features[0]) as f64 * self.features[1] as f64
    }
}

/// Rows of numbers, sixteen columns after sixteen columns: `[ceil(columns / 16)][rows][16]`.
/// Columns that are not there hold anything in forward products, which do not read them, and zeros
/// where `zeros` says so.
fn pack_rows(
    numbers: &[f32],
    columns: usize,
    rounding: Option<RoundSlice>,
    zeros: bool,
) -> Scratch {
    let rows = numbers.len() / columns;
    let mut packed = scratch::take(columns.div_ceil(LANES) * rows * LANES);
    packed
        .par_chunks_mut(rows * LANES)
        .enumerate()
        .for_each(|(block, packed)| {
            let first = block * LANES;
            let filled = LANES.min(columns - first);
            let (lines, _) = packed.as_chunks_mut::<LANES>();
            for (line, row) in lines.iter_mut().zip(numbers.chunks_exact(columns)) {
                line[..filled].copy_from_slice(&row[first..first + filled]);
                if zeros || rounding.is_some() {
                    line[filled..].fill(0.0);
                }
            }
            if let Some(rounding) = rounding {
                let mut source = scratch::take(packed.len());
                source.copy_from_slice(packed);
                rounding(&source, packed);
            }
        });
    packed
}

/// The runs of a row that [`pack_rows`] packed.
fn runs(rows: usize, columns: usize) -> Vec<Run> {
    (0..columns)
        .step_by(LANES)
        .map(|first| Run {
            offset: first * rows,
            length: LANES.min(columns - first),
        })
        .collect()
}

/// Where threads write columns of their own.
#[derive(Clone, Copy)]
struct Output(*mut f32);

// SAFETY: each thread writes other elements.
unsafe impl Sync for Output {}

/// `output = input * weight + bias` with `input` `[rows][in]`, `weight` `[in][out]` and `output`
/// `[rows][out]`, the input and the weight rounded as they are packed by what `roundings` says of
/// each; to bfloat16, too, where `terms` are such. `bias` is `[out]`.
///
/// # Panics
/// Where a slice is not as long as `shape` says.
pub fn forward(
    shape: &Shape,
    [input, weight]: [&[f32]; 2],
    bias: Option<&[f32]>,
    roundings: [Option<RoundSlice>; 2],
    terms: Terms,
    output: &mut [f32],
) {
    let [inputs, outputs] = shape.features;
    assert_eq!(input.len(), shape.rows * inputs);
    assert_eq!(weight.len(), inputs * outputs);
    assert_eq!(output.len(), shape.rows * outputs);
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    if terms == Terms::Numbers || inputs == 0 {
        return sums(shape, [input, weight], bias, roundings, terms, output);
    }
    let of_pairs = Shape {
        features: [inputs.div_ceil(2), outputs],
        ..*shape
    };
    let input = pairs_along_rows(input, inputs, roundings[0]);
    let weight = pairs_of_rows(weight, outputs, roundings[1]);
    sums(&of_pairs, [&input, &weight], bias, [None; 2], terms, output);
}

/// Pairs of neighbours, `[rows][ceil(columns / 2)]`, rounded first.
fn pairs_along_rows(numbers: &[f32], columns: usize, rounding: Option<RoundSlice>) -> Scratch {
    let room = rounding.map(|round| rounded(numbers, round));
    let numbers = room.as_deref().unwrap_or(numbers);
    let together = columns.div_ceil(2);
    let mut pairs = scratch::take(numbers.len() / columns * together);
    let parts = pairs.par_chunks_mut(PACKED * together);
    let parts = parts.zip(numbers.par_chunks(PACKED * columns));
    parts.for_each(|(pairs, numbers)| pair_channels(numbers, columns, pairs));
    pairs
}

/// Pairs of a row and the next, `[ceil(rows / 2)][columns]`, rounded first.
fn pairs_of_rows(numbers: &[f32], columns: usize, rounding: Option<RoundSlice>) -> Scratch {
    let room = rounding.map(|round| rounded(numbers, round));
    let numbers = room.as_deref().unwrap_or(numbers);
    let rows = numbers.len() / columns.max(1);
    let mut pairs = scratch::take(rows.div_ceil(2) * columns);
    let part = PACKED * columns.max(1);
    let parts = pairs.par_chunks_mut(part / 2).zip(numbers.par_chunks(part));
    parts.for_each(|(pairs, numbers)| {
        pair_pixels(numbers, [numbers.len() / columns, columns], pairs);
    });
    pairs
}

/// The sums of [`forward`], whose terms are numbers, or pairs already.
fn sums(
    shape: &Shape,
    [input, weight]: [&[f32]; 2],
    bias: Option<&[f32]>,
    roundings: [Option<RoundSlice>; 2],
    terms: Terms,
    output: &mut [f32],
) {
    let [inputs, outputs] = shape.features;
    if output.is_empty() {
        return;
    }
    if inputs == 0 {
        // Sums of nothing.
        for row in output.chunks_exact_mut(outputs) {
            match bias {
                Some(bias) => row.copy_from_slice(bias),
                None => row.fill(0.0),
            }
        }
        return;
    }
    let packed = pack_rows(input, inputs, roundings[0], false);
    let runs = runs(shape.rows, inputs);
    let bias = bias.map(padded);
    let tiles = SumsTiles::new(LANES, terms);
    let output = Output(output.as_mut_ptr());
    let parts: Vec<(usize, ChannelTile)> = (0..shape.rows)
        .step_by(ROWS)
        .flat_map(|row| channel_tiles(outputs).map(move |tile| (row, tile)))
        .collect();
    parts.into_par_iter().for_each(|(row, tile)| {
        let output = &output;
        let weights = pack_columns(weight, outputs, tile, roundings[1]);
        let first = Sums {
            input: packed[row * LANES..].as_ptr(),
            input_row: 0,
            runs: &runs,
            weights: weights.as_ptr(),
            bias: match &bias {
                Some(bias) => bias[tile.first..].as_ptr(),
                None => std::ptr::null(),
            },
            output: output.0.wrapping_add(row * outputs + tile.first),
            output_step: [outputs, 0],
            channels: tile.channels,
        };
        let rows = ROWS.min(shape.rows - row);
        // SAFETY: every row is packed as the runs say, weights and bias are padded to whole tiles,
        // and no other part writes these columns of these rows.
        unsafe { tiles.run(tile.vectors, LANES, [1, rows], first) };
    });
}

/// Some columns of the weight, `[in][tile]`.
fn pack_columns(
    weight: &[f32],
    outputs: usize,
    tile: ChannelTile,
    rounding: Option<RoundSlice>,
) -> Scratch {
    let width = tile.width();
    let gather = |rows: &[f32], packed: &mut [f32]| {
        let rows = rows.chunks_exact(outputs);
        // Whole tiles without a call for each row.
        if tile.channels == 2 * LANES {
            let (packed, _) = packed.as_chunks_mut::<{ 2 * LANES }>();
            for (packed, row) in packed.iter_mut().zip(rows) {
                if let Some(whole) = row[tile.first..].first_chunk() {
                    *packed = *whole;
                }
            }
            return;
        }
        for (packed, row) in packed.chunks_exact_mut(width).zip(rows) {
            packed[..tile.channels].copy_from_slice(&row[tile.first..][..tile.channels]);
            packed[tile.channels..].fill(0.0);
        }
    };
    let mut packed = scratch::take(weight.len() / outputs * width);
    let Some(rounding) = rounding else {
        gather(weight, &mut packed);
        return packed;
    };
    let mut source = scratch::take(PACKED * width);
    let parts = packed.chunks_mut(PACKED * width);
    for (packed, rows) in parts.zip(weight.chunks(PACKED * outputs)) {
        let source = &mut source[..packed.len()];
        gather(rows, source);
        rounding(source, packed);
    }
    packed
}

/// The numbers rounded, in another place.
fn rounded(numbers: &[f32], round: RoundSlice) -> Scratch {
    let mut rounded = scratch::take(numbers.len());
    let parts = rounded
        .par_chunks_mut(ROUNDED)
        .zip(numbers.par_chunks(ROUNDED));
    parts.for_each(|(rounded, numbers)| round(numbers, rounded));
    rounded
}
