//! Matrix product of two activations.

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use lowbit_kernels::matmul::{self, Matrices};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{Gradients, Incoming, Inputs, Kernels, Operator, array, run};
use crate::ops::backend::profile::timed;
use crate::ops::quantization::Operand;

/// The product of two quantized operands, matrix by matrix; of one that is alone with each of the other's. Numbers of
/// 16 bits are computed with in 32.
///
/// # Shapes
/// - `left`: `[..., rows, inner]`
/// - `right`: `[..., inner, columns]`
/// - result: `[..., rows, columns]`
///
/// # Panics
/// If the left has other columns than the right has rows.
pub fn matmul<const D: usize>(left: Operand<D>, right: Operand<D>) -> Tensor<D> {
    let (left, right) = (left.quantized(), right.quantized());
    let outer = D.saturating_sub(2);
    let [columns, rows] = [left.dims()[D - 1], right.dims()[outer]];
    assert_eq!(
        columns, rows,
        "the left has {columns} columns, the right {rows} rows"
    );
    let is_one_by_one = left.dims()[..outer] == right.dims()[..outer];
    if !is_one_by_one || left.dtype() == DType::F64 {
        return left.matmul(right);
    }
    run(Matmul, vec![left.into_dispatch(), right.into_dispatch()])
}

/// The operator behind [`matmul()`], of as many matrices on both sides.
#[derive(Debug, Clone)]
struct Matmul;

fn turned<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let last = x.shape().num_dims() - 1;
    B::float_swap_dims(x, last - 1, last)
}

impl Operator<2> for Matmul {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [left, right] = inputs.tensors();
        vec![B::float_matmul(left, right)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 2>) -> Gradients<B, 2> {
        let [left, right] = array(incoming.inputs);
        let grad = incoming.grad;
        [
            Some(B::float_matmul(grad.clone(), turned::<B>(right))),
            Some(B::float_matmul(turned::<B>(left), grad)),
        ]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [left, right] = inputs.tensors();
        vec![product(left, right)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 2>) -> Gradients<Flex, 2> {
        let [left, right] = array(incoming.inputs);
        let grad = incoming.grad;
        [
            Some(product(grad.clone(), turned::<Flex>(right))),
            Some(product(turned::<Flex>(left), grad)),
        ]
    }
}

fn product(left: FlexTensor, right: FlexTensor) -> FlexTensor {
    let dtype = left.dtype();
    let [left, right] = [left, right].map(|x| apart(flex::to_f32(x)));
    let mut dims = left.shape().to_vec();
    let last = dims.len() - 1;
    let columns = right.shape()[last];
    let shape = matmul::Shape {
        matrices: dims[..last - 1].iter().product(),
        rows: dims[last - 1],
        inner: dims[last],
        columns,
    };
    dims[last] = columns;
    let layout = Layout::contiguous(Shape::from(dims));
    let mut output = Buffer::new(layout.num_elements());
    timed("matmul", || {
        matmul::matmul(&shape, matrices(&left), matrices(&right), &mut output);
    });
    flex::to_dtype(flex::from_buffer(output, layout), dtype)
}

/// The distance from one matrix to the next, if it is the same for all of them.
fn distance(x: &FlexTensor) -> Option<usize> {
    let layout = x.layout();
    let (dims, strides) = (layout.shape().as_slice(), layout.strides());
    let outer = dims.len() - 2;
    let mut apart = None;
    let mut next = 0;
    for dim in (0..outer).rev().filter(|&dim| dims[dim] > 1) {
        let stride = strides[dim];
        match apart {
            None => apart = Some(stride),
            Some(_) if stride == next => {}
            Some(_) => return None,
        }
        next = stride * dims[dim] as isize;
    }
    usize::try_from(apart.unwrap_or(0)).ok()
}

/// The tensor with its matrices at one distance from each other.
fn apart(x: FlexTensor) -> FlexTensor {
    let ahead = x.layout().strides().iter().all(|&stride| stride >= 0);
    match ahead && distance(&x).is_some() {
        true => x,
        false => x.to_contiguous(),
    }
}

/// The matrices of such a tensor.
fn matrices(x: &FlexTensor) -> Matrices<'_> {
    let layout = x.layout();
    let strides = layout.strides();
    let [row, column] = [2, 1].map(|from_end| strides[strides.len() - from_end].unsigned_abs());
    Matrices {
        numbers: &x.storage::<f32>()[layout.start_offset()..],
        strides: [distance(x).unwrap_or(0), row, column],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;

    fn numbers(dims: [usize; 4], step: usize) -> FlexTensor {
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * step) % 29) as f32 - 14.0)
            .collect();
        FlexTensor::from_data(TensorData::new(values, dims))
    }

    /// Whole numbers, whose sums are exact: the kernel against what is composed, forward and backward, of
    /// matrices that lie as heads do, turned, and as they come.
    #[test]
    fn the_kernel_is_what_is_composed() {
        let heads = |dims, step| Flex::float_swap_dims(numbers(dims, step), 1, 2);
        let plain = || [numbers([2, 3, 4, 5], 7), numbers([2, 3, 5, 6], 11)];
        let by_heads = || {
            let right = turned::<Flex>(heads([2, 6, 3, 5], 13));
            [heads([2, 4, 3, 5], 7), right]
        };
        let one = || [numbers([1, 1, 1, 5], 7), numbers([1, 1, 5, 1], 11)];
        for inputs in [plain(), by_heads(), one()] {
            let tensors = || inputs.to_vec();
            let kernel = array(Matmul.flex_forward(Inputs::new(tensors())));
            let composed = array(Matmul.forward::<Flex>(Inputs::new(tensors())));
            let [kernel]: [FlexTensor; 1] = kernel;
            let [composed]: [FlexTensor; 1] = composed;
            let grad = || {
                let [a, b, c, d] = composed.shape().dims();
                turned::<Flex>(numbers([a, b, d, c], 17))
            };
            let back = Matmul.flex_backward(Incoming::new(tensors(), grad()));
            let plain_back = Matmul.backward::<Flex>(Incoming::new(tensors(), grad()));
            let back = back.into_iter().zip(plain_back);
            let back = back.map(|(a, b)| (a.unwrap(), b.unwrap()));
            for (a, b) in std::iter::once((kernel, composed.clone())).chain(back) {
                assert_eq!(a.shape(), b.shape());
                assert_eq!(flex::to_vec(&a), flex::to_vec(&b));
            }
        }
    }
}
