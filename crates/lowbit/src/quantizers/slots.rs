//! The quantizers of one layer.

use burn::module::{Flag, Module, Param};
use burn::tensor::Tensor;

use crate::ops::Operand;
use crate::quantizers::methods::{Accumulator, Quantizer, Sums};
use crate::quantizers::watch::tap;

/// The quantizers of a layer. A slot that is `None` costs nothing.
#[derive(Module, Debug)]
pub struct Quantizers {
    /// Quantizes what the layer reads.
    pub input: Option<Quantizer>,
    /// Quantizes its weight.
    pub weight: Option<Quantizer>,
    /// Quantizes its bias.
    pub bias: Option<Quantizer>,
    /// Saturates the sum of its sums.
    pub accumulator: Option<Accumulator>,
    /// Quantizes what it hands on.
    pub output: Option<Quantizer>,
    /// Tells this layer from all others, so that taps can find it; its value says nothing.
    pub identity: Param<Flag>,
}

impl Default for Quantizers {
    /// A layer that quantizes nothing.
    fn default() -> Self {
        Self {
            input: None,
            weight: None,
            bias: None,
            accumulator: None,
            output: None,
            identity: Param::from_bool(false),
        }
    }
}

impl Quantizers {
    /// The layer's input, as an operand.
    pub fn input<const D: usize>(&self, x: Tensor<D>) -> Operand<D> {
        operand(&self.input, self.tap("input", x), false)
    }

    /// The layer's weight, as an operand.
    pub fn weight<const D: usize>(&self, weight: Tensor<D>) -> Operand<D> {
        operand(&self.weight, self.tap("weight", weight), true)
    }

    /// The layer's bias, as an operand.
    pub fn bias(&self, bias: Tensor<1>) -> Operand<1> {
        operand(&self.bias, self.tap("bias", bias), true)
    }

    /// The layer's result: the sum that `sum` computes from the operands, saturated to
    /// the accumulator's width, plus bias. Without an accumulator that can saturate, `sum` adds the
    /// bias itself.
    pub fn accumulate<const I: usize, const W: usize, const O: usize>(
        &self,
        input: Operand<I>,
        weight: Operand<W>,
        bias: Option<Operand<1>>,
        sums: Sums,
        sum: impl FnOnce(Operand<I>, Operand<W>, Option<Operand<1>>) -> Tensor<O>,
    ) -> Tensor<O> {
        let saturation = self
            .accumulator
            .as_ref()
            .and_then(|accumulator| accumulator.saturation(&input, &weight, sums));
        let Some(saturation) = saturation else {
            return sum(input, weight, bias);
        };
        let saturated = saturation.apply(sum(input, weight, None), sums.axis);
        match bias.map(Operand::quantized) {
            Some(bias) => {
                let mut shape = [1; O];
                shape[sums.axis] = bias.dims()[0];
                saturated + bias.reshape(shape)
            }
            None => saturated,
        }
    }

    /// The layer's output, quantized.
    pub fn output<const D: usize>(&self, y: Tensor<D>) -> Tensor<D> {
        self.tap("output", operand(&self.output, y, false).quantized())
    }
}

impl Quantizers {
    fn tap<const D: usize>(&self, slot: &str, x: Tensor<D>) -> Tensor<D> {
        tap::pass(self.identity.id, slot, x)
    }
}

fn operand<const D: usize>(slot: &Option<Quantizer>, x: Tensor<D>, parameter: bool) -> Operand<D> {
    match slot {
        Some(quantizer) => quantizer.operand_of(x, parameter),
        None => x.into(),
    }
}
