//! Product of two branches.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`Mul`].
#[derive(Config, Debug)]
pub struct MulConfig {
    /// What is quantized; `input` quantizes both branches with one quantizer, `output` the product.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The product of two tensors of one shape, element by element, such as a feature and its gate.
#[derive(Module, Debug)]
pub struct Mul {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl MulConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Mul {
        Mul {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for MulConfig {
    fn describe(&self) -> Description {
        Description::new("Mul").leaving_grid()
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Mul {
    /// Applies the layer; any shape, the same for all three.
    pub fn forward<const D: usize>(&self, left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
        let product = ops::mul(self.quantizers.input(left), self.quantizers.input(right));
        self.quantizers.output(product)
    }
}
