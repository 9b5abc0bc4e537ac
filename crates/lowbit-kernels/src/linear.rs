//! Product of rows with a weight, and its gradients.
//!
//! The register tiles are those of convolutions (`tile.rs`): a row of the input is a pixel.
//! A weight is much larger than what meets it, so every number of it is read once in each
//! direction, where it is rounded and packed for the thread that needs it. Every sum runs in an
//! order that depends on the shape alone.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

use rayon::prelude::*;

use crate::packing::{Learned, RoundSlice, RoundingBackward, add_up};
use crate::parts::parts;
use crate::scratch::{self, Scratch};
use crate::tile::{
    ChannelTile, Products, ProductsTiles, Run, Sums, SumsTiles, channel_tiles, padded, vectors_of,
};
use crate::vector::LANES;

/// Rows that a thread takes at a time.
const ROWS: usize = 512;

/// Rows of the weight that are packed at a time, forward: what is rounded stays in the first cache.
const PACKED: usize = 128;

/// Features of the input that a thread takes at a time, backward: four register tiles.
const FEATURES: usize = 48;

/// Numbers of the gradient that a thread rounds at a time.
const ROUNDED: usize = 1 << 12;

/// Rows whose input and gradient stay in the first cache while the weight is differentiated.
const STRIP: usize = 128;

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
/// each. `bias` is `[out]`.
///
/// # Panics
/// Where a slice is not as long as `shape` says.
pub fn forward(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    roundings: [Option<RoundSlice>; 2],
    output: &mut [f32],
) {
    let [inputs, outputs] = shape.features;
    assert_eq!(input.len(), shape.rows * inputs);
    assert_eq!(weight.len(), inputs * outputs);
    assert_eq!(output.len(), shape.rows * outputs);
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
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
    let tiles = SumsTiles::new(LANES);
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

/// What [`backward`] shall make: room for the gradients, stored as what they belong to.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// `[rows][in]`.
    pub input: Option<&'a mut [f32]>,
    /// `[in][out]`.
    pub weight: Option<&'a mut [f32]>,
    /// `[out]`.
    pub bias: Option<&'a mut [f32]>,
}

/// The gradients of [`forward`], given `gradient`, that of its output, `[rows][out]`. Returns the
/// sums of what the two `rounding_backwards` returned, for the input and for the weight. `roundings` are
/// those of the input, the weight and `gradient`.
///
/// # Panics
/// Where a slice is not as long as `shape` says.
pub fn backward(
    shape: &Shape,
    [input, weight, gradient]: [&[f32]; 3],
    roundings: [Option<RoundSlice>; 3],
    rounding_backwards: [Option<RoundingBackward>; 2],
    wanted: Wanted,
) -> [Learned; 2] {
    let [inputs, outputs] = shape.features;
    assert_eq!(input.len(), shape.rows * inputs);
    assert_eq!(weight.len(), inputs * outputs);
    assert_eq!(gradient.len(), shape.rows * outputs);
    let rounded = roundings[2].map(|round| rounded(gradient, round));
    let gradient = rounded.as_deref().unwrap_or(gradient);
    if let Some(bias) = wanted.bias {
        add_rows(gradient, bias);
    }
    if input.is_empty() || gradient.is_empty() {
        for empty in [wanted.input, wanted.weight].into_iter().flatten() {
            empty.fill(0.0);
        }
        return [Learned::default(); 2];
    }
    let mut by_feature = wanted
        .input
        .is_some()
        .then(|| scratch::take(inputs * shape.rows));
    let strips = Strips {
        shape,
        input,
        roundings: [roundings[0], roundings[1]],
        of_weight: rounding_backwards[1],
        exchanged: wanted.input.is_some().then(|| Exchanged {
            panels: row_panels(gradient, outputs),
            runs: runs(FEATURES, outputs),
            tiles: SumsTiles::new(LANES),
        }),
        products: wanted.weight.is_some().then(|| ToWeight {
            gradient: pack_rows(gradient, outputs, None, true),
            tiles: ProductsTiles::new(),
        }),
    };
    let to_weight = strips.all(weight, by_feature.as_deref_mut(), wanted.weight);
    let (Some(to_input), Some(by_feature)) = (wanted.input, by_feature) else {
        return [Learned::default(), to_weight];
    };
    let to_input = exchange(shape, &by_feature, input, rounding_backwards[0], to_input);
    [to_input, to_weight]
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

/// The sum of the rows.
fn add_rows(rows: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    for row in rows.chunks_exact(sums.len().max(1)) {
        for (sum, number) in sums.iter_mut().zip(row) {
            *sum += number;
        }
    }
}

/// The gradients, made for some features of the input at a time: for those, a thread has the rows of
/// the weight in its cache, rounds them once, and uses them in both directions.
struct Strips<'a> {
    shape: &'a Shape,
    input: &'a [f32],
    roundings: [Option<RoundSlice<'a>>; 2],
    /// Of the weight.
    of_weight: Option<RoundingBackward<'a>>,
    /// The gradient of the input is made with its rows and columns exchanged: its rows are then rows
    /// of the weight.
    exchanged: Option<Exchanged>,
    products: Option<ToWeight>,
}

impl Strips<'_> {
    /// The gradients of the input, `[in][rows]`, and of the weight. Returns the sum of what the
    /// backward pass of the weight's rounding returned.
    fn all(
        &self,
        weight: &[f32],
        to_inputs: Option<&mut [f32]>,
        to_weights: Option<&mut [f32]>,
    ) -> Learned {
        let [inputs, outputs] = self.shape.features;
        let count = inputs.div_ceil(FEATURES);
        let weights: Vec<&[f32]> = weight.chunks(FEATURES * outputs).collect();
        let sums: Vec<Learned> = parts(to_inputs, FEATURES * self.shape.rows, count)
            .into_par_iter()
            .zip(parts(to_weights, FEATURES * outputs, count))
            .zip(weights)
            .enumerate()
            .map(|(strip, ((to_input, to_weight), weight))| {
                self.strip(strip * FEATURES, weight, to_input, to_weight)
            })
            .collect();
        add_up(sums)
    }

    /// The same for the features from `first` on whose rows of the weight are `weight`.
    fn strip(
        &self,
        first: usize,
        weight: &[f32],
        to_input: Option<&mut [f32]>,
        to_weight: Option<&mut [f32]>,
    ) -> Learned {
        if let (Some(exchanged), Some(to_input)) = (&self.exchanged, to_input) {
            exchanged.strip(self.shape, weight, self.roundings[1], to_input);
        }
        let (Some(products), Some(to_weight)) = (&self.products, to_weight) else {
            return Learned::default();
        };
        products.strip(self.shape, first, self.input, self.roundings[0], to_weight);
        self.of_weight
            .map_or(Learned::default(), |backward| backward(weight, to_weight))
    }
}

/// The gradient of the input, from `[in][rows]` back to `[rows][in]`, and through the input's
/// rounding. Returns the sum of what the latter returned.
fn exchange(
    shape: &Shape,
    by_feature: &[f32],
    input: &[f32],
    backward: Option<RoundingBackward>,
    to_input: &mut [f32],
) -> Learned {
    let inputs = shape.features[0];
    // Sixteen rows: of every feature one cache line is read, and used whole.
    let sums: Vec<Learned> = to_input
        .par_chunks_mut(LANES * inputs)
        .zip(input.par_chunks(LANES * inputs))
        .enumerate()
        .map(|(part, (to_input, input))| {
            let rows = to_input.len() / inputs;
            for (feature, line) in by_feature.chunks_exact(shape.rows).enumerate() {
                let line = &line[part * LANES..][..rows];
                for (row, &g) in to_input.chunks_exact_mut(inputs).zip(line) {
                    row[feature] = g;
                }
            }
            backward.map_or(Learned::default(), |backward| backward(input, to_input))
        })
        .collect();
    add_up(sums)
}

/// The gradient of the input, by features.
struct Exchanged {
    /// See [`row_panels`].
    panels: Scratch,
    runs: Vec<Run>,
    tiles: SumsTiles,
}

impl Exchanged {
    /// `gradients`, `[features][rows]`, of the features whose rows of the weight are `weight`.
    fn strip(
        &self,
        shape: &Shape,
        weight: &[f32],
        rounding: Option<RoundSlice>,
        gradients: &mut [f32],
    ) {
        let outputs = shape.features[1];
        let features = weight.len() / outputs;
        let mut packed = scratch::take(outputs.div_ceil(LANES) * FEATURES * LANES);
        let mut rounded = rounding.map(|_| scratch::take(outputs));
        for (feature, mut row) in weight.chunks_exact(outputs).enumerate() {
            if let (Some(rounding), Some(rounded)) = (rounding, &mut rounded) {
                rounding(row, rounded);
                row = &rounded[..];
            }
            let blocks = packed.chunks_exact_mut(FEATURES * LANES);
            for (block, row) in blocks.zip(row.chunks(LANES)) {
                block[feature * LANES..][..row.len()].copy_from_slice(row);
            }
        }
        let mut panels = &self.panels[..];
        for tile in channel_tiles(shape.rows) {
            let first = Sums {
                input: packed.as_ptr(),
                input_row: 0,
                runs: &self.runs,
                weights: panels.as_ptr(),
                bias: std::ptr::null(),
                output: gradients[tile.first..].as_mut_ptr(),
                output_step: [shape.rows, 0],
                channels: tile.channels,
            };
            // SAFETY: the runs are those of `packed`, a panel has as many rows as they have
            // numbers, and `gradients` a line of all rows for each feature.
            unsafe { self.tiles.run(tile.vectors, LANES, [1, features], first) };
            panels = &panels[tile.width() * outputs..];
        }
    }
}

/// The gradient of the output by panels of rows, for each tile of them `[out][tile]`.
fn row_panels(gradient: &[f32], outputs: usize) -> Scratch {
    let rows = gradient.len() / outputs;
    let mut panels = scratch::take(vectors_of(rows) * LANES * outputs);
    let mut rest = &mut panels[..];
    let mut parts = Vec::new();
    for tile in channel_tiles(rows) {
        let (panel, others) = rest.split_at_mut(tile.width() * outputs);
        parts.push((tile, panel));
        rest = others;
    }
    parts.into_par_iter().for_each(|(tile, panel)| {
        let gradient = &gradient[tile.first * outputs..][..tile.channels * outputs];
        for (out, panel) in panel.chunks_exact_mut(tile.width()).enumerate() {
            let column = gradient[out..].iter().step_by(outputs);
            for (to, &g) in panel.iter_mut().zip(column) {
                *to = g;
            }
            panel[tile.channels..].fill(0.0);
        }
    });
    panels
}

/// The gradient of the weight.
struct ToWeight {
    /// The output's gradient, see [`pack_rows`].
    gradient: Scratch,
    tiles: ProductsTiles,
}

impl ToWeight {
    /// `sums`, `[features][out]`, of the features of the input from `first` on.
    fn strip(
        &self,
        shape: &Shape,
        first: usize,
        input: &[f32],
        rounding: Option<RoundSlice>,
        sums: &mut [f32],
    ) {
        let [inputs, outputs] = shape.features;
        let features = sums.len() / outputs;
        let width = outputs.next_multiple_of(LANES);
        // Tiles write whole vectors.
        let mut padded = (width > outputs).then(|| scratch::take(features * width));
        let tiled = match &mut padded {
            Some(padded) => &mut padded[..],
            None => &mut *sums,
        };
        tiled.fill(0.0);
        let mut packed = scratch::take(STRIP * FEATURES);
        let mut source = scratch::take(STRIP * FEATURES);
        for row in (0..shape.rows).step_by(STRIP) {
            let rows = STRIP.min(shape.rows - row);
            let part = rows * features;
            let gathered = if rounding.is_some() {
                &mut source
            } else {
                &mut packed
            };
            let lines = gathered.chunks_exact_mut(features);
            for (line, row) in lines.zip(input[row * inputs..].chunks_exact(inputs).take(rows)) {
                line.copy_from_slice(&row[first..first + features]);
            }
            if let Some(rounding) = rounding {
                rounding(&source[..part], &mut packed[..part]);
            }
            for tile in channel_tiles(outputs) {
                let gradient = tile.first / LANES * shape.rows * LANES + row * LANES;
                let products = Products {
                    input: packed.as_ptr(),
                    input_step: [features, 0, 0],
                    gradient: self.gradient[gradient..].as_ptr(),
                    gradient_step: [LANES, 0, 0],
                    gradient_plane: shape.rows * LANES,
                    size: [1, 1, rows],
                    sums: tiled[tile.first..].as_mut_ptr(),
                    sums_row: width,
                };
                // SAFETY: `packed` has all features of the rows, the gradient whole vectors of the
                // rows, and so have the sums, a line for each feature.
                unsafe { self.tiles.run(tile.vectors, features, products) };
            }
        }
        if let Some(padded) = padded {
            let lines = sums.chunks_exact_mut(outputs);
            for (line, padded) in lines.zip(padded.chunks_exact(width)) {
                line.copy_from_slice(&padded[..outputs]);
            }
        }
    }
}
