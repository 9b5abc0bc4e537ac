//! Layer normalization and that by the root mean square: rows, each by itself.
//!
//! Sums of a row are made by lanes, and what parts of some rows give to the factors is added part by part: in an
//! order that depends on the sizes alone.

use rayon::prelude::*;

use crate::softmax::sum;
use crate::vector::{Kernel, dispatch};

/// Numbers that a part has at least, in whole rows.
const PART: usize = 1 << 14;

/// What rows are brought to before factors and shifts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowNorm {
    /// Numbers of a row.
    pub row: usize,
    /// What is added to a mean of squares.
    pub epsilon: f32,
    /// Whether their mean is taken away first: layer normalization (Ba et al., arXiv 1607.06450); otherwise it is
    /// that by the root mean square (Zhang, Sennrich, arXiv 1910.07467).
    pub centred: bool,
}

/// The gradients of factors and shifts, both of a row's size.
#[derive(Debug, Clone, PartialEq)]
pub struct RowNormGradients {
    /// Of the factors.
    pub gamma: Vec<f32>,
    /// Of the shifts.
    pub beta: Vec<f32>,
}

impl RowNorm {
    /// `(x - mean) / sqrt(mean of (x - mean)^2 + epsilon) * gamma + beta` of each row, with a mean of 0 where it
    /// is not centred, and without shifts where there are none.
    ///
    /// # Panics
    /// If slices have other sizes.
    pub fn forward(&self, x: &[f32], gamma: &[f32], beta: Option<&[f32]>, output: &mut [f32]) {
        let row = self.checked(x, output, gamma);
        if x.is_empty() {
            return;
        }
        let zeros = vec![0.0; if beta.is_none() { row } else { 0 }];
        let beta = beta.unwrap_or(&zeros);
        assert_eq!(beta.len(), row);
        let part = row * PART.div_ceil(row);
        let parts = output.par_chunks_mut(part).zip(x.par_chunks(part));
        parts.for_each(|(output, x)| {
            dispatch(Forward {
                norm: *self,
                x,
                gamma,
                beta,
                output,
            });
        });
    }

    /// The gradients, given `grad`, that of the output, which becomes that of `x`: with `n` the normalized row,
    /// `r` one over its root and `h = grad * gamma`, `r (h - mean of h - n (mean of h n))`, the mean of `h` where
    /// it is centred; `sum of grad n` for factors and `sum of grad` for shifts.
    ///
    /// # Panics
    /// If slices have other sizes.
    pub fn backward(&self, x: &[f32], gamma: &[f32], grad: &mut [f32]) -> RowNormGradients {
        let row = self.checked(x, grad, gamma);
        let mut sums = vec![[0.0f64; 2]; row];
        if !x.is_empty() {
            let part = row * PART.div_ceil(row);
            let parts = grad.par_chunks_mut(part).zip(x.par_chunks(part));
            let parts: Vec<[Vec<f32>; 2]> = parts
                .map(|(grad, x)| {
                    dispatch(Backward {
                        norm: *self,
                        x,
                        gamma,
                        grad,
                    })
                })
                .collect();
            for [gamma, beta] in parts {
                for (sum, (gamma, beta)) in sums.iter_mut().zip(gamma.into_iter().zip(beta)) {
                    sum[0] += f64::from(gamma);
                    sum[1] += f64::from(beta);
                }
            }
        }
        let of = |which: usize| sums.iter().map(|sum| sum[which] as f32).collect();
        RowNormGradients {
            gamma: of(0),
            beta: of(1),
        }
    }

    fn checked(&self, x: &[f32], other: &[f32], gamma: &[f32]) -> usize {
        let row = self.row;
        assert!(row > 0 && x.len().is_multiple_of(row));
        assert_eq!((x.len(), row), (other.len(), gamma.len()));
        row
    }

    /// What is taken away from a row, and what it is multiplied by then.
    #[inline(always)]
    fn of(&self, x: &[f32]) -> [f32; 2] {
        let share = 1.0 / self.row as f32;
        let mean = match self.centred {
            true => sum(x, x, |x, _| x) * share,
            false => 0.0,
        };
        let squares = sum(x, x, |x, _| (x - mean) * (x - mean));
        [mean, 1.0 / (squares * share + self.epsilon).sqrt()]
    }
}

struct Forward<'a> {
    norm: RowNorm,
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let row = self.norm.row;
        let rows = self.x.chunks_exact(row);
        for (x, output) in rows.zip(self.output.chunks_exact_mut(row)) {
            let [mean, factor] = self.norm.of(x);
            let given = self.gamma.iter().zip(self.beta);
            for ((y, x), (gamma, beta)) in output.iter_mut().zip(x).zip(given) {
                *y = (x - mean) * factor * gamma + beta;
            }
        }
    }
}

struct Backward<'a> {
    norm: RowNorm,
    x: &'a [f32],
    gamma: &'a [f32],
    grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn run(self) -> [Vec<f32>; 2] {
        let row = self.norm.row;
        let share = 1.0 / row as f32;
        let [mut to_gamma, mut to_beta] = [(); 2].map(|()| vec![0.0f32; row]);
        // The normalized row, and the gradient times the factors.
        let [mut normalized, mut through] = [(); 2].map(|()| vec![0.0f32; row]);
        let rows = self.x.chunks_exact(row);
        for (x, grad) in rows.zip(self.grad.chunks_exact_mut(row)) {
            let [mean, factor] = self.norm.of(x);
            let lines = normalized.iter_mut().zip(&mut through);
            for ((n, h), ((x, g), gamma)) in lines.zip(x.iter().zip(&*grad).zip(self.gamma)) {
                *n = (x - mean) * factor;
                *h = g * gamma;
            }
            let sums = to_gamma.iter_mut().zip(&mut to_beta);
            for ((gamma, beta), (g, n)) in sums.zip(grad.iter().zip(&normalized)) {
                *gamma += g * n;
                *beta += g;
            }
            let along = sum(&through, &normalized, |h, n| h * n) * share;
            let level = match self.norm.centred {
                true => sum(&through, &through, |h, _| h) * share,
                false => 0.0,
            };
            let lines = through.iter().zip(&normalized);
            for (g, (h, n)) in grad.iter_mut().zip(lines) {
                *g = factor * (h - level - n * along);
            }
        }
        [to_gamma, to_beta]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, step: usize) -> Vec<f32> {
        let of = |i: usize| ((i * step) % 1009) as f32 / 400.0 - 1.0;
        (0..count).map(of).collect()
    }

    /// Results and gradients in f64, the latter from the definition of each as a function of the row.
    #[test]
    fn rows_are_the_exact_ones() {
        for (row, rows) in [(1, 3), (5, 7), (48, 400), (200, 100)] {
            for centred in [true, false] {
                let norm = RowNorm {
                    row,
                    epsilon: 1e-3,
                    centred,
                };
                let x = numbers(row * rows, 37);
                let (gamma, beta) = (numbers(row, 11), numbers(row, 13));
                let grad = numbers(row * rows, 41);
                let mut y = vec![f32::NAN; x.len()];
                norm.forward(&x, &gamma, Some(&beta), &mut y);
                let mut to_x = grad.clone();
                let given = norm.backward(&x, &gamma, &mut to_x);
                let [mut to_gamma, mut to_beta] = [(); 2].map(|()| vec![0.0f64; row]);
                for at in 0..rows {
                    let wide = |x: &[f32]| -> Vec<f64> {
                        x[at * row..][..row].iter().map(|x| f64::from(*x)).collect()
                    };
                    let (x, g) = (wide(&x), wide(&grad));
                    let count = row as f64;
                    let mean = if centred {
                        x.iter().sum::<f64>() / count
                    } else {
                        0.0
                    };
                    let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
                    let root = (square + f64::from(1e-3f32)).sqrt();
                    let n: Vec<f64> = x.iter().map(|x| (x - mean) / root).collect();
                    let h: Vec<f64> = g
                        .iter()
                        .zip(&gamma)
                        .map(|(g, gamma)| g * f64::from(*gamma))
                        .collect();
                    for i in 0..row {
                        let expected = n[i] * f64::from(gamma[i]) + f64::from(beta[i]);
                        let found = f64::from(y[at * row + i]);
                        assert!(
                            (found - expected).abs() < 4e-6,
                            "{norm:?} {found} {expected}"
                        );
                        // dn_j / dx_i = (delta_ij - centred / count - n_i n_j / count) / root
                        let slope = (0..row).map(|j| {
                            let same = f64::from(u8::from(i == j));
                            let level = f64::from(u8::from(centred)) / count;
                            h[j] * (same - level - n[i] * n[j] / count) / root
                        });
                        let expected: f64 = slope.sum();
                        let found = f64::from(to_x[at * row + i]);
                        assert!(
                            (found - expected).abs() < 4e-5,
                            "{norm:?} {found} {expected}"
                        );
                        to_gamma[i] += g[i] * n[i];
                        to_beta[i] += g[i];
                    }
                }
                for (found, expected) in [(given.gamma, to_gamma), (given.beta, to_beta)] {
                    for (found, expected) in found.iter().zip(expected) {
                        let off = (f64::from(*found) - expected).abs();
                        assert!(off < 2e-4, "{norm:?} {found} {expected}");
                    }
                }
            }
        }
    }
}
