//! The operators' passes, composed of tensor primitives: they run on every backend.

use burn::backend::tensor::FloatTensor;
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
