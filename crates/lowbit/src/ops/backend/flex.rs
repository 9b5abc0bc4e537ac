//! Flex tensors for the operators that have a kernel: their storage, their layouts, elementwise
//! passes over them.

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape};
use lowbit_formats::kernel;
use rayon::prelude::*;

use crate::ops::backend::buffer::Buffer;
use lowbit_kernels::elementwise::update_all;

/// Runs `body` on a tensor brought to f32, and brings the result back to the tensor's own type.
pub(crate) fn in_f32(x: FlexTensor, body: impl FnOnce(FlexTensor) -> FlexTensor) -> FlexTensor {
    match x.dtype() {
        DType::F32 => body(x),
        other => to_dtype(body(to_f32(x)), other),
    }
}

/// The tensor in f32.
pub(crate) fn to_f32(x: FlexTensor) -> FlexTensor {
    to_dtype(x, DType::F32)
}

/// The tensor in the given type.
pub(crate) fn to_dtype(x: FlexTensor, dtype: DType) -> FlexTensor {
    if x.dtype() == dtype {
        x
    } else {
        Flex::float_cast(x, FloatDType::from(dtype))
    }
}

/// Whether the storage holds each element once, in some order of the dimensions, and nothing else.
pub(crate) fn is_dense(x: &FlexTensor) -> bool {
    let layout = x.layout();
    let mut dims: Vec<(isize, usize)> = layout
        .strides()
        .iter()
        .copied()
        .zip(layout.shape().as_slice().iter().copied())
        .filter(|&(_, length)| length != 1)
        .collect();
    dims.sort_unstable();
    let mut expected = 1;
    let ordered = dims.into_iter().all(|(stride, length)| {
        let fits = stride == expected;
        expected *= length as isize;
        fits
    });
    ordered
        && layout.start_offset() == 0
        && x.bytes().len() == layout.num_elements() * size_of::<f32>()
}

/// Where the elements of a dense tensor lie in its storage.
pub(crate) fn places(x: &FlexTensor) -> kernel::Layout {
    let layout = x.layout();
    kernel::Layout::new(layout.shape().as_slice(), layout.strides(), 0)
        .expect("a tensor's places are in its storage")
}

/// A row-major tensor whose storage holds each element once and nothing else.
pub(crate) fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() && is_dense(&x) {
        x
    } else {
        x.to_contiguous()
    }
}

/// A dense tensor; one that is not becomes row-major.
pub(crate) fn dense(x: FlexTensor) -> FlexTensor {
    if is_dense(&x) { x } else { x.to_contiguous() }
}

/// Whether the rows of a tensor's first dimension lie one after the other.
pub(crate) fn is_row_after_row(x: &FlexTensor) -> bool {
    let layout = x.layout();
    let rows = layout.shape().as_slice()[0];
    let row = layout.num_elements() / rows.max(1);
    rows <= 1 || layout.strides()[0] == row as isize
}

/// A dense tensor whose rows lie one after the other; one that is not becomes row-major.
pub(crate) fn row_after_row(x: FlexTensor) -> FlexTensor {
    if is_dense(&x) && is_row_after_row(&x) {
        x
    } else {
        contiguous(x)
    }
}

/// The layout of `[batch, channels, ...]` whose channels lie together, pixel after pixel.
pub(crate) fn channels_last_layout(shape: &Shape) -> Layout {
    let dims = shape.as_slice();
    let channels = dims[1];
    let mut strides = vec![1; dims.len()];
    let mut stride = channels;
    for d in (2..dims.len()).rev() {
        strides[d] = stride as isize;
        stride *= dims[d];
    }
    strides[0] = stride as isize;
    Layout::new(shape.clone(), strides, 0)
}

/// The same numbers as a tensor `[batch, channels, ...]` stored with its channels last.
pub(crate) fn channels_last(x: FlexTensor) -> FlexTensor {
    let layout = channels_last_layout(x.layout().shape());
    let dims = layout.shape().as_slice();
    let same = |d: usize| dims[d] == 1 || x.layout().strides()[d] == layout.strides()[d];
    if (0..dims.len()).all(same) && is_dense(&x) {
        return x.with_layout(layout);
    }
    let channels = dims[1];
    let pixels: usize = dims[2..].iter().product();
    let image = (channels * pixels).max(1);
    let x = contiguous(x);
    let mut output = Buffer::new(layout.num_elements());
    output
        .par_chunks_mut(image)
        .zip(x.storage::<f32>().par_chunks(image))
        .for_each(|(output, image)| {
            for (channel, plane) in image.chunks_exact(pixels).enumerate() {
                for (pixel, &value) in output.chunks_exact_mut(channels).zip(plane) {
                    pixel[channel] = value;
                }
            }
        });
    from_buffer(output, layout)
}

/// The tensor whose storage is `data`.
pub(crate) fn from_buffer(data: Buffer, layout: Layout) -> FlexTensor {
    FlexTensor::new(data.into_bytes(), layout, DType::F32)
}

/// The vector `data` as a tensor.
pub(crate) fn from_slice(data: &[f32]) -> FlexTensor {
    let mut buffer = Buffer::new(data.len());
    buffer.copy_from_slice(data);
    from_buffer(buffer, Layout::contiguous(Shape::new([data.len()])))
}

/// The numbers of a small tensor, in row-major order.
pub(crate) fn to_vec(x: &FlexTensor) -> Vec<f32> {
    contiguous(to_f32(x.clone())).storage::<f32>().to_vec()
}

/// `f` of every element, in place where nothing else holds the storage. Keeps a dense layout.
pub(crate) fn map(x: FlexTensor, f: impl Fn(f32) -> f32 + Copy + Send + Sync) -> FlexTensor {
    let mut x = dense(x);
    if let Some(data) = x.try_storage_mut::<f32>() {
        kernel::map_in_place(data, f);
        return x;
    }
    let mut output = Buffer::new(x.layout().num_elements());
    kernel::map(x.storage::<f32>(), &mut output, f);
    from_buffer(output, x.layout().clone())
}

/// Two tensors of one shape whose storages have their elements in one order.
pub(crate) fn aligned(a: FlexTensor, b: FlexTensor) -> (FlexTensor, FlexTensor) {
    let (a, b) = (dense(a), dense(b));
    let dims = a.layout().shape().as_slice();
    let strides = a.layout().strides().iter().zip(b.layout().strides());
    if strides.zip(dims).all(|((a, b), &n)| n == 1 || a == b) {
        return (a, b);
    }
    if dims.len() > 2 {
        return (channels_last(a), channels_last(b));
    }
    (contiguous(a), contiguous(b))
}

/// `f` of every pair of elements of two tensors of one shape. Keeps the dense layout of `a`, or
/// makes both channels last.
pub(crate) fn zip(
    a: FlexTensor,
    b: FlexTensor,
    f: impl Fn(f32, f32) -> f32 + Copy + Send + Sync,
) -> FlexTensor {
    let (a, b) = aligned(a, b);
    let mut output = Buffer::new(a.layout().num_elements());
    kernel::zip(a.storage::<f32>(), b.storage::<f32>(), &mut output, f);
    from_buffer(output, a.layout().clone())
}

/// Runs `f` on the storage of a dense f32 tensor; what it writes there is the result. It is written
/// where it lies if nothing else holds it.
pub(crate) fn change<T>(mut x: FlexTensor, f: impl FnOnce(&mut [f32]) -> T) -> (FlexTensor, T) {
    if let Some(data) = x.try_storage_mut::<f32>() {
        let made = f(data);
        return (x, made);
    }
    let mut data = Buffer::new(x.layout().num_elements());
    data.copy_from_slice(x.storage());
    let made = f(&mut data);
    (from_buffer(data, x.layout().clone()), made)
}

/// Runs `f` on the storages of two f32 tensors of one shape, in one order; what it writes into the
/// second one's is the result. It is written where it lies if nothing else holds it.
pub(crate) fn replace<T>(
    x: FlexTensor,
    y: FlexTensor,
    f: impl FnOnce(&[f32], &mut [f32]) -> T,
) -> (FlexTensor, T) {
    let (x, y) = aligned(x, y);
    change(y, |y| f(x.storage(), y))
}

/// The sum of two tensors of one shape and type, in the memory of one of them where nothing else
/// holds it.
pub(crate) fn sum(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let dtype = a.dtype();
    let (mut a, mut b) = aligned(to_f32(a), to_f32(b));
    let sum = if let Some(data) = a.try_storage_mut::<f32>() {
        update_all(b.storage(), data, |b, a| a + b);
        a
    } else if let Some(data) = b.try_storage_mut::<f32>() {
        update_all(a.storage(), data, |a, b| a + b);
        b
    } else {
        zip(a, b, |a, b| a + b)
    };
    to_dtype(sum, dtype)
}
