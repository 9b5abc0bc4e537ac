//! Fake quantization to a [`Format`] with the straight-through estimator.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use lowbit_formats::{Format, Rounding};
use serde::{Deserialize, Serialize};

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::kernel::elementwise::update_all;
use crate::ops::quantization::composed;

/// What a caller has made sure of.
pub(crate) const CHECKED: &str = "the number of random bits is from 1 to 32";

/// What the straight-through estimator hands back where the input lies outside the format's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClampedGradient {
    /// The incoming gradient, as everywhere else.
    Pass,
    /// Zero: the derivative of a clamp. An input equal to a limit still passes its gradient.
    #[default]
    Zero,
}

/// Rounds every element to `format` on the way forward; hands the gradient through on the way back.
///
/// Forward: `y = round(x)`, the nearest value of `format` by `rounding`. Backward (straight-through
/// estimator, Bengio et al., arXiv 1308.3432): `dL/dx = dL/dy`, and with
/// [`ClampedGradient::Zero`], `dL/dx = 0` where `x < min` or `x > max` of the format, or where `x`
/// is NaN.
///
/// # Shapes
/// `x` and the result: any shape, the same.
///
/// # Panics
/// If `rounding` is stochastic with a number of random bits outside 1 to 32.
pub fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    format: &Format,
    rounding: Rounding,
    clamped: ClampedGradient,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FakeQuantizeOp>::fake_quantize(
        x.into_dispatch(),
        format.clone(),
        rounding,
        clamped,
    ))
}

/// The operator behind [`fake_quantize()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait FakeQuantizeOp: Backend {
    /// See [`fake_quantize()`].
    fn fake_quantize(
        x: FloatTensor<Self>,
        format: Format,
        rounding: Rounding,
        clamped: ClampedGradient,
    ) -> FloatTensor<Self>;
}

impl FakeQuantizeOp for Flex {
    fn fake_quantize(
        x: FlexTensor,
        format: Format,
        rounding: Rounding,
        _clamped: ClampedGradient,
    ) -> FlexTensor {
        <Self as FakeQuantizeKernel>::forward(x, &format, rounding)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl FakeQuantizeOp for burn::backend::Cube {
    fn fake_quantize(
        x: FloatTensor<Self>,
        format: Format,
        rounding: Rounding,
        _clamped: ClampedGradient,
    ) -> FloatTensor<Self> {
        <Self as FakeQuantizeKernel>::forward(x, &format, rounding)
    }
}

impl<B: FakeQuantizeKernel, C: CheckpointStrategy> FakeQuantizeOp for Autodiff<B, C> {
    fn fake_quantize(
        x: FloatTensor<Self>,
        format: Format,
        rounding: Rounding,
        clamped: ClampedGradient,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match StraightThrough
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let limits = (clamped == ClampedGradient::Zero)
                    .then(|| (x.clone(), format.min(), format.max()));
                prep.finish(limits, B::forward(x, &format, rounding))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::forward(x, &format, rounding)),
        }
    }
}

/// The backward step of fake quantization; its state is the input and the format's limits, where
/// the gradient depends on them.
#[derive(Debug)]
struct StraightThrough;

impl<B: FakeQuantizeKernel> Backward<B, 1> for StraightThrough {
    type State = Option<(FloatTensor<B>, f32, f32)>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let grad = match ops.state.clone() {
            Some((x, min, max)) => B::gradient_within(x, grad, min, max),
            None => grad,
        };
        B::add(grads, &ops, 0, grad);
    }
}

/// The two passes of fake quantization on one backend. The bodies given here are composed of
/// tensor primitives and serve every backend; Flex has kernels.
pub(crate) trait FakeQuantizeKernel: Accumulate {
    /// Every element rounded to `format`.
    fn forward(x: FloatTensor<Self>, format: &Format, rounding: Rounding) -> FloatTensor<Self> {
        composed::round_to_format::<Self>(x, format, rounding)
    }

    /// `grad` where `min <= x <= max`, zero elsewhere.
    fn gradient_within(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        min: f32,
        max: f32,
    ) -> FloatTensor<Self> {
        crate::ops::backend::composed::gradient_within::<Self>(x, grad, min, max)
    }
}

impl FakeQuantizeKernel for Flex {
    fn forward(x: FlexTensor, format: &Format, rounding: Rounding) -> FlexTensor {
        flex::in_f32(x, |x| {
            // A block format or a stochastic rounding counts elements in row-major order.
            let counts = matches!(format, Format::Block(_))
                || matches!(rounding, Rounding::Stochastic { .. });
            let mut x = if counts {
                flex::contiguous(x)
            } else {
                flex::dense(x)
            };
            if let Some(data) = x.try_storage_mut::<f32>() {
                format.quantize_in_place(data, rounding).expect(CHECKED);
                return x;
            }
            let mut rounded = Buffer::new(x.layout().num_elements());
            let input = x.storage::<f32>();
            format
                .quantize(input, &mut rounded, rounding)
                .expect(CHECKED);
            flex::from_buffer(rounded, x.layout().clone())
        })
    }

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
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl FakeQuantizeKernel for burn::backend::Cube {}

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
            let kernel = <Flex as FakeQuantizeKernel>::forward(flex(&x), &format, rounding);
            let plain = composed::round_to_format::<Flex>(flex(&x), &format, rounding);
            assert_eq!(read(kernel), read(plain));
        }
        let kernel = <Flex as FakeQuantizeKernel>::gradient_within(flex(&x), flex(&x), -1.0, 2.0);
        let plain =
            crate::ops::backend::composed::gradient_within::<Flex>(flex(&x), flex(&x), -1.0, 2.0);
        assert_eq!(read(kernel), read(plain));
    }
}
