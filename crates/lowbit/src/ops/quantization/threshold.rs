//! TQT: uniform quantization with a trained power-of-two threshold.
//!
//! Jain, Gural, Wu, Dick, "Trained Quantization Thresholds for Accurate and Efficient Fixed-Point
//! Inference of Deep Neural Networks", arXiv 1903.08066, equations 4 to 8.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{Shape, Tensor, TensorData};
use lowbit_formats::{self as formats, IntegerGrid, IntegerRange, IntegerRounding};

use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{Method, Pointwise, Quantize, Rounding, Steps};

/// The exponents that a step is held to, so that step and inverse are normal floats.
const EXPONENTS: (f32, f32) = {
    let (least, greatest) = (IntegerGrid::EXPONENTS.start(), IntegerGrid::EXPONENTS.end());
    (*least as f32, *greatest as f32)
};

/// Rounds `x` to a uniform grid whose step is a power of two set by a trained threshold.
///
/// With `b` bits, `s = 2^(ceil(log2_t) - (b - 1))`, `n = -2^(b-1)`, `p = 2^(b-1) - 1` where
/// `signed` is 1, and `s = 2^(ceil(log2_t) - b)`, `n = 0`, `p = 2^b - 1` where it is 0:
///
/// - forward (equation 4): `q = clip(round(x / s), n, p) * s`, ties to even, or up where `ties` says so;
/// - gradient to the threshold (equation 7), summed to its shape:
///   `dq/d(log2_t) = s ln 2 * (round(x/s) - x/s)` where `n <= round(x/s) <= p`, `s ln 2 * n` below,
///   `s ln 2 * p` above;
/// - gradient to the input (equation 8): 1 where `n <= round(x/s) <= p`, 0 elsewhere.
///
/// The gradient does not go through the ceiling (straight-through), and `signed` gets none.
///
/// # Shapes
/// - `x` and the result: any shape, the same.
/// - `log2_t`: `[1]` for one threshold, or `[x.dims()[axis]]` for one per index of `axis`.
/// - `signed`: `[1]`, 1.0 or 0.0.
///
/// # Panics
/// If `log2_t` has neither length, `bits` is not from 2 to 24, or `ties` is neither
/// [`NearestEven`](formats::Rounding::NearestEven) nor [`NearestUp`](formats::Rounding::NearestUp).
pub fn trained_threshold<const D: usize>(
    x: Tensor<D>,
    log2_t: Tensor<1>,
    signed: Tensor<1>,
    (bits, ties): (u32, formats::Rounding),
    axis: usize,
) -> Tensor<D> {
    let method = TrainedThreshold { bits, ties };
    Quantize { method, axis }.apply(x, vec![log2_t, signed])
}

/// The method, whose parameters are the threshold's logarithm and the sign.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrainedThreshold {
    pub(crate) bits: u32,
    /// To nearest, ties to even or up.
    pub(crate) ties: formats::Rounding,
}

impl TrainedThreshold {
    fn rounding(&self, parameters: &[f32]) -> Option<IntegerRounding> {
        let signed = parameters[1] != 0.0;
        let grid = IntegerGrid::from_log2_threshold(parameters[0], self.bits, signed)?;
        Some(match self.ties {
            formats::Rounding::NearestUp => grid.rounding().with_ties_up(),
            _ => grid.rounding(),
        })
    }

    /// Numbers of steps as whole numbers.
    fn nearest<B: Backend>(&self, scaled: FloatTensor<B>) -> FloatTensor<B> {
        let even = B::float_round(scaled.clone());
        if self.ties != formats::Rounding::NearestUp {
            return even;
        }
        let bools = get_or_init_device_settings::<B>(&even.device()).bool_dtype;
        let above = B::float_sub(scaled, even.clone());
        let tie = B::float_equal_elem(above, 0.5f32.into(), bools);
        let next = B::float_add_scalar(even.clone(), 1.0f32.into());
        B::float_mask_where(even, tie, next)
    }
}

impl Method<1> for TrainedThreshold {
    const PARAMETERS: usize = 2;

    type Rounding = ToGrid;

    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
        let Self { bits, ties } = self;
        assert!((2..=24).contains(bits), "bits is {bits}, expected 2 to 24");
        let known = [formats::Rounding::NearestEven, formats::Rounding::NearestUp];
        assert!(
            known.contains(ties),
            "ties is {ties}, expected nearest-even or nearest-up"
        );
        let [channels] = parameters[0].dims();
        assert!(
            channels == 1 || channels == dims[axis],
            "log2_t has {channels} thresholds, expected 1 or the {} indices of axis {axis}",
            dims[axis]
        );
    }

    fn steps(&self, parameters: &[Tensor<1>]) -> Option<Steps> {
        let [log2_t, signed] = [0, 1].map(|i| parameters[i].clone().detach());
        let magnitude_bits = signed.neg() + self.bits;
        let log2_step = log2_t.ceil() - magnitude_bits;
        // Whether there is a sign is in a tensor, too.
        let range = |signed| Some(IntegerGrid::new(self.bits, signed, 0).ok()?.range());
        Some(Steps {
            range: IntegerRange {
                min: range(true)?.min,
                ..range(false)?
            },
            trained: Some(log2_step.clamp(EXPONENTS.0, EXPONENTS.1)),
        })
    }

    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid> {
        let signed = parameters[1] != 0.0;
        let grid = IntegerGrid::from_log2_threshold(parameters[0], self.bits, signed)?;
        let IntegerRange { min, max, .. } = grid.range();
        Some(ValueGrid {
            rounding: Some(self.ties),
            ..ValueGrid::new(grid.step().into(), [min as i64, max as i64])
        })
    }

    fn prepare(&self, parameters: &[f32]) -> ToGrid {
        let rounding = self.rounding(parameters);
        ToGrid(rounding.unwrap_or_else(IntegerRounding::not_a_number))
    }

    fn round<B: Backend>(
        &self,
        x: FloatTensor<B>,
        parameters: &[FloatTensor<B>],
        axis: usize,
    ) -> FloatTensor<B> {
        let bools = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
        let grid = TensorGrid::<B>::new(&x.shape(), parameters, self.bits, axis);
        let r = self.nearest::<B>(B::float_mul(x, grid.inverse));
        let low = B::float_lower(r.clone(), grid.n.clone(), bools);
        let high = B::float_greater(r.clone(), grid.p.clone(), bools);
        let r = B::float_mask_where(r, low, grid.n);
        let r = B::float_mask_where(r, high, grid.p);
        B::float_mul(r, grid.scale)
    }

    fn gradients<B: Backend>(
        &self,
        x: FloatTensor<B>,
        parameters: &[FloatTensor<B>],
        axis: usize,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, [FloatTensor<B>; 1]) {
        let bools = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
        let channels = parameters[0].shape().num_elements();
        let shape = x.shape();
        let grid = TensorGrid::<B>::new(&shape, parameters, self.bits, axis);
        let scaled = B::float_mul(x, grid.inverse);
        let r = self.nearest::<B>(scaled.clone());
        let low = B::float_lower(r.clone(), grid.n.clone(), bools);
        let high = B::float_greater(r.clone(), grid.p.clone(), bools);
        let slope = B::float_sub(r, scaled);
        let slope = B::float_mask_where(slope, low.clone(), grid.n);
        let slope = B::float_mask_where(slope, high.clone(), grid.p);
        let slope = B::float_mul_scalar(
            B::float_mul(slope, grid.scale),
            std::f32::consts::LN_2.into(),
        );
        let to_threshold = B::float_mul(slope, grad.clone());
        let grad_x = B::float_mask_fill(grad, low, 0.0f32.into());
        let grad_x = B::float_mask_fill(grad_x, high, 0.0f32.into());
        let summed: Vec<usize> = (0..shape.num_dims())
            .filter(|&d| channels == 1 || d != axis)
            .collect();
        let grad_t = B::float_sum_dims(to_threshold, &summed);
        (grad_x, [B::float_reshape(grad_t, Shape::new([channels]))])
    }
}

/// Rounding to one threshold's grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToGrid(IntegerRounding);

impl Rounding<1> for ToGrid {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        self.0.round(x)
    }

    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 1]) {
        let grid = self.0;
        let scaled = x * grid.inverse;
        let r = grid.nearest(scaled);
        let within = r >= grid.least && r <= grid.greatest;
        let slope = if within {
            r - scaled
        } else if r < grid.least {
            grid.least
        } else {
            grid.greatest
        };
        let to_threshold = grad * (grid.step * std::f32::consts::LN_2 * slope);
        (if within { grad } else { 0.0 }, [to_threshold])
    }
}

/// A threshold's grid as tensors of the input's shape.
struct TensorGrid<B: Backend> {
    scale: FloatTensor<B>,
    inverse: FloatTensor<B>,
    n: FloatTensor<B>,
    p: FloatTensor<B>,
}

impl<B: Backend> TensorGrid<B> {
    fn new(shape: &Shape, parameters: &[FloatTensor<B>], bits: u32, axis: usize) -> Self {
        let (log2_t, signed) = (parameters[0].clone(), parameters[1].clone());
        let device = log2_t.device();
        let channels = log2_t.shape().num_elements();
        let signed = B::float_expand(signed, Shape::new([channels]));
        // The bits that hold the magnitude: all, less one for the sign.
        let magnitude_bits = B::float_add_scalar(B::float_neg(signed.clone()), bits.into());
        let exponent = B::float_clamp(
            B::float_sub(B::float_ceil(log2_t), magnitude_bits),
            EXPONENTS.0.into(),
            EXPONENTS.1.into(),
        );
        // A power function need not be exact on every device; a table is.
        let powers: Vec<f32> = (1..=253u32).map(|e| f32::from_bits(e << 23)).collect();
        let ints = get_or_init_device_settings::<B>(&device).int_dtype;
        let power_of_two = |exponent: FloatTensor<B>| {
            let table = B::float_from_data(TensorData::new(powers.clone(), [253]), &device);
            let index = B::float_into_int(B::float_add_scalar(exponent.clone(), 126.into()), ints);
            // A NaN threshold gives a NaN step.
            let nan = B::float_sub(exponent.clone(), exponent);
            B::float_add(B::float_select(table, 0, index), nan)
        };
        let high = (2.0f32).powi(bits as i32);
        let p = B::float_add_scalar(
            B::float_mul_scalar(signed.clone(), (-high / 2.0).into()),
            (high - 1.0).into(),
        );
        let n = B::float_mul_scalar(signed, (-high / 2.0).into());
        let mut dims = vec![1; shape.num_dims()];
        if channels > 1 {
            dims[axis] = channels;
        }
        let spread = |t| {
            B::float_expand(
                B::float_reshape(t, Shape::from(dims.clone())),
                shape.clone(),
            )
        };
        Self {
            scale: spread(power_of_two(exponent.clone())),
            inverse: spread(power_of_two(B::float_neg(exponent))),
            n: spread(n),
            p: spread(p),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::flex::{Flex, FlexTensor};
    use burn::tensor::{Device, TensorData};

    use crate::ops::backend::operator::{Incoming, Inputs, Operator, array};

    fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
    }

    fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
        t.into_data().iter::<f32>().collect()
    }

    const EVEN: formats::Rounding = formats::Rounding::NearestEven;

    fn threshold(x: &[f32], log2_t: f32, signed: f32, bits: u32) -> Vec<f32> {
        threshold_of(x, log2_t, signed, (bits, EVEN))
    }

    fn threshold_of(
        x: &[f32],
        log2_t: f32,
        signed: f32,
        bits: (u32, formats::Rounding),
    ) -> Vec<f32> {
        let device = Device::flex();
        let x = tensor(x, [x.len()], &device);
        let log2_t = tensor(&[log2_t], [1], &device);
        values(trained_threshold(
            x,
            log2_t,
            tensor(&[signed], [1], &device),
            bits,
            0,
        ))
    }

    #[test]
    fn signed_values_by_hand() {
        // 3 bits, threshold 2^ceil(0.3) = 2: step 2/4 = 0.5, integers -4 to 3.
        let x = [
            0.0, 0.24, 0.25, 0.26, 0.75, 1.5, 1.8, 9.0, -0.25, -2.0, -2.2, -7.0,
        ];
        let q = [
            0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 1.5, 1.5, 0.0, -2.0, -2.0, -2.0,
        ];
        assert_eq!(threshold(&x, 0.3, 1.0, 3), q);
    }

    /// The same grid; of -0.75, -0.25, 0.25 and 0.75, halves of its steps, each goes up.
    #[test]
    fn ties_go_up_where_they_are_asked_to() {
        let x = [-0.75, -0.25, 0.24, 0.25, 0.75, 1.25, -2.3, 9.0];
        let q = [-0.5, 0.0, 0.0, 0.5, 1.0, 1.5, -2.0, 1.5];
        let up = (3, formats::Rounding::NearestUp);
        assert_eq!(threshold_of(&x, 0.3, 1.0, up), q);
    }

    #[test]
    fn unsigned_values_by_hand() {
        // 2 bits, threshold 2^ceil(-0.5) = 1: step 1/4, integers 0 to 3.
        let x = [-1.0, 0.12, 0.125, 0.13, 0.375, 0.7, 1.0];
        let q = [0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 0.75];
        assert_eq!(threshold(&x, -0.5, 0.0, 2), q);
    }

    #[test]
    fn special_values() {
        let q = threshold(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN], 0.0, 1.0, 8);
        assert_eq!(q[..2], [127.0 / 128.0, -1.0]);
        assert!(q[2].is_nan());
        assert!(threshold(&[1.0], f32::NAN, 1.0, 8)[0].is_nan());
    }

    /// The function whose derivative equations 7 and 8 are: rounding moves a number by a constant
    /// or clips it, as it does at `x0`, and the exponent follows the threshold's logarithm without
    /// the ceiling's steps.
    fn surrogate(x: f64, x0: f64, log2_t: f64, log2_t0: f64, signed: bool, bits: u32) -> f64 {
        let magnitude = f64::from(bits) - f64::from(u8::from(signed));
        let (n, p) = (
            if signed { -magnitude.exp2() } else { 0.0 },
            magnitude.exp2() - 1.0,
        );
        let scale = |log2_t: f64| (log2_t0.ceil() + (log2_t - log2_t0) - magnitude).exp2();
        let rounded = (x0 / scale(log2_t0)).round_ties_even();
        if rounded < n {
            scale(log2_t) * n
        } else if rounded > p {
            scale(log2_t) * p
        } else {
            scale(log2_t) * (x / scale(log2_t) + (rounded - x0 / scale(log2_t0)))
        }
    }

    fn check_gradients(log2_t: &[f32], shape: [usize; 3], axis: usize, signed: bool, bits: u32) {
        let device = Device::flex().autodiff();
        let count = shape.iter().product::<usize>();
        // Spread over the range and beyond, away from the kinks of the surrogate.
        let x: Vec<f32> = (0..count)
            .map(|i| (i as f32 * 0.37).sin() * 3.1 + 0.011)
            .collect();
        let g: Vec<f32> = (0..count).map(|i| (i as f32 * 1.7).cos()).collect();
        let xt = tensor(&x, shape, &device).require_grad();
        let lt = tensor(log2_t, [log2_t.len()], &device).require_grad();
        let st = tensor(&[f32::from(u8::from(signed))], [1], &device);
        let y = trained_threshold(xt.clone(), lt.clone(), st, (bits, EVEN), axis);
        let grads = (y * tensor(&g, shape, &device)).sum().backward();
        let (gx, gl) = (
            values(xt.grad(&grads).unwrap()),
            values(lt.grad(&grads).unwrap()),
        );

        let h = 1e-6;
        let inner: usize = shape[axis + 1..].iter().product();
        let mut expected = vec![0.0; log2_t.len()];
        for i in 0..count {
            let channel = if log2_t.len() == 1 {
                0
            } else {
                i / inner % shape[axis]
            };
            let (x0, l0) = (f64::from(x[i]), f64::from(log2_t[channel]));
            let f = |dx: f64, dl: f64| surrogate(x0 + dx, x0, l0 + dl, l0, signed, bits);
            let slope = f64::from(g[i]) * (f(h, 0.0) - f(-h, 0.0)) / (2.0 * h);
            assert!(
                (f64::from(gx[i]) - slope).abs() < 1e-4,
                "x[{i}]: {} {slope}",
                gx[i]
            );
            expected[channel] += f64::from(g[i]) * (f(0.0, h) - f(0.0, -h)) / (2.0 * h);
        }
        for (gl, expected) in gl.iter().zip(expected) {
            let tolerance = 1e-4 * (1.0 + expected.abs());
            assert!(
                (f64::from(*gl) - expected).abs() < tolerance,
                "log2_t: {gl} {expected}"
            );
        }
    }

    #[test]
    fn gradients_are_those_of_the_surrogate() {
        check_gradients(&[0.4], [2, 3, 50], 0, true, 4);
        check_gradients(&[0.4], [2, 3, 50], 0, false, 3);
        check_gradients(&[-0.7], [7, 1, 9], 0, true, 8);
        check_gradients(&[0.4, -1.2, 1.9], [2, 3, 50], 1, true, 4);
        check_gradients(&[0.4, -1.2], [2, 3, 50], 0, false, 5);
    }

    #[test]
    fn a_large_tensor_sums_as_a_small_one() {
        // Long enough for several threads: the gradient of n equal elements is n times one's.
        let device = Device::flex().autodiff();
        let n = 100_000;
        let x = tensor(&vec![0.3; n], [n], &device);
        let t = tensor(&[0.0], [1], &device).require_grad();
        let grads = trained_threshold(x, t.clone(), tensor(&[1.0], [1], &device), (2, EVEN), 0)
            .sum()
            .backward();
        // Step 1/2: 0.3 / 0.5 = 0.6 rounds to 1, so each gives 0.5 ln 2 (1 - 0.6).
        let expected = n as f32 * 0.5 * std::f32::consts::LN_2 * 0.4;
        let sum = values(t.grad(&grads).unwrap())[0];
        assert!((sum / expected - 1.0).abs() < 1e-5, "{sum} {expected}");
    }

    #[test]
    fn the_composed_passes_agree_with_the_kernels() {
        let device = Device::flex();
        let shape = [4, 3, 35];
        // Among them halves of steps.
        let number = |i: usize| match i % 3 {
            0 => (i as f32 - 210.0) / 8.0,
            _ => (i as f32 * 0.37).sin() * 3.1,
        };
        let x: Vec<f32> = (0..420).map(number).collect();
        let g: Vec<f32> = (0..420).map(|i| (i as f32 * 1.7).cos()).collect();
        let flex = |v: &[f32], shape: &[usize]| {
            FlexTensor::from_data(TensorData::new(v.to_vec(), shape.to_vec()))
        };
        let read = |t: FlexTensor| t.into_data().iter::<f32>().collect::<Vec<_>>();
        for (log2_t, signed, ties) in [
            (vec![0.4], 1.0, EVEN),
            (vec![0.4], 1.0, formats::Rounding::NearestUp),
            (vec![0.4, -1.2, 1.9], 0.0, EVEN),
            (vec![-3.0], 0.0, EVEN),
        ] {
            let inputs = || {
                vec![
                    flex(&x, &shape),
                    flex(&log2_t, &[log2_t.len()]),
                    flex(&[signed], &[1]),
                ]
            };
            let quantize = Quantize {
                method: TrainedThreshold { bits: 4, ties },
                axis: 1,
            };
            let [kernel] = array(quantize.flex_forward(Inputs::new(inputs())));
            let [plain] = array(quantize.forward::<Flex>(Inputs::new(inputs())));
            assert_eq!(read(kernel), read(plain));
            let incoming = || Incoming::new(inputs(), flex(&g, &shape));
            let [kx, kt, _] = quantize.flex_backward(incoming());
            let [cx, ct, _] = quantize.backward::<Flex>(incoming());
            assert_eq!(read(kx.unwrap()), read(cx.unwrap()));
            let (kt, ct) = (read(kt.unwrap()), read(ct.unwrap()));
            assert_eq!(kt.len(), ct.len());
            for (a, b) in kt.into_iter().zip(ct) {
                assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} {b}");
            }
        }
        drop(device);
    }
}
