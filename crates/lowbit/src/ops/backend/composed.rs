//! Passes composed of tensor primitives that several operators make: they run on every backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings, read_sync};
use burn::tensor::TensorData;

/// The tensor with its numbers, in row-major order, changed by `f`, which gets their shape,
/// on the host: two transfers.
pub(crate) fn change_on_host<B: Backend>(
    x: FloatTensor<B>,
    f: impl FnOnce(&mut [f32], &[usize]),
) -> FloatTensor<B> {
    let (device, dtype) = (x.device(), x.dtype());
    let data = read_sync(B::float_into_data(x)).expect("a tensor's data can be read");
    let shape = data.shape().clone();
    let mut values: Vec<f32> = data.iter::<f32>().collect();
    f(&mut values, shape.as_slice());
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
