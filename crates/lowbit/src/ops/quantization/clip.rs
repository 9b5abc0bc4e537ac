//! PACT: activations clipped at a learned value.
//!
//! Choi, Wang, Venkataramani, Chuang, Srinivasan, Gopalakrishnan, "PACT: Parameterized Clipping
//! Activation for Quantized Neural Networks", arXiv 1805.06085, section 4, equations 1 to 3.

use burn::tensor::Tensor;

use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{
    Method, Pointwise, Quantize, Rounding, Steps, check_counts, positive,
};

/// Clips `x` to the interval from 0 to a learned `clip`, and rounds it to `2^bits` values there.
///
/// - forward (equations 1 and 2): `y = clip(x, 0, a)`, `q = round(y (2^k - 1) / a) a / (2^k - 1)`,
///   ties to even;
/// - gradient to the clip (equation 3), summed: 1 where `x >= a`, 0 elsewhere; the rounding is
///   passed straight through;
/// - gradient to the input: 1 where `0 <= x < a`, 0 elsewhere.
///
/// A clip that training has brought to zero or below counts as the least normal `f32`.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `clip`: `[1]`, or `[x.dims()[axis]]` for one per index of `axis`.
///
/// # Panics
/// If `clip` has neither length, or `bits` is not from 1 to 16.
pub fn learned_clip<const D: usize>(
    x: Tensor<D>,
    clip: Tensor<1>,
    bits: u32,
    axis: usize,
) -> Tensor<D> {
    let method = LearnedClip { bits };
    Quantize { method, axis }.apply(x, vec![clip])
}

/// The method, whose parameter is the clip.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LearnedClip {
    pub(crate) bits: u32,
}

impl Method<1> for LearnedClip {
    const PARAMETERS: usize = 1;

    type Rounding = UpToClip;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        let Self { bits } = self;
        assert!((1..=16).contains(bits), "bits is {bits}, expected 1 to 16");
        check_counts("clip", dims, parameters, axis);
    }

    /// A learned clip is no power of two.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        let step = f64::from(self.prepare(parameters).step);
        Some(ValueGrid::new(step, [0, (1 << self.bits) - 1]))
    }

    fn prepare(&self, parameters: &[f32]) -> UpToClip {
        let clip = positive(parameters[0]);
        let levels = ((1u32 << self.bits) - 1) as f32;
        UpToClip {
            clip,
            per_step: levels / clip,
            step: clip / levels,
        }
    }
}

/// Rounding to steps up to one clip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpToClip {
    clip: f32,
    per_step: f32,
    step: f32,
}

impl Rounding<1> for UpToClip {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        let y = if x < 0.0 { 0.0 } else { x };
        let y = if y > self.clip { self.clip } else { y };
        (y * self.per_step).round_ties_even() * self.step
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 1]) {
        let high = x >= self.clip;
        let to_x = if x < 0.0 || high { 0.0 } else { grad };
        (to_x, [if high { grad } else { 0.0 }])
    }
}
