//! Counting over tensors, from which ranges and scales follow. Nothing here has a gradient.

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, Tensor};
use lowbit_formats::kernel;

use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator};

/// The smallest and the largest number of a tensor.
///
/// # Shapes
/// `x`: any shape.
pub fn min_max<const D: usize>(x: &Tensor<D>) -> (f32, f32) {
    let both: Tensor<1> = operator::run(MinMax, vec![x.clone().detach().into_dispatch()]);
    let both: Vec<f32> = both.into_data().iter::<f32>().collect();
    (both[0], both[1])
}

/// What `count` makes of the numbers of a tensor: of all of them, or of those of each index of
/// `axis`, in row-major order.
///
/// # Shapes
/// `x`: any shape.
///
/// # Panics
/// If there is no such axis.
pub fn count_rows<const D: usize, T>(
    x: &Tensor<D>,
    axis: Option<usize>,
    count: impl Fn(&[f32]) -> T,
) -> Vec<T> {
    let dims = x.dims();
    let data = x.clone().detach().into_data();
    let converted;
    let numbers = match data.as_slice::<f32>() {
        Ok(numbers) => numbers,
        Err(_) => {
            converted = data.iter::<f32>().collect::<Vec<_>>();
            &converted
        }
    };
    let Some(axis) = axis else {
        return vec![count(numbers)];
    };
    let inner = dims[axis + 1..].iter().product::<usize>().max(1);
    if axis == 0 {
        return numbers.chunks(inner).map(count).collect();
    }
    let mut rows = vec![Vec::with_capacity(numbers.len() / dims[axis].max(1)); dims[axis]];
    for (i, part) in numbers.chunks(inner).enumerate() {
        rows[i % dims[axis]].extend_from_slice(part);
    }
    rows.iter().map(|row| count(row)).collect()
}

/// The operator behind [`min_max()`].
#[derive(Debug, Clone, Copy)]
struct MinMax;

impl Operator<1> for MinMax {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        let one = |x| B::float_reshape(x, Shape::new([1]));
        let (min, max) = (one(B::float_min(x.clone())), one(B::float_max(x)));
        vec![B::float_cat(vec![min, max], 0)]
    }

    fn backward<B: Kernels>(&self, _incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        [None]
    }

    fn save_inputs<B: Backend>(&self, _inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x] = inputs.tensors();
        let x = flex::dense(flex::to_f32(x));
        let (min, max) = kernel::min_max(x.storage::<f32>());
        vec![flex::from_slice(&[min, max])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn rows_are_those_of_an_axis() {
        let x = Tensor::<3>::from_floats(
            [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, -8.0]]],
            &Device::flex(),
        );
        let rows = |axis| count_rows(&x, axis, <[f32]>::to_vec);
        assert_eq!(rows(None)[0].len(), 8);
        assert_eq!(rows(Some(0))[1], [5.0, 6.0, 7.0, -8.0]);
        assert_eq!(rows(Some(1))[0], [1.0, 2.0, 5.0, 6.0]);
        assert_eq!(rows(Some(2))[1], [2.0, 4.0, 6.0, -8.0]);
        assert_eq!(min_max(&x), (-8.0, 7.0));
        assert_eq!(min_max(&x.swap_dims(0, 2)), (-8.0, 7.0));
    }
}
