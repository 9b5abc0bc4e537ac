//! A layer that does nothing but quantize.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::{Format, Rounding};

use crate::config::{Describe, Description, QConfig};
use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig, Quantizers, Signs, Slot};

/// Configuration of a [`Quantize`].
#[derive(Config, Debug)]
pub struct QuantizeConfig {
    /// What is quantized; the slots are `input`, `output` and `error`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Hands its input on, quantized; on the way back, the gradient. It has no parameters. QPyTorch's
/// `Quantizer`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::QuantizeConfig;
/// use lowbit_formats::Rounding;
///
/// let device = Device::flex().autodiff();
/// let layer = QuantizeConfig::new()
///     .with_forward("fixed(4,2)".parse()?, Rounding::NearestEven)
///     .with_backward("fixed(4,1)".parse()?, Rounding::NearestEven)
///     .init(&device);
/// let x = Tensor::<1>::from_floats([0.3, 1.1], &device).require_grad();
/// let y = layer.forward(x.clone());
/// let grads = (y.clone() * 0.7).sum().backward();
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.25, 1.0]);
/// let gradient = x.grad(&grads).unwrap();
/// assert_eq!(gradient.into_data().try_to_vec::<f32>().unwrap(), [0.5, 0.5]);
/// # Ok::<(), lowbit_formats::FormatError>(())
/// ```
#[derive(Module, Debug)]
pub struct Quantize {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl QuantizeConfig {
    /// The same with a format for the values.
    pub fn with_forward(self, format: Format, rounding: Rounding) -> Self {
        self.with_slot(Slot::INPUT, format, rounding)
    }

    /// The same with a format for the gradient that comes back.
    pub fn with_backward(self, format: Format, rounding: Rounding) -> Self {
        self.with_slot(Slot::ERROR, format, rounding)
    }

    fn with_slot(mut self, slot: &str, format: Format, rounding: Rounding) -> Self {
        let quantizer = FormatQuantizerConfig {
            rounding,
            ..FormatQuantizerConfig::new(format)
        };
        self.quantization
            .set(slot, QuantizerConfig::Format(quantizer));
        self
    }

    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Quantize {
        Quantize {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for QuantizeConfig {
    fn describe(&self) -> Description {
        Description::new("Quantize").with_signs(Signs::OfInputs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Quantize {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let quantized = self.quantizers.input(input).quantized();
        self.quantizers.output(quantized)
    }
}
