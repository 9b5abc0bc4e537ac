//! Attention of heads: products of queries and keys, their softmax, and means of values, of which nothing
//! but the means is written to memory that is not in a cache.
//!
//! The register tiles are those of convolutions (`tile`). Scores of some queries lie in blocks of 32 answers, the
//! form in which a tile writes them and the next tile reads them. Every sum runs in an order that depends on
//! the shape alone.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

mod backward;

use rayon::prelude::*;

pub use backward::attention_backward;

use crate::exp::exp;
use crate::packing::RoundSlice;
use crate::scratch::{self, Scratch};
use crate::softmax::halved;
use crate::tile::{ChannelTile, Run, Sums, SumsTiles, Terms, channel_tiles, vectors_of};
use crate::vector::{Kernel, LANES, dispatch};

/// Answers in a block of scores: those of the widest tile.
const BLOCK: usize = 2 * LANES;

/// Queries whose scores are there at a time: with 384 answers, 0.2 MB.
const QUERIES: usize = 128;

/// What there is of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads that ask.
    pub heads: usize,
    /// Heads that ask for each that answers.
    pub shared: usize,
    /// Positions that ask.
    pub queries: usize,
    /// Positions that answer.
    pub answers: usize,
    /// Features of a head.
    pub features: usize,
}

/// Numbers of which a position's lie one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    /// The numbers.
    pub numbers: &'a [f32],
    /// From one sequence to the next, one head to the next, and one position to the next.
    pub strides: [usize; 3],
}

impl<'a> Strided<'a> {
    fn row(&self, batch: usize, head: usize, position: usize, length: usize) -> &'a [f32] {
        let [of_batch, of_head, of_position] = self.strides;
        &self.numbers[batch * of_batch + head * of_head + position * of_position..][..length]
    }
}

/// What is between the two products.
#[derive(Clone, Copy)]
pub struct Scoring<'a> {
    /// What products are multiplied by.
    pub scale: f32,
    /// What is added then; rows have a number for each answer, strides may be zero.
    pub added: Option<Strided<'a>>,
    /// How probabilities are rounded, each by itself.
    pub round: Option<RoundSlice<'a>>,
}

/// `round(softmax(scale Q K^T + added)) V` of each head. `output` is `[batch][queries][heads * features]`;
/// queries are `[batch][heads]`, keys and values `[batch][heads / shared]`. A row of which all is `-infinity`
/// becomes NaN.
///
/// # Panics
/// If a slice is shorter than the shape says, or `shared` does not divide the heads.
pub fn attention(
    shape: &Shape,
    [query, key, value]: [Strided<'_>; 3],
    scoring: Scoring<'_>,
    output: &mut [f32],
) {
    let answering = shape.heads / shape.shared.max(1);
    assert_eq!(answering * shape.shared, shape.heads);
    let (width, features) = (shape.heads * shape.features, shape.features);
    assert_eq!(output.len(), shape.batch * shape.queries * width);
    if output.is_empty() {
        return;
    }
    assert!(shape.answers > 0, "there is something to attend to");
    let heads: Vec<[usize; 2]> = (0..shape.batch)
        .flat_map(|batch| (0..answering).map(move |head| [batch, head]))
        .collect();
    let of_keys = vectors_of(shape.answers) * LANES * features;
    let of_values = vectors_of(features) * LANES * shape.answers;
    let mut keys = scratch::take(heads.len() * of_keys);
    let mut values = scratch::take(heads.len() * of_values);
    let each = keys.par_chunks_mut(of_keys);
    let each = each.zip(values.par_chunks_mut(of_values)).zip(&heads);
    each.for_each(|((keys, values), at)| {
        pack_keys(shape, key, *at, keys);
        pack_values(shape, value, *at, values);
    });
    let packed = |at: usize| Packed {
        keys: &keys[at * of_keys..][..of_keys],
        values: &values[at * of_values..][..of_values],
    };
    let output = Output(output.as_mut_ptr());
    let parts: Vec<[usize; 3]> = (0..shape.batch * shape.heads)
        .flat_map(|head| {
            let firsts = (0..shape.queries).step_by(QUERIES);
            firsts.map(move |first| [head / shape.heads, head % shape.heads, first])
        })
        .collect();
    parts.into_par_iter().for_each(|[batch, head, first]| {
        let output = &output;
        let rows = QUERIES.min(shape.queries - first);
        let packed = &packed(batch * answering + head / shape.shared);
        let mut scores = Scores::of(shape, packed, rows, |row| {
            (query.row(batch, head, first + row, features), scoring.scale)
        });
        let mut sums = scratch::take(rows);
        dispatch(Exponentials {
            scores: &mut scores,
            added: scoring.added.map(|added| (added, batch, head, first)),
            sums: &mut sums,
        });
        if let Some(round) = scoring.round {
            scores.round(&mut sums, round);
        }
        let start = (batch * shape.queries + first) * width + head * features;
        // SAFETY: the part's rows of the output, of which no other part writes this head's columns.
        unsafe { scores.means(packed, &sums, output.0.add(start), width) };
    });
}

/// Where threads write rows of their own.
struct Output(*mut f32);

// SAFETY: each thread writes other elements.
unsafe impl Sync for Output {}

/// Keys and values of a head as tiles read them.
struct Packed<'a> {
    /// `[blocks of answers][features][32]`, the last block as wide as its vectors.
    keys: &'a [f32],
    /// `[tiles of features][answers][width]`
    values: &'a [f32],
}

fn pack_keys(shape: &Shape, key: Strided<'_>, [batch, head]: [usize; 2], mut packed: &mut [f32]) {
    for tile in channel_tiles(shape.answers) {
        let (block, rest) = packed.split_at_mut(tile.width() * shape.features);
        block.fill(0.0);
        for i in 0..tile.channels {
            let row = key.row(batch, head, tile.first + i, shape.features);
            for (line, x) in block.chunks_exact_mut(tile.width()).zip(row) {
                line[i] = *x;
            }
        }
        packed = rest;
    }
}

fn pack_values(
    shape: &Shape,
    value: Strided<'_>,
    [batch, head]: [usize; 2],
    mut packed: &mut [f32],
) {
    for tile in channel_tiles(shape.features) {
        let (block, rest) = packed.split_at_mut(tile.width() * shape.answers);
        for (position, line) in block.chunks_exact_mut(tile.width()).enumerate() {
            let row = value.row(batch, head, position, shape.features);
            line[..tile.channels].copy_from_slice(&row[tile.first..][..tile.channels]);
            line[tile.channels..].fill(0.0);
        }
        packed = rest;
    }
}

/// Scores of some queries, `[blocks of answers][rows + 1][32]`: one row more than there are, so that blocks do
/// not lie a power of two apart, where they would share places of the cache.
struct Scores {
    numbers: Scratch,
    rows: usize,
    answers: usize,
    features: usize,
}

impl Scores {
    /// From one block to the next.
    fn step(rows: usize) -> usize {
        (rows + 1) * BLOCK
    }

    fn of<'q>(
        shape: &Shape,
        packed: &Packed<'_>,
        rows: usize,
        query: impl Fn(usize) -> (&'q [f32], f32),
    ) -> Self {
        let (answers, features) = (shape.answers, shape.features);
        let queries = pack_queries(rows, features, query);
        let mut numbers = scratch::take(answers.div_ceil(BLOCK) * Self::step(rows));
        let runs = runs(features, LANES, rows * LANES);
        let tiles = SumsTiles::new(LANES, Terms::Numbers);
        let mut keys = packed.keys;
        for (block, tile) in channel_tiles(answers).enumerate() {
            let first = Sums {
                input: queries.as_ptr(),
                input_row: 0,
                runs: &runs,
                weights: keys.as_ptr(),
                bias: std::ptr::null(),
                output: numbers[block * Self::step(rows)..].as_mut_ptr(),
                output_step: [BLOCK, 0],
                channels: tile.width(),
            };
            // SAFETY: queries are packed as the runs say, keys in whole tiles, and the block has a line of 32
            // for every row.
            unsafe { tiles.run(tile.vectors, LANES, [1, rows], first) };
            keys = &keys[tile.width() * features..];
        }
        Self {
            numbers,
            rows,
            answers,
            features,
        }
    }

    /// Exponentials become probabilities, which are rounded; what is divided by is 1 then.
    fn round(&mut self, sums: &mut [f32], round: RoundSlice<'_>) {
        let mut source = scratch::take(self.rows * BLOCK);
        for block in self.numbers.chunks_exact_mut(Self::step(self.rows)) {
            let (numbers, _) = block.split_at_mut(self.rows * BLOCK);
            dispatch(Shares(numbers, sums, &mut source));
            round(&source, numbers);
        }
        sums.fill(1.0);
    }

    /// Means of values weighted by what the scores became, over `sums`.
    ///
    /// # Safety
    /// `output` is valid for reads and writes of so many features in each of the rows, which lie `width` apart,
    /// and nobody else reads or writes them meanwhile.
    unsafe fn means(&self, packed: &Packed<'_>, sums: &[f32], output: *mut f32, width: usize) {
        let runs = runs(self.answers, BLOCK, Self::step(self.rows));
        let tiles = SumsTiles::new(BLOCK, Terms::Numbers);
        let mut values = packed.values;
        for tile in channel_tiles(self.features) {
            let ChannelTile { first, .. } = tile;
            let sums = Sums {
                input: self.numbers.as_ptr(),
                input_row: 0,
                runs: &runs,
                weights: values.as_ptr(),
                bias: std::ptr::null(),
                output: output.wrapping_add(first),
                output_step: [width, 0],
                channels: tile.channels,
            };
            // SAFETY: the runs are of blocks that are there, values are packed in whole tiles; the caller says
            // that of the output.
            unsafe { tiles.run(tile.vectors, BLOCK, [1, self.rows], sums) };
            values = &values[tile.width() * self.answers..];
        }
        for (row, sum) in sums[..self.rows].iter().enumerate() {
            // SAFETY: the caller's.
            let row =
                unsafe { std::slice::from_raw_parts_mut(output.add(row * width), self.features) };
            let share = 1.0 / sum;
            for x in row {
                *x *= share;
            }
        }
    }
}

/// `[ceil(features / 16)][rows][16]`, times the scale.
fn pack_queries<'q>(
    rows: usize,
    features: usize,
    query: impl Fn(usize) -> (&'q [f32], f32),
) -> Scratch {
    let mut packed = scratch::take(features.div_ceil(LANES) * rows * LANES);
    for row in 0..rows {
        let (numbers, scale) = query(row);
        for (block, numbers) in numbers.chunks(LANES).enumerate() {
            let line = &mut packed[(block * rows + row) * LANES..][..LANES];
            for (to, x) in line.iter_mut().zip(numbers) {
                *to = x * scale;
            }
        }
    }
    packed
}

/// Terms in blocks of so many, whose beginnings lie `step` apart.
fn runs(terms: usize, block: usize, step: usize) -> Vec<Run> {
    let firsts = (0..terms).step_by(block).enumerate();
    firsts
        .map(|(i, first)| Run {
            offset: i * step,
            length: block.min(terms - first),
        })
        .collect()
}

/// Scores become `e^(score - largest)`, and `sums` their sums in each row.
struct Exponentials<'a> {
    scores: &'a mut Scores,
    /// What is added to scores, and the sequence, the head and the first query.
    added: Option<(Strided<'a>, usize, usize, usize)>,
    sums: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (rows, answers) = (self.scores.rows, self.scores.answers);
        let step = Scores::step(rows);
        let numbers = &mut self.scores.numbers[..];
        for row in 0..rows {
            let added = self
                .added
                .map(|(added, batch, head, first)| added.row(batch, head, first + row, answers));
            let mut most = [f32::NEG_INFINITY; BLOCK];
            for (block, first) in (0..answers).step_by(BLOCK).enumerate() {
                let line = line(numbers, block * step + row * BLOCK);
                let count = BLOCK.min(answers - first);
                line[count..].fill(f32::NEG_INFINITY);
                if let Some(added) = added {
                    for (x, added) in line.iter_mut().zip(&added[first..first + count]) {
                        *x += added;
                    }
                }
                for (most, &x) in most.iter_mut().zip(&*line) {
                    *most = if x > *most { x } else { *most };
                }
            }
            let largest = most
                .iter()
                .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            let mut sums = [0.0f32; BLOCK];
            for block in 0..answers.div_ceil(BLOCK) {
                let line = line(numbers, block * step + row * BLOCK);
                for (sum, x) in sums.iter_mut().zip(line) {
                    *x = exp(*x - largest);
                    *sum += *x;
                }
            }
            self.sums[row] = halved(sums);
        }
    }
}

/// What numbers are of the sums of their rows of 32, into another place.
struct Shares<'a>(&'a [f32], &'a [f32], &'a mut [f32]);

impl Kernel for Shares<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let lines = self.0.chunks_exact(BLOCK);
        for ((line, sum), to) in lines.zip(self.1).zip(self.2.chunks_exact_mut(BLOCK)) {
            let share = 1.0 / sum;
            for (to, x) in to.iter_mut().zip(line) {
                *to = x * share;
            }
        }
    }
}

#[inline(always)]
fn line(numbers: &mut [f32], at: usize) -> &mut [f32; BLOCK] {
    let line = numbers[at..].first_chunk_mut();
    line.expect("a block has a line for every row")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, step: usize) -> Vec<f32> {
        let of = |i: usize| ((i * step) % 1009) as f32 / 400.0 - 1.25;
        (0..count).map(of).collect()
    }

    /// Means in f64, of numbers that lie as the kernel's.
    fn exactly(shape: &Shape, [q, k, v]: [Strided<'_>; 3], scale: f64, added: &[f32]) -> Vec<f64> {
        let width = shape.heads * shape.features;
        let mut output = vec![0.0; shape.batch * shape.queries * width];
        for (at, out) in output.chunks_exact_mut(shape.features).enumerate() {
            let (head, at) = (at % shape.heads, at / shape.heads);
            let (position, batch) = (at % shape.queries, at / shape.queries);
            let query = q.row(batch, head, position, shape.features);
            let weights = (0..shape.answers).map(|answer| {
                let key = k.row(batch, head / shape.shared, answer, shape.features);
                let products = query
                    .iter()
                    .zip(key)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b));
                (products.sum::<f64>() * scale + f64::from(added[answer])).exp()
            });
            let weights: Vec<f64> = weights.collect();
            let all: f64 = weights.iter().sum();
            for (answer, weight) in weights.iter().enumerate() {
                let value = v.row(batch, head / shape.shared, answer, shape.features);
                for (out, value) in out.iter_mut().zip(value) {
                    *out += weight / all * f64::from(*value);
                }
            }
        }
        output
    }

    #[test]
    fn means_are_the_exact_ones() {
        let sizes = [
            (1, 1, 1, 1),
            (5, 37, 8, 2),
            (130, 33, 20, 1),
            (3, 96, 64, 3),
            (1, 16, 5, 2),
        ];
        for (queries, answers, features, shared) in sizes {
            let shape = Shape {
                batch: 2,
                heads: 2 * shared,
                shared,
                queries,
                answers,
                features,
            };
            let wide = |heads: usize, length: usize| {
                let strides = [length * heads * features, features, heads * features];
                (numbers(2 * length * heads * features, 37 + length), strides)
            };
            let all = [(shape.heads, queries), (2, answers), (2, answers)];
            let all = all.map(|(heads, length)| wide(heads, length));
            let operands = [0, 1, 2].map(|i| Strided {
                numbers: &all[i].0,
                strides: all[i].1,
            });
            let hides = |i: usize| if i > 0 && i % 5 == 1 { f32::MIN } else { 0.0 };
            let hidden: Vec<f32> = (0..answers).map(hides).collect();
            let added = Strided {
                numbers: &hidden,
                strides: [0; 3],
            };
            let mut output = vec![f32::NAN; 2 * queries * shape.heads * features];
            let scoring = Scoring {
                scale: 0.3,
                added: Some(added),
                round: None,
            };
            attention(&shape, operands, scoring, &mut output);
            let exact = exactly(&shape, operands, f64::from(0.3f32), &hidden);
            for (ours, exact) in output.iter().zip(exact) {
                assert!(
                    (f64::from(*ours) - exact).abs() < 3e-6,
                    "{shape:?}: {ours}, {exact}"
                );
            }
        }
    }
}
