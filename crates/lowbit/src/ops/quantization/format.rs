//! Fake quantization to a [`Format`] with the straight-through estimator.

use std::sync::LazyLock;

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use lowbit_formats::fixed::Overflow;
use lowbit_formats::{Format, IntegerRange, Rounding};
use serde::{Deserialize, Serialize};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::composed;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{
    Gradients, Incoming, Inputs, Kernels, Operator, array, padded,
};
use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{PARENTS, Pointwise, Prepared, Steps, Sums};
use lowbit_kernels::elementwise::{update, update_all};

/// What a caller has made sure of.
const CHECKED: &str = "the number of random bits is from 1 to 32";

/// What the straight-through estimator hands back where the input lies outside the format's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClampedGradient {
    /// The incoming gradient, as everywhere else.
    Pass,
    /// Zero: the derivative of a clamp. An input equal to a limit still passes its gradient.
    #[default]
    Zero,
    /// Zero where the number, rounded and not yet clamped, is beyond the limits, for fixed-point
    /// formats that clamp: QPyTorch's `clamping_grad_zero`. It differs from `Zero` within half a
    /// step beyond a limit, where such a number is rounded to the limit and passes its gradient.
    ZeroRounded,
}

impl ClampedGradient {
    /// Whether a format rounds and then clamps, as [`ZeroRounded`](Self::ZeroRounded) needs it.
    pub fn has_rounded(format: &Format) -> bool {
        before_clamping(format).is_some()
    }
}

/// Rounds every element to `format` on the way forward; hands the gradient through on the way back.
///
/// Forward: `y = round(x)`, the nearest value of `format` by `rounding`. Backward (straight-through
/// estimator, Bengio et al., arXiv 1308.3432): `dL/dx = dL/dy`, and with
/// [`ClampedGradient::Zero`], `dL/dx = 0` where `x < min` or `x > max` of the format, or where `x`
/// is NaN; with [`ClampedGradient::ZeroRounded`], where `round(x)` without a clamp is beyond them.
///
/// # Shapes
/// `x` and the result: any shape, the same.
///
/// # Panics
/// If `rounding` is stochastic with a number of random bits outside 1 to 32, or if `clamped` is
/// [`ClampedGradient::ZeroRounded`] and `format` is no fixed point that clamps.
pub fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    format: &Format,
    rounding: Rounding,
    clamped: ClampedGradient,
) -> Tensor<D> {
    let quantize = FakeQuantize {
        format: format.clone(),
        rounding,
        clamped,
    };
    quantize.apply(x, Vec::new())
}

/// Whether a format's values are all the integers of its range times a step, and what is beyond them
/// becomes the nearer end.
pub(crate) fn has_all_integers(format: &Format) -> bool {
    match format {
        Format::Fixed(fixed) => fixed.overflow() == Overflow::Clamp,
        Format::Integer(_) => true,
        _ => false,
    }
}

/// bfloat16 as it is usually meant: with subnormal numbers, infinities and NaN.
static BFLOAT16: LazyLock<Format> = LazyLock::new(|| "bf16".parse().expect("a format's name"));

/// Whether a format's values are bfloat16.
pub(crate) fn is_bfloat16(format: &Format) -> bool {
    matches!(format, Format::Float(float)
        if (float.exponent(), float.mantissa()) == (8, 7) && float.bias() == 127)
}

/// The same format before it clamps, where that is another.
fn before_clamping(format: &Format) -> Option<Format> {
    match format {
        Format::Fixed(fixed) if fixed.overflow() == Overflow::Clamp => {
            let unbounded = fixed.with_overflow(Overflow::Unbounded).ok()?;
            Some(Format::Fixed(unbounded))
        }
        _ => None,
    }
}

/// Whether such a rounding looks at one number at a time: a block format shares a scale, and a
/// stochastic rounding counts the tensor's elements.
pub(crate) fn is_pointwise(format: &Format, rounding: Rounding) -> bool {
    !matches!(format, Format::Block(_)) && !matches!(rounding, Rounding::Stochastic { .. })
}

/// The operator behind [`fake_quantize()`].
#[derive(Debug, Clone)]
pub(crate) struct FakeQuantize {
    pub(crate) format: Format,
    pub(crate) rounding: Rounding,
    pub(crate) clamped: ClampedGradient,
}

impl FakeQuantize {
    /// That of a gradient, which has no gradient of its own.
    pub(crate) fn of_gradient((format, rounding): (Format, Rounding)) -> Self {
        Self {
            format,
            rounding,
            clamped: ClampedGradient::Pass,
        }
    }

    /// Whether it is to the nearest bfloat16, ties to even, with infinities.
    pub(crate) fn is_nearest_bfloat16(&self) -> bool {
        let is_nearest = self.rounding == Rounding::NearestEven;
        is_nearest && self.format == *BFLOAT16
    }

    /// See [`is_pointwise`].
    fn is_pointwise(&self) -> bool {
        is_pointwise(&self.format, self.rounding)
    }

    /// The rounding as the passes of a kernel use it.
    pub(crate) fn prepared(&self) -> PreparedFormat {
        PreparedFormat {
            format: self.format.clone(),
            rounding: self.rounding,
            limits: self.limits(),
            before_limits: self.before_limits().map(|rounding| rounding.format),
        }
    }

    /// The limits outside which the gradient is zero.
    fn limits(&self) -> Option<(f32, f32)> {
        let zero = self.clamped != ClampedGradient::Pass;
        zero.then(|| (self.format.min(), self.format.max()))
    }

    /// What rounds a number before it is held against the limits, if anything does.
    fn before_limits(&self) -> Option<Self> {
        let rounds = self.clamped == ClampedGradient::ZeroRounded;
        rounds.then(|| Self {
            format: before_clamping(&self.format).expect("a fixed point that clamps"),
            rounding: self.rounding,
            clamped: ClampedGradient::Pass,
        })
    }
}

impl Operator<PARENTS> for FakeQuantize {
    fn save_inputs<B: Backend>(&self, inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        match self.clamped {
            ClampedGradient::Pass => Vec::new(),
            ClampedGradient::Zero | ClampedGradient::ZeroRounded => inputs.to_vec(),
        }
    }

    // The format's kernel rounds on the host: exact for every format and rounding.
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        vec![composed::change_on_host::<B>(x, |values, shape| {
            let made = self
                .format
                .quantize_shaped_in_place(values, shape, self.rounding);
            made.unwrap_or_else(|error| panic!("{error}"));
        })]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS> {
        let grad = incoming.grad;
        let x = incoming.inputs.into_iter().next();
        let grad = match (x, self.limits()) {
            (Some(mut x), Some((min, max))) => {
                if let Some(rounding) = self.before_limits() {
                    [x] = array(rounding.forward::<B>(Inputs::new(vec![x])));
                }
                composed::gradient_within::<B>(x, grad, min, max)
            }
            _ => grad,
        };
        padded([Some(grad)])
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            let mut x = flex::dense(x);
            // What is not done one number at a time goes by the row-major order.
            let layout = (!self.is_pointwise()).then(|| flex::places(&x));
            if let Some(data) = x.try_storage_mut::<f32>() {
                let made = match &layout {
                    Some(at) => self
                        .format
                        .quantize_strided_in_place(data, at, self.rounding),
                    None => self.format.quantize_in_place(data, self.rounding),
                };
                made.unwrap_or_else(|error| panic!("{error}"));
                return x;
            }
            let mut rounded = Buffer::new(x.layout().num_elements());
            let input = x.storage::<f32>();
            let made = match &layout {
                Some(at) => {
                    self.format
                        .quantize_strided(input, at, &mut rounded, at, self.rounding)
                }
                None => self.format.quantize(input, &mut rounded, self.rounding),
            };
            made.unwrap_or_else(|error| panic!("{error}"));
            flex::from_buffer(rounded, x.layout().clone())
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, PARENTS>) -> Gradients<Flex, PARENTS> {
        let grad = incoming.grad;
        let x = incoming.inputs.into_iter().next();
        let grad = match (x, self.limits()) {
            (Some(mut x), Some((min, max))) => {
                if let Some(rounding) = self.before_limits() {
                    [x] = array(rounding.flex_forward(Inputs::new(vec![x])));
                }
                gradient_within(x, grad, min, max)
            }
            _ => grad,
        };
        padded([Some(grad)])
    }
}

/// `grad` where `min <= x <= max`, zero elsewhere.
fn gradient_within(x: FlexTensor, grad: FlexTensor, min: f32, max: f32) -> FlexTensor {
    flex::in_f32(grad, |grad| {
        flex::in_f32(x, |x| {
            flex::replace(x, grad, |x, grad| {
                update_all(
                    x,
                    grad,
                    #[inline(always)]
                    move |x, g| if x >= min && x <= max { g } else { 0.0 },
                );
            })
            .0
        })
    })
}

impl Pointwise for FakeQuantize {
    const PARAMETERS: usize = 0;
    const LEARNED: usize = 0;

    type Prepared = PreparedFormat;

    fn fits_operators(&self, _parameters: &[Tensor<1>]) -> bool {
        self.is_pointwise()
    }

    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        Some(Steps {
            range: self.format.integer_range()?,
            trained: None,
        })
    }

    fn grids(&self, _parameters: &[Vec<f32>]) -> Option<(Vec<ValueGrid>, usize)> {
        let (grid, all) = match &self.format {
            Format::Unit(unit) => {
                let steps = unit.steps();
                let step = 1.0 / f64::from(steps);
                (ValueGrid::new(step, [0, steps.into()]), true)
            }
            format => {
                let IntegerRange { exponent, min, max } = format.integer_range()?;
                let integers = [i64::try_from(min).ok()?, i64::try_from(max).ok()?];
                let step = f64::from(exponent).exp2();
                (ValueGrid::new(step, integers), has_all_integers(format))
            }
        };
        let rounding = all.then_some(self.rounding);
        Some((vec![ValueGrid { rounding, ..grid }], 0))
    }

    fn prepare(&self, _parameters: &[FlexTensor]) -> PreparedFormat {
        self.prepared()
    }
}

/// A format as the passes of a kernel use it.
pub(crate) struct PreparedFormat {
    format: Format,
    rounding: Rounding,
    /// The limits outside which the gradient is zero.
    limits: Option<(f32, f32)>,
    /// What a number is rounded to before it is held against them.
    before_limits: Option<Format>,
}

impl PreparedFormat {
    /// Rounds numbers where they are, on this thread if they are few.
    pub(crate) fn round_in_place(&self, x: &mut [f32]) {
        let made = self.format.quantize_in_place(x, self.rounding);
        made.expect(CHECKED);
    }
}

impl Prepared for PreparedFormat {
    fn passes_gradients(&self) -> bool {
        self.limits.is_none()
    }

    fn round(&self, x: &[f32], output: &mut [f32]) {
        let made = self.format.quantize(x, output, self.rounding);
        made.expect(CHECKED);
    }

    fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums {
        if let Some((min, max)) = self.limits {
            let mut rounded = Vec::new();
            let x = match &self.before_limits {
                Some(format) => {
                    rounded.resize(x.len(), 0.0);
                    let made = format.quantize(x, &mut rounded, self.rounding);
                    made.expect(CHECKED);
                    &rounded
                }
                None => x,
            };
            update(
                x,
                grad,
                #[inline(always)]
                move |x, g| if x >= min && x <= max { g } else { 0.0 },
            );
        }
        Sums::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn gradient(x: &[f32], format: &str, clamped: ClampedGradient) -> (Vec<f32>, Vec<f32>) {
        let device = Device::flex().autodiff();
        let x = TensorData::new(x.to_vec(), [x.len()]);
        let x = Tensor::<1>::from_data(x, &device).require_grad();
        let y = fake_quantize(
            x.clone(),
            &format.parse().unwrap(),
            Rounding::NearestEven,
            clamped,
        );
        let grads = (y.clone() * 3.0).sum().backward();
        let read = |t: Tensor<1>| t.into_data().iter::<f32>().collect::<Vec<_>>();
        (read(y), read(x.grad(&grads).unwrap()))
    }

    #[test]
    fn values_and_gradients_by_hand() {
        // fixed(4,2): steps of 1/4 from -2 to 1.75.
        let x = [0.3, 0.375, -0.1, 1.75, 1.8, 5.0, -2.0, -2.1, f32::NAN];
        let (y, g) = gradient(&x, "fixed(4,2)", ClampedGradient::Zero);
        assert_eq!(y[..8], [0.25, 0.5, 0.0, 1.75, 1.75, 1.75, -2.0, -2.0]);
        assert_eq!(g, [3.0, 3.0, 3.0, 3.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
        let (_, g) = gradient(&x[..8], "fixed(4,2)", ClampedGradient::Pass);
        assert_eq!(g, [3.0; 8]);
    }

    /// fixed(4,2) ends at -2 and 1.75. 1.8 and 1.87 are rounded to 1.75; 1.875 is a tie that goes to
    /// 2, the even one of 7 and 8 quarters. -2.125 is a tie that goes to -2, of -8 and -9 quarters.
    #[test]
    fn a_gradient_may_stop_where_the_rounded_number_is_beyond() {
        let x = [1.75, 1.8, 1.87, 1.875, 5.0, -2.0, -2.1, -2.125, -2.13, -7.0];
        let (_, g) = gradient(&x, "fixed(4,2)", ClampedGradient::ZeroRounded);
        assert_eq!(g, [3.0, 3.0, 3.0, 0.0, 0.0, 3.0, 3.0, 3.0, 0.0, 0.0]);
    }

    /// The number that a stochastic rounding makes is the one that is held against the limits.
    #[test]
    fn a_stochastic_rounding_stops_the_gradient_by_the_number_it_made() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::full([400], 1.8, &device).require_grad();
        let [clamped, free] = ["fixed(4,2)", "fixed(4,2,unbounded)"].map(|text| {
            let clamped = match text.contains("unbounded") {
                true => ClampedGradient::Pass,
                false => ClampedGradient::ZeroRounded,
            };
            fake_quantize(
                x.clone(),
                &text.parse().unwrap(),
                Rounding::stochastic(3, 4),
                clamped,
            )
        });
        let read = |t: Tensor<1>| t.into_data().iter::<f32>().collect::<Vec<_>>();
        let gradient = read(x.grad(&clamped.sum().backward()).unwrap());
        let rounded = read(free);
        let expected: Vec<f32> = rounded.iter().map(|&r| f32::from(r <= 1.75)).collect();
        assert_eq!(gradient, expected);
        // 1.8 is a fifth of the way from 1.75 to 2.
        let beyond = rounded.iter().filter(|r| **r == 2.0).count();
        assert!((40..120).contains(&beyond), "{beyond}");
    }

    #[test]
    fn dorefa_activations_by_hand() {
        // unit(2): thirds of the unit interval; 0.5 is half way between 1/3 and 2/3: 1.5 to 2.
        let (y, g) = gradient(
            &[-0.5, 0.0, 0.16, 0.17, 0.5, 0.9, 1.0, 1.5],
            "unit(2)",
            ClampedGradient::Zero,
        );
        let thirds = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0, 3.0];
        for (y, t) in y.iter().zip(thirds) {
            assert!((y - t / 3.0).abs() < 1e-7, "{y} {t}/3");
        }
        assert_eq!(g, [0.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.0]);
    }

    #[test]
    fn a_permuted_tensor_is_rounded_in_its_logical_order() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], &device);
        let stochastic = Rounding::stochastic(7, 0);
        let format: Format = "fixed(4,2)".parse().unwrap();
        let rounded = |x: Tensor<2>| {
            let y = fake_quantize(x, &format, stochastic, ClampedGradient::Pass);
            y.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        let transposed = x.clone().transpose();
        let copied = Tensor::from_data(transposed.to_data(), &device);
        assert_eq!(rounded(transposed), rounded(copied));
    }

    #[test]
    fn the_composed_passes_agree_with_the_kernels() {
        let x: Vec<f32> = (0..300).map(|i| (i as f32 * 0.37).sin() * 3.1).collect();
        let flex = |v: &[f32]| FlexTensor::from_data(TensorData::new(v.to_vec(), [300]));
        let read = |t: FlexTensor| t.into_data().iter::<f32>().collect::<Vec<_>>();
        for format in ["fixed(8,4)", "e4m3", "int4", "unit(3)"] {
            let format: Format = format.parse().unwrap();
            let rounding = Rounding::stochastic(1, 2);
            let quantize = FakeQuantize {
                format,
                rounding,
                clamped: ClampedGradient::Pass,
            };
            let [kernel] = array(quantize.flex_forward(Inputs::new(vec![flex(&x)])));
            let [plain] = array(quantize.forward::<Flex>(Inputs::new(vec![flex(&x)])));
            assert_eq!(read(kernel), read(plain));
        }
        let kernel = gradient_within(flex(&x), flex(&x), -1.0, 2.0);
        let plain = composed::gradient_within::<Flex>(flex(&x), flex(&x), -1.0, 2.0);
        assert_eq!(read(kernel), read(plain));
    }
}
