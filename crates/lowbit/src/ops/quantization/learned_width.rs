//! Learned widths: fixed point whose bits before and after the point are learned by gradient.
//!
//! Sun et al., "Gradient-based Automatic Mixed Precision Quantization for Neural Networks On-Chip"
//! (HGQ), arXiv 2405.00645, with the saturating range of the authors' second implementation (HGQ2).

use std::f32::consts::LN_2;

use burn::tensor::Tensor;

use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{
    Method, Pointwise, Quantize, Rounding, Steps, check_counts,
};

/// Rounds `x` to fixed point with learned bits before and after the point.
///
/// With `i = round(integer_bits)` and `f = round(fraction_bits)`, both from -24 to 24, the values are
/// the multiples of `2^-f` from `-2^i`, or from 0 where `signed` is 0, to `2^i - 2^-f`:
///
/// - forward: `q = round(clip(x) 2^f) 2^-f`, ties to even;
/// - gradient to `fraction_bits`, summed: `ln 2 (x - q)` inside the range, because the error is in
///   proportion to `2^-f`; above it `ln 2 2^-f`, by which its end moves; below it 0;
/// - gradient to `integer_bits`, summed: 0 inside, `ln 2 2^i` above, `-ln 2 2^i` below a signed
///   range and 0 below an unsigned one. The rounding of both is passed straight through;
/// - gradient to the input: 1 inside the range, ends included, 0 outside.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `fraction_bits`, `integer_bits`: `[1]`, or `[x.dims()[axis]]` for one per index of `axis`.
/// - `signed`: `[1]`, 1.0 or 0.0.
///
/// # Panics
/// If a parameter has neither length.
pub fn learned_width<const D: usize>(
    x: Tensor<D>,
    fraction_bits: Tensor<1>,
    integer_bits: Tensor<1>,
    signed: Tensor<1>,
    axis: usize,
) -> Tensor<D> {
    let method = LearnedWidth;
    Quantize { method, axis }.apply(x, vec![fraction_bits, integer_bits, signed])
}

/// The method, whose parameters are the bits after the point, those before it, and the sign.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LearnedWidth;

/// The most bits before or after the point.
const MOST: f32 = 24.0;

/// The whole number of bits that a learned one stands for.
fn whole_bits(learned: f32) -> f32 {
    learned.clamp(-MOST, MOST).round_ties_even()
}

impl Method<2> for LearnedWidth {
    const PARAMETERS: usize = 3;

    type Rounding = ToFixed;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        check_counts("fraction_bits or integer_bits", dims, parameters, axis);
    }

    /// The bits change from step to step.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        let to = self.prepare(parameters);
        let integers = [to.least, to.greatest].map(|end| (end * to.scale).round_ties_even() as i64);
        Some(ValueGrid::new(to.step.into(), integers))
    }

    fn prepare(&self, parameters: &[f32]) -> ToFixed {
        let power = |bits: f32| 2f32.powi(whole_bits(bits) as i32);
        let (scale, size) = (power(parameters[0]), power(parameters[1]));
        let step = 1.0 / scale;
        ToFixed {
            scale,
            step,
            size,
            // No bits at all leave zero.
            greatest: (size - step).max(0.0),
            least: -size * parameters[2],
        }
    }
}

/// Rounding to one fixed point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToFixed {
    scale: f32,
    step: f32,
    size: f32,
    greatest: f32,
    least: f32,
}

impl Rounding<2> for ToFixed {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        let x = if x < self.least { self.least } else { x };
        let x = if x > self.greatest { self.greatest } else { x };
        (x * self.scale).round_ties_even() * self.step
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 2]) {
        let (low, high) = (x < self.least, x > self.greatest);
        let to_fraction = if high {
            self.step
        } else if low {
            0.0
        } else {
            x - self.round(x)
        };
        let to_integer = if high {
            self.size
        } else if low {
            self.least
        } else {
            0.0
        };
        let to_x = if low || high { 0.0 } else { grad };
        (to_x, [grad * LN_2 * to_fraction, grad * LN_2 * to_integer])
    }
}
