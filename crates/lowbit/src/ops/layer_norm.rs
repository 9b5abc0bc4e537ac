//! Layer normalization and that by the root mean square, in one pass.

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use lowbit_kernels::row_norm::RowNorm;

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{Gradients, Incoming, Inputs, Kernels, Operator, array, run};
use crate::ops::backend::profile::timed;

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` over the last dimension, with the biased
/// variance (Ba et al., arXiv 1607.06450). Numbers of 16 bits are computed with in 32.
///
/// # Shapes
/// - `x` and the result: `[..., d_model]`
/// - `gamma`, `beta`: `[d_model]`
///
/// # Panics
/// If the shapes are others.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    normalized(x, gamma, beta, (epsilon, true))
}

/// `x / sqrt(mean of x^2 + epsilon) * gamma` over the last dimension (Zhang, Sennrich, arXiv 1910.07467).
/// Numbers of 16 bits are computed with in 32.
///
/// # Shapes
/// - `x` and the result: `[..., d_model]`
/// - `gamma`: `[d_model]`
///
/// # Panics
/// If the shapes are others.
pub fn rms_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, epsilon: f64) -> Tensor<D> {
    normalized(x, gamma, None, (epsilon, false))
}

fn normalized<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    (epsilon, centred): (f64, bool),
) -> Tensor<D> {
    let (row, [given]) = (x.dims()[D - 1], gamma.dims());
    assert_eq!(row, given, "rows of {row} numbers have {given} factors");
    let operator = RowsNormalized { epsilon, centred };
    let operands = [x.into_dispatch(), gamma.into_dispatch()];
    match beta {
        None => run::<D, 2>(operator, operands.into()),
        Some(beta) => {
            let operands = operands.into_iter().chain([beta.into_dispatch()]);
            run::<D, 3>(operator, operands.collect())
        }
    }
}

/// The operator behind [`layer_norm()`] and [`rms_norm()`], with shifts where there are three parents.
#[derive(Debug, Clone, Copy)]
struct RowsNormalized {
    epsilon: f64,
    centred: bool,
}

/// What it is composed of.
struct Parts<B: Backend> {
    normalized: FloatTensor<B>,
    root: FloatTensor<B>,
}

fn last<B: Backend>(x: &FloatTensor<B>) -> usize {
    x.shape().num_dims() - 1
}

/// A factor or shift of each place along the last dimension of so many.
fn along<B: Backend>(given: FloatTensor<B>, dims: usize) -> FloatTensor<B> {
    let mut shape = vec![1; dims];
    shape[dims - 1] = given.shape()[0];
    B::float_reshape(given, Shape::from(shape))
}

impl RowsNormalized {
    fn parts<B: Backend>(&self, x: FloatTensor<B>) -> Parts<B> {
        let dim = last::<B>(&x);
        let centred = match self.centred {
            true => B::float_sub(x.clone(), B::float_mean_dim(x, dim)),
            false => x,
        };
        let square = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), dim);
        let root = B::float_sqrt(B::float_add_scalar(square, self.epsilon.into()));
        Parts {
            normalized: B::float_div(centred, root.clone()),
            root,
        }
    }

    fn kernel(&self, row: usize) -> RowNorm {
        RowNorm {
            row,
            epsilon: self.epsilon as f32,
            centred: self.centred,
        }
    }
}

impl<const PARENTS: usize> Operator<PARENTS> for RowsNormalized {
    fn save_inputs<B: Backend>(&self, inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        inputs[..2].to_vec()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let mut tensors = inputs.tensors.into_iter();
        let [x, gamma] = array(tensors.by_ref().take(2).collect());
        let dims = x.shape().num_dims();
        let parts = self.parts::<B>(x);
        let scaled = B::float_mul(parts.normalized, along::<B>(gamma, dims));
        vec![match tensors.next() {
            Some(beta) => B::float_add(scaled, along::<B>(beta, dims)),
            None => scaled,
        }]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS> {
        let [x, gamma] = array(incoming.inputs);
        let grad = incoming.grad;
        let (dim, row) = (last::<B>(&x), gamma.shape()[0]);
        let Parts { normalized, root } = self.parts::<B>(x);
        let rows = grad.shape().num_elements() / row.max(1);
        let summed = |x: FloatTensor<B>| {
            let x = B::float_reshape(x, Shape::new([rows, row]));
            B::float_reshape(B::float_sum_dim(x, 0), Shape::new([row]))
        };
        let to_gamma = summed(B::float_mul(grad.clone(), normalized.clone()));
        let to_beta = summed(grad.clone());
        let through = B::float_mul(grad, along::<B>(gamma, dim + 1));
        let mean = B::float_mean_dim(B::float_mul(through.clone(), normalized.clone()), dim);
        let mut to_x = B::float_sub(through.clone(), B::float_mul(normalized, mean));
        if self.centred {
            to_x = B::float_sub(to_x, B::float_mean_dim(through, dim));
        }
        let gradients = [B::float_div(to_x, root), to_gamma, to_beta];
        array(gradients.into_iter().take(PARENTS).map(Some).collect())
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        if inputs.tensors[0].dtype() == DType::F64 {
            return Operator::<PARENTS>::forward::<Flex>(self, inputs);
        }
        let mut tensors = inputs.tensors.into_iter();
        let [x, gamma] = array(tensors.by_ref().take(2).collect());
        let [gamma, beta] = [Some(gamma), tensors.next()].map(|x| x.map(|x| flex::to_vec(&x)));
        let gamma = gamma.unwrap_or_default();
        vec![flex::in_f32(x, |x| {
            let x = flex::contiguous(x);
            let layout = Layout::contiguous(x.shape());
            let mut output = Buffer::new(layout.num_elements());
            timed("layer_norm", || {
                let norm = self.kernel(gamma.len());
                norm.forward(x.storage(), &gamma, beta.as_deref(), &mut output);
            });
            flex::from_buffer(output, layout)
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, PARENTS>) -> Gradients<Flex, PARENTS> {
        if incoming.grad.dtype() == DType::F64 {
            return self.backward::<Flex>(incoming);
        }
        let [x, gamma] = array(incoming.inputs);
        let dtype = incoming.grad.dtype();
        let x = flex::contiguous(flex::to_f32(x));
        let grad = flex::contiguous(flex::to_f32(incoming.grad));
        let gamma = flex::to_vec(&gamma);
        let (to_x, given) = timed("layer_norm backward", || {
            flex::change(grad, |grad| {
                self.kernel(gamma.len()).backward(x.storage(), &gamma, grad)
            })
        });
        let [to_gamma, to_beta] = [given.gamma, given.beta].map(|g| flex::from_slice(&g));
        let gradients = [to_x, to_gamma, to_beta].into_iter().take(PARENTS);
        array(gradients.map(|g| Some(flex::to_dtype(g, dtype))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;

    fn numbers(dims: &[usize], step: usize) -> FlexTensor {
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * step) % 29) as f32 / 9.0 - 1.5)
            .collect();
        FlexTensor::from_data(TensorData::new(values, dims))
    }

    fn check<const PARENTS: usize>(centred: bool) {
        let operator = RowsNormalized {
            epsilon: 1e-3,
            centred,
        };
        let tensors = || {
            // A row's numbers lie apart.
            let x = Flex::float_swap_dims(numbers(&[20, 3, 5], 7), 0, 2);
            let all = vec![x, numbers(&[20], 11), numbers(&[20], 13)];
            all.into_iter().take(PARENTS).collect::<Vec<_>>()
        };
        let ours = Operator::<PARENTS>::flex_forward(&operator, Inputs::new(tensors()));
        let composed = Operator::<PARENTS>::forward::<Flex>(&operator, Inputs::new(tensors()));
        let incoming = || {
            let grad = Flex::float_swap_dims(numbers(&[5, 20, 3], 17), 1, 2);
            Incoming::<Flex, PARENTS>::new(tensors()[..2].to_vec(), grad)
        };
        let back = operator.flex_backward(incoming()).map(Option::unwrap);
        let plain = operator.backward::<Flex>(incoming()).map(Option::unwrap);
        let pairs = ours.into_iter().zip(composed);
        for (a, b) in pairs.chain(back.into_iter().zip(plain)) {
            assert_eq!(a.shape(), b.shape());
            for (a, b) in flex::to_vec(&a).iter().zip(flex::to_vec(&b)) {
                assert!((a - b).abs() < 1e-5, "{a}, {b}");
            }
        }
    }

    #[test]
    fn kernels_are_what_is_composed() {
        check::<3>(true);
        check::<2>(true);
        check::<2>(false);
    }
}
