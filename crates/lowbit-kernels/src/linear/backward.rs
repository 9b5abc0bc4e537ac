//! The gradients.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::{Shape, pack_rows, pairs_along_rows, pairs_of_rows, rounded, runs};
use crate::packing::{Learned, RoundSlice, RoundingBackward, add_up};
use crate::parts::parts;
use crate::scratch::{self, Scratch};
use crate::tile::{
    Products, ProductsTiles, Run, Sums, SumsTiles, Terms, channel_tiles, vectors_of,
};
use crate::vector::LANES;

/// Features of the input that a thread takes at a time, backward: four register tiles.
const FEATURES: usize = 48;

/// Rows whose input and gradient stay in the first cache while the weight is differentiated.
const STRIP: usize = 128;

/// What [`backward`] shall make: room for the gradients, stored as what they belong to.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// `[rows][in]`.
    pub input: Option<&'a mut [f32]>,
    /// `[in][out]`.
    pub weight: Option<&'a mut [f32]>,
    /// `[out]`.
    pub bias: Option<&'a mut [f32]>,
    /// What the sums over products are made of.
    pub terms: Terms,
}

/// The gradients of [`forward`](super::forward), given `gradient`, that of its output, `[rows][out]`. Returns the
/// sums of what the two `rounding_backwards` returned, for the input and for the weight. `roundings` are
/// those of the input, the weight and `gradient`; where the terms are products of bfloat16, all three are
/// rounded to that, too.
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
    let operands = [input, weight, gradient];
    let roundings = [roundings[0], roundings[1]];
    let made = (by_feature.as_deref_mut(), wanted.weight);
    let to_weight = match wanted.terms {
        Terms::Numbers => in_numbers(shape, operands, roundings, rounding_backwards[1], made),
        Terms::Bfloat16 => in_bfloat16(shape, operands, roundings, rounding_backwards[1], made),
    };
    let (Some(to_input), Some(by_feature)) = (wanted.input, by_feature) else {
        return [Learned::default(), to_weight];
    };
    let to_input = exchange(shape, &by_feature, input, rounding_backwards[0], to_input);
    [to_input, to_weight]
}

/// Room for the gradients of the input, `[in][rows]`, and of the weight.
type Room<'a> = (Option<&'a mut [f32]>, Option<&'a mut [f32]>);

/// The gradients in sums of products of `f32`. Returns what the backward pass of the weight's rounding
/// does.
fn in_numbers(
    shape: &Shape,
    [input, weight, gradient]: [&[f32]; 3],
    roundings: [Option<RoundSlice>; 2],
    of_weight: Option<RoundingBackward>,
    (to_input, to_weight): Room,
) -> Learned {
    let terms = Terms::Numbers;
    let strips = Strips {
        shape,
        input,
        roundings,
        of_weight,
        exchanged: to_input
            .is_some()
            .then(|| Exchanged::new(shape, gradient, terms)),
        products: to_weight
            .is_some()
            .then(|| ToWeight::new(shape, gradient, terms)),
    };
    strips.all(weight, to_input, to_weight)
}

/// The same in sums of products of bfloat16: to the input, pairs are neighbours along the features of the
/// output; to the weight, a row and the next.
fn in_bfloat16(
    shape: &Shape,
    [input, weight, gradient]: [&[f32]; 3],
    roundings: [Option<RoundSlice>; 2],
    of_weight: Option<RoundingBackward>,
    (to_input, to_weight): Room,
) -> Learned {
    let terms = Terms::Bfloat16;
    let [inputs, outputs] = shape.features;
    if to_input.is_some() {
        let of_features = Shape {
            features: [inputs, outputs.div_ceil(2)],
            ..*shape
        };
        let gradient = pairs_along_rows(gradient, outputs, None);
        let strips = Strips {
            shape: &of_features,
            input,
            roundings: [None; 2],
            of_weight: None,
            exchanged: Some(Exchanged::new(&of_features, &gradient, terms)),
            products: None,
        };
        let weight = pairs_along_rows(weight, outputs, roundings[1]);
        strips.all(&weight, to_input, None);
    }
    if to_weight.is_none() {
        return Learned::default();
    }
    let of_rows = Shape {
        rows: shape.rows.div_ceil(2),
        ..*shape
    };
    let gradient = pairs_of_rows(gradient, outputs, None);
    let strips = Strips {
        shape: &of_rows,
        input: &pairs_of_rows(input, inputs, roundings[0]),
        roundings: [None; 2],
        of_weight,
        exchanged: None,
        products: Some(ToWeight::new(&of_rows, &gradient, terms)),
    };
    strips.all(weight, None, to_weight)
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
    fn new(shape: &Shape, gradient: &[f32], terms: Terms) -> Self {
        let outputs = shape.features[1];
        Self {
            panels: row_panels(gradient, outputs),
            runs: runs(FEATURES, outputs),
            tiles: SumsTiles::new(LANES, terms),
        }
    }

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
    fn new(shape: &Shape, gradient: &[f32], terms: Terms) -> Self {
        Self {
            gradient: pack_rows(gradient, shape.features[1], None, true),
            tiles: ProductsTiles::new(terms),
        }
    }

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
