//! LSQ+: uniform quantization with a learned step and a learned offset.
//!
//! Bhalgat, Lee, Nagel, Blankevoort, Kwak, "LSQ+: Improving low-bit quantization through learnable
//! offsets and better initialization", arXiv 2004.09576.

use burn::tensor::Tensor;

use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{
    Method, Pointwise, Quantize, Rounding, Steps, check_counts, positive,
};

/// Rounds `x` to multiples of a learned step, counted from a learned offset.
///
/// With the step `s`, the offset `b` and the limits `n` and `p` of the integers:
///
/// - forward: `q = round(clip((x - b) / s, n, p)) s + b`, ties to even;
/// - gradient to the step, summed, times `gradient_scale`: with `v = (x - b) / s`,
///   `round(v) - v` where `n < v < p`, `n` at and below it, `p` at and above;
/// - gradient to the offset, summed, times `gradient_scale`: 0 where `n < v < p`, 1 elsewhere;
/// - gradient to the input: 1 where `n < v < p`, 0 elsewhere.
///
/// A step that training has brought to zero or below counts as the least normal `f32`.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `step`, `offset`: `[1]`, or `[x.dims()[axis]]` for one per index of `axis`.
///
/// # Panics
/// If a parameter has neither length.
pub fn offset_step<const D: usize>(
    x: Tensor<D>,
    step: Tensor<1>,
    offset: Tensor<1>,
    limits: (i32, i32),
    gradient_scale: f32,
    axis: usize,
) -> Tensor<D> {
    let method = OffsetStep {
        limits,
        gradient_scale,
    };
    Quantize { method, axis }.apply(x, vec![step, offset])
}

/// The method, whose parameters are the step and the offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OffsetStep {
    pub(crate) limits: (i32, i32),
    pub(crate) gradient_scale: f32,
}

impl Method<2> for OffsetStep {
    const PARAMETERS: usize = 2;

    type Rounding = FromOffset;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        check_counts("step or offset", dims, parameters, axis);
    }

    /// A learned step is no power of two.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        let to = self.prepare(parameters);
        let integers = [self.limits.0.into(), self.limits.1.into()];
        (to.offset == 0.0).then(|| ValueGrid::new(to.step.into(), integers))
    }

    fn prepare(&self, parameters: &[f32]) -> FromOffset {
        let step = positive(parameters[0]);
        FromOffset {
            step,
            inverse: 1.0 / step,
            offset: parameters[1],
            least: self.limits.0 as f32,
            greatest: self.limits.1 as f32,
            gradient_scale: self.gradient_scale,
        }
    }
}

/// Rounding to multiples of one step from one offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromOffset {
    step: f32,
    inverse: f32,
    offset: f32,
    least: f32,
    greatest: f32,
    gradient_scale: f32,
}

impl Rounding<2> for FromOffset {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        let v = (x - self.offset) * self.inverse;
        let v = if v < self.least { self.least } else { v };
        let v = if v > self.greatest { self.greatest } else { v };
        v.round_ties_even() * self.step + self.offset
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 2]) {
        let v = (x - self.offset) * self.inverse;
        let (low, high) = (v <= self.least, v >= self.greatest);
        let slope = if low {
            self.least
        } else if high {
            self.greatest
        } else {
            v.round_ties_even() - v
        };
        let scaled = grad * self.gradient_scale;
        let (to_x, to_offset) = if low || high {
            (0.0, scaled)
        } else {
            (grad, 0.0)
        };
        (to_x, [scaled * slope, to_offset])
    }
}
