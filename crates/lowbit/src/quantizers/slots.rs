//! The quantizers of one layer.

use burn::module::Module;
use burn::tensor::Tensor;

use super::{Accumulator, Quantizer};
use crate::ops::Operand;

/// The sums of products that a layer computes.
#[derive(Debug, Clone, Copy)]
pub struct Products {
    /// Products in each sum.
    pub terms: usize,
    /// The dimension of the result that has one index per output channel.
    pub axis: usize,
    /// How often the weight's channels repeat along that dimension.
    pub groups: usize,
}

impl Products {
    /// Sums of `terms` products, with one of the weight's channels at each index of `axis`.
    pub fn new(terms: usize, axis: usize) -> Self {
        Self {
            terms,
            axis,
            groups: 1,
        }
    }
}

/// The quantizers of a layer. A slot that is `None` costs nothing.
#[derive(Module, Debug)]
pub struct Quantizers {
    /// Quantizes what the layer reads.
    pub input: Option<Quantizer>,
    /// Quantizes its weight.
    pub weight: Option<Quantizer>,
    /// Quantizes its bias.
    pub bias: Option<Quantizer>,
    /// Saturates the sum of its products.
    pub accumulator: Option<Accumulator>,
    /// Quantizes what it hands on.
    pub output: Option<Quantizer>,
}

impl Quantizers {
    /// The layer's input, as an operand.
    pub fn input<const D: usize>(&self, x: Tensor<D>) -> Operand<D> {
        operand(&self.input, x)
    }

    /// The layer's weight, as an operand.
    pub fn weight<const D: usize>(&self, weight: Tensor<D>) -> Operand<D> {
        operand(&self.weight, weight)
    }

    /// The layer's bias, as an operand.
    pub fn bias(&self, bias: Tensor<1>) -> Operand<1> {
        operand(&self.bias, bias)
    }

    /// The layer's result: the sum of products that `sum` computes from the operands, saturated to
    /// the accumulator's width, plus bias. Without an accumulator that can saturate, `sum` adds the
    /// bias itself.
    pub fn accumulate<const I: usize, const W: usize, const O: usize>(
        &self,
        input: Operand<I>,
        weight: Operand<W>,
        bias: Option<Operand<1>>,
        products: Products,
        sum: impl FnOnce(Operand<I>, Operand<W>, Option<Operand<1>>) -> Tensor<O>,
    ) -> Tensor<O> {
        let saturation = self
            .accumulator
            .as_ref()
            .and_then(|accumulator| accumulator.saturation(&input, &weight, products));
        let Some(saturation) = saturation else {
            return sum(input, weight, bias);
        };
        let saturated = saturation.apply(sum(input, weight, None), products.axis);
        match bias.map(Operand::quantized) {
            Some(bias) => {
                let mut shape = [1; O];
                shape[products.axis] = bias.dims()[0];
                saturated + bias.reshape(shape)
            }
            None => saturated,
        }
    }

    /// The layer's output, quantized.
    pub fn output<const D: usize>(&self, y: Tensor<D>) -> Tensor<D> {
        operand(&self.output, y).quantized()
    }
}

fn operand<const D: usize>(slot: &Option<Quantizer>, x: Tensor<D>) -> Operand<D> {
    match slot {
        Some(quantizer) => quantizer.operand(x),
        None => x.into(),
    }
}
