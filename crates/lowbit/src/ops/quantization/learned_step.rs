//! LSQ: uniform quantization with a learned step.
//!
//! Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned Step Size Quantization", arXiv 1902.08153,
//! section 2.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{Shape, Tensor};

use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{Method, Pointwise, Quantize, Rounding, Steps, positive};

/// Rounds `x` to multiples of a learned step.
///
/// With `b` bits, `Q_n = 2^(b-1)` and `Q_p = 2^(b-1) - 1` where `signed` is 1, and `Q_n = 0` and
/// `Q_p = 2^b - 1` where it is 0:
///
/// - forward (section 2): `q = round(clip(x / s, -Q_n, Q_p)) s`, ties to even;
/// - gradient to the step (section 2.1), summed, times `gradient_scale`:
///   `dq/ds = round(x / s) - x / s` where `-Q_n < x / s < Q_p`, `-Q_n` below, `Q_p` above;
/// - gradient to the input: 1 where `-Q_n < x / s < Q_p`, 0 elsewhere.
///
/// The paper's gradient scale is `1 / sqrt(N Q_p)` with `N` the numbers of the weight, or of one
/// sample of the activation (section 2.2). A step that training has brought to zero or below counts
/// as the least normal `f32`. `signed` gets no gradient.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `step`: `[1]`, or `[x.dims()[axis]]` for one per index of `axis`.
/// - `signed`: `[1]`, 1.0 or 0.0.
///
/// # Panics
/// If `step` has neither length, or `bits` is not from 2 to 16.
pub fn learned_step<const D: usize>(
    x: Tensor<D>,
    step: Tensor<1>,
    signed: Tensor<1>,
    bits: u32,
    gradient_scale: f32,
    axis: usize,
) -> Tensor<D> {
    let method = LearnedStep {
        bits,
        gradient_scale,
    };
    Quantize { method, axis }.apply(x, vec![step, signed])
}

/// The method, whose parameters are the step and the sign.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LearnedStep {
    pub(crate) bits: u32,
    pub(crate) gradient_scale: f32,
}

impl Method<1> for LearnedStep {
    const PARAMETERS: usize = 2;

    type Rounding = ToSteps;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        let Self { bits, .. } = self;
        assert!((2..=16).contains(bits), "bits is {bits}, expected 2 to 16");
        let [steps] = parameters[0].dims();
        assert!(
            steps == 1 || steps == dims[axis],
            "step has {steps} steps, expected 1 or the {} indices of axis {axis}",
            dims[axis]
        );
    }

    /// A learned step is no power of two.
    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        None
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        let to = self.prepare(parameters);
        let integers = [to.least as i64, to.greatest as i64];
        Some(ValueGrid::new(to.step.into(), integers))
    }

    fn prepare(&self, parameters: &[f32]) -> ToSteps {
        let magnitudes = (self.bits as f32 - parameters[1]).exp2();
        ToSteps {
            step: positive(parameters[0]),
            least: -magnitudes * parameters[1],
            greatest: magnitudes - 1.0,
            gradient_scale: self.gradient_scale,
        }
    }

    fn round<B: Backend>(
        &self,
        x: FloatTensor<B>,
        parameters: &[FloatTensor<B>],
        axis: usize,
    ) -> FloatTensor<B> {
        let steps = TensorSteps::<B>::new(&x.shape(), parameters, self.bits, axis);
        let clipped = steps.clip(B::float_div(x, steps.step.clone()));
        B::float_mul(B::float_round(clipped.scaled), steps.step)
    }

    fn gradients<B: Backend>(
        &self,
        x: FloatTensor<B>,
        parameters: &[FloatTensor<B>],
        axis: usize,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, [FloatTensor<B>; 1]) {
        let shape = x.shape();
        let count = parameters[0].shape().num_elements();
        let steps = TensorSteps::<B>::new(&shape, parameters, self.bits, axis);
        let scaled = B::float_div(x, steps.step.clone());
        let clipped = steps.clip(scaled.clone());
        let slope = B::float_sub(B::float_round(scaled.clone()), scaled);
        let slope = B::float_mask_where(slope, clipped.low.clone(), steps.least);
        let slope = B::float_mask_where(slope, clipped.high.clone(), steps.greatest);
        let to_step = B::float_mul(slope, grad.clone());
        let summed: Vec<usize> = (0..shape.num_dims())
            .filter(|&d| count == 1 || d != axis)
            .collect();
        let to_step = B::float_mul_scalar(
            B::float_sum_dims(to_step, &summed),
            self.gradient_scale.into(),
        );
        let grad = B::float_mask_fill(grad, clipped.low, 0.0f32.into());
        let grad = B::float_mask_fill(grad, clipped.high, 0.0f32.into());
        (grad, [B::float_reshape(to_step, Shape::new([count]))])
    }
}

/// Rounding to multiples of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToSteps {
    step: f32,
    least: f32,
    greatest: f32,
    gradient_scale: f32,
}

impl Rounding<1> for ToSteps {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        let scaled = x / self.step;
        let scaled = if scaled < self.least {
            self.least
        } else {
            scaled
        };
        let scaled = if scaled > self.greatest {
            self.greatest
        } else {
            scaled
        };
        scaled.round_ties_even() * self.step
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 1]) {
        let scaled = x / self.step;
        let (low, high) = (scaled <= self.least, scaled >= self.greatest);
        let slope = if low {
            self.least
        } else if high {
            self.greatest
        } else {
            scaled.round_ties_even() - scaled
        };
        let grad_x = if low || high { 0.0 } else { grad };
        (grad_x, [grad * slope * self.gradient_scale])
    }
}

/// A step and its limits as tensors of the input's shape.
struct TensorSteps<B: Backend> {
    step: FloatTensor<B>,
    least: FloatTensor<B>,
    greatest: FloatTensor<B>,
}

/// Numbers in steps, held to the limits, and which of them were at or beyond one.
struct Clipped<B: Backend> {
    scaled: FloatTensor<B>,
    low: burn::backend::tensor::BoolTensor<B>,
    high: burn::backend::tensor::BoolTensor<B>,
}

impl<B: Backend> TensorSteps<B> {
    fn new(shape: &Shape, parameters: &[FloatTensor<B>], bits: u32, axis: usize) -> Self {
        let (step, signed) = (parameters[0].clone(), parameters[1].clone());
        let bools = get_or_init_device_settings::<B>(&step.device()).bool_dtype;
        let unusable = B::float_lower_equal_elem(step.clone(), 0.0f32.into(), bools);
        let step = B::float_mask_fill(step, unusable, f32::MIN_POSITIVE.into());
        let half = (2.0f32).powi(bits as i32 - 1);
        // 2^b - 1 without a sign, 2^(b-1) - 1 with one.
        let greatest = B::float_add_scalar(
            B::float_mul_scalar(signed.clone(), (-half).into()),
            (2.0 * half - 1.0).into(),
        );
        let least = B::float_mul_scalar(signed, (-half).into());
        let spread = |t: FloatTensor<B>| {
            let mut dims = vec![1; shape.num_dims()];
            let count = t.shape().num_elements();
            if count > 1 {
                dims[axis] = count;
            }
            B::float_expand(B::float_reshape(t, Shape::from(dims)), shape.clone())
        };
        Self {
            step: spread(step),
            least: spread(least),
            greatest: spread(greatest),
        }
    }

    fn clip(&self, scaled: FloatTensor<B>) -> Clipped<B> {
        let bools = get_or_init_device_settings::<B>(&scaled.device()).bool_dtype;
        let low = B::float_lower_equal(scaled.clone(), self.least.clone(), bools);
        let high = B::float_greater_equal(scaled.clone(), self.greatest.clone(), bools);
        let scaled = B::float_mask_where(scaled, low.clone(), self.least.clone());
        let scaled = B::float_mask_where(scaled, high.clone(), self.greatest.clone());
        Clipped { scaled, low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::flex::{Flex, FlexTensor};
    use burn::tensor::{Device, TensorData};

    use crate::ops::backend::operator::{Incoming, Inputs, Operator, array};

    fn tensor(values: &[f32], device: &Device) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
    }

    fn values(t: Tensor<1>) -> Vec<f32> {
        t.into_data().iter::<f32>().collect()
    }

    /// 3 bits: -4 to 3 with a sign, 0 to 7 without; the step is 0.3. In steps, 0.44 / 0.3 = 1.47,
    /// 0.46 / 0.3 = 1.53, -1.4 / 0.3 = -4.7.
    #[test]
    fn values_by_hand() {
        let device = Device::flex();
        let round = |signed| {
            let x = tensor(&[0.44, 0.46, 5.0, -1.4, -0.1], &device);
            let parameters = [0.3, signed].map(|value| tensor(&[value], &device));
            let [step, signed] = parameters;
            values(learned_step(x, step, signed, 3, 1.0, 0))
        };
        let step = 0.3f32;
        assert_eq!(round(1.0), [step, 2.0 * step, 3.0 * step, -4.0 * step, 0.0]);
        assert_eq!(round(0.0), [step, 2.0 * step, 7.0 * step, 0.0, 0.0]);
    }

    /// Signed 3 bits and a step of 0.5. In steps the numbers are 0.4, 2.6, 3, 9, -4 and -7: the
    /// first two give round(v) - v, -0.4 and 0.4; the others are at or beyond a limit and give it,
    /// 3, 3, -4, -4. With the gradients 1, 2, 4, 8, 16, 32 the sum is -0.4 + 0.8 + 12 + 24 - 64 -
    /// 128 = -155.6, times the scale 0.25.
    #[test]
    fn gradients_by_hand() {
        let device = Device::flex().autodiff();
        let x = tensor(&[0.2, 1.3, 1.5, 4.5, -2.0, -3.5], &device).require_grad();
        let step = tensor(&[0.5], &device).require_grad();
        let signed = tensor(&[1.0], &device);
        let y = learned_step(x.clone(), step.clone(), signed, 3, 0.25, 0);
        let weights = tensor(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0], &device);
        let grads = (y * weights).sum().backward();
        assert_eq!(
            values(x.grad(&grads).unwrap()),
            [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]
        );
        let to_step = values(step.grad(&grads).unwrap())[0];
        assert!((to_step - -38.9).abs() < 1e-4, "{to_step}");
    }

    #[test]
    fn a_step_of_zero_or_below_is_the_least_one() {
        let device = Device::flex();
        for step in [0.0, -1.0] {
            let x = tensor(&[1.0, 0.0], &device);
            let y = learned_step(
                x,
                tensor(&[step], &device),
                tensor(&[1.0], &device),
                4,
                1.0,
                0,
            );
            assert_eq!(values(y), [7.0 * f32::MIN_POSITIVE, 0.0]);
        }
    }

    #[test]
    fn the_composed_passes_agree_with_the_kernels() {
        let flex = |v: &[f32], shape: &[usize]| {
            FlexTensor::from_data(TensorData::new(v.to_vec(), shape.to_vec()))
        };
        let read = |t: FlexTensor| t.into_data().iter::<f32>().collect::<Vec<_>>();
        let shape = [2, 3, 5];
        let x: Vec<f32> = (0..30).map(|i| (i as f32 * 0.71).sin() * 2.3).collect();
        let g: Vec<f32> = (0..30).map(|i| (i as f32 * 1.3).cos()).collect();
        for (steps, signed) in [(&[0.3][..], 1.0), (&[0.2, -1.0, 0.7], 0.0)] {
            let inputs = || {
                vec![
                    flex(&x, &shape),
                    flex(steps, &[steps.len()]),
                    flex(&[signed], &[1]),
                ]
            };
            let method = LearnedStep {
                bits: 3,
                gradient_scale: 0.125,
            };
            let quantize = Quantize { method, axis: 1 };
            let [kernel] = array(quantize.flex_forward(Inputs::new(inputs())));
            let [plain] = array(quantize.forward::<Flex>(Inputs::new(inputs())));
            assert_eq!(read(kernel), read(plain));
            let incoming = || Incoming::new(inputs(), flex(&g, &shape));
            let [kx, ks, _] = quantize.flex_backward(incoming());
            let [cx, cs, _] = quantize.backward::<Flex>(incoming());
            assert_eq!(read(kx.unwrap()), read(cx.unwrap()));
            for (a, b) in read(ks.unwrap()).into_iter().zip(read(cs.unwrap())) {
                assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} {b}");
            }
        }
    }
}
