//! Binary values by sign.
//!
//! Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks: Training Neural
//! Networks with Weights and Activations Constrained to +1 or -1", arXiv 1602.02830, equations
//! 1 and 4; Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net: ImageNet Classification Using Binary
//! Convolutional Neural Networks", arXiv 1603.05279, section 3.1.

use burn::tensor::Tensor;
use lowbit_formats::IntegerRange;

use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{
    Method, Pointwise, Quantize, Rounding, Steps, check_counts,
};

/// The sign of `x`: 1 where `x >= 0`, zero included, -1 elsewhere (equation 1); the gradient is
/// passed straight through where `|x| <= 1` and is 0 elsewhere (equation 4).
///
/// # Shapes
/// `x` and the result: any shape, the same.
pub fn sign<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Quantize {
        method: Sign,
        axis: 0,
    }
    .apply(x, Vec::new())
}

/// The method, which has no parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sign;

impl Method<0> for Sign {
    const PARAMETERS: usize = 0;

    type Rounding = Self;

    fn check(&self, _dims: &[usize], _parameters: &[Tensor<1>], _axis: usize) {}

    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        Some(Steps {
            range: IntegerRange {
                min: -1,
                max: 1,
                exponent: 0,
            },
            trained: None,
        })
    }

    fn grid(&self, _parameters: &[f32]) -> Option<ValueGrid> {
        Some(ValueGrid::odd(1.0, 1))
    }

    fn prepare(&self, _parameters: &[f32]) -> Self {
        Self
    }
}

impl Rounding<0> for Sign {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        if x < 0.0 { -1.0 } else { 1.0 }
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 0]) {
        (if x.abs() <= 1.0 { grad } else { 0.0 }, [])
    }
}

/// The sign of `x` times a scale.
///
/// - forward: `q = scale` where `x >= 0`, `-scale` elsewhere (arXiv 1603.05279, section 3.1);
/// - gradient to the input: `through_scale + scale` where `|x| <= 1`, `through_scale` elsewhere. The
///   paper's, where `scale` is the mean magnitude of `n` weights (equation 6), is
///   `1/n + scale 1{|x| <= 1}`; it prints `x 1{|x| <= 1}` for the sign's and refers to binarized
///   networks, whose is `1{|x| <= 1}`. With no `through_scale` the gradient passes as it is.
///
/// `scale` gets no gradient of its own.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `scale`: `[1]`, or `[x.dims()[axis]]` for one per index of `axis`.
///
/// # Panics
/// If `scale` has neither length.
pub fn scaled_sign<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    through_scale: Option<f32>,
    axis: usize,
) -> Tensor<D> {
    let method = ScaledSign { through_scale };
    Quantize { method, axis }.apply(x, vec![scale])
}

/// The method, whose parameter is the scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaledSign {
    pub(crate) through_scale: Option<f32>,
}

impl Method<0> for ScaledSign {
    const PARAMETERS: usize = 1;

    type Rounding = ToSign;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        check_counts("scale", dims, parameters, axis);
    }

    /// A mean is no power of two.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        Some(ValueGrid::odd(parameters[0].into(), 1))
    }

    fn prepare(&self, parameters: &[f32]) -> ToSign {
        ToSign {
            scale: parameters[0],
            through_scale: self.through_scale,
        }
    }
}

/// Rounding to one scale and its opposite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToSign {
    scale: f32,
    through_scale: Option<f32>,
}

impl Rounding<0> for ToSign {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        if x < 0.0 { -self.scale } else { self.scale }
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 0]) {
        let Some(through_scale) = self.through_scale else {
            return (grad, []);
        };
        let through_sign = if x.abs() <= 1.0 { self.scale } else { 0.0 };
        (grad * (through_scale + through_sign), [])
    }
}
