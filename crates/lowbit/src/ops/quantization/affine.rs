//! Affine integers: a scale, an integer zero point and the limits of the integers.
//!
//! Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
//! Inference", arXiv 1712.05877, section 2.1, in the form that PyTorch computes
//! (`torch.fake_quantize_per_tensor_affine` and `..._per_channel_affine`).

use burn::tensor::Tensor;

use crate::ops::quantization::format::ClampedGradient;
use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{
    Method, Pointwise, Quantize, Rounding, Steps, check_counts,
};

/// Rounds `x` to the values of integers `q` from `limits.0` to `limits.1`, which stand for
/// `(q - zero_point) scale`.
///
/// - forward: `q = round(x * (1 / scale)) + zero_point`, ties to even, clamped to the limits; the
///   quotient `1 / scale`, sums and products are those of f32, which is what PyTorch computes;
/// - gradient to the input: 1 where `q` is within the limits before it is clamped, 0 elsewhere.
///
/// Scale and zero point get no gradient.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `scale`, `zero_point`: `[1]`, or `[x.dims()[axis]]` for one per index of `axis`.
///
/// # Panics
/// If a parameter has neither length, or the first limit is above the second.
pub fn affine<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    zero_point: Tensor<1>,
    limits: (i32, i32),
    axis: usize,
) -> Tensor<D> {
    let clamped = ClampedGradient::Zero;
    let method = Affine { limits, clamped };
    Quantize { method, axis }.apply(x, vec![scale, zero_point])
}

/// The method, whose parameters are the scale and the zero point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) limits: (i32, i32),
    /// The gradient where the integer is not within them.
    pub(crate) clamped: ClampedGradient,
}

impl Method<0> for Affine {
    const PARAMETERS: usize = 2;

    type Rounding = ToIntegers;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        let (least, greatest) = self.limits;
        assert!(least <= greatest, "limits are {least} and {greatest}");
        check_counts("scale or zero_point", dims, parameters, axis);
    }

    /// A scale is no power of two, but by chance.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        let &[scale, zero_point] = parameters else {
            return None;
        };
        let integers = [self.limits.0.into(), self.limits.1.into()];
        Some(ValueGrid {
            zero_point: zero_point as i64,
            ..ValueGrid::new(scale.into(), integers)
        })
    }

    fn prepare(&self, parameters: &[f32]) -> ToIntegers {
        ToIntegers {
            scale: parameters[0],
            inverse: 1.0 / parameters[0],
            zero_point: parameters[1],
            least: self.limits.0 as f32,
            greatest: self.limits.1 as f32,
            passes: self.clamped == ClampedGradient::Pass,
        }
    }
}

/// Rounding to one set of affine integers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToIntegers {
    scale: f32,
    inverse: f32,
    zero_point: f32,
    least: f32,
    greatest: f32,
    passes: bool,
}

impl ToIntegers {
    #[inline(always)]
    fn integer(self, x: f32) -> f32 {
        (x * self.inverse).round_ties_even() + self.zero_point
    }
}

impl Rounding<0> for ToIntegers {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        let q = self.integer(x);
        let q = if q < self.least { self.least } else { q };
        let q = if q > self.greatest { self.greatest } else { q };
        (q - self.zero_point) * self.scale
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 0]) {
        let q = self.integer(x);
        let within = q >= self.least && q <= self.greatest;
        (if within || self.passes { grad } else { 0.0 }, [])
    }
}
