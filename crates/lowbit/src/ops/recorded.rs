//! What a recorded operator of ours computes, for those who read a recording instead of running it.

use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use crate::ops::backend::capture::RecordedOperator;
use crate::ops::backend::mark::Mark;
use crate::ops::norm::BatchNorm;
use crate::ops::pointwise::activation::{Activate, Activation};
use crate::ops::pointwise::add::Add;
use crate::ops::pointwise::gelu::Smooth;
use crate::ops::pool::Pooling;
use crate::ops::product::{Conv2d, Linear, Product};
use crate::ops::quantization::{DorefaWeight, OperandQuantization, QuantizeGradient};

/// What an operator computes of its tensors, in their order.
#[derive(Debug, Clone)]
pub(crate) enum Meaning {
    /// The tensor itself, which is that in the slot of a layer.
    Mark(Mark),
    /// The tensor itself.
    Same,
    /// The tensor quantized; the parameters of the quantization follow it.
    Quantized(OperandQuantization),
    /// The tensor as weights of DoReFa-Net in so many bits.
    DorefaWeight(u32),
    /// The product of the input and the weight, each quantized; the bias, if there is one, follows them,
    /// and then the parameters of both quantizations.
    Product {
        kind: ProductKind,
        quantizations: [OperandQuantization; 2],
        has_bias: bool,
    },
    /// The sum of two tensors, each quantized; the parameters of both quantizations follow.
    Add([OperandQuantization; 2]),
    /// What is made of the numbers under each window.
    Pool(Pooling),
    /// The activation of the tensor.
    Activation(Activation),
    /// A function of each of its numbers, which running it tells.
    Function,
    /// The normalization of the tensor by gamma, beta, mean and variance, which follow it, and its
    /// activation.
    Norm {
        epsilon: f64,
        activation: Activation,
    },
}

/// Which product it is.
#[derive(Debug, Clone)]
pub(crate) enum ProductKind {
    Conv1d(ConvOptions<1>),
    Conv2d(ConvOptions<2>),
    ConvTranspose1d(ConvTransposeOptions<1>),
    ConvTranspose2d(ConvTransposeOptions<2>),
    Linear,
}

impl Meaning {
    /// What a recorded operator computes; `None` where nothing is known but how to run it.
    pub(crate) fn of(operator: &RecordedOperator) -> Option<Self> {
        if let Some(mark) = operator.get::<Mark>() {
            return Some(Self::Mark(mark));
        }
        if operator.get::<QuantizeGradient>().is_some() {
            return Some(Self::Same);
        }
        if let Some(quantization) = OperandQuantization::recorded(operator) {
            return Some(Self::Quantized(quantization));
        }
        if let Some(DorefaWeight { bits, .. }) = operator.get() {
            return Some(Self::DorefaWeight(bits));
        }
        if let Some(Product {
            product: Conv2d(options),
            quantizations,
            has_bias,
            ..
        }) = operator.get()
        {
            let kind = ProductKind::Conv2d(options);
            return Some(Self::Product {
                kind,
                quantizations,
                has_bias,
            });
        }
        if let Some(Product {
            product: Linear,
            quantizations,
            has_bias,
            ..
        }) = operator.get()
        {
            let kind = ProductKind::Linear;
            return Some(Self::Product {
                kind,
                quantizations,
                has_bias,
            });
        }
        if let Some(Add(quantizations)) = operator.get() {
            return Some(Self::Add(quantizations));
        }
        if let Some(pooling) = operator.get() {
            return Some(Self::Pool(pooling));
        }
        if let Some(Activate(activation)) = operator.get() {
            return Some(Self::Activation(activation));
        }
        if operator.get::<Smooth>().is_some() {
            return Some(Self::Function);
        }
        match operator.get()? {
            BatchNorm {
                epsilon,
                activation,
                from_batch: false,
            } => Some(Self::Norm {
                epsilon,
                activation,
            }),
            BatchNorm { .. } => None,
        }
    }
}
