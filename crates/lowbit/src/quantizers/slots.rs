//! The quantizers of one layer.

use burn::module::Module;
use burn::tensor::Tensor;

use super::Quantizer;
use crate::ops::Operand;

/// The quantizers of a layer. A slot that is `None` costs nothing.
#[derive(Module, Debug)]
pub struct Quantizers {
    /// Quantizes what the layer reads.
    pub input: Option<Quantizer>,
    /// Quantizes its weight.
    pub weight: Option<Quantizer>,
    /// Quantizes its bias.
    pub bias: Option<Quantizer>,
    /// Quantizes what it hands on.
    pub output: Option<Quantizer>,
}

impl Quantizers {
    /// The layer's input, as an operand.
    pub fn input<const D: usize>(&self, x: Tensor<D>) -> Operand<D> {
        operand(&self.input, x, false)
    }

    /// The layer's weight, as an operand.
    pub fn weight<const D: usize>(&self, weight: Tensor<D>) -> Operand<D> {
        operand(&self.weight, weight, true)
    }

    /// The layer's bias, as an operand.
    pub fn bias(&self, bias: Tensor<1>) -> Operand<1> {
        operand(&self.bias, bias, true)
    }

    /// The layer's output, quantized.
    pub fn output<const D: usize>(&self, y: Tensor<D>) -> Tensor<D> {
        operand(&self.output, y, false).quantized()
    }
}

fn operand<const D: usize>(slot: &Option<Quantizer>, x: Tensor<D>, parameter: bool) -> Operand<D> {
    match slot {
        Some(quantizer) => quantizer.operand_of(x, parameter),
        None => x.into(),
    }
}
