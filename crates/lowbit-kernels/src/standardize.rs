//! Numbers brought to a mean of zero and a deviation of one with means and deviations that are given, by
//! channel, over pixels stored channels last.
//!
//! Where a normalization rounds its statistics, what it divides by is not what its batch has: forward
//! and backward are then these passes, and [`statistics`](crate::norm::statistics) with
//! [`through_statistics`] one apart from them.

use rayon::prelude::*;

use crate::norm::{Walk, map_by_channel};
use crate::vector::{Kernel, dispatch};

/// `output = (x - mean) / deviation`, `x` and `output` `[pixels][channels]`, the others `[channels]`.
pub fn standardize(x: &[f32], mean: &[f32], deviation: &[f32], output: &mut [f32]) {
    map_by_channel(
        x,
        [mean, deviation],
        output,
        #[inline(always)]
        |x, mean, deviation| (x - mean) / deviation,
    );
}

/// The gradients of what was given to [`standardize`], both `[channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenGradients {
    /// `-sum of g / deviation`.
    pub mean: Vec<f32>,
    /// `-sum of g (x - mean) / deviation^2`; zero where the deviation is infinite.
    pub deviation: Vec<f32>,
}

/// The gradients of [`standardize`], given `grad`, that of its output, which becomes that of `x`:
/// `g / deviation`.
pub fn standardize_backward(
    x: &[f32],
    grad: &mut [f32],
    mean: &[f32],
    deviation: &[f32],
) -> GivenGradients {
    struct Pass<'a> {
        x: &'a [f32],
        grad: &'a mut [f32],
        mean: &'a [f32],
        deviation: &'a [f32],
        walk: Walk,
    }
    impl Kernel for Pass<'_> {
        type Output = [Vec<f64>; 2];

        #[inline(always)]
        fn run(self) -> [Vec<f64>; 2] {
            let period = self.walk.period;
            let mut grads = vec![0.0f32; period];
            let mut products = vec![0.0f32; period];
            for (x, grad) in self.x.chunks(period).zip(self.grad.chunks_mut(period)) {
                let sums = grads.iter_mut().zip(&mut products);
                let given = self.mean.iter().zip(self.deviation);
                for (((sum, product), (x, grad)), (mean, deviation)) in
                    sums.zip(x.iter().zip(grad)).zip(given)
                {
                    *sum += *grad;
                    *product += *grad * (x - mean);
                    *grad /= deviation;
                }
            }
            [self.walk.gather(&grads), self.walk.gather(&products)]
        }
    }
    let walk = Walk::new(mean.len());
    let [means, deviations] = [mean, deviation].map(|given| walk.spread(given));
    let parts = grad.par_chunks_mut(walk.chunk);
    let parts: Vec<[Vec<f64>; 2]> = parts
        .zip(x.par_chunks(walk.chunk))
        .map(|(grad, x)| {
            dispatch(Pass {
                x,
                grad,
                mean: &means,
                deviation: &deviations,
                walk,
            })
        })
        .collect();
    let mut sums = [vec![0.0f64; mean.len()], vec![0.0; mean.len()]];
    for part in parts {
        for (sums, part) in sums.iter_mut().zip(part) {
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum += part;
            }
        }
    }
    let over = |sums: &[f64], power: i32| {
        let each = sums.iter().zip(deviation);
        let each = each.map(|(sum, d)| (-sum / f64::from(*d).powi(power)) as f32);
        each.collect()
    };
    GivenGradients {
        mean: over(&sums[0], 1),
        deviation: over(&sums[1], 2),
    }
}

/// The gradient of `x`, `[pixels][channels]`, through its means and (biased) variances, whose gradients
/// are given: `(g_mean + 2 g_variance (x - mean)) / pixels`, and what is `there` already.
pub fn through_statistics(
    x: &[f32],
    mean: &[f32],
    [to_mean, to_variance]: [&[f32]; 2],
    there: Option<&[f32]>,
    output: &mut [f32],
) {
    struct Pass<'a> {
        x: &'a [f32],
        slope: &'a [f32],
        offset: &'a [f32],
        there: Option<&'a [f32]>,
        output: &'a mut [f32],
    }
    impl Kernel for Pass<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let period = self.slope.len();
            let parts = self.x.chunks(period).zip(self.output.chunks_mut(period));
            for (x, output) in parts {
                let line = self.slope.iter().zip(self.offset);
                for ((y, x), (slope, offset)) in output.iter_mut().zip(x).zip(line) {
                    *y = x * slope + offset;
                }
            }
            for (y, there) in self.output.iter_mut().zip(self.there.unwrap_or(&[])) {
                *y += there;
            }
        }
    }
    let pixels = (x.len() / mean.len().max(1)).max(1) as f64;
    let slopes = to_variance.iter().map(|g| 2.0 * f64::from(*g) / pixels);
    let slopes: Vec<f64> = slopes.collect();
    let offsets = to_mean.iter().zip(mean).zip(&slopes);
    let offsets = offsets
        .map(|((g, mean), slope)| (f64::from(*g) / pixels - slope * f64::from(*mean)) as f32);
    let walk = Walk::new(mean.len());
    let offset = walk.spread(&offsets.collect::<Vec<f32>>());
    let slope: Vec<f32> = slopes.iter().map(|slope| *slope as f32).collect();
    let slope = walk.spread(&slope);
    let parts = output.par_chunks_mut(walk.chunk);
    parts
        .zip(x.par_chunks(walk.chunk))
        .enumerate()
        .for_each(|(i, (output, x))| {
            let there = there.map(|there| &there[i * walk.chunk..][..output.len()]);
            dispatch(Pass {
                x,
                slope: &slope,
                offset: &offset,
                there,
                output,
            });
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels: means 1 and 2, deviations 2 and one that is infinite.
    #[test]
    fn two_channels_by_hand() {
        let (mean, deviation) = ([1.0, 2.0], [2.0, f32::INFINITY]);
        let x = [5.0, 7.0, -1.0, 2.0];
        let mut y = [0.0; 4];
        standardize(&x, &mean, &deviation, &mut y);
        assert_eq!(y, [2.0, 0.0, -1.0, 0.0]);
        let mut grad = [1.0, 3.0, 4.0, 5.0];
        let given = standardize_backward(&x, &mut grad, &mean, &deviation);
        assert_eq!(grad, [0.5, 0.0, 2.0, 0.0]);
        // -(1 + 4) / 2, and -(1 4 + 4 (-2)) / 4.
        assert_eq!(given.mean, [-2.5, 0.0]);
        assert_eq!(given.deviation, [1.0, 0.0]);
    }

    /// Of two pixels with the mean 3: `(4 + 2 0.5 (x - 3)) / 2`, and 10 that is there.
    #[test]
    fn through_statistics_by_hand() {
        let mut made = [0.0; 2];
        let to = [&[4.0][..], &[0.5][..]];
        through_statistics(&[2.0, 4.0], &[3.0], to, None, &mut made);
        assert_eq!(made, [1.5, 2.5]);
        through_statistics(&[2.0, 4.0], &[3.0], to, Some(&[10.0, 20.0]), &mut made);
        assert_eq!(made, [11.5, 22.5]);
    }

    /// Three channels over several chunks, against plain loops.
    #[test]
    fn many_pixels_are_as_plain_loops() {
        let pixels = 40_000;
        let number = |i: usize, by: f32| (i as f32 * by).sin() * 2.0 + 0.3;
        let x: Vec<f32> = (0..3 * pixels).map(|i| number(i, 0.71)).collect();
        let g: Vec<f32> = (0..3 * pixels).map(|i| number(i, 1.3)).collect();
        let (mean, deviation) = ([0.1f32, -0.4, 0.6], [1.5f32, 0.7, 2.0]);
        let mut y = vec![0.0; x.len()];
        standardize(&x, &mean, &deviation, &mut y);
        let mut grad = g.clone();
        let given = standardize_backward(&x, &mut grad, &mean, &deviation);
        let mut through = vec![0.0; x.len()];
        let to = [&[3.0f32, 1.0, -2.0][..], &[0.5, -7.0, 1.0]];
        through_statistics(&x, &mean, to, Some(&g), &mut through);
        let mut sums = [[0f64; 3]; 2];
        for (i, x) in x.iter().enumerate() {
            let c = i % 3;
            assert_eq!(y[i], (x - mean[c]) / deviation[c]);
            assert_eq!(grad[i], g[i] / deviation[c]);
            let [x, m, d, gi] = [*x, mean[c], deviation[c], g[i]].map(f64::from);
            sums[0][c] -= gi / d;
            sums[1][c] -= gi * (x - m) / (d * d);
            let [to_mean, to_variance] = to.map(|to| f64::from(to[c]));
            let expected = (to_mean + 2.0 * to_variance * (x - m)) / pixels as f64 + gi;
            assert!((f64::from(through[i]) - expected).abs() < 1e-5, "{i}");
        }
        for (made, expected) in [given.mean, given.deviation].iter().zip(sums) {
            for (made, expected) in made.iter().zip(expected) {
                let off = (f64::from(*made) - expected).abs();
                assert!(off < 1e-4 * (1.0 + expected.abs()), "{made} {expected}");
            }
        }
    }
}
