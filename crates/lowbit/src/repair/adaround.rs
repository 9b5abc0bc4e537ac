//! AdaRound: Nagel, Amjad, van Baalen, Louizos, Blankevoort, "Up or Down? Adaptive Rounding for
//! Post-Training Quantization", arXiv 2004.10568.

use std::f64::consts::PI;

use burn::module::Module;
use burn::tensor::Tensor;
use lowbit_kernels::Terms;
use lowbit_kernels::linear::{self, Shape};
use rayon::prelude::*;

use super::rounding::{Problem, round};
use super::{Algorithm, Repaired};
use crate::Error;
use crate::capture::ModelInput;
use crate::config::Layer;

/// Ends to which the sigmoid is stretched before it is cut off (eq. 23).
const ZETA: f64 = 1.1;
const GAMMA: f64 = -0.1;

/// Least weight of the regularization (eq. 21), whose exponent goes from the first of these to the second.
const LAMBDA: f64 = 0.01;
const BETA: [f64; 2] = [20.0, 2.0];

/// Steps of Adam, the share of them without regularization, and their rate.
const STEPS: usize = 1000;
const FREE: f64 = 0.2;
const RATE: f64 = 0.02;
const MOMENTA: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// Weights that a thread takes at a time.
const PART: usize = 4096;

/// Products of a step below which a plain loop is as fast as the kernel.
const FEW: usize = 1 << 14;

/// Learns for every weight whether it is rounded up or down.
///
/// With the step `s` and the integers from `n` to `p` of a weight's quantizer, the weight is
/// `s clip(floor(W / s) + h(V), n, p)` (arXiv 2004.10568, eq. 22), of a rectified sigmoid
/// `h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)` (eq. 23) that begins with `h(V) = W / s - floor(W / s)`. Adam
/// takes 1,000 steps on `V` for each layer down the mean over all places of
/// `|W x + b - (W~ x~ + b)|^2`, plus `lambda sum(1 - |2 h(V) - 1|^beta)` (eq. 21, 24), where `x` is what the
/// layer reads in the float network and `x~` what it reads with all layers before it quantized (eq. 25).
/// The exponent falls from 20 to 2 by a half cosine, after a fifth of the steps without regularization. What
/// is stored is the weight with `h(V)` rounded to 0 or 1.
///
/// `lambda` is the paper's 0.01, or the mean of `s^2 x~^2` over all weights where that is more: it is what
/// one weight adds to the error, and with a tenth of it many `h(V)` are still between 0 and 1 in the end.
///
/// The squared error is quadratic in `W~`, so that the second moments of `x~` and its products with `W x`
/// say all of it: each step goes by all places of all images, without a random choice. In return it is
/// that of the sums, without the activation function that eq. 25 has around both.
///
/// `layers` are the network's; `batches` are what it is shown.
///
/// # Errors
/// As [`gptq`](super::gptq()).
pub fn adaround<M: Module, I: ModelInput, const O: usize>(
    model: M,
    layers: &[Layer],
    batches: &[I],
    forward: impl Fn(&M, I) -> Tensor<O>,
) -> Result<(M, Repaired), Error> {
    round(
        model,
        layers,
        batches,
        &forward,
        Algorithm::Adaround,
        &codes,
    )
}

/// The integers of the weights, `[rows][columns]`.
pub(super) fn codes(problem: &Problem) -> Option<Vec<f64>> {
    let mut learned = Learned::new(problem);
    for step in 0..STEPS {
        learned.step(step);
    }
    Some(learned.codes())
}

/// `h(V)`, and its derivative.
fn rectified_sigmoid(v: f64) -> [f64; 2] {
    let sigmoid = 1.0 / (1.0 + (-v).exp());
    let stretched = sigmoid * (ZETA - GAMMA) + GAMMA;
    match stretched {
        h if h <= 0.0 => [0.0, 0.0],
        h if h >= 1.0 => [1.0, 0.0],
        h => [h, sigmoid * (1.0 - sigmoid) * (ZETA - GAMMA)],
    }
}

/// `V` of which that is `h`.
fn of_share(h: f64) -> f64 {
    -((ZETA - GAMMA) / (h - GAMMA) - 1.0).ln()
}

/// The exponent of the regularization in a step; `None` where there is none yet.
fn exponent(step: usize) -> Option<f64> {
    let free = FREE * STEPS as f64;
    let share = (step as f64 - free) / (STEPS as f64 - free);
    let [first, last] = BETA;
    (share >= 0.0).then(|| last + 0.5 * (first - last) * (1.0 + (share * PI).cos()))
}

/// What is learned of one weight, and Adam's means.
#[derive(Debug, Clone, Copy)]
struct One {
    v: f64,
    mean: f64,
    square: f64,
}

struct Learned<'a> {
    problem: &'a Problem,
    all: Vec<One>,
    /// The weight of the regularization.
    lambda: f64,
    /// The mean of `x~ x~^T`.
    gram: Vec<f32>,
    /// The gradient of half the error at `W~ = W`: `W mean(x~ x~^T) - mean(y x~^T)`.
    at_weight: Vec<f64>,
    /// `W~ - W`, and its product with `gram`.
    difference: Vec<f32>,
    product: Vec<f32>,
}

impl<'a> Learned<'a> {
    fn new(problem: &'a Problem) -> Self {
        let moments = &problem.moments;
        let count = moments.gram.count().max(1) as f64;
        let one = |(i, &w): (usize, &f64)| {
            let share = w / problem.grid(i).step;
            One {
                v: of_share(share - share.floor()),
                mean: 0.0,
                square: 0.0,
            }
        };
        let at_weight = problem.times_gram(&problem.weight).into_iter();
        let at_weight = at_weight.zip(&moments.cross);
        Self {
            all: problem.weight.iter().enumerate().map(one).collect(),
            lambda: lambda(problem),
            gram: moments
                .gram
                .sums
                .iter()
                .map(|x| (x / count) as f32)
                .collect(),
            at_weight: at_weight
                .map(|(product, y)| (product - y) / count)
                .collect(),
            difference: vec![0.0; problem.weight.len()],
            product: vec![0.0; problem.weight.len()],
            problem,
        }
    }

    /// One step of Adam.
    fn step(&mut self, step: usize) {
        let problem = self.problem;
        let soft = |i: usize, one: &One| {
            let (w, grid) = (problem.weight[i], problem.grid(i));
            let [h, _] = rectified_sigmoid(one.v);
            (grid.clip((w / grid.step).floor() + h) * grid.step - w) as f32
        };
        let parts = self
            .difference
            .par_chunks_mut(PART)
            .zip(self.all.par_chunks(PART));
        parts.enumerate().for_each(|(part, (differences, all))| {
            for (i, (difference, one)) in differences.iter_mut().zip(all).enumerate() {
                *difference = soft(part * PART + i, one);
            }
        });
        self.multiply();
        let regularization = exponent(step).map(|beta| (self.lambda, beta));
        let unbiased = MOMENTA.map(|m| 1.0 - m.powi(step as i32 + 1));
        let (products, at_weight) = (&self.product, &self.at_weight);
        let parts = self.all.par_chunks_mut(PART).enumerate();
        parts.for_each(|(part, all)| {
            for (at, one) in all.iter_mut().enumerate() {
                let i = part * PART + at;
                let error = 2.0 * (f64::from(products[i]) + at_weight[i]);
                one.descend(gradient(problem, i, one.v, error, regularization), unbiased);
            }
        });
    }

    /// `product = difference gram`.
    fn multiply(&mut self) {
        let columns = self.problem.moments.columns;
        let rows = self.problem.moments.rows;
        if rows * columns * columns > FEW {
            let features = [columns, columns];
            let shape = Shape { rows, features };
            linear::forward(
                &shape,
                [&self.difference, &self.gram],
                None,
                [None; 2],
                Terms::Numbers,
                &mut self.product,
            );
            return;
        }
        self.product.fill(0.0);
        let rows = self.product.chunks_exact_mut(columns);
        for (sums, row) in rows.zip(self.difference.chunks_exact(columns)) {
            for (x, of_gram) in row.iter().zip(self.gram.chunks_exact(columns)) {
                sums.iter_mut()
                    .zip(of_gram)
                    .for_each(|(sum, g)| *sum += x * g);
            }
        }
    }

    fn codes(&self) -> Vec<f64> {
        let code = |(i, one): (usize, &One)| {
            let grid = self.problem.grid(i);
            let up = f64::from(u8::from(rectified_sigmoid(one.v)[0] >= 0.5));
            grid.clip((self.problem.weight[i] / grid.step).floor() + up)
        };
        self.all.iter().enumerate().map(code).collect()
    }
}

/// The weight of the regularization.
fn lambda(problem: &Problem) -> f64 {
    let moments = &problem.moments;
    let squares = moments.gram.sums.iter().step_by(moments.columns + 1);
    let of_inputs = squares.sum::<f64>() / (moments.columns * moments.gram.count()).max(1) as f64;
    let steps = problem.grids.iter().map(|grid| grid.step * grid.step);
    let of_steps = steps.sum::<f64>() / problem.grids.len().max(1) as f64;
    LAMBDA.max(of_inputs * of_steps)
}

/// The gradient with respect to `V` of a weight, where that of the error with respect to the weight is
/// `error`, and the regularization has a weight and an exponent.
fn gradient(
    problem: &Problem,
    i: usize,
    v: f64,
    error: f64,
    regularization: Option<(f64, f64)>,
) -> f64 {
    let [h, derivative] = rectified_sigmoid(v);
    if derivative == 0.0 {
        return 0.0;
    }
    let grid = problem.grid(i);
    let code = (problem.weight[i] / grid.step).floor() + h;
    let of_error = match grid.clip(code) == code {
        true => error * grid.step,
        false => 0.0,
    };
    let of_regularization = regularization.map_or(0.0, |(lambda, beta)| {
        let from_middle = 2.0 * h - 1.0;
        -2.0 * lambda * beta * from_middle.abs().powf(beta - 1.0) * from_middle.signum()
    });
    (of_error + of_regularization) * derivative
}

impl One {
    /// A step of Adam (arXiv 1412.6980), whose means are divided by `unbiased`.
    fn descend(&mut self, gradient: f64, unbiased: [f64; 2]) {
        let [first, second] = MOMENTA;
        self.mean = first * self.mean + (1.0 - first) * gradient;
        self.square = second * self.square + (1.0 - second) * gradient * gradient;
        let (mean, square) = (self.mean / unbiased[0], self.square / unbiased[1]);
        self.v -= RATE * mean / (square.sqrt() + EPSILON);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_begins_as_the_rounding_leaves_it() {
        for share in [0.0, 0.25, 0.5, 0.999] {
            let [h, _] = rectified_sigmoid(of_share(share));
            assert!((h - share).abs() < 1e-12, "{share} {h}");
        }
        // The sigmoid of 0 is 1/2, and 1.2 / 2 - 0.1 is 1/2; its derivative is 1.2 / 4.
        let [h, derivative] = rectified_sigmoid(0.0);
        assert!((h - 0.5).abs() < 1e-12 && (derivative - 0.3).abs() < 1e-12);
    }

    #[test]
    fn the_exponent_falls_after_a_fifth() {
        assert_eq!(exponent(199), None);
        assert_eq!(exponent(200), Some(20.0));
        assert!((exponent(600).unwrap() - 11.0).abs() < 1e-12);
        assert!(exponent(999).unwrap() < 2.001);
    }
}
