//! Batch normalization, and the activation that follows it, over pixels stored channels last.
//!
//! Whatever belongs to a channel is written out for a period of whole pixels, so that a pass is a
//! plain loop over numbers. Pixels are cut into chunks whose size depends on the channels alone;
//! what the chunks say is put together in their order, so a sum does not depend on the number of
//! threads.

use rayon::prelude::*;

use crate::activation::{Activation, Pointwise, with_activation};
use crate::vector::{Kernel, LANES, dispatch};

/// Numbers in a chunk of pixels: a part of the second cache.
const CHUNK: usize = 1 << 15;

/// The least numbers in a period.
const PERIOD: usize = 512;

/// How pixels of some channels are walked through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    pub(crate) channels: usize,
    /// Numbers in a period: whole pixels and whole vectors.
    pub(crate) period: usize,
    /// Numbers in a chunk: whole periods.
    pub(crate) chunk: usize,
}

impl Walk {
    pub(crate) fn new(channels: usize) -> Self {
        let channels = channels.max(1);
        // Vectors meet the first channel again after this many pixels.
        let pixels = LANES / greatest_common_divisor(channels, LANES);
        let least = pixels * channels;
        let period = least * PERIOD.div_ceil(least);
        Self {
            channels,
            period,
            chunk: period * CHUNK.div_ceil(period),
        }
    }

    /// A number for each channel, written out for a period.
    pub(crate) fn spread(&self, per_channel: &[f32]) -> Vec<f32> {
        per_channel
            .iter()
            .copied()
            .cycle()
            .take(self.period)
            .collect()
    }

    /// The sums of each channel, from those of each place in a period.
    pub(crate) fn gather(&self, sums: &[f32]) -> Vec<f64> {
        let mut totals = vec![0.0; self.channels];
        for pixel in sums.chunks_exact(self.channels) {
            for (total, &sum) in totals.iter_mut().zip(pixel) {
                *total += f64::from(sum);
            }
        }
        totals
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Mean and biased variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// `[channels]`.
    pub mean: Vec<f32>,
    /// `[channels]`; divided by the number of pixels, not by one less.
    pub variance: Vec<f32>,
}

/// Count, mean and sum of squared deviations of the channels of a chunk.
struct Moments {
    count: f64,
    channels: Vec<[f64; 2]>,
}

struct ChunkMoments<'a>(&'a [f32], Walk);

impl Kernel for ChunkMoments<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run(self) -> Moments {
        let Self(x, walk) = self;
        let count = (x.len() / walk.channels) as f64;
        let mut sums = vec![0.0f32; walk.period];
        for x in x.chunks(walk.period) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += x;
            }
        }
        let means: Vec<f32> = walk
            .gather(&sums)
            .iter()
            .map(|sum| (sum / count) as f32)
            .collect();
        // Deviations from the chunk's own mean, while the chunk is in the cache. Their sum corrects
        // for the mean's rounding.
        let spread = walk.spread(&means);
        let mut squares = vec![0.0f32; walk.period];
        sums.fill(0.0);
        for x in x.chunks(walk.period) {
            for (((sum, square), mean), x) in sums.iter_mut().zip(&mut squares).zip(&spread).zip(x)
            {
                let deviation = x - mean;
                *sum += deviation;
                *square += deviation * deviation;
            }
        }
        let sums = walk.gather(&sums).into_iter().zip(walk.gather(&squares));
        let channels = sums.zip(means).map(|((sum, squares), mean)| {
            [f64::from(mean) + sum / count, squares - sum * sum / count]
        });
        Moments {
            count,
            channels: channels.collect(),
        }
    }
}

/// The statistics of `x`, `[pixels][channels]`, in one read; NaN where there are no pixels. Chunks are combined as Chan, Golub and LeVeque do
/// ("Updating formulae and a pairwise algorithm for computing sample variances", 1979).
pub fn statistics(x: &[f32], channels: usize) -> Statistics {
    let walk = Walk::new(channels);
    let chunks: Vec<Moments> = x
        .par_chunks(walk.chunk)
        .map(|x| dispatch(ChunkMoments(x, walk)))
        .collect();
    let mut all = Moments {
        count: 0.0,
        channels: vec![[0.0; 2]; channels],
    };
    for chunk in chunks {
        let count = all.count + chunk.count;
        for ([mean, squares], [chunk_mean, chunk_squares]) in
            all.channels.iter_mut().zip(chunk.channels)
        {
            let apart = chunk_mean - *mean;
            *mean += apart * chunk.count / count;
            *squares += chunk_squares + apart * apart * all.count * chunk.count / count;
        }
        all.count = count;
    }
    Statistics {
        mean: all.channels.iter().map(|c| c[0] as f32).collect(),
        variance: all
            .channels
            .iter()
            .map(|c| (c[1] / all.count) as f32)
            .collect(),
    }
}

/// What a channel's numbers are multiplied with, and what is added then; both `[channels]`.
#[derive(Debug, Clone)]
pub struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Affine {
    /// `gamma / sqrt(variance + epsilon)`, and `beta - mean * scale`.
    pub fn new(statistics: &Statistics, gamma: &[f32], beta: &[f32], epsilon: f64) -> Self {
        let scale: Vec<f32> = gamma
            .iter()
            .zip(inverse_deviations(statistics, epsilon))
            .map(|(&gamma, inverse)| gamma * inverse)
            .collect();
        let shift = beta
            .iter()
            .zip(&statistics.mean)
            .zip(&scale)
            .map(|((beta, mean), scale)| beta - mean * scale)
            .collect();
        Self { scale, shift }
    }

    /// Both, written out for a period.
    pub(crate) fn spread(&self, walk: &Walk) -> (Vec<f32>, Vec<f32>) {
        assert_eq!(walk.channels, self.scale.len());
        (walk.spread(&self.scale), walk.spread(&self.shift))
    }
}

/// `1 / sqrt(variance + epsilon)`.
fn inverse_deviations(statistics: &Statistics, epsilon: f64) -> Vec<f32> {
    let inverse = |&v: &f32| (1.0 / (f64::from(v) + epsilon).sqrt()) as f32;
    statistics.variance.iter().map(inverse).collect()
}

/// `output = activation(x * scale + shift)`, `x` and `output` `[pixels][channels]`.
pub fn apply(x: &[f32], affine: &Affine, activation: Activation, output: &mut [f32]) {
    let given = [&affine.scale[..], &affine.shift];
    with_activation!(activation, |activation| map_by_channel(
        x,
        given,
        output,
        #[inline(always)]
        move |x, scale, shift| activation.of(x * scale + shift),
    ));
}

/// `output = of(x, first, second)`, `x` and `output` `[pixels][channels]`, the others `[channels]`. Mark
/// `of` `#[inline(always)]`.
pub(crate) fn map_by_channel<F>(x: &[f32], given: [&[f32]; 2], output: &mut [f32], of: F)
where
    F: Fn(f32, f32, f32) -> f32 + Copy + Send + Sync,
{
    struct Pass<'a, F> {
        x: &'a [f32],
        first: &'a [f32],
        second: &'a [f32],
        output: &'a mut [f32],
        of: F,
    }
    impl<F: Fn(f32, f32, f32) -> f32> Kernel for Pass<'_, F> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let period = self.first.len();
            let parts = self.x.chunks(period).zip(self.output.chunks_mut(period));
            for (x, output) in parts {
                let given = self.first.iter().zip(self.second);
                for ((y, x), (first, second)) in output.iter_mut().zip(x).zip(given) {
                    *y = (self.of)(*x, *first, *second);
                }
            }
        }
    }
    let walk = Walk::new(given[0].len());
    let [first, second] = given.map(|given| walk.spread(given));
    output
        .par_chunks_mut(walk.chunk)
        .zip(x.par_chunks(walk.chunk))
        .for_each(|(output, x)| {
            dispatch(Pass {
                x,
                first: &first,
                second: &second,
                output,
                of,
            });
        });
}

/// The gradients of the normalization's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterGradients {
    /// `[channels]`: the sum of the gradients times the normalized numbers.
    pub gamma: Vec<f32>,
    /// `[channels]`: the sum of the gradients.
    pub beta: Vec<f32>,
}

/// What the forward pass knew.
#[derive(Debug, Clone, Copy)]
pub struct Normalization<'a> {
    /// What `x` was normalized with.
    pub statistics: &'a Statistics,
    /// `[channels]`, what the normalized numbers were multiplied with.
    pub gamma: &'a [f32],
    /// `[channels]`, what was added then.
    pub beta: &'a [f32],
    /// What was added to the variance.
    pub epsilon: f64,
    /// What followed.
    pub activation: Activation,
    /// Whether the statistics are those of `x`, so that gradients go through them.
    pub from_batch: bool,
}

/// The sums over a chunk of the gradients, and of their products with the deviations from the mean.
struct Sums<'a, A> {
    x: &'a [f32],
    grad: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    mean: &'a [f32],
    activation: A,
    walk: Walk,
}

impl<A: Pointwise> Kernel for Sums<'_, A> {
    type Output = [Vec<f64>; 2];

    #[inline(always)]
    fn run(self) -> [Vec<f64>; 2] {
        let period = self.walk.period;
        let mut grads = vec![0.0f32; period];
        let mut products = vec![0.0f32; period];
        for (x, grad) in self.x.chunks(period).zip(self.grad.chunks(period)) {
            let sums = grads.iter_mut().zip(&mut products);
            let affine = self.scale.iter().zip(self.shift).zip(self.mean);
            for (((sum, product), (x, grad)), ((scale, shift), mean)) in
                sums.zip(x.iter().zip(grad)).zip(affine)
            {
                let g = self.activation.backward(x * scale + shift, *grad);
                *sum += g;
                *product += g * (x - mean);
            }
        }
        [self.walk.gather(&grads), self.walk.gather(&products)]
    }
}

/// The gradient of a chunk, in place of that of the output: `g * scale + (x * slope + offset)`, and
/// what is there already.
struct Update<'a, A> {
    x: &'a [f32],
    grad: &'a mut [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    slope: &'a [f32],
    offset: &'a [f32],
    there: Option<&'a [f32]>,
    activation: A,
}

impl<A: Pointwise> Kernel for Update<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let period = self.scale.len();
        for (x, grad) in self.x.chunks(period).zip(self.grad.chunks_mut(period)) {
            let affine = self.scale.iter().zip(self.shift);
            let through = self.slope.iter().zip(self.offset);
            for (((grad, x), (scale, shift)), (slope, offset)) in
                grad.iter_mut().zip(x).zip(affine).zip(through)
            {
                let g = self.activation.backward(x * scale + shift, *grad);
                *grad = g * scale + (x * slope + offset);
            }
        }
        for (grad, there) in self.grad.iter_mut().zip(self.there.unwrap_or(&[])) {
            *grad += there;
        }
    }
}

/// The gradients of [`apply`] with [`Affine::new`], given `grad`, that of its output, which becomes
/// that of `x`, plus what is `there` already. All are `[pixels][channels]`.
///
/// Two reads of `x` and `grad`: the first sums what the second needs.
pub fn backward(
    x: &[f32],
    grad: &mut [f32],
    there: Option<&[f32]>,
    n: Normalization,
) -> ParameterGradients {
    let pass = Backward::new(n);
    let sums = pass.sums(x, grad);
    let pixels = (x.len() / n.gamma.len().max(1)).max(1) as f64;
    pass.update(x, grad, there, pass.through_statistics(&sums, pixels));
    ParameterGradients {
        gamma: sums
            .iter()
            .zip(&pass.inverse)
            .map(|(s, i)| (s[1] * f64::from(*i)) as f32)
            .collect(),
        beta: sums.iter().map(|s| s[0] as f32).collect(),
    }
}

/// What both reads of the backward pass know.
struct Backward<'a> {
    n: Normalization<'a>,
    affine: Affine,
    /// `1 / sqrt(variance + epsilon)`.
    inverse: Vec<f32>,
    walk: Walk,
    /// `affine`, written out for a period.
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl<'a> Backward<'a> {
    fn new(n: Normalization<'a>) -> Self {
        let affine = Affine::new(n.statistics, n.gamma, n.beta, n.epsilon);
        let walk = Walk::new(n.gamma.len());
        Self {
            n,
            inverse: inverse_deviations(n.statistics, n.epsilon),
            walk,
            scale: walk.spread(&affine.scale),
            shift: walk.spread(&affine.shift),
            affine,
        }
    }

    /// For each channel, the sums of the gradients, taken through the activation, and of their
    /// products with the deviations from the mean.
    fn sums(&self, x: &[f32], grad: &[f32]) -> Vec<[f64; 2]> {
        let mean = self.walk.spread(&self.n.statistics.mean);
        let parts: Vec<[Vec<f64>; 2]> = x
            .par_chunks(self.walk.chunk)
            .zip(grad.par_chunks(self.walk.chunk))
            .map(|(x, grad)| {
                with_activation!(self.n.activation, |activation| dispatch(Sums {
                    x,
                    grad,
                    scale: &self.scale,
                    shift: &self.shift,
                    mean: &mean,
                    activation,
                    walk: self.walk,
                }))
            })
            .collect();
        let mut sums = vec![[0.0f64; 2]; self.n.gamma.len()];
        for [grads, products] in parts {
            for ((sum, grad), product) in sums.iter_mut().zip(grads).zip(products) {
                sum[0] += grad;
                sum[1] += product;
            }
        }
        sums
    }

    /// The gradient that comes through mean and variance, as `x * slope + offset` of each channel.
    /// With `xhat = (x - mean) * inverse`: `dx = scale * (g - mean(g) - xhat * mean(g * xhat))`.
    fn through_statistics(&self, sums: &[[f64; 2]], pixels: f64) -> [Vec<f32>; 2] {
        let channels = sums.len();
        let [mut slope, mut offset] = [0, 1].map(|_| vec![0.0f32; channels]);
        if self.n.from_batch {
            for c in 0..channels {
                let [scale, inverse, mean] = [
                    self.affine.scale[c],
                    self.inverse[c],
                    self.n.statistics.mean[c],
                ]
                .map(f64::from);
                let s = -scale * inverse * inverse * sums[c][1] / pixels;
                slope[c] = s as f32;
                offset[c] = (-scale * sums[c][0] / pixels - s * mean) as f32;
            }
        }
        [slope, offset]
    }

    /// The gradient of `x` in place of that of the output, plus what is `there`.
    fn update(
        &self,
        x: &[f32],
        grad: &mut [f32],
        there: Option<&[f32]>,
        through_statistics: [Vec<f32>; 2],
    ) {
        let [slope, offset] = through_statistics.map(|per_channel| self.walk.spread(&per_channel));
        grad.par_chunks_mut(self.walk.chunk)
            .zip(x.par_chunks(self.walk.chunk))
            .enumerate()
            .for_each(|(i, (grad, x))| {
                let there = there.map(|there| &there[i * self.walk.chunk..][..grad.len()]);
                with_activation!(self.n.activation, |activation| dispatch(Update {
                    x,
                    grad,
                    scale: &self.scale,
                    shift: &self.shift,
                    slope: &slope,
                    offset: &offset,
                    there,
                    activation,
                }));
            });
    }
}
