//! Quantization of a gradient on its way back, and of a tensor both ways.

use std::fmt;
use std::sync::Arc;

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use lowbit_formats::{Format, Rounding, kernel};
use lowbit_kernels::Terms;
use rayon::prelude::*;

use crate::ops::backend::capture::has_way_back;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use crate::ops::backend::{composed, flex};
use crate::ops::quantization::format::{ClampedGradient, FakeQuantize, is_bfloat16, is_pointwise};
use crate::ops::quantization::pointwise::{Pointwise, numbers};
use crate::ops::quantization::shift::{self, LargestPower};

/// What a user does to a gradient's numbers, in row-major order.
pub type GradientFunction = Arc<dyn Fn(&mut [f32]) + Send + Sync>;

/// What is done to a gradient before it is rounded.
#[derive(Clone)]
pub enum GradientHook {
    /// Multiplies it.
    Scale(f32),
    /// Divides it by a power of two by its largest magnitude, over which a NaN is passed; zero, and what
    /// has an infinity, stays as it is.
    Shift(LargestPower),
    /// A function of all its numbers.
    Function(GradientFunction),
}

impl fmt::Debug for GradientHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale(factor) => f.debug_tuple("Scale").field(factor).finish(),
            Self::Shift(power) => f.debug_tuple("Shift").field(power).finish(),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

impl GradientHook {
    fn apply(&self, gradient: &mut [f32]) {
        match self {
            Self::Function(function) => function(gradient),
            &Self::Scale(factor) => kernel::map_in_place(
                gradient,
                #[inline(always)]
                move |g: f32| g * factor,
            ),
            Self::Shift(power) => {
                if let Some(exponent) = power.exponent(kernel::max_abs(gradient)) {
                    divide(gradient, exponent);
                }
            }
        }
    }

    /// Whether it matters in which order the numbers come.
    fn has_order(&self) -> bool {
        matches!(self, Self::Function(_))
    }
}

/// Divides by `2^log2`. The quotient is exact, or rounded once where it is below the normal numbers;
/// the power itself may be none of `f32`.
fn divide(gradient: &mut [f32], log2: i32) {
    let factor = f64::from(-log2).exp2();
    kernel::map_in_place(
        gradient,
        #[inline(always)]
        move |g: f32| (f64::from(g) * factor) as f32,
    );
}

/// What becomes of a gradient: the hooks in their order, then the rounding.
#[derive(Debug, Clone, Default)]
pub struct GradientQuantization {
    /// What is done before it is rounded, and where it is not, too.
    pub hooks: Vec<GradientHook>,
    /// Format and rounding; none leaves the numbers as the hooks made them.
    pub rounding: Option<(Format, Rounding)>,
    /// What the rounding sees of a number.
    pub range: GradientRange,
}

/// What of a gradient's numbers is rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GradientRange {
    /// The numbers themselves.
    #[default]
    Own,
    /// `g / (2 m) + 1/2`, from 0 to 1, with the largest magnitude `m` of the sample, which is an index
    /// of the first dimension; what it becomes is brought back as `2 m (q - 1/2)`. Rounded
    /// stochastically to `unit(k)` this is DoReFa-Net's gradient (arXiv 1606.06160, equation 12):
    /// rounding to nearest after adding its noise, even over a step, is stochastic rounding. A sample
    /// of zeros stays one.
    UnitOfSample,
    /// `g / R` with a power of two `R` by the largest magnitude of the tensor, which the format, made
    /// for -1 to 1, rounds; what it becomes is brought back as `R q`. A tensor of zeros stays one.
    OfTensor(LargestPower),
}

impl GradientQuantization {
    /// Rounding alone.
    pub fn to(format: Format, rounding: Rounding) -> Self {
        Self {
            rounding: Some((format, rounding)),
            ..Self::default()
        }
    }

    /// Whether the gradient stays as it is.
    pub fn is_identity(&self) -> bool {
        self.hooks.is_empty() && self.rounding.is_none()
    }

    /// A gradient as this makes it, outside of autodiff.
    pub(crate) fn apply<const D: usize>(self, gradient: Tensor<D>) -> Tensor<D> {
        let operator = ApplyToGradient(QuantizeGradient(self));
        operator::run(operator, vec![gradient.into_dispatch()])
    }

    /// Whether it looks at one number at a time, if it does anything.
    pub(crate) fn is_pointwise(&self) -> bool {
        let rounding = self.rounding.as_ref();
        self.hooks.is_empty()
            && self.range == GradientRange::Own
            && rounding.is_none_or(|(format, rounding)| is_pointwise(format, *rounding))
    }

    /// What the sums over the gradient are made of: products of bfloat16 where it is rounded to that.
    pub(crate) fn terms(&self) -> Terms {
        let format = self.rounding.as_ref().map(|(format, _)| format);
        match self.range == GradientRange::Own && format.is_some_and(is_bfloat16) {
            true => Terms::Bfloat16,
            false => Terms::Numbers,
        }
    }

    /// The tensor, and the rounding of its gradient for the operator that reads it; what does not look
    /// at one number at a time is a pass of its own.
    pub(crate) fn fused<const D: usize>(self, x: Tensor<D>) -> (Tensor<D>, Option<FakeQuantize>) {
        match self.is_pointwise() {
            true => (x, self.rounding.map(FakeQuantize::of_gradient)),
            false => (quantize_gradient(x, self), None),
        }
    }
}

impl From<Option<FakeQuantize>> for GradientQuantization {
    fn from(rounding: Option<FakeQuantize>) -> Self {
        let rounding = rounding.map(|rounding| (rounding.format, rounding.rounding));
        Self {
            rounding,
            ..Self::default()
        }
    }
}

/// How a tensor is quantized on its way forward and its gradient on its way back: each where given,
/// with formats and roundings of their own.
#[derive(Debug, Clone, Default)]
pub struct TwoWay {
    /// Format and rounding of the values.
    pub forward: Option<(Format, Rounding)>,
    /// What the gradient becomes where the value left the format's range.
    pub clamped: ClampedGradient,
    /// What becomes of the gradient before that.
    pub backward: GradientQuantization,
}

/// Rounds values on the way forward and gradients on the way back.
///
/// Forward: `y = round_forward(x)`. Backward: the incoming gradient passes the hooks, is rounded to
/// the backward format, and is then zero where [`ClampedGradient`] says so. This is QPyTorch's
/// `quantizer` (Zhang et al., arXiv 1910.04540, section 3.3), whose `clamping_grad_zero` is
/// [`ClampedGradient::ZeroRounded`]; there, hooks run only together with that, here always.
///
/// # Shapes
/// `x` and the result: any shape, the same.
///
/// # Panics
/// If a rounding is stochastic with a number of random bits outside 1 to 32, or if the gradient
/// depends on rounded values of a format that is not fixed point.
pub fn quantize_two_ways<const D: usize>(x: Tensor<D>, quantization: TwoWay) -> Tensor<D> {
    let TwoWay {
        forward,
        clamped,
        backward,
    } = quantization;
    let y = match forward {
        Some((format, rounding)) => {
            let quantize = FakeQuantize {
                format,
                rounding,
                clamped,
            };
            quantize.apply(x, Vec::new())
        }
        None => x,
    };
    // What is last forward is first backward.
    quantize_gradient(y, backward)
}

/// Hands `x` on; on the way back, its gradient is what `quantization` makes of the incoming one.
///
/// # Shapes
/// `x` and the result: any shape, the same.
///
/// # Panics
/// If the rounding is stochastic with a number of random bits outside 1 to 32.
pub fn quantize_gradient<const D: usize>(
    x: Tensor<D>,
    quantization: GradientQuantization,
) -> Tensor<D> {
    if quantization.is_identity() || !has_way_back(&x.device()) {
        return x;
    }
    operator::run(QuantizeGradient(quantization), vec![x.into_dispatch()])
}

/// The operator behind [`quantize_gradient()`].
#[derive(Debug, Clone)]
pub(crate) struct QuantizeGradient(GradientQuantization);

impl QuantizeGradient {
    fn rounding(&self) -> Option<FakeQuantize> {
        self.0.rounding.clone().map(FakeQuantize::of_gradient)
    }

    /// What becomes of a gradient.
    fn made<B: Kernels>(&self, mut grad: FloatTensor<B>) -> FloatTensor<B> {
        if !self.0.hooks.is_empty() {
            grad = composed::change_on_host::<B>(grad, |values, _| {
                self.0.hooks.iter().for_each(|hook| hook.apply(values));
            });
        }
        let Some(mut rounding) = self.rounding() else {
            return grad;
        };
        let mut largest = Vec::new();
        match self.0.range {
            GradientRange::Own => {}
            GradientRange::UnitOfSample => {
                grad = composed::change_on_host::<B>(grad, |values, dims| {
                    largest = to_unit(values, dims[0]);
                });
            }
            GradientRange::OfTensor(power) => {
                let all = numbers::<B>(&grad);
                rounding.format = power.format(&rounding.format, kernel::max_abs(&all));
            }
        }
        [grad] = array(B::forward(&rounding, Inputs::new(vec![grad])));
        if self.0.range == GradientRange::UnitOfSample {
            let from_unit = |values: &mut [f32], _: &[usize]| from_unit(values, &largest);
            grad = composed::change_on_host::<B>(grad, from_unit);
        }
        grad
    }

    /// The same on Flex.
    fn flex_made(&self, grad: FlexTensor) -> FlexTensor {
        let Self(GradientQuantization { hooks, range, .. }) = self;
        if hooks.iter().any(GradientHook::has_order) {
            return self.made::<Flex>(grad);
        }
        flex::in_f32(grad, |mut grad| {
            if !hooks.is_empty() {
                let apply = |values: &mut [f32]| hooks.iter().for_each(|hook| hook.apply(values));
                (grad, ()) = flex::change(flex::dense(grad), apply);
            }
            let Some(rounding) = self.rounding() else {
                return grad;
            };
            match *range {
                GradientRange::Own => rounded(&rounding, grad),
                GradientRange::UnitOfSample => within_samples(&rounding, grad),
                GradientRange::OfTensor(power) => {
                    shift::rounded(grad, (&rounding.format, rounding.rounding), power)
                }
            }
        })
    }
}

fn rounded(rounding: &FakeQuantize, grad: FlexTensor) -> FlexTensor {
    let [grad] = array(rounding.flex_forward(Inputs::new(vec![grad])));
    grad
}

/// See [`GradientRange::UnitOfSample`].
fn within_samples(rounding: &FakeQuantize, grad: FlexTensor) -> FlexTensor {
    // A sample lies together in any order of its own dimensions.
    let samples = grad.layout().shape().as_slice()[0];
    let mut grad = flex::dense(grad);
    let strides = grad.layout().strides();
    if strides.iter().any(|stride| *stride > strides[0]) {
        grad = flex::contiguous(grad);
    }
    let (grad, largest) = flex::change(grad, |grad| to_unit(grad, samples));
    flex::change(rounded(rounding, grad), |grad| from_unit(grad, &largest)).0
}

/// The operator behind [`GradientQuantization::apply`].
#[derive(Debug, Clone)]
struct ApplyToGradient(QuantizeGradient);

impl Operator<1> for ApplyToGradient {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [gradient] = inputs.tensors();
        vec![self.0.made::<B>(gradient)]
    }

    fn backward<B: Kernels>(&self, _incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        [None]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [gradient] = inputs.tensors();
        vec![self.0.flex_made(gradient)]
    }
}

/// Brings each of so many samples to the unit interval; returns the largest magnitude of each.
fn to_unit(values: &mut [f32], samples: usize) -> Vec<f32> {
    let length = values.len().checked_div(samples).unwrap_or(0).max(1);
    let each = values.par_chunks_mut(length);
    each.map(|sample| {
        let largest = kernel::max_abs(sample);
        if largest == 0.0 || !largest.is_finite() {
            return largest;
        }
        let half_inverse = 0.5 / f64::from(largest);
        kernel::map_in_place(
            sample,
            #[inline(always)]
            move |g: f32| (f64::from(g) * half_inverse + 0.5) as f32,
        );
        largest
    })
    .collect()
}

/// Brings them back.
fn from_unit(values: &mut [f32], largest: &[f32]) {
    let length = values.len().checked_div(largest.len()).unwrap_or(0).max(1);
    let samples = values.par_chunks_mut(length).zip(largest);
    samples.for_each(|(sample, &largest)| {
        if !largest.is_finite() {
            return sample.fill(f32::NAN);
        }
        let twice = 2.0 * f64::from(largest);
        kernel::map_in_place(
            sample,
            #[inline(always)]
            move |q: f32| (twice * (f64::from(q) - 0.5)) as f32,
        );
    });
}

impl Operator<1> for QuantizeGradient {
    fn save_inputs<B: burn::backend::Backend>(
        &self,
        _inputs: &[FloatTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        inputs.tensors
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        [Some(self.made::<B>(incoming.grad))]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        [Some(self.flex_made(incoming.grad))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        inputs.tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn read<const D: usize>(t: Tensor<D>) -> Vec<f32> {
        t.into_data().iter::<f32>().collect()
    }

    /// Values, and the gradient of `sum(y weights)`.
    fn both_ways(x: &[f32], weights: &[f32], quantization: TwoWay) -> (Vec<f32>, Vec<f32>) {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats(x, &device).require_grad();
        let y = quantize_two_ways(x.clone(), quantization);
        let grads = (y.clone() * Tensor::from_floats(weights, &device))
            .sum()
            .backward();
        (read(y), read(x.grad(&grads).unwrap()))
    }

    fn format(text: &str) -> Option<(Format, Rounding)> {
        Some((text.parse().unwrap(), Rounding::NearestEven))
    }

    /// Forward in quarters, backward in halves: 0.3 is 0.25, 0.3 of a gradient 0.5.
    #[test]
    fn each_way_has_a_format_of_its_own() {
        let (x, weights) = ([0.3, -0.7, 9.0], [0.3, 1.7, -0.2]);
        let to = |text| GradientQuantization {
            rounding: format(text),
            ..GradientQuantization::default()
        };
        let two_way = TwoWay {
            forward: format("fixed(4,2)"),
            clamped: ClampedGradient::Pass,
            backward: to("fixed(4,1)"),
        };
        let (y, g) = both_ways(&x, &weights, two_way.clone());
        assert_eq!((y, g), (vec![0.25, -0.75, 1.75], vec![0.5, 1.5, 0.0]));
        let forward = TwoWay {
            backward: GradientQuantization::default(),
            ..two_way.clone()
        };
        assert_eq!(both_ways(&x, &weights, forward).1, weights);
        let backward = TwoWay {
            forward: None,
            ..two_way
        };
        assert_eq!(
            both_ways(&x, &weights, backward),
            (x.to_vec(), vec![0.5, 1.5, 0.0])
        );
    }

    /// Hooks in their order, also where nothing is rounded; the largest of 3, -6 and 1 is 6, whose
    /// logarithm 2.58 is nearest to 3: shifted by 8. Of 5 it is 2.32, nearest to 2.
    #[test]
    fn hooks_run_before_the_rounding_and_without_it() {
        let hooked = |hooks: Vec<GradientHook>, rounding| TwoWay {
            backward: GradientQuantization {
                hooks,
                rounding,
                ..GradientQuantization::default()
            },
            ..TwoWay::default()
        };
        let gradient =
            |weights: &[f32], two_way| both_ways(&vec![0.0; weights.len()], weights, two_way).1;
        let shift = hooked(vec![GradientHook::Shift(LargestPower::Nearest)], None);
        assert_eq!(
            gradient(&[3.0, -6.0, 1.0], shift.clone()),
            [0.375, -0.75, 0.125]
        );
        assert_eq!(gradient(&[5.0, 1.0], shift.clone()), [1.25, 0.25]);
        assert_eq!(gradient(&[0.0, 0.0], shift.clone()), [0.0, 0.0]);
        // The power of two of the least number is none that can be divided by in f32.
        assert_eq!(gradient(&[1e-45, 0.0], shift.clone()), [1.0, 0.0]);
        let infinite = gradient(&[f32::INFINITY, 1.0], shift);
        assert_eq!(infinite, [f32::INFINITY, 1.0]);
        let one_more = GradientHook::Function(Arc::new(|g| g.iter_mut().for_each(|g| *g += 1.0)));
        let hooks = vec![GradientHook::Scale(10.0), one_more];
        assert_eq!(
            gradient(&[0.25, -0.5], hooked(hooks.clone(), None)),
            [3.5, -4.0]
        );
        assert_eq!(
            gradient(&[0.25, -0.5], hooked(hooks, format("int4"))),
            [4.0, -4.0]
        );
    }

    fn within_samples(rounding: Rounding) -> TwoWay {
        TwoWay {
            backward: GradientQuantization {
                range: GradientRange::UnitOfSample,
                ..GradientQuantization::to("unit(2)".parse().unwrap(), rounding)
            },
            ..TwoWay::default()
        }
    }

    /// To nearest, which is equation 12 of DoReFa-Net without its noise. The first sample's largest is
    /// 1: 1 and -0.5 are at 1 and 0.25 of the unit interval, 3 and 0.75 of its steps, so 1 and 1/3,
    /// and back 1 and -1/3. The second's is 0.25: 0 is in the middle, 1.5 steps, which become 2, so
    /// 2/3, and back 0.5 (2/3 - 1/2). Zeros stay.
    #[test]
    fn a_gradient_is_rounded_in_the_range_of_its_sample() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::zeros([3, 2], &device).require_grad();
        let weights = [[1.0, -0.5], [0.25, 0.0], [0.0, 0.0]];
        let y = quantize_two_ways(x.clone(), within_samples(Rounding::NearestEven));
        let grads = (y * Tensor::from_floats(weights, &device)).sum().backward();
        let found = read(x.grad(&grads).unwrap());
        let expected = [1.0, -1.0 / 3.0, 0.25, 0.25 / 3.0, 0.0, 0.0];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    /// 0.3 of a largest of 1 is at 1.95 of 3 steps: it becomes 1/3, two of them, with the probability
    /// 0.95, else -1/3; the mean over 4,095 is 0.3 to within five deviations, 5 (2/3) sqrt(0.05 / 4095).
    #[test]
    fn at_random_the_mean_of_a_gradient_is_the_gradient() {
        let weights: Vec<f32> = std::iter::once(1.0).chain([0.3; 4095]).collect();
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::zeros([1, 4096], &device).require_grad();
        let y = quantize_two_ways(x.clone(), within_samples(Rounding::stochastic(7, 3)));
        let weights = Tensor::<1>::from_floats(&weights[..], &device).reshape([1, 4096]);
        let grads = (y * weights).sum().backward();
        let found = read(x.grad(&grads).unwrap());
        assert_eq!(found[0], 1.0);
        assert!(
            found[1..]
                .iter()
                .all(|g| (g.abs() - 1.0 / 3.0).abs() < 1e-6)
        );
        let mean = found[1..].iter().sum::<f32>() / 4095.0;
        assert!(
            (mean - 0.3).abs() < 5.0 * (2.0 / 3.0) * (0.05f32 / 4095.0).sqrt(),
            "{mean}"
        );
    }

    #[test]
    fn without_autodiff_the_tensor_is_the_same() {
        let x = Tensor::<1>::from_floats([0.3], &Device::flex());
        let rounded = quantize_gradient(
            x,
            GradientQuantization::to("int4".parse().unwrap(), Rounding::NearestEven),
        );
        assert_eq!(read(rounded), [0.3]);
    }
}
