//! Elementwise passes over the storage of Flex tensors, for the operators that have a kernel.

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Bytes, DType, FloatDType};
use lowbit_formats::kernel;

/// Runs `body` on a tensor brought to f32, and brings the result back to the tensor's own type.
pub(super) fn in_f32(x: FlexTensor, body: impl FnOnce(FlexTensor) -> FlexTensor) -> FlexTensor {
    match x.dtype() {
        DType::F32 => body(x),
        other => Flex::float_cast(
            body(Flex::float_cast(x, FloatDType::F32)),
            FloatDType::from(other),
        ),
    }
}

/// A tensor whose storage holds each element once and nothing else, in whatever order, so that an
/// elementwise pass can run over the storage and keep the layout.
pub(super) fn dense(x: FlexTensor) -> FlexTensor {
    let whole = x.layout().start_offset() == 0
        && x.layout().is_dense_unique_storage()
        && x.bytes().len() == x.layout().num_elements() * size_of::<f32>();
    if whole { x } else { x.to_contiguous() }
}

/// Two tensors whose storages list the same elements in the same order.
pub(super) fn dense_pair(a: FlexTensor, b: FlexTensor) -> (FlexTensor, FlexTensor) {
    let (a, b) = (dense(a), dense(b));
    if a.layout().strides() == b.layout().strides() {
        (a, b)
    } else {
        // `dense` may have kept a permuted layout in one of the two.
        (contiguous(a), contiguous(b))
    }
}

/// A row-major tensor whose storage holds each element once.
pub(super) fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() {
        dense(x)
    } else {
        x.to_contiguous()
    }
}

/// The tensor with `like`'s layout whose storage is `data`.
pub(super) fn with_storage(data: Vec<f32>, like: &FlexTensor) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(data), like.layout().clone(), DType::F32)
}

/// `f` of every element, in place where nothing else holds the storage.
pub(super) fn map(x: FlexTensor, f: impl Fn(f32) -> f32 + Copy + Send + Sync) -> FlexTensor {
    let mut x = dense(x);
    if let Some(data) = x.try_storage_mut::<f32>() {
        kernel::map_in_place(data, f);
        return x;
    }
    with_storage(kernel::map_to_vec(x.storage::<f32>(), f), &x)
}

/// `f` of every pair of elements of two tensors of one shape.
pub(super) fn zip(
    a: FlexTensor,
    b: FlexTensor,
    f: impl Fn(f32, f32) -> f32 + Copy + Send + Sync,
) -> FlexTensor {
    let (a, b) = dense_pair(a, b);
    with_storage(
        kernel::zip_to_vec(a.storage::<f32>(), b.storage::<f32>(), f),
        &a,
    )
}
