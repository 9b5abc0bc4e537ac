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
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use lowbit_formats::kernel;

use super::{composed, flex};

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
/// If `log2_t` has neither length.
pub fn trained_threshold<const D: usize>(
    x: Tensor<D>,
    log2_t: Tensor<1>,
    signed: Tensor<1>,
    bits: u32,
    axis: usize,
) -> Tensor<D> {
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
        match ThresholdBackward.prepare::<C>([x_node, t_node]).compute_bound().stateful() {
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
        let Saved { x, log2_t, signed, bits, axis } = ops.state;
        let (grad_x, grad_t) = B::backward(x, log2_t, signed, grad, bits, axis);
        let [x, t] = ops.parents;
        if let Some(x) = x {
            grads.register::<B>(x.id, grad_x);
        }
        if let Some(t) = t {
            grads.register::<B>(t.id, grad_t);
        }
    }
}

/// The two passes on one backend. The bodies given here are composed of tensor primitives and
/// serve every backend; Flex has kernels.
pub(crate) trait TrainedThresholdKernel: Backend {
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
            let data = x.storage::<f32>();
            let mut output = Vec::with_capacity(data.len());
            for (row, grid) in rows(data, &x, axis).zip(grids.iter().cycle()) {
                output.extend(row.iter().map(|&x| grid.round(x)));
            }
            flex::with_storage(output, &x)
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
                    let (x, grad) = flex::dense_pair(x, grad);
                    let (output, sum) = kernel::zip_fold_to_vec(
                        x.storage::<f32>(),
                        grad.storage::<f32>(),
                        0.0f64,
                        #[inline(always)]
                        move |sum, x, g| {
                            let (to_x, to_threshold) = grid.gradients(x, g);
                            (to_x, sum + f64::from(to_threshold))
                        },
                        |a, b| a + b,
                    );
                    sums[0] = sum;
                    return flex::with_storage(output, &x);
                }
                let (x, grad) = (flex::contiguous(x), flex::contiguous(grad));
                let mut output = Vec::with_capacity(x.storage::<f32>().len());
                let x_rows = rows(x.storage(), &x, axis);
                let grad_rows = rows(grad.storage(), &x, axis);
                for (i, (x, g)) in x_rows.zip(grad_rows).enumerate() {
                    let channel = i % grids.len();
                    for (&x, &g) in x.iter().zip(g) {
                        let (gx, gt) = grids[channel].gradients(x, g);
                        output.push(gx);
                        sums[channel] += f64::from(gt);
                    }
                }
                flex::with_storage(output, &x)
            })
        });
        let sums: Vec<f32> = sums.into_iter().map(|s| s as f32).collect();
        (grad_x, flex::with_storage(sums, &flex::contiguous(log2_t)))
    }
}

/// The runs of a row-major tensor that share one index of `axis`, in order.
fn rows<'a>(data: &'a [f32], like: &FlexTensor, axis: usize) -> impl Iterator<Item = &'a [f32]> {
    let inner: usize = like.layout().shape().as_slice()[axis + 1..].iter().product();
    data.chunks_exact(inner.max(1))
}

/// One threshold's grid: step, and the least and the greatest integer.
#[derive(Clone, Copy, Debug)]
struct Grid {
    scale: f32,
    inverse: f32,
    n: f32,
    p: f32,
}

impl Grid {
    fn of(log2_t: &FlexTensor, signed: &FlexTensor, bits: u32) -> Vec<Self> {
        let log2_t = flex::contiguous(log2_t.clone());
        let signed = flex::contiguous(signed.clone()).storage::<f32>()[0] != 0.0;
        log2_t.storage::<f32>().iter().map(|&t| Self::new(t, signed, bits)).collect()
    }

    fn new(log2_t: f32, signed: bool, bits: u32) -> Self {
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
    fn round(self, x: f32) -> f32 {
        let r = (x * self.inverse).round_ties_even();
        let r = if r < self.n { self.n } else { r };
        let r = if r > self.p { self.p } else { r };
        r * self.scale
    }

    /// The gradient to `x` and this element's part of the gradient to `log2_t`.
    #[inline(always)]
    fn gradients(self, x: f32, grad: f32) -> (f32, f32) {
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
