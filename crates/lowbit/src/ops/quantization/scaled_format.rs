//! A format under a learned scale.
//!
//! Li, Dong, Wang, "Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for
//! Neural Networks", arXiv 1909.13144: the reparameterized clipping function.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Tensor, TensorData};
use lowbit_formats::{Format, IntegerRange, Rounding, kernel};
use rayon::prelude::*;

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::operator::{
    Gradients, Incoming, Inputs, Kernels, Operator, array, padded,
};
use crate::ops::backend::{composed, flex};
use crate::ops::quantization::format::ClampedGradient;
use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{
    PARENTS, Pointwise, Prepared, Steps, Sums, numbers, positive,
};
use lowbit_kernels::elementwise::{PART, update_with_and_sum};
use lowbit_kernels::levels::{Brought, Levels};
use lowbit_kernels::scratch;
use lowbit_kernels::vector::LANES;

/// Rounds `x` to the values of a format times a learned scale.
///
/// With the scale `a` and a format whose values end at 1, and at -1 or 0 below:
///
/// - forward: `q = a round(clip(x / a))`, to the nearest value of the format;
/// - gradient to the scale, summed: `round(x / a) - x / a` inside the format's range,
///   its end outside;
/// - gradient to the input: 1 inside the range, ends included; outside, what `clamped` says.
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
/// If the format has other ends, or shares a scale among numbers, `scale` is not `[1]`, or `clamped` is
/// [`ClampedGradient::ZeroRounded`].
pub fn scaled_format<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    format: &Format,
    line: Line,
    clamped: ClampedGradient,
) -> Tensor<D> {
    ScaledFormat {
        format: format.clone(),
        line,
        clamped,
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

/// The operator behind [`scaled_format()`].
#[derive(Debug, Clone)]
pub(crate) struct ScaledFormat {
    pub(crate) format: Format,
    pub(crate) line: Line,
    pub(crate) clamped: ClampedGradient,
}

/// Numbers that one thread rounds at a time.
const CHUNK: usize = 1 << 14;

impl ScaledFormat {
    fn at(&self, scale: f32) -> AtScale {
        let scale = positive(scale);
        let unit = Unit {
            mean: self.line.mean,
            gain: self.line.gain,
            inverse: self.line.gain / scale,
            least: self.format.min(),
            passes: self.clamped == ClampedGradient::Pass,
        };
        let values = self.format.values().unwrap_or_default();
        let magnitudes: Vec<f32> = values.into_iter().filter(|&value| value >= 0.0).collect();
        match magnitudes.len() {
            1..=LANES => AtScale::Few(Few::new(unit, scale, &magnitudes)),
            _ => AtScale::Many(Many {
                unit,
                scale,
                format: self.format.clone(),
            }),
        }
    }
}

/// The format at one scale, by how many magnitudes it has.
pub(crate) enum AtScale {
    Few(Few),
    Many(Many),
}

impl Prepared for AtScale {
    fn round(&self, x: &[f32], output: &mut [f32]) {
        match self {
            Self::Few(few) => few.round(x, output),
            Self::Many(many) => many.round(x, output),
        }
    }

    fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums {
        match self {
            Self::Few(few) => few.round_backward(x, grad),
            Self::Many(many) => many.round_backward(x, grad),
        }
    }
}

/// How numbers come to the range of the format, and what their gradients are.
#[derive(Debug, Clone, Copy)]
struct Unit {
    mean: f32,
    gain: f32,
    inverse: f32,
    /// The format's lower end, -1 or 0.
    least: f32,
    passes: bool,
}

impl Unit {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        (x - self.mean) * self.inverse
    }

    /// The same for a kernel.
    fn brought(self) -> Brought {
        Brought {
            mean: self.mean,
            factor: self.inverse,
        }
    }

    /// The gradient to `x`, and its part of that to the scale, where the number `v` is rounded to `q`.
    #[inline(always)]
    fn gradients(self, v: f32, q: f32, grad: f32) -> (f32, f32) {
        let (low, high) = (v < self.least, v > 1.0);
        let slope = if low { self.least } else { q - v };
        let slope = if high { 1.0 } else { slope };
        let inside = self.passes | !(low | high);
        (if inside { grad * self.gain } else { 0.0 }, grad * slope)
    }
}

/// A format of few magnitudes, found in registers.
pub(crate) struct Few {
    unit: Unit,
    levels: Levels,
    /// The levels times the scale.
    scaled: Levels,
}

impl Few {
    fn new(unit: Unit, scale: f32, magnitudes: &[f32]) -> Self {
        let levels = Levels::new(magnitudes, &bounds(magnitudes), unit.least != 0.0);
        Self {
            unit,
            scaled: levels.scaled(scale),
            levels,
        }
    }

    fn round(&self, x: &[f32], output: &mut [f32]) {
        self.scaled.round(self.unit.brought(), x, output);
    }

    fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums {
        let unit = self.unit;
        let mut rounded = scratch::take(PART);
        let mut total = 0.0;
        for (x, grad) in x.chunks(PART).zip(grad.chunks_mut(PART)) {
            let rounded = &mut rounded[..x.len()];
            self.levels.round(unit.brought(), x, rounded);
            let [sum] = update_with_and_sum(
                [x, rounded],
                grad,
                #[inline(always)]
                move |[x, q], grad| {
                    let (to_x, to_scale) = unit.gradients(unit.of(x), q, grad);
                    (to_x, [to_scale])
                },
            );
            total += sum;
        }
        [total, 0.0]
    }
}

/// Where each magnitude but the first takes the place of the one below it: the least number that is
/// nearer to it. A tie goes to the magnitude of even index.
fn bounds(magnitudes: &[f32]) -> Vec<f32> {
    let bound = |(i, pair): (usize, &[f32])| {
        let middle = 0.5 * (f64::from(pair[0]) + f64::from(pair[1]));
        let goes_up = |x: f32| {
            let distance = f64::from(x) - middle;
            distance > 0.0 || distance == 0.0 && (i + 1).is_multiple_of(2)
        };
        let mut bound = (middle as f32).next_down();
        while !goes_up(bound) {
            bound = bound.next_up();
        }
        bound
    };
    magnitudes.windows(2).enumerate().map(bound).collect()
}

/// A format of more magnitudes, rounded by its own passes.
pub(crate) struct Many {
    unit: Unit,
    scale: f32,
    format: Format,
}

impl Many {
    /// Rounds the numbers in the format's range, into `rounded`; returns them as they are there.
    fn rounded(&self, x: &[f32], rounded: &mut [f32]) -> Vec<f32> {
        let unit = self.unit;
        let brought = kernel::map_to_vec(
            x,
            #[inline(always)]
            move |x: f32| unit.of(x),
        );
        let made = self
            .format
            .quantize(&brought, rounded, Rounding::NearestEven);
        made.expect("a format of single numbers rounds any");
        brought
    }

    fn round(&self, x: &[f32], output: &mut [f32]) {
        let scale = self.scale;
        self.rounded(x, output);
        kernel::map_in_place(
            output,
            #[inline(always)]
            move |q: f32| q * scale,
        );
    }

    fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums {
        let mut rounded = vec![0.0; x.len()];
        let brought = self.rounded(x, &mut rounded);
        let mut sum = 0.0;
        for ((&v, &q), grad) in brought.iter().zip(&rounded).zip(grad) {
            let (to_x, to_scale) = self.unit.gradients(v, q, *grad);
            *grad = to_x;
            sum += f64::from(to_scale);
        }
        [sum, 0.0]
    }
}

impl Operator<PARENTS> for ScaledFormat {
    fn forward<B: Kernels>(&self, mut inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let scale = numbers::<B>(&inputs.tensors.remove(1))[0];
        let [x] = inputs.tensors();
        vec![composed::change_on_host::<B>(x, |values, _| {
            let x = values.to_vec();
            self.at(scale).round(&x, values);
        })]
    }

    fn backward<B: Kernels>(&self, mut incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS> {
        let scale = incoming.inputs.remove(1);
        let at = self.at(numbers::<B>(&scale)[0]);
        let [x] = array(incoming.inputs);
        let x = numbers::<B>(&x);
        let mut sum = 0.0;
        let grad = composed::change_on_host::<B>(incoming.grad, |grad, _| {
            [sum, _] = at.round_backward(&x, grad);
        });
        let to_scale = TensorData::new(vec![sum as f32], [1]).convert_dtype(scale.dtype());
        let to_scale = B::float_from_data(to_scale, &scale.device());
        padded([Some(grad), Some(to_scale)])
    }

    fn flex_forward(&self, mut inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let at = self.at(flex::to_vec(&inputs.tensors.remove(1))[0]);
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            let x = flex::dense(x);
            let mut output = Buffer::new(x.layout().num_elements());
            let parts = x.storage::<f32>().par_chunks(CHUNK);
            let parts = parts.zip(output.par_chunks_mut(CHUNK));
            parts.for_each(|(x, output)| at.round(x, output));
            flex::from_buffer(output, x.layout().clone())
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

impl Pointwise for ScaledFormat {
    const PARAMETERS: usize = 1;
    const LEARNED: usize = 1;

    type Prepared = AtScale;

    fn apply<const D: usize>(self, x: Tensor<D>, parameters: Vec<Tensor<1>>) -> Tensor<D> {
        let (least, greatest) = (self.format.min(), self.format.max());
        let ends = greatest == 1.0 && (least == -1.0 || least == 0.0);
        assert!(ends, "{} ends at {least} and {greatest}", self.format);
        let of_fixed_point = self.clamped == ClampedGradient::ZeroRounded;
        assert!(
            !of_fixed_point,
            "the gradient zero-rounded is of fixed point"
        );
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

    fn grids(&self, parameters: &[Vec<f32>]) -> Option<(Vec<ValueGrid>, usize)> {
        let IntegerRange { exponent, min, max } = self.format.integer_range()?;
        let step = f64::from(parameters[0][0]) * f64::from(exponent).exp2();
        let integers = [i64::try_from(min).ok()?, i64::try_from(max).ok()?];
        Some((vec![ValueGrid::some(step, integers)], 0))
    }

    fn prepare(&self, parameters: &[FlexTensor]) -> AtScale {
        self.at(flex::to_vec(&parameters[0])[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats of 4, 8, 16 and 128 magnitudes: those found by comparing are the format's own nearest
    /// values, and the passes that other backends make are the kernels'.
    #[test]
    fn all_bodies_agree() {
        let flex = |v: &[f32]| FlexTensor::from_data(TensorData::new(v.to_vec(), [v.len()]));
        let x: Vec<f32> = (0..700).map(|i| (i as f32 * 0.71).sin() * 2.3).collect();
        let g: Vec<f32> = (0..700).map(|i| (i as f32 * 1.3).cos()).collect();
        for text in [
            "apot(3)", "apot(4)", "apot(5)", "apot(8)", "unit(2)", "unit(4)",
        ] {
            let operator = ScaledFormat {
                format: text.parse().unwrap(),
                line: Line {
                    mean: 0.1,
                    gain: 1.5,
                },
                clamped: ClampedGradient::Zero,
            };
            let inputs = || vec![flex(&x), flex(&[1.7])];
            let [kernel] = array(operator.flex_forward(Inputs::new(inputs())));
            let [plain] = array(operator.forward::<Flex>(Inputs::new(inputs())));
            let kernel = flex::to_vec(&kernel);
            assert_eq!(kernel, flex::to_vec(&plain), "{text}");
            let brought: Vec<f32> = x.iter().map(|x| (x - 0.1) * (1.5f32 / 1.7)).collect();
            let mut nearest = vec![0.0; x.len()];
            let made = operator
                .format
                .quantize(&brought, &mut nearest, Rounding::NearestEven);
            made.unwrap();
            for (made, nearest) in kernel.iter().zip(nearest) {
                assert_eq!(*made, nearest * 1.7, "{text}");
            }
            let incoming = || Incoming::new(inputs(), flex(&g));
            let [kernel, of_scale, _] = operator.flex_backward(incoming());
            let [plain, plain_of_scale, _] = operator.backward::<Flex>(incoming());
            let read = |t: Option<FlexTensor>| flex::to_vec(&t.unwrap());
            assert_eq!(read(kernel), read(plain), "{text}");
            let [a, b] = [read(of_scale)[0], read(plain_of_scale)[0]];
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{text}: {a} {b}");
        }
    }
}
