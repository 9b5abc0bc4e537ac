//! Linear unit gated by a sigmoid linear unit.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::Planner;
use crate::nn::activation::{Silu, SiluConfig};
use crate::nn::planned::with_parts_in_float;
use crate::nn::{Linear, LinearConfig, Mul, MulConfig};

/// Configuration of a [`SwiGlu`]; the fields of `burn::nn::SwiGluConfig` (row layout).
#[derive(Config, Debug)]
pub struct SwiGluConfig {
    /// Features in.
    pub d_input: usize,
    /// Features out.
    pub d_output: usize,
    /// Whether biases are added.
    #[config(default = false)]
    pub bias: bool,
    /// How weights and biases start.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
}

/// `silu(x W + b) (x V + c)` (Shazeer, arXiv 2002.05202). Built by [`SwiGluConfig`]; parameter paths
/// are those of `burn::nn::SwiGlu`. Each of its layers has its slots; of the product's, both factors
/// go through `input`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::SwiGluConfig;
///
/// let device = Device::flex();
/// let layer = SwiGluConfig::new(4, 8).init(&device);
/// assert_eq!(layer.forward(Tensor::<2>::zeros([3, 4], &device)).dims(), [3, 8]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct SwiGlu {
    /// What becomes the gate.
    pub linear_inner: Linear,
    /// What is gated.
    pub linear_outer: Linear,
    /// The gate's function.
    pub silu: Silu,
    /// The product.
    pub mul: Mul,
}

impl SwiGluConfig {
    /// Builds the layer in float.
    pub fn init(&self, device: &Device) -> SwiGlu {
        with_parts_in_float(|planner| self.init_planned(planner, "SwiGlu", device))
    }

    /// Builds the layer at `path` of a network, each of its parts with what the plan gives it.
    ///
    /// # Errors
    /// As [`Planner::layer`].
    pub fn init_planned(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<SwiGlu, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let linear = LinearConfig::new(self.d_input, self.d_output)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone());
        let inner = planner.layer(at("linear_inner"), linear.clone())?;
        let outer = planner.layer(at("linear_outer"), linear)?;
        let silu = planner.layer(at("silu"), SiluConfig::new())?;
        let mul = planner.layer(at("mul"), MulConfig::new())?;
        Ok(SwiGlu {
            linear_inner: inner.init(device),
            linear_outer: outer.init(device),
            silu: silu.init(device),
            mul: mul.init(device),
        })
    }
}

impl SwiGlu {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[..., d_input]`
    /// - result: `[..., d_output]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let gate = self.silu.forward(self.linear_inner.forward(input.clone()));
        self.mul.forward(gate, self.linear_outer.forward(input))
    }
}

impl ModuleDisplay for SwiGlu {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_input, d_output] = self.linear_inner.weight.dims();
        content
            .add("d_input", &d_input)
            .add("d_output", &d_output)
            .add("bias", &self.linear_inner.bias.is_some())
            .optional()
    }
}
