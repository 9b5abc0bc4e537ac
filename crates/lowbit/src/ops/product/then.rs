//! A convolution with what follows it, in one pass over its results: for evaluation, without a way back.

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor};
use lowbit_kernels::after::After;

use super::{Conv2d, Operands, Product, with_tensors};
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use crate::ops::norm::BatchNorm;
use crate::ops::pointwise::activation::{Activate, Activation};
use crate::ops::pointwise::add::Add;
use crate::ops::quantization::OperandQuantization;

/// What follows a convolution, in this order.
#[derive(Debug)]
pub(crate) struct Following {
    /// A normalization by gamma, beta, mean and variance, `[channels_out]` each, and what is added to the
    /// variance.
    pub(crate) norm: Option<([Tensor<1>; 4], f64)>,
    /// A tensor of the result's shape that is added.
    pub(crate) added: Option<Tensor<4>>,
    pub(crate) activation: Activation,
}

/// The convolution of operands and what follows it, with the bits of one operator after the other. On Flex
/// it is done to some images, or to a row, at a time, while they are in the cache. Nothing gets a gradient.
///
/// # Panics
/// If what is added has another shape.
pub(crate) fn conv2d_then(
    operands: Operands<4, 4>,
    options: ConvOptions<2>,
    following: Following,
) -> Tensor<4> {
    let (product, mut tensors) = with_tensors(Conv2d(options), operands.into_parts());
    let then = Then {
        product,
        of_product: tensors.len(),
        epsilon: following.norm.as_ref().map(|(_, epsilon)| *epsilon),
        adds: following.added.is_some(),
        activation: following.activation,
    };
    let norm = following.norm.into_iter().flat_map(|(norm, _)| norm);
    tensors.extend(norm.map(Tensor::into_dispatch));
    tensors.extend(following.added.map(Tensor::into_dispatch));
    operator::run(then, tensors)
}

/// The operator behind [`conv2d_then`]: of the product's tensors, those of the normalization, and what is
/// added.
#[derive(Debug, Clone)]
struct Then {
    product: Product<Conv2d>,
    /// How many tensors are the product's.
    of_product: usize,
    epsilon: Option<f64>,
    adds: bool,
    activation: Activation,
}

/// The tensors of each part.
struct Parts<B: Backend> {
    product: Vec<FloatTensor<B>>,
    norm: Option<(BatchNorm, [FloatTensor<B>; 4])>,
    added: Option<FloatTensor<B>>,
}

impl Operator<0> for Then {
    fn save_inputs<B: Backend>(&self, _inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let parts = self.parts::<B>(inputs);
        let mut y = B::forward(&self.product, Inputs::new(parts.product)).swap_remove(0);
        if let Some((norm, parameters)) = parts.norm {
            let tensors = std::iter::once(y).chain(parameters).collect();
            y = B::forward(&norm, Inputs::new(tensors)).swap_remove(0);
        }
        if let Some(added) = parts.added {
            let add = Add([OperandQuantization::Float, OperandQuantization::Float]);
            y = B::forward(&add, Inputs::new(vec![y, added])).swap_remove(0);
        }
        match self.activation {
            // The normalization alone makes it, too.
            _ if self.epsilon.is_some() && !self.adds => vec![y],
            Activation::Identity => vec![y],
            activation => B::forward(&Activate(activation), Inputs::new(vec![y])),
        }
    }

    fn backward<B: Kernels>(&self, _incoming: Incoming<B, 0>) -> Gradients<B, 0> {
        []
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let shape = self.product.kernel_shape(&inputs.tensors);
        let is_single = |x: &FlexTensor| x.dtype() == DType::F32;
        let (Some(shape), true) = (shape, inputs.tensors.iter().all(is_single)) else {
            return self.forward::<Flex>(inputs);
        };
        let parts = self.parts::<Flex>(inputs);
        let affine = parts.norm.map(|(norm, parameters)| norm.affine(parameters));
        let added = parts.added.map(|added| {
            let [height, width] = shape.output;
            let dims = [shape.batch, shape.channels[1], height, width];
            let given = added.layout().shape().as_slice();
            assert_eq!(dims, given, "the shapes to add differ");
            flex::channels_last(added)
        });
        let after = After::new(
            shape.channels[1],
            affine.as_ref(),
            added.as_ref().map(|added| added.storage()),
            self.activation,
        );
        let (operands, passes, bias) = self.product.prepared(parts.product);
        let product = &self.product.product;
        vec![product.forward_then(shape, operands, &passes, bias, Some(&after))]
    }
}

impl Then {
    fn parts<B: Backend>(&self, inputs: Inputs<B>) -> Parts<B> {
        let mut product = inputs.tensors;
        let mut rest = product.split_off(self.of_product);
        let added = self.adds.then(|| rest.pop()).flatten();
        let norm = self.epsilon.map(|epsilon| {
            let norm = BatchNorm {
                epsilon,
                activation: match self.adds {
                    true => Activation::Identity,
                    false => self.activation,
                },
                from_batch: false,
            };
            (norm, array(rest))
        });
        Parts {
            product,
            norm,
            added,
        }
    }
}
