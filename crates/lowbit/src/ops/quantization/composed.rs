//! The operators' passes, composed of tensor primitives: they run on every backend.

use burn::backend::tensor::{FloatTensor, IndexingUpdateOp};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings, read_sync};
use burn::tensor::{Shape, TensorData};
use lowbit_formats::{Format, Rounding};

use crate::ops::quantization::format::CHECKED;

/// Every element rounded to `format`.
///
/// The data visits the host, where the format's kernel rounds it: exact for every format and
/// rounding, at the price of two transfers.
pub(crate) fn round_to_format<B: Backend>(
    x: FloatTensor<B>,
    format: &Format,
    rounding: Rounding,
) -> FloatTensor<B> {
    let (device, dtype) = (x.device(), x.dtype());
    let data = read_sync(B::float_into_data(x)).expect("a tensor's data can be read");
    let shape = data.shape().clone();
    let mut values: Vec<f32> = data.iter::<f32>().collect();
    format
        .quantize_in_place(&mut values, rounding)
        .expect(CHECKED);
    let data = TensorData::new(values, shape).convert_dtype(dtype);
    B::float_from_data(data, &device)
}

/// `f` of every element, computed on the host.
pub(crate) fn map_on_host<B: Backend>(x: FloatTensor<B>, f: impl Fn(f32) -> f32) -> FloatTensor<B> {
    let (device, dtype) = (x.device(), x.dtype());
    let data = read_sync(B::float_into_data(x)).expect("a tensor's data can be read");
    let shape = data.shape().clone();
    let values: Vec<f32> = data.iter::<f32>().map(f).collect();
    B::float_from_data(TensorData::new(values, shape).convert_dtype(dtype), &device)
}

/// `grad` where `min <= x <= max`, zero elsewhere.
pub(crate) fn gradient_within<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    min: f32,
    max: f32,
) -> FloatTensor<B> {
    let bools = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    let zeros = B::float_zeros(grad.shape(), &grad.device(), grad.dtype().into());
    let above = B::float_greater_equal_elem(x.clone(), min.into(), bools);
    let below = B::float_lower_equal_elem(x, max.into(), bools);
    // Selecting by the two positive tests leaves a NaN input without gradient.
    let grad = B::float_mask_where(zeros.clone(), above, grad);
    B::float_mask_where(zeros, below, grad)
}

/// A threshold's grid as tensors of the input's shape.
struct Grid<B: Backend> {
    scale: FloatTensor<B>,
    inverse: FloatTensor<B>,
    n: FloatTensor<B>,
    p: FloatTensor<B>,
}

impl<B: Backend> Grid<B> {
    fn new(
        shape: &Shape,
        log2_t: FloatTensor<B>,
        signed: FloatTensor<B>,
        bits: u32,
        axis: usize,
    ) -> Self {
        let device = log2_t.device();
        let channels = log2_t.shape().num_elements();
        let signed = B::float_expand(signed, Shape::new([channels]));
        // The bits that hold the magnitude: all, less one for the sign.
        let magnitude_bits = B::float_add_scalar(B::float_neg(signed.clone()), bits.into());
        let exponent = B::float_clamp(
            B::float_sub(B::float_ceil(log2_t), magnitude_bits),
            (-126.0f32).into(),
            126.0f32.into(),
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
        dims[axis] = channels;
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

/// Equation 4 of TQT.
pub(crate) fn threshold_forward<B: Backend>(
    x: FloatTensor<B>,
    log2_t: FloatTensor<B>,
    signed: FloatTensor<B>,
    bits: u32,
    axis: usize,
) -> FloatTensor<B> {
    let bools = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    let grid = Grid::<B>::new(&x.shape(), log2_t, signed, bits, axis);
    let r = B::float_round(B::float_mul(x, grid.inverse));
    let low = B::float_lower(r.clone(), grid.n.clone(), bools);
    let high = B::float_greater(r.clone(), grid.p.clone(), bools);
    let r = B::float_mask_where(r, low, grid.n);
    let r = B::float_mask_where(r, high, grid.p);
    B::float_mul(r, grid.scale)
}

/// Equations 8 and 7 of TQT.
pub(crate) fn threshold_backward<B: Backend>(
    x: FloatTensor<B>,
    log2_t: FloatTensor<B>,
    signed: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: u32,
    axis: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let bools = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    let channels = log2_t.shape().num_elements();
    let shape = x.shape();
    let grid = Grid::<B>::new(&shape, log2_t, signed, bits, axis);
    let scaled = B::float_mul(x, grid.inverse);
    let r = B::float_round(scaled.clone());
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
    (grad_x, B::float_reshape(grad_t, Shape::new([channels])))
}

/// The rounded weights of DoReFa-Net.
pub(crate) fn dorefa_forward<B: Backend>(w: FloatTensor<B>, bits: u32) -> FloatTensor<B> {
    let bools = get_or_init_device_settings::<B>(&w.device()).bool_dtype;
    if bits == 1 {
        let mean = spread::<B>(B::float_mean(B::float_abs(w.clone())), &w);
        let negative = B::float_lower_elem(w, 0.0f32.into(), bools);
        return B::float_mask_where(mean.clone(), negative, B::float_neg(mean));
    }
    let levels = ((1u64 << bits) - 1) as f32;
    let unit = B::float_add_scalar(
        B::float_mul_scalar(over_max::<B>(B::float_tanh(w)), 0.5f32.into()),
        0.5f32.into(),
    );
    let rounded = B::float_round(B::float_mul_scalar(unit, levels.into()));
    let unit = B::float_div_scalar(rounded, levels.into());
    B::float_add_scalar(B::float_mul_scalar(unit, 2.0f32.into()), (-1.0f32).into())
}

/// The gradient of `tanh(w) / max |tanh(w)|`.
pub(crate) fn dorefa_backward<B: Backend>(
    w: FloatTensor<B>,
    grad: FloatTensor<B>,
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
    let slope = B::float_mul(slope, inverse.clone());
    let direct = B::float_mul(grad.clone(), slope.clone());
    // The first weight of largest magnitude also moves the maximum.
    let sum = B::float_sum(B::float_mul(grad, t.clone()));
    let j = B::float_argmax(B::float_abs(t.clone()), 0, settings.int_dtype);
    let sign = B::float_sign(B::float_select(t, 0, j.clone()));
    let through_max = B::float_mul(
        B::float_mul(sign, B::float_select(slope, 0, j.clone())),
        B::float_mul(sum, inverse),
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
    let inverse = inverse_or_zero::<B>(B::float_max_abs(t.clone()));
    let inverse = spread::<B>(inverse, &t);
    B::float_mul(t, inverse)
}

/// `1 / x`, or zero where `x` is.
fn inverse_or_zero<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let bools = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    let zero = B::float_lower_equal_elem(x.clone(), 0.0f32.into(), bools);
    B::float_mask_fill(B::float_recip(x), zero, 0.0f32.into())
}
