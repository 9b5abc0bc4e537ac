//! A format under a learned scale.
//!
//! Li, Dong, Wang, "Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for
//! Neural Networks", arXiv 1909.13144: the reparameterized clipping function.

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Tensor, TensorData};
use lowbit_formats::{Format, Rounding, kernel};
use rayon::prelude::*;

use crate::ops::backend::operator::{
    Gradients, Incoming, Inputs, Kernels, Operator, array, padded,
};
use crate::ops::backend::{composed, flex};
use crate::ops::quantization::pointwise::{PARENTS, Pointwise, Prepared, Steps, Sums};
use lowbit_kernels::elementwise::update_and_sum;

/// Rounds `x` to the values of a format times a learned scale.
///
/// With the scale `a` and a format whose values end at 1, and at -1 or 0 below:
///
/// - forward: `q = a round(clip(x / a))`, to the nearest value of the format;
/// - gradient to the scale, summed: `round(x / a) - x / a` inside the format's range,
///   its end outside;
/// - gradient to the input: 1 inside the range, ends included, 0 outside.
///
/// With `line`, `(x - line.mean) line.gain` takes the place of `x`, and both are constants on the way
/// back (the normalization of weights as the authors' implementation has it). A scale
/// that training has brought to zero or below counts as the least normal `f32`.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `scale`: `[1]`.
///
/// # Panics
/// If the format has other ends, or shares a scale among numbers, or `scale` is not `[1]`.
pub fn scaled_format<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    format: &Format,
    line: Line,
    outside: OutsideGradient,
) -> Tensor<D> {
    ScaledFormat {
        format: format.clone(),
        line,
        outside,
    }
    .apply(x, vec![scale])
}

/// What is done to a number before it is rounded: `(x - mean) gain`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// What is subtracted.
    pub mean: f32,
    /// What the difference is multiplied by.
    pub gain: f32,
}

impl Default for Line {
    /// Nothing.
    fn default() -> Self {
        Self {
            mean: 0.0,
            gain: 1.0,
        }
    }
}

/// The gradient to a number that was clipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutsideGradient {
    /// None.
    Zero,
    /// It passes as inside.
    Pass,
}

/// The operator behind [`scaled_format()`].
#[derive(Debug, Clone)]
pub(crate) struct ScaledFormat {
    pub(crate) format: Format,
    pub(crate) line: Line,
    pub(crate) outside: OutsideGradient,
}

/// Numbers that one thread rounds at a time.
const CHUNK: usize = 1 << 14;

impl ScaledFormat {
    fn at(&self, scale: f32) -> AtScale {
        AtScale {
            format: self.format.clone(),
            scale: if scale > 0.0 {
                scale
            } else {
                f32::MIN_POSITIVE
            },
            least: self.format.min(),
            line: self.line,
            passes: self.outside == OutsideGradient::Pass,
        }
    }
}

/// The format at one scale.
pub(crate) struct AtScale {
    format: Format,
    scale: f32,
    least: f32,
    line: Line,
    passes: bool,
}

/// Marks a number below a range that ends at zero, in place of a slope, whose magnitude is at most 1.
const BELOW: f32 = -2.0;

impl Prepared for AtScale {
    fn round(&self, x: &[f32], output: &mut [f32]) {
        let (Line { mean, gain }, scale) = (self.line, self.scale);
        let inverse = gain / scale;
        kernel::map(
            x,
            output,
            #[inline(always)]
            move |x| (x - mean) * inverse,
        );
        let made = self.format.quantize_in_place(output, Rounding::NearestEven);
        made.expect("a format of single numbers rounds any");
        kernel::map_in_place(
            output,
            #[inline(always)]
            move |q: f32| q * scale,
        );
    }

    fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums {
        let (Line { mean, gain }, least) = (self.line, self.least);
        let (inverse, passes) = (gain / self.scale, self.passes);
        let scaled = kernel::map_to_vec(
            x,
            #[inline(always)]
            move |x: f32| (x - mean) * inverse,
        );
        let mut slopes = vec![0.0; x.len()];
        let made = self
            .format
            .quantize(&scaled, &mut slopes, Rounding::NearestEven);
        made.expect("a format of single numbers rounds any");
        let rounded = slopes;
        let slopes = kernel::zip_to_vec(
            &scaled,
            &rounded,
            #[inline(always)]
            move |v, q| {
                if v > 1.0 {
                    1.0
                } else if v < least {
                    if least == 0.0 { BELOW } else { -1.0 }
                } else {
                    q - v
                }
            },
        );
        let [sum] = update_and_sum(
            &slopes,
            grad,
            #[inline(always)]
            move |slope, g| {
                let inside = passes || slope.abs() < 1.0;
                let to_x = if inside { g * gain } else { 0.0 };
                (to_x, [if slope == BELOW { 0.0 } else { g * slope }])
            },
        );
        [sum, 0.0]
    }
}

impl Operator<PARENTS> for ScaledFormat {
    fn forward<B: Kernels>(&self, mut inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let scale = first_number::<B>(inputs.tensors.remove(1));
        let [x] = inputs.tensors();
        vec![composed::change_on_host::<B>(x, |values, _| {
            let x = values.to_vec();
            self.at(scale).round(&x, values);
        })]
    }

    fn backward<B: Kernels>(&self, mut incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS> {
        let scale_tensor = incoming.inputs.remove(1);
        let scale = first_number::<B>(scale_tensor.clone());
        let [x] = array(incoming.inputs);
        let mut numbers = Vec::new();
        let x = composed::change_on_host::<B>(x, |values, _| numbers = values.to_vec());
        drop(x);
        let mut sum = 0.0;
        let grad = composed::change_on_host::<B>(incoming.grad, |grad, _| {
            [sum, _] = self.at(scale).round_backward(&numbers, grad);
        });
        let device = burn::backend::TensorMetadata::device(&scale_tensor);
        let to_scale = B::float_from_data(TensorData::new(vec![sum as f32], [1]), &device);
        padded([Some(grad), Some(to_scale)])
    }

    fn flex_forward(&self, mut inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let at = self.at(flex::to_vec(&inputs.tensors.remove(1))[0]);
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            let (x, ()) = flex::change(flex::dense(x), |values| {
                values.par_chunks_mut(CHUNK).for_each(|part| {
                    let x = part.to_vec();
                    at.round(&x, part);
                });
            });
            x
        })]
    }

    fn flex_backward(&self, mut incoming: Incoming<Flex, PARENTS>) -> Gradients<Flex, PARENTS> {
        let scale = incoming.inputs.remove(1);
        let at = self.at(flex::to_vec(&scale)[0]);
        let [x] = array(incoming.inputs);
        let mut sum = 0.0;
        let grad = flex::in_f32(incoming.grad, |grad| {
            let (grad, sums) = flex::replace(flex::to_f32(x), grad, |x, grad| {
                let parts = x.par_chunks(CHUNK).zip(grad.par_chunks_mut(CHUNK));
                let sums = parts.map(|(x, grad)| at.round_backward(x, grad)[0]);
                sums.collect::<Vec<f64>>()
            });
            sum = sums.into_iter().sum();
            grad
        });
        let to_scale = flex::to_dtype(flex::from_slice(&[sum as f32]), scale.dtype());
        padded([Some(grad), Some(to_scale)])
    }
}

fn first_number<B: Backend>(x: FloatTensor<B>) -> f32 {
    let data =
        burn::backend::read_sync(B::float_into_data(x)).expect("a tensor's data can be read");
    data.iter::<f32>().next().expect("a scale is one number")
}

impl Pointwise for ScaledFormat {
    const PARAMETERS: usize = 1;
    const LEARNED: usize = 1;

    type Prepared = AtScale;

    fn apply<const D: usize>(self, x: Tensor<D>, parameters: Vec<Tensor<1>>) -> Tensor<D> {
        let (least, greatest) = (self.format.min(), self.format.max());
        let ends = greatest == 1.0 && (least == -1.0 || least == 0.0);
        assert!(ends, "{} ends at {least} and {greatest}", self.format);
        assert_eq!(parameters[0].dims(), [1], "the shape of a scale");
        self.unchecked(x, parameters)
    }

    fn fits_operators(&self, _parameters: &[Tensor<1>]) -> bool {
        true
    }

    /// A learned scale is no power of two.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn prepare(&self, parameters: &[FlexTensor]) -> AtScale {
        self.at(flex::to_vec(&parameters[0])[0])
    }
}
