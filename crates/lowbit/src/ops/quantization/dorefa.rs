//! DoReFa-Net weight quantization.
//!
//! Zhou, Wu, Ni, Zhou, Wen, Zou, "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks
//! with Low Bitwidth Gradients", arXiv 1606.06160, equations 7 to 10. Its activation quantization
//! (equation 11) is [`fake_quantize`](crate::ops::fake_quantize()) to the format `unit(k)`.

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::{FloatTensor, IndexingUpdateOp};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{Shape, Tensor};
use lowbit_formats::kernel;

use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator};
use lowbit_kernels::elementwise::update_and_sum_all;
use lowbit_kernels::tanh::tanh;

/// Rounds weights to `bits` bits as DoReFa-Net does.
///
/// - `bits = 1` (equation 7, section 2.3): `y = sign(w) * mean(|w|)`, with `sign(0) = 1`; the
///   gradient passes unchanged.
/// - `bits = k` from 2 to 31 (equations 9 and 10): `y = 2 * round_k(tanh(w) / (2 m) + 1/2) - 1` with
///   `m = max |tanh(w)|` over the whole tensor and `round_k(v) = round((2^k - 1) v) / (2^k - 1)`,
///   ties to even. The gradient is that of `tanh(w) / m`, the rounding being passed straight
///   through: `g_i (1 - t_i^2) / m`, less `sign(t_j) (1 - t_j^2) / m^2 * sum_i(g_i t_i)` at the
///   weight `j` of largest magnitude (the first, if there are several), through which `m` depends
///   on the weights.
///
/// A tensor of zeros has `m = 0`; `tanh(w) / m` is then taken as 0 and its gradient as 0.
///
/// # Shapes
/// `w` and the result: any shape, the same.
///
/// # Panics
/// If `bits` is not from 1 to 31.
pub fn dorefa_weight<const D: usize>(w: Tensor<D>, bits: u32) -> Tensor<D> {
    dorefa_weight_as(w, bits, DorefaReading::default())
}

/// How equation 9 is read. The paper's result has the range from -1 to 1, and its maximum depends on
/// the weights; where implementations differ, it is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DorefaReading {
    /// Whether the result is multiplied by `m`, which brings it back to the range of `tanh(w)`. Its
    /// gradient is then `g_i (1 - t_i^2)`, and at the weight `j` of largest magnitude more, through
    /// `m`: `sign(t_j) (1 - t_j^2) sum_i(g_i (q_i - t_i / m))` with the unscaled result `q`.
    pub scaled_by_maximum: bool,
    /// Whether `m` is a constant on the way back, so that its weight's gradient lacks the part
    /// through it.
    pub constant_maximum: bool,
}

/// [`dorefa_weight()`] in one of the readings of equation 9; one bit has only one.
///
/// # Panics
/// If `bits` is not from 1 to 31.
pub fn dorefa_weight_as<const D: usize>(
    w: Tensor<D>,
    bits: u32,
    reading: DorefaReading,
) -> Tensor<D> {
    DorefaWeight { bits, reading }.apply(w)
}

/// The operator behind [`dorefa_weight()`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct DorefaWeight {
    pub(crate) bits: u32,
    pub(crate) reading: DorefaReading,
}

impl DorefaWeight {
    /// See [`dorefa_weight()`].
    pub(crate) fn apply<const D: usize>(self, w: Tensor<D>) -> Tensor<D> {
        let Self { bits, .. } = self;
        assert!((1..32).contains(&bits), "bits is {bits}, expected 1 to 31");
        operator::run(self, vec![w.into_dispatch()])
    }
}

impl Operator<1> for DorefaWeight {
    fn save_inputs<B: Backend>(&self, inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        match self.bits {
            1 => Vec::new(),
            _ => inputs.to_vec(),
        }
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [w] = inputs.tensors();
        vec![composed_forward::<B>(w, self.bits, self.reading)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let Some(w) = incoming.inputs.into_iter().next() else {
            return [Some(incoming.grad)];
        };
        [Some(composed_backward::<B>(w, incoming.grad, *self))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [w] = inputs.tensors();
        let Self { bits, reading } = *self;
        vec![flex::in_f32(w, |w| {
            let w = flex::contiguous(w);
            let data = w.storage::<f32>();
            if bits == 1 {
                let sum = kernel::fold(data, 0.0, |sum, w| sum + f64::from(w.abs()), |a, b| a + b);
                let mean = (sum / data.len() as f64) as f32;
                return flex::map(w, move |w| if w < 0.0 { -mean } else { mean });
            }
            let grid = TanhGrid::new(tanh(kernel::max_abs(data)), bits);
            match reading.scaled_by_maximum {
                true => flex::map(w, move |w| grid.round(tanh(w)) * grid.max),
                false => flex::map(w, move |w| grid.round(tanh(w))),
            }
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let Some(w) = incoming.inputs.into_iter().next() else {
            return [Some(incoming.grad)];
        };
        [Some(flex::in_f32(incoming.grad, |grad| {
            // Row-major, so that the first of several largest is the same everywhere.
            let w = flex::contiguous(flex::to_f32(w));
            let (grad, ()) = flex::replace(w, flex::contiguous(grad), |w, grad| {
                self.gradients(w, grad);
            });
            grad
        }))]
    }
}

impl DorefaWeight {
    /// Turns the gradient of the result into that of the weights `w`, in place.
    fn gradients(self, w: &[f32], grad: &mut [f32]) {
        let Self { bits, reading } = self;
        let largest = kernel::max_abs(w);
        let max = tanh(largest);
        let grid = TanhGrid::new(max, bits);
        let (up, inverse) = (grid.up, 2.0 * grid.half_inverse);
        // Gradients beyond every f32, as those to subnormal weights are, stay finite.
        let finite = |g: f32| g.clamp(f32::MIN, f32::MAX);
        let through_max = if reading.scaled_by_maximum {
            let [sum] = update_and_sum_all(
                w,
                grad,
                #[inline(always)]
                move |w, g| {
                    let t = tanh(w);
                    (g * (1.0 - t * t), [g * (grid.round(t) - t * inverse * up)])
                },
            );
            -(1.0 - max * max) * sum as f32
        } else {
            let [sum] = update_and_sum_all(
                w,
                grad,
                #[inline(always)]
                move |w, g| {
                    let t = tanh(w);
                    (g * (1.0 - t * t) * inverse * up, [g * t])
                },
            );
            if up != 1.0 {
                grad.iter_mut().for_each(|g| *g = finite(*g));
            }
            // Each product stays in range, where the square of the inverse might not.
            let slope = (1.0 - max * max) * inverse;
            slope * up * (sum as f32 * inverse * up)
        };
        // Of zeros none is the largest.
        if reading.constant_maximum || max == 0.0 {
            return;
        }
        if let Some(j) = w.iter().position(|w| w.abs() == largest) {
            grad[j] -= w[j].signum() * finite(through_max);
        }
    }
}

/// The grid of equation 9 for hyperbolic tangents up to `max`.
#[derive(Clone, Copy)]
struct TanhGrid {
    max: f32,
    up: f32,
    half_inverse: f32,
    levels: f32,
}

impl TanhGrid {
    fn new(max: f32, bits: u32) -> Self {
        let (up, half_inverse) = half_inverse(max);
        Self {
            max,
            up,
            half_inverse,
            levels: ((1u64 << bits) - 1) as f32,
        }
    }

    /// The value, from -1 to 1, that a hyperbolic tangent becomes.
    #[inline(always)]
    fn round(self, t: f32) -> f32 {
        let unit = t * self.up * self.half_inverse + 0.5;
        2.0 * ((self.levels * unit).round_ties_even() / self.levels) - 1.0
    }
}

/// Two factors whose product is `1 / (2 max)`, or zero where `max` is. The first is 1, but for a
/// `max` so small that no f32 holds its inverse.
fn half_inverse(max: f32) -> (f32, f32) {
    if max == 0.0 {
        (1.0, 0.0)
    } else if max < f32::MIN_POSITIVE {
        (UP, 0.5 / (max * UP))
    } else {
        (1.0, 0.5 / max)
    }
}

/// Brings every subnormal number to where its inverse is an f32: 2^64.
const UP: f32 = 18_446_744_073_709_551_616.0;

/// The rounded weights, composed of tensor primitives.
fn composed_forward<B: Backend>(
    w: FloatTensor<B>,
    bits: u32,
    reading: DorefaReading,
) -> FloatTensor<B> {
    let bools = get_or_init_device_settings::<B>(&w.device()).bool_dtype;
    if bits == 1 {
        let mean = spread::<B>(B::float_mean(B::float_abs(w.clone())), &w);
        let negative = B::float_lower_elem(w, 0.0f32.into(), bools);
        return B::float_mask_where(mean.clone(), negative, B::float_neg(mean));
    }
    let t = B::float_tanh(w);
    let rounded = composed_round::<B>(over_max::<B>(t.clone()), bits);
    match reading.scaled_by_maximum {
        true => B::float_mul(rounded, spread::<B>(B::float_max_abs(t.clone()), &t)),
        false => rounded,
    }
}

/// Numbers from -1 to 1, rounded to the grid.
fn composed_round<B: Backend>(over_max: FloatTensor<B>, bits: u32) -> FloatTensor<B> {
    let levels = ((1u64 << bits) - 1) as f32;
    let unit = B::float_add_scalar(B::float_mul_scalar(over_max, 0.5f32.into()), 0.5f32.into());
    let rounded = B::float_round(B::float_mul_scalar(unit, levels.into()));
    let unit = B::float_div_scalar(rounded, levels.into());
    B::float_add_scalar(B::float_mul_scalar(unit, 2.0f32.into()), (-1.0f32).into())
}

/// The gradient to the weights, composed of tensor primitives.
fn composed_backward<B: Backend>(
    w: FloatTensor<B>,
    grad: FloatTensor<B>,
    DorefaWeight { bits, reading }: DorefaWeight,
) -> FloatTensor<B> {
    let settings = get_or_init_device_settings::<B>(&w.device());
    let shape = w.shape();
    let flat = Shape::new([shape.num_elements()]);
    let t = B::float_reshape(B::float_tanh(w), flat.clone());
    let grad = B::float_reshape(grad, flat);
    let max = B::float_max_abs(t.clone());
    let inverse = inverse_or_zero::<B>(max);
    let slope = B::float_add_scalar(
        B::float_neg(B::float_mul(t.clone(), t.clone())),
        1.0f32.into(),
    );
    let (slope, sum) = if reading.scaled_by_maximum {
        let over_max = over_max::<B>(t.clone());
        let error = B::float_sub(over_max.clone(), composed_round::<B>(over_max, bits));
        (slope, B::float_sum(B::float_mul(grad.clone(), error)))
    } else {
        let sum = B::float_sum(B::float_mul(grad.clone(), t.clone()));
        let slope = B::float_mul(slope, inverse.clone());
        (slope, B::float_mul(sum, inverse))
    };
    let direct = B::float_mul(grad, slope.clone());
    if reading.constant_maximum {
        return B::float_reshape(direct, shape);
    }
    // The first weight of largest magnitude also moves the maximum.
    let j = B::float_argmax(B::float_abs(t.clone()), 0, settings.int_dtype);
    let sign = B::float_sign(B::float_select(t, 0, j.clone()));
    let through_max = B::float_mul(
        B::float_mul(sign, B::float_select(slope, 0, j.clone())),
        sum,
    );
    let change = B::float_neg(through_max);
    let grad = B::float_select_assign(direct, 0, j, change, IndexingUpdateOp::Add);
    B::float_reshape(grad, shape)
}

/// A single number, repeated to the shape of `like`.
fn spread<B: Backend>(number: FloatTensor<B>, like: &FloatTensor<B>) -> FloatTensor<B> {
    let shape = like.shape();
    let ones = Shape::from(vec![1; shape.num_dims()]);
    B::float_expand(B::float_reshape(number, ones), shape)
}

/// `t / max |t|`, or zeros where every element is zero.
fn over_max<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    let bools = get_or_init_device_settings::<B>(&t.device()).bool_dtype;
    let max = B::float_max_abs(t.clone());
    // The inverse of a subnormal number may be none; 2^64 times as much has one.
    let small = B::float_lower_elem(max.clone(), f32::MIN_POSITIVE.into(), bools);
    let up = B::float_ones(max.shape(), &max.device(), max.dtype().into());
    let up = B::float_mask_fill(up, small, UP.into());
    let inverse = inverse_or_zero::<B>(B::float_mul(max, up.clone()));
    let (up, inverse) = (spread::<B>(up, &t), spread::<B>(inverse, &t));
    B::float_mul(B::float_mul(t, up), inverse)
}

/// `1 / x`, or zero where `x` is.
fn inverse_or_zero<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let bools = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    let zero = B::float_lower_equal_elem(x.clone(), 0.0f32.into(), bools);
    B::float_mask_fill(B::float_recip(x), zero, 0.0f32.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::backend::operator::array;
    use burn::tensor::{Device, TensorData};

    fn quantized(w: &[f32], bits: u32) -> Vec<f32> {
        let data = TensorData::new(w.to_vec(), [w.len()]);
        let w = Tensor::<1>::from_data(data, &Device::flex());
        dorefa_weight(w, bits).into_data().iter::<f32>().collect()
    }

    #[test]
    fn one_bit_is_the_sign_times_the_mean_magnitude() {
        // Mean of 1, 2, 0, 5 is 2.
        assert_eq!(quantized(&[1.0, -2.0, 0.0, 5.0], 1), [2.0, -2.0, 2.0, 2.0]);
    }

    /// tanh w = w for numbers so small; over the largest, 1.4e-39, they are 1, -0.357 and 0: 1, 0.32
    /// and 0.5 of the way, 3, 0.96 and 1.5 steps, so 1, -1/3 and 1/3.
    #[test]
    fn subnormal_weights_are_weights() {
        let w = [1.4e-39, -5e-40, 0.0];
        let expected = [1.0, -1.0 / 3.0, 1.0 / 3.0];
        for (q, e) in quantized(&w, 2).iter().zip(expected) {
            assert!((q - e).abs() < 1e-6, "{q} {e}");
        }
        let device = Device::flex().autodiff();
        let w = Tensor::<1>::from_floats(w, &device).require_grad();
        let loss =
            (dorefa_weight(w.clone(), 2) * Tensor::from_floats([1.0, 2.0, 0.0], &device)).sum();
        let grad = w.grad(&loss.backward()).unwrap().into_data();
        let grad: Vec<f32> = grad.iter().collect();
        // The slope is 1 / 1.4e-39, which is beyond every f32, and 0 where no gradient comes.
        assert_eq!(grad[1..], [f32::MAX, 0.0]);
        assert!(grad[0].is_finite());
    }

    #[test]
    fn two_bits_by_hand() {
        // tanh: 0.76159, -0.46212, 0.09967, 0; over the largest, halved, plus a half: 1, 0.19661,
        // 0.56543, 0.5; times 3: 3, 0.58983, 1.69630, 1.5; rounded: 3, 1, 2, 2; 2/3 of it less 1.
        let q = quantized(&[1.0, -0.5, 0.1, 0.0], 2);
        let expected = [1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0];
        for (q, e) in q.iter().zip(expected) {
            assert!((q - e).abs() < 1e-6, "{q} {e}");
        }
    }

    #[test]
    fn zeros_give_the_middle_of_the_grid() {
        // 15 * 1/2 = 7.5 rounds to the even 8: 2 * 8/15 - 1.
        for q in quantized(&[0.0, 0.0], 4) {
            assert!((q - 1.0 / 15.0).abs() < 1e-6, "{q}");
        }
    }

    #[test]
    fn the_gradient_is_that_of_tanh_over_its_maximum() {
        let device = Device::flex().autodiff();
        let w: Vec<f32> = (0..40).map(|i| (i as f32 * 0.71).sin() * 1.3).collect();
        let g: Vec<f32> = (0..40).map(|i| (i as f32 * 1.3).cos()).collect();
        let data = |v: &[f32]| TensorData::new(v.to_vec(), [5, 8]);
        let wt = Tensor::<2>::from_data(data(&w), &device).require_grad();
        let loss = (dorefa_weight(wt.clone(), 4) * Tensor::from_data(data(&g), &device)).sum();
        let grad: Vec<f32> = wt
            .grad(&loss.backward())
            .unwrap()
            .into_data()
            .iter()
            .collect();

        let w: Vec<f64> = w.into_iter().map(f64::from).collect();
        let loss = |w: &[f64]| {
            let max = w.iter().fold(0.0f64, |m, w| m.max(w.tanh().abs()));
            w.iter()
                .zip(&g)
                .map(|(w, &g)| w.tanh() / max * f64::from(g))
                .sum::<f64>()
        };
        let h = 1e-6;
        for i in 0..w.len() {
            let moved = |by: f64| {
                let mut w = w.clone();
                w[i] += by;
                loss(&w)
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            assert!(
                (f64::from(grad[i]) - slope).abs() < 1e-5,
                "w[{i}]: {} {slope}",
                grad[i]
            );
        }
    }

    #[test]
    fn one_bit_passes_the_gradient() {
        let device = Device::flex().autodiff();
        let w = Tensor::<1>::from_floats([0.5, -3.0], &device).require_grad();
        let loss = (dorefa_weight(w.clone(), 1) * Tensor::from_floats([2.0, 7.0], &device)).sum();
        let grad: Vec<f32> = w
            .grad(&loss.backward())
            .unwrap()
            .into_data()
            .iter()
            .collect();
        assert_eq!(grad, [2.0, 7.0]);
    }

    #[test]
    fn the_composed_passes_agree_with_the_kernels() {
        let flex = |v: &[f32]| FlexTensor::from_data(TensorData::new(v.to_vec(), [6, 10]));
        let read = |t: FlexTensor| t.into_data().iter::<f32>().collect::<Vec<_>>();
        let w: Vec<f32> = (0..60).map(|i| (i as f32 * 0.71).sin() * 1.3).collect();
        let g: Vec<f32> = (0..60).map(|i| (i as f32 * 1.3).cos()).collect();
        let zeros = vec![0.0; 60];
        let tiny: Vec<f32> = w.iter().map(|w| w * 1e-39).collect();
        let readings = [false, true].map(|scaled_by_maximum| {
            [false, true].map(|constant_maximum| DorefaReading {
                scaled_by_maximum,
                constant_maximum,
            })
        });
        for reading in readings.concat() {
            for (w, has_gradients) in [(&w, true), (&zeros, true), (&tiny, false)] {
                for bits in [1, 2, 4, 8] {
                    let operator = DorefaWeight { bits, reading };
                    let [kernel] = array(operator.flex_forward(Inputs::new(vec![flex(w)])));
                    let [plain] = array(operator.forward::<Flex>(Inputs::new(vec![flex(w)])));
                    let (kernel, plain) = (read(kernel), read(plain));
                    for (a, b) in kernel.iter().zip(&plain) {
                        assert!((a - b).abs() < 1e-6, "{bits} bits, {reading:?}: {a} {b}");
                    }
                }
                if !has_gradients {
                    continue;
                }
                let incoming = || Incoming::new(vec![flex(w)], flex(&g));
                let operator = DorefaWeight { bits: 2, reading };
                let [kernel] = operator.flex_backward(incoming()).map(Option::unwrap);
                let [plain] = operator.backward::<Flex>(incoming()).map(Option::unwrap);
                let (kernel, plain) = (read(kernel), read(plain));
                for (a, b) in kernel.iter().zip(&plain) {
                    assert!((a - b).abs() < 1e-5, "{reading:?}: {a} {b}");
                }
            }
        }
    }
}
