//! The way back through attention.

use rayon::prelude::*;

use super::{
    BLOCK, Exponentials, Packed, QUERIES, Scores, Scoring, Shape, Strided, line, pack_keys,
    pack_values, runs,
};
use crate::scratch::{self, Scratch};
use crate::softmax::halved;
use crate::tile::{Sums, SumsTiles, Terms, vectors_of};
use crate::vector::{Kernel, LANES, dispatch};

/// The gradients of [`attention`](super::attention): of probabilities `P` and those that weight values,
/// `round(P)`, whose gradient passes to `P` as it is,
///
/// - of values `round(P)^T G`,
/// - of scores `S = scale P * (G V^T - sum of P * (G V^T))`, where products of matrices with `*` are number by
///   number and the sum is that of each row,
/// - of queries `S K` and of keys `S^T Q`.
///
/// `grad` is that of the output; what comes out is `[batch][heads][queries][features]` and twice
/// `[batch][heads / shared][answers][features]`, each of the sums of the heads that share it. Every sum
/// runs in an order that depends on the shape alone.
///
/// # Panics
/// If a slice is shorter than the shape says, or `shared` does not divide the heads.
pub fn attention_backward(
    shape: &Shape,
    operands: [Strided<'_>; 3],
    scoring: Scoring<'_>,
    grad: Strided<'_>,
    [to_query, to_key, to_value]: [&mut [f32]; 3],
) {
    let answering = shape.heads / shape.shared.max(1);
    assert_eq!(answering * shape.shared, shape.heads);
    let of_query = shape.shared * shape.queries * shape.features;
    let of_answer = shape.answers * shape.features;
    assert_eq!(to_query.len(), shape.batch * answering * of_query);
    assert_eq!(to_key.len(), shape.batch * answering * of_answer);
    assert_eq!(to_value.len(), to_key.len());
    if to_query.is_empty() {
        to_key.fill(0.0);
        to_value.fill(0.0);
        return;
    }
    assert!(shape.answers > 0, "there is something to attend to");
    let each = to_query.par_chunks_mut(of_query);
    let each = each
        .zip(to_key.par_chunks_mut(of_answer))
        .zip(to_value.par_chunks_mut(of_answer));
    each.enumerate()
        .for_each(|(at, ((to_query, to_key), to_value))| {
            let head = Head {
                shape,
                operands,
                scoring,
                grad,
                at: [at / answering, at % answering],
            };
            head.gradients([to_query, to_key, to_value]);
        });
}

/// A head that answers, and those that ask it.
struct Head<'a> {
    shape: &'a Shape,
    operands: [Strided<'a>; 3],
    scoring: Scoring<'a>,
    grad: Strided<'a>,
    at: [usize; 2],
}

impl Head<'_> {
    fn gradients(&self, [to_query, to_key, to_value]: [&mut [f32]; 3]) {
        let shape = self.shape;
        let (answers, features) = (shape.answers, shape.features);
        let [query, key, value] = self.operands;
        let across = vectors_of(answers) * LANES * features;
        let along = vectors_of(features) * LANES * answers;
        let [mut keys, mut values] = [across; 2].map(scratch::take);
        let mut means_of_keys = scratch::take(along);
        pack_keys(shape, key, self.at, &mut keys);
        pack_keys(shape, value, self.at, &mut values);
        pack_values(shape, key, self.at, &mut means_of_keys);
        let of_scores = Packed {
            keys: &keys,
            values: &means_of_keys,
        };
        let of_means = Packed {
            keys: &values,
            values: &[],
        };
        let [mut turned_key, mut turned_value] = [(); 2].map(|()| Turned::new(shape));
        let [batch, answering] = self.at;
        for shared in 0..shape.shared {
            let head = answering * shape.shared + shared;
            for first in (0..shape.queries).step_by(QUERIES) {
                let rows = QUERIES.min(shape.queries - first);
                let asks = |row| query.row(batch, head, first + row, features);
                let comes = |row| self.grad.row(batch, head, first + row, features);
                let mut weights = Scores::of(shape, &of_scores, rows, |row| {
                    (asks(row), self.scoring.scale)
                });
                let mut sums = scratch::take(rows);
                let added = self.scoring.added;
                dispatch(Exponentials {
                    scores: &mut weights,
                    added: added.map(|added| (added, batch, head, first)),
                    sums: &mut sums,
                });
                weights.divide(&sums);
                let mut scores = Scores::of(shape, &of_means, rows, |row| (comes(row), 1.0));
                dispatch(ThroughSoftmax {
                    weights: &weights,
                    gradients: &mut scores,
                    scale: self.scoring.scale,
                });
                turned_key.add(&scores, asks);
                if let Some(round) = self.scoring.round {
                    sums.fill(1.0);
                    weights.round(&mut sums, round);
                }
                turned_value.add(&weights, comes);
                let start = (shared * shape.queries + first) * features;
                let to_query = &mut to_query[start..][..rows * features];
                sums.fill(1.0);
                // SAFETY: so many rows of so many features, next to each other.
                unsafe { scores.means(&of_scores, &sums, to_query.as_mut_ptr(), features) };
            }
        }
        turned_key.write(to_key);
        turned_value.write(to_value);
    }
}

impl Scores {
    /// Exponentials become what they are of their rows' sums.
    fn divide(&mut self, sums: &[f32]) {
        for block in self.numbers.chunks_exact_mut(Self::step(self.rows)) {
            let (numbers, _) = block.split_at_mut(self.rows * BLOCK);
            dispatch(Divided(numbers, sums));
        }
    }
}

/// Rows of 32 become what they are of their sums.
struct Divided<'a>(&'a mut [f32], &'a [f32]);

impl Kernel for Divided<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (line, sum) in self.0.chunks_exact_mut(BLOCK).zip(self.1) {
            let share = 1.0 / sum;
            for x in line {
                *x *= share;
            }
        }
    }
}

/// Gradients of probabilities become those of scores before their scale.
struct ThroughSoftmax<'a> {
    weights: &'a Scores,
    gradients: &'a mut Scores,
    scale: f32,
}

impl Kernel for ThroughSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (rows, blocks) = (self.weights.rows, self.weights.answers.div_ceil(BLOCK));
        let step = Scores::step(rows);
        let weights = &self.weights.numbers[..];
        let gradients = &mut self.gradients.numbers[..];
        for row in 0..rows {
            let places = || (0..blocks).map(|block| block * step + row * BLOCK);
            let mut sums = [0.0f32; BLOCK];
            for at in places() {
                let pairs = weights[at..][..BLOCK].iter().zip(line(gradients, at));
                for (sum, (weight, gradient)) in sums.iter_mut().zip(pairs) {
                    // What is beyond the answers has no weight, and may be any number.
                    let product = *weight * *gradient;
                    *sum += if *weight == 0.0 { 0.0 } else { product };
                }
            }
            let sum = halved(sums);
            for at in places() {
                let weights = &weights[at..][..BLOCK];
                for (gradient, weight) in line(gradients, at).iter_mut().zip(weights) {
                    let through = *weight * (*gradient - sum) * self.scale;
                    *gradient = if *weight == 0.0 { 0.0 } else { through };
                }
            }
        }
    }
}

/// A sum over queries of products, `[features][answers]`.
struct Turned<'a> {
    shape: &'a Shape,
    numbers: Scratch,
    is_first: bool,
}

impl<'a> Turned<'a> {
    fn new(shape: &'a Shape) -> Self {
        Self {
            shape,
            numbers: scratch::take(shape.features * shape.answers),
            is_first: true,
        }
    }

    /// Adds the products of a number of `rows` for each query and the number that `scores` have for it.
    fn add<'q>(&mut self, scores: &Scores, rows: impl Fn(usize) -> &'q [f32]) {
        let (answers, features, count) = (scores.answers, scores.features, scores.rows);
        let mut packed = scratch::take(count.div_ceil(LANES) * features * LANES);
        for row in 0..count {
            let (block, lane) = (row / LANES, row % LANES);
            let lines = &mut packed[block * features * LANES..][..features * LANES];
            for (line, x) in lines.chunks_exact_mut(LANES).zip(rows(row)) {
                line[lane] = *x;
            }
        }
        let runs = runs(count, LANES, features * LANES);
        let tiles = SumsTiles::new(LANES, Terms::Numbers);
        let mut more = (!self.is_first).then(|| scratch::take(features * answers));
        let output = more.as_mut().unwrap_or(&mut self.numbers);
        for (block, first) in (0..answers).step_by(BLOCK).enumerate() {
            let sums = Sums {
                input: packed.as_ptr(),
                input_row: 0,
                runs: &runs,
                weights: scores.numbers[block * Scores::step(count)..].as_ptr(),
                bias: std::ptr::null(),
                output: output[first..].as_mut_ptr(),
                output_step: [answers, 0],
                channels: BLOCK.min(answers - first),
            };
            // SAFETY: rows are packed as the runs say, a block has a line of 32 for each query, and the
            // output a line of all answers for each feature.
            unsafe { tiles.run(BLOCK / LANES, LANES, [1, features], sums) };
        }
        if let Some(more) = more {
            for (sum, x) in self.numbers.iter_mut().zip(&more[..]) {
                *sum += x;
            }
        }
        self.is_first = false;
    }

    /// Into `[answers][features]`.
    fn write(&self, output: &mut [f32]) {
        let (answers, features) = (self.shape.answers, self.shape.features);
        for (answer, row) in output.chunks_exact_mut(features).enumerate() {
            for (feature, x) in row.iter_mut().enumerate() {
                *x = self.numbers[feature * answers + answer];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, step: usize) -> Vec<f32> {
        let of = |i: usize| ((i * step) % 1009) as f32 / 400.0 - 1.25;
        (0..count).map(of).collect()
    }

    /// Gradients of one head in f64, of rows that lie one after the other.
    fn exactly(
        [q, k, v, g]: [&[f32]; 4],
        features: usize,
        scale: f64,
        added: &[f32],
    ) -> [Vec<f64>; 3] {
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
        let [q, k, v, g] = [q, k, v, g].map(wide);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut found = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
        for (i, (q, g)) in q.chunks(features).zip(g.chunks(features)).enumerate() {
            let keys = k.chunks(features).zip(added);
            let weights = keys.map(|(k, added)| (dot(q, k) * scale + f64::from(*added)).exp());
            let weights: Vec<f64> = weights.collect();
            let all: f64 = weights.iter().sum();
            let of_means: Vec<f64> = v.chunks(features).map(|v| dot(g, v)).collect();
            let mean = dot(&weights, &of_means) / all;
            for (j, weight) in weights.iter().enumerate() {
                let weight = weight / all;
                let to_score = scale * weight * (of_means[j] - mean);
                for f in 0..features {
                    found[0][i * features + f] += to_score * k[j * features + f];
                    found[1][j * features + f] += to_score * q[f];
                    found[2][j * features + f] += weight * g[f];
                }
            }
        }
        found
    }

    /// One head after the other: those that share add up.
    #[test]
    fn gradients_are_the_exact_ones() {
        let sizes = [
            (1, 1, 1, 1),
            (5, 37, 8, 2),
            (130, 33, 20, 1),
            (300, 96, 64, 3),
            (1, 16, 5, 2),
        ];
        for (queries, answers, features, shared) in sizes {
            let (batch, answering) = (2, 2);
            let shape = Shape {
                batch,
                heads: answering * shared,
                shared,
                queries,
                answers,
                features,
            };
            let of_heads = |heads: usize, length: usize, step: usize| {
                let numbers = numbers(batch * heads * length * features, step);
                let strides = [heads * length * features, length * features, features];
                (numbers, strides)
            };
            let all = [
                of_heads(shape.heads, queries, 37),
                of_heads(answering, answers, 41),
                of_heads(answering, answers, 43),
                of_heads(shape.heads, queries, 47),
            ];
            let [query, key, value, grad] = [0, 1, 2, 3].map(|i| Strided {
                numbers: &all[i].0,
                strides: all[i].1,
            });
            let hides = |i: usize| if i > 0 && i % 5 == 1 { f32::MIN } else { 0.0 };
            let hidden: Vec<f32> = (0..answers).map(hides).collect();
            let scoring = Scoring {
                scale: 0.3,
                added: Some(Strided {
                    numbers: &hidden,
                    strides: [0; 3],
                }),
                round: None,
            };
            let mut found = [0, 1, 2].map(|i| vec![f32::NAN; all[i].0.len()]);
            let each = found.each_mut().map(|x| &mut x[..]);
            attention_backward(&shape, [query, key, value], scoring, grad, each);
            let mut expected = [0, 1, 2].map(|i| vec![0.0; all[i].0.len()]);
            for at in 0..batch * shape.heads {
                let (asks, answers_at) = (queries * features, answers * features);
                let [q, g] = [0, 3].map(|i| &all[i].0[at * asks..][..asks]);
                let answer = at / shared;
                let [k, v] = [1, 2].map(|i| &all[i].0[answer * answers_at..][..answers_at]);
                let one = exactly([q, k, v, g], features, f64::from(0.3f32), &hidden);
                let places = [at * asks, answer * answers_at, answer * answers_at];
                for ((all, one), place) in expected.iter_mut().zip(&one).zip(places) {
                    for (sum, x) in all[place..].iter_mut().zip(one) {
                        *sum += x;
                    }
                }
            }
            for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let largest = expected.iter().fold(1.0, |a: f64, x| a.max(x.abs()));
                for (ours, exact) in found.iter().zip(expected) {
                    let off = (f64::from(*ours) - exact).abs();
                    assert!(off < 3e-6 * largest, "{shape:?} {which}: {ours}, {exact}");
                }
            }
        }
    }
}
