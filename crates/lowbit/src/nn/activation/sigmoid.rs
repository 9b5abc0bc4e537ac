//! Logistic function.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::posit::{PositActivation, PositFunction};

use crate::config::QConfig;
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`Sigmoid`].
#[derive(Config, Debug)]
pub struct SigmoidConfig {
    /// Bits of the posit (8 or 16, without exponent bits) that computes the function; the exact
    /// function unless given. See [`ops::posit_activation`](crate::ops::posit_activation()).
    #[config(default = "None")]
    pub posit_bits: Option<u8>,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `1 / (1 + e^-x)`, or about that, by the bits of a posit.
#[derive(Module, Debug)]
pub struct Sigmoid {
    #[module(skip)]
    posit: Option<PositActivation>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl SigmoidConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// If `posit_bits` is neither 8 nor 16.
    pub fn init(&self, device: &Device) -> Sigmoid {
        let posit = |bits| {
            PositActivation::new(PositFunction::Sigmoid, bits).unwrap_or_else(|e| panic!("{e}"))
        };
        Sigmoid {
            posit: self.posit_bits.map(posit),
            quantizers: self.quantization.init(None, device),
        }
    }
}

impl Sigmoid {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let output = match self.posit {
            Some(function) => ops::posit_activation(input, function),
            None => ops::sigmoid(input),
        };
        self.quantizers.output(output)
    }
}
