//! Values in even steps from one number to its opposite.

use burn::tensor::Tensor;

use crate::ops::quantization::format::ClampedGradient;
use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{
    Method, Pointwise, Quantize, Rounding, Steps, check_counts,
};

/// Clips `x` to `-end..end`, and rounds it to `steps + 1` values in even steps from one end to the
/// other; an odd number of steps leaves out zero.
///
/// - forward: with `v = clip(x / end, -1, 1)`, `q = round(v steps / 2) 2 / steps end` for an even number
///   of steps, `q = (2 round(steps (v + 1) / 2) / steps - 1) end` for an odd one; ties to even;
/// - gradient to the input: 1 where `-end <= x <= end`, elsewhere what `clamped` says.
///
/// `end` gets no gradient; where it is zero, so is the result.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `end`: `[1]`, or `[x.dims()[axis]]` for one per index of `axis`.
///
/// # Panics
/// If `end` has neither length, there are no steps, or `clamped` is
/// [`ClampedGradient::ZeroRounded`].
pub fn even_levels<const D: usize>(
    x: Tensor<D>,
    end: Tensor<1>,
    steps: u32,
    clamped: ClampedGradient,
    axis: usize,
) -> Tensor<D> {
    let method = EvenLevels { steps, clamped };
    Quantize { method, axis }.apply(x, vec![end])
}

/// The method, whose parameter is the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EvenLevels {
    pub(crate) steps: u32,
    /// The gradient where a number was clipped.
    pub(crate) clamped: ClampedGradient,
}

impl Method<0> for EvenLevels {
    const PARAMETERS: usize = 1;

    type Rounding = BetweenEnds;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        assert!(self.steps > 0, "steps is 0, expected at least 1");
        let of_fixed_point = self.clamped == ClampedGradient::ZeroRounded;
        assert!(
            !of_fixed_point,
            "the gradient zero-rounded is of fixed point"
        );
        check_counts("end", dims, parameters, axis);
    }

    /// What data decide is no power of two.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        let end = f64::from(parameters[0]);
        let steps = i64::from(self.steps);
        Some(match steps % 2 {
            0 => ValueGrid::new(2.0 * end / steps as f64, [-steps / 2, steps / 2]),
            _ => ValueGrid::odd(end / steps as f64, steps),
        })
    }

    fn prepare(&self, parameters: &[f32]) -> BetweenEnds {
        let end = parameters[0];
        let steps = self.steps as f32;
        BetweenEnds {
            end,
            inverse: if end > 0.0 { 1.0 / end } else { 0.0 },
            half: 0.5 * steps,
            shift: if self.steps.is_multiple_of(2) {
                0.0
            } else {
                0.5 * steps
            },
            passes: self.clamped == ClampedGradient::Pass,
        }
    }
}

/// Rounding to levels between one pair of ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BetweenEnds {
    end: f32,
    inverse: f32,
    half: f32,
    shift: f32,
    passes: bool,
}

impl Rounding<0> for BetweenEnds {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        let v = x * self.inverse;
        let v = if v < -1.0 { -1.0 } else { v };
        let v = if v > 1.0 { 1.0 } else { v };
        // In steps from zero, which is among the values or in the middle of two.
        let counted = (v * self.half + self.shift).round_ties_even() - self.shift;
        counted / self.half * self.end
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 0]) {
        let inside = x >= -self.end && x <= self.end;
        (if self.passes || inside { grad } else { 0.0 }, [])
    }
}
