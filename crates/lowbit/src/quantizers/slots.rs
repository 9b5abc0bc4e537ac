//! The quantizers of one layer.

use burn::module::{Flag, Module, Param};
use burn::tensor::Tensor;

use super::{Quantizer, tap};
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
