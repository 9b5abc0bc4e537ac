//! TQT: uniform quantization with a trained power-of-two threshold.
//!
//! Jain, Gural, Wu, Dick, "Trained Quantization Thresholds for Accurate and Efficient Fixed-Point
//! Inference of Deep Neural Networks", arXiv 1903.08066, equations 4 to 8.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{FloatDType, Tensor, TensorData};
use lowbit_formats::kernel;

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::kernel::elementwise::{update_and_sum, update_and_sum_all};
use crate::ops::quantization::composed;

/// Rounds `x` to a uniform grid whose step is a power of two set by a trained threshold.
///
/// With `b` bits, `s = 2^(ceil(log2_t) - (b - 1))`, `n = -2^(b-1)`, `p = 2^(b-1) - 1` where
/// `signed` is 1, and `s = 2^(ceil(log2_t) - b)`, `n = 0`, `p = 2^b - 1` where it is 0:
///
/// - forward (equation 4): `q = clip(round(x / s), n, p) * s`, ties to even;
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
/// If `log2_t` has neither length, or `bits` is not from 2 to 24.
pub fn trained_threshold<const D: usize>(
    x: Tensor<D>,
    log2_t: Tensor<1>,
    signed: Tensor<1>,
    bits: u32,
    axis: usize,
) -> Tensor<D> {
    assert!((2..=24).contains(&bits), "bits is {bits}, expected 2 to 24");
    let channels = log2_t.dims()[0];
    assert!(
        channels == 1 || channels == x.dims()[axis],
        "log2_t has {channels} thresholds, expected 1 or the {} indices of axis {axis}",
        x.dims()[axis]
    );
    Tensor::from_dispatch(<Dispatch as TrainedThresholdOp>::trained_threshold(
        x.into_dispatch(),
        log2_t.into_dispatch(),
        signed.into_dispatch(),
        bits,
        axis,
    ))
}

/// The operator behind [`trained_threshold()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait TrainedThresholdOp: Backend {
    /// See [`trained_threshold()`].
    fn trained_threshold(
        x: FloatTensor<Self>,
        log2_t: FloatTensor<Self>,
        signed: FloatTensor<Self>,
        bits: u32,
        axis: usize,
    ) -> FloatTensor<Self>;
}

impl TrainedThresholdOp for Flex {
    fn trained_threshold(
        x: FlexTensor,
        log2_t: FlexTensor,
        signed: FlexTensor,
        bits: u32,
        axis: usize,
    ) -> FlexTensor {
        <Self as TrainedThresholdKernel>::forward(x, log2_t, signed, bits, axis)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl TrainedThresholdOp for burn::backend::Cube {
    fn trained_threshold(
        x: FloatTensor<Self>,
        log2_t: FloatTensor<Self>,
        signed: FloatTensor<Self>,
        bits: u32,
        axis: usize,
    ) -> FloatTensor<Self> {
        <Self as TrainedThresholdKernel>::forward(x, log2_t, signed, bits, axis)
    }
}

impl<B: TrainedThresholdKernel, C: CheckpointStrategy> TrainedThresholdOp for Autodiff<B, C> {
    fn trained_threshold(
        x: FloatTensor<Self>,
        log2_t: FloatTensor<Self>,
        signed: FloatTensor<Self>,
        bits: u32,
        axis: usize,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (log2_t, t_node) = log2_t.into_parts();
        let signed = signed.into_primitive();
        match ThresholdBackward
            .prepare::<C>([x_node, t_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = Saved {
                    x: x.clone(),
                    log2_t: log2_t.clone(),
                    signed: signed.clone(),
                    bits,
                    axis,
                };
                prep.finish(state, B::forward(x, log2_t, signed, bits, axis))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::forward(x, log2_t, signed, bits, axis)),
        }
    }
}

/// What the backward step needs of the forward one.
#[derive(Clone, Debug)]
struct Saved<T> {
    x: T,
    log2_t: T,
    signed: T,
    bits: u32,
    axis: usize,
}

#[derive(Debug)]
struct ThresholdBackward;

impl<B: TrainedThresholdKernel> Backward<B, 2> for ThresholdBackward {
    type State = Saved<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let Saved {
            x,
            log2_t,
            signed,
            bits,
            axis,
        } = ops.state.clone();
        let (grad_x, grad_t) = B::backward(x, log2_t, signed, grad, bits, axis);
        B::add(grads, &ops, 0, grad_x);
        B::add(grads, &ops, 1, grad_t);
    }
}

/// The two passes on one backend. The bodies given here are composed of tensor primitives and
/// serve every backend; Flex has kernels.
pub(crate) trait TrainedThresholdKernel: Accumulate {
    /// Equation 4.
    fn forward(
        x: FloatTensor<Self>,
        log2_t: FloatTensor<Self>,
        signed: FloatTensor<Self>,
        bits: u32,
        axis: usize,
    ) -> FloatTensor<Self> {
        composed::threshold_forward::<Self>(x, log2_t, signed, bits, axis)
    }

    /// Equations 8 and 7: the gradients to `x` and, summed to its shape, to `log2_t`.
    fn backward(
        x: FloatTensor<Self>,
        log2_t: FloatTensor<Self>,
        signed: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: u32,
        axis: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::threshold_backward::<Self>(x, log2_t, signed, grad, bits, axis)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl TrainedThresholdKernel for burn::backend::Cube {}

impl TrainedThresholdKernel for Flex {
    fn forward(
        x: FlexTensor,
        log2_t: FlexTensor,
        signed: FlexTensor,
        bits: u32,
        axis: usize,
    ) -> FlexTensor {
        let grids = Grid::of(&log2_t, &signed, bits);
        flex::in_f32(x, |x| {
            if let [grid] = grids[..] {
                return flex::map(x, move |x| grid.round(x));
            }
            let x = flex::contiguous(x);
            let length = row_length(&x, axis);
            let mut output = Buffer::new(x.layout().num_elements());
            let rows = x.storage::<f32>().chunks_exact(length);
            let rows = rows.zip(output.chunks_exact_mut(length));
            for ((row, output), &grid) in rows.zip(grids.iter().cycle()) {
                if let ([x], [output]) = (row, &mut *output) {
                    *output = grid.round(*x);
                    continue;
                }
                kernel::map(
                    row,
                    output,
                    #[inline(always)]
                    move |x| grid.round(x),
                );
            }
            flex::from_buffer(output, x.layout().clone())
        })
    }

    fn backward(
        x: FlexTensor,
        log2_t: FlexTensor,
        signed: FlexTensor,
        grad: FlexTensor,
        bits: u32,
        axis: usize,
    ) -> (FlexTensor, FlexTensor) {
        let grids = Grid::of(&log2_t, &signed, bits);
        let mut sums = vec![0.0f64; grids.len()];
        let grad_x = flex::in_f32(grad, |grad| {
            flex::in_f32(x, |x| {
                if let [grid] = grids[..] {
                    let (grad, sum) = flex::replace(x, grad, |x, grad| {
                        update_and_sum_all(
                            x,
                            grad,
                            #[inline(always)]
                            move |x, g| grid.gradients(x, g),
                        )
                    });
                    sums[0] = sum;
                    return grad;
                }
                let (x, grad) = (flex::contiguous(x), flex::contiguous(grad));
                let length = row_length(&x, axis);
                let (grad, ()) = flex::replace(x, grad, |x, grad| {
                    let rows = x.chunks_exact(length).zip(grad.chunks_exact_mut(length));
                    for (i, (x, grad)) in rows.enumerate() {
                        let channel = i % grids.len();
                        let grid = grids[channel];
                        if let ([x], [grad]) = (x, &mut *grad) {
                            let (gx, gt) = grid.gradients(*x, *grad);
                            *grad = gx;
                            sums[channel] += f64::from(gt);
                            continue;
                        }
                        sums[channel] += update_and_sum(
                            x,
                            grad,
                            #[inline(always)]
                            move |x, g| grid.gradients(x, g),
                        );
                    }
                });
                grad
            })
        });
        let sums: Vec<f32> = sums.into_iter().map(|s| s as f32).collect();
        let grad_t = FlexTensor::from_data(TensorData::new(sums, [grids.len()]));
        (
            grad_x,
            Flex::float_cast(grad_t, FloatDType::from(log2_t.dtype())),
        )
    }
}

/// Numbers of a row-major tensor that lie together and share one index of `axis`.
fn row_length(like: &FlexTensor, axis: usize) -> usize {
    let inner = &like.layout().shape().as_slice()[axis + 1..];
    inner.iter().product::<usize>().max(1)
}

/// One threshold's grid: step, and the least and the greatest integer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    scale: f32,
    inverse: f32,
    n: f32,
    p: f32,
}

impl Grid {
    fn of(log2_t: &FlexTensor, signed: &FlexTensor, bits: u32) -> Vec<Self> {
        let read = |t: &FlexTensor| t.clone().into_data().iter::<f32>().collect::<Vec<_>>();
        let (log2_t, signed) = (read(log2_t), read(signed)[0] != 0.0);
        log2_t.iter().map(|&t| Self::new(t, signed, bits)).collect()
    }

    pub(crate) fn new(log2_t: f32, signed: bool, bits: u32) -> Self {
        let magnitude_bits = (bits - u32::from(signed)) as i32;
        // A float's exponent range bounds the step; a NaN threshold gives a NaN step.
        let exponent = (log2_t.ceil() - magnitude_bits as f32).clamp(-126.0, 126.0);
        let p = (2.0f32).powi(magnitude_bits) - 1.0;
        Self {
            scale: power_of_two(exponent),
            inverse: power_of_two(-exponent),
            n: if signed { -p - 1.0 } else { 0.0 },
            p,
        }
    }

    #[inline(always)]
    pub(crate) fn round(self, x: f32) -> f32 {
        let r = (x * self.inverse).round_ties_even();
        let r = if r < self.n { self.n } else { r };
        let r = if r > self.p { self.p } else { r };
        r * self.scale
    }

    /// The gradient to `x` and this element's part of the gradient to `log2_t`.
    #[inline(always)]
    pub(crate) fn gradients(self, x: f32, grad: f32) -> (f32, f32) {
        let scaled = x * self.inverse;
        let r = scaled.round_ties_even();
        let within = r >= self.n && r <= self.p;
        let slope = if within {
            r - scaled
        } else if r < self.n {
            self.n
        } else {
            self.p
        };
        let to_threshold = grad * (self.scale * std::f32::consts::LN_2 * slope);
        (if within { grad } else { 0.0 }, to_threshold)
    }
}

/// `2^exponent` for an integer from -126 to 127, exactly.
fn power_of_two(exponent: f32) -> f32 {
    if exponent.is_nan() {
        return f32::NAN;
    }
    f32::from_bits(((exponent as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
    }

    fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
        t.into_data().iter::<f32>().collect()
    }

    fn threshold(x: &[f32], log2_t: f32, signed: f32, bits: u32) -> Vec<f32> {
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
        let y = trained_threshold(xt.clone(), lt.clone(), st, bits, axis);
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
        let grads = trained_threshold(x, t.clone(), tensor(&[1.0], [1], &device), 2, 0)
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
        let x: Vec<f32> = (0..420).map(|i| (i as f32 * 0.37).sin() * 3.1).collect();
        let g: Vec<f32> = (0..420).map(|i| (i as f32 * 1.7).cos()).collect();
        let flex = |v: &[f32], shape: &[usize]| {
            FlexTensor::from_data(TensorData::new(v.to_vec(), shape.to_vec()))
        };
        let read = |t: FlexTensor| t.into_data().iter::<f32>().collect::<Vec<_>>();
        for (log2_t, signed) in [
            (vec![0.4], 1.0),
            (vec![0.4, -1.2, 1.9], 0.0),
            (vec![-3.0], 0.0),
        ] {
            let arguments = || {
                (
                    flex(&x, &shape),
                    flex(&log2_t, &[log2_t.len()]),
                    flex(&[signed], &[1]),
                )
            };
            let (x1, t1, s1) = arguments();
            let (x2, t2, s2) = arguments();
            let kernel = <Flex as TrainedThresholdKernel>::forward(x1, t1, s1, 4, 1);
            let plain = composed::threshold_forward::<Flex>(x2, t2, s2, 4, 1);
            assert_eq!(read(kernel), read(plain));
            let (x1, t1, s1) = arguments();
            let (x2, t2, s2) = arguments();
            let g1 = flex(&g, &shape);
            let (kx, kt) = <Flex as TrainedThresholdKernel>::backward(x1, t1, s1, g1, 4, 1);
            let g2 = flex(&g, &shape);
            let (cx, ct) = composed::threshold_backward::<Flex>(x2, t2, s2, g2, 4, 1);
            assert_eq!(read(kx), read(cx));
            for (a, b) in read(kt).into_iter().zip(read(ct)) {
                assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} {b}");
            }
        }
        drop(device);
    }
}
