//! The feed-forward part of a transformer.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::Initializer;
use burn::nn::activation::ActivationConfig;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::Planner;
use crate::nn::planned::with_parts_in_float;
use crate::nn::{Activation, Dropout, DropoutConfig, Linear, LinearConfig};

/// Configuration of a [`PositionWiseFeedForward`]; the fields of
/// `burn::nn::transformer::PositionWiseFeedForwardConfig`.
#[derive(Config, Debug)]
pub struct PositionWiseFeedForwardConfig {
    /// Features in and out.
    pub d_model: usize,
    /// Features between the two linear layers.
    pub d_ff: usize,
    /// The probability that one of those becomes zero in training, 0 to below 1.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// How weights and biases start.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
    /// The activation between the two linear layers.
    #[config(default = "ActivationConfig::Gelu")]
    pub activation: ActivationConfig,
}

/// `activation(x W + b) V + c` of each position (Vaswani et al., arXiv 1706.03762, section 3.3), with
/// dropout after the activation. Built by [`PositionWiseFeedForwardConfig`]; parameter paths are those
/// of `burn::nn::transformer::PositionWiseFeedForward`. Its tensors are those of its layers, with
/// their slots.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::PositionWiseFeedForwardConfig;
///
/// let device = Device::flex();
/// let layer = PositionWiseFeedForwardConfig::new(8, 32).init(&device);
/// assert_eq!(layer.forward(Tensor::<3>::zeros([1, 5, 8], &device)).dims(), [1, 5, 8]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct PositionWiseFeedForward {
    /// From `d_model` to `d_ff` features.
    pub linear_inner: Linear,
    /// Back.
    pub linear_outer: Linear,
    /// Between the two, after the activation.
    pub dropout: Dropout,
    /// Between the two.
    pub activation: Activation,
}

impl PositionWiseFeedForwardConfig {
    /// Builds the layer in float.
    ///
    /// # Panics
    /// If a part cannot be built.
    pub fn init(&self, device: &Device) -> PositionWiseFeedForward {
        with_parts_in_float(|planner| self.init_planned(planner, "PositionWiseFeedForward", device))
    }

    /// Builds the layer at `path` of a network, each of its parts with what the plan gives it.
    ///
    /// # Errors
    /// As [`Planner::layer`] and [`Activation::init_planned`].
    pub fn init_planned(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<PositionWiseFeedForward, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let linear = |d_input, d_output| {
            LinearConfig::new(d_input, d_output).with_initializer(self.initializer.clone())
        };
        let inner = planner.layer(at("linear_inner"), linear(self.d_model, self.d_ff))?;
        let activation =
            Activation::init_planned(&self.activation, planner, &at("activation"), device)?;
        let dropout = planner.layer(at("dropout"), DropoutConfig::new(self.dropout))?;
        let outer = planner.layer(at("linear_outer"), linear(self.d_ff, self.d_model))?;
        Ok(PositionWiseFeedForward {
            linear_inner: inner.init(device),
            linear_outer: outer.init(device),
            dropout: dropout.init(device),
            activation,
        })
    }
}

impl PositionWiseFeedForward {
    /// Applies the layer.
    ///
    /// # Shapes
    /// `input` and result: `[..., d_model]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let x = self.activation.forward(self.linear_inner.forward(input));
        self.linear_outer.forward(self.dropout.forward(x))
    }
}

impl ModuleDisplay for PositionWiseFeedForward {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_model, d_ff] = self.linear_inner.weight.dims();
        content
            .add("d_model", &d_model)
            .add("d_ff", &d_ff)
            .add("prob", &self.dropout.prob)
            .optional()
    }
}
