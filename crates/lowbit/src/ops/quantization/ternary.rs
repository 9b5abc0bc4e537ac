//! Ternary values: zero between two thresholds, one value on each side.
//!
//! Li, Zhang, Liu, "Ternary Weight Networks", arXiv 1605.04711; Zhu, Han, Mao, Dally, "Trained
//! Ternary Quantization", arXiv 1612.01064.

use burn::tensor::Tensor;

use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{
    Method, Pointwise, Quantize, Rounding, Steps, check_counts,
};

/// The gradient to what is made ternary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TernaryGradient {
    /// It passes (arXiv 1605.04711).
    Pass,
    /// It is multiplied by the value that a number became, without its sign; by 1 where that is
    /// zero (arXiv 1612.01064).
    Scaled,
}

/// Rounds `x` to three values.
///
/// - forward: `positive` where `x > threshold`, `-negative` where `x < -threshold`, 0 elsewhere;
/// - gradients to the two values, summed: 1 where `x > threshold` to `positive`, -1 where
///   `x < -threshold` to `negative`, whose minus arXiv 1612.01064 leaves out and its authors' code
///   has;
/// - gradient to the input: as `gradient` says.
///
/// `threshold` gets no gradient.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `positive`, `negative`, `threshold`: `[1]`, or `[x.dims()[axis]]` for one per index of `axis`.
///
/// # Panics
/// If a parameter has neither length.
pub fn ternary<const D: usize>(
    x: Tensor<D>,
    [positive, negative, threshold]: [Tensor<1>; 3],
    gradient: TernaryGradient,
    axis: usize,
) -> Tensor<D> {
    let method = Ternary { gradient };
    Quantize { method, axis }.apply(x, vec![positive, negative, threshold])
}

/// The method, whose parameters are the two values and the threshold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ternary {
    pub(crate) gradient: TernaryGradient,
}

impl Method<2> for Ternary {
    const PARAMETERS: usize = 3;

    type Rounding = ToThree;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        check_counts("a ternary parameter", dims, parameters, axis);
    }

    /// Learned values, and means, are no powers of two.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        let &[positive, negative, _] = parameters else {
            return None;
        };
        (positive == negative).then(|| ValueGrid::some(positive.into(), [-1, 1]))
    }

    fn prepare(&self, parameters: &[f32]) -> ToThree {
        ToThree {
            positive: parameters[0],
            negative: parameters[1],
            threshold: parameters[2],
            scaled: self.gradient == TernaryGradient::Scaled,
        }
    }
}

/// Rounding to one set of three values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToThree {
    positive: f32,
    negative: f32,
    threshold: f32,
    scaled: bool,
}

impl Rounding<2> for ToThree {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        if x > self.threshold {
            self.positive
        } else if x < -self.threshold {
            -self.negative
        } else {
            0.0
        }
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 2]) {
        let (above, below) = (x > self.threshold, x < -self.threshold);
        let factor = if !self.scaled {
            1.0
        } else if above {
            self.positive
        } else if below {
            self.negative
        } else {
            1.0
        };
        let to_positive = if above { grad } else { 0.0 };
        let to_negative = if below { -grad } else { 0.0 };
        (grad * factor, [to_positive, to_negative])
    }
}
