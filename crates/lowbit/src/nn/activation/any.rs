//! One of the activations, as a configuration names it.

use burn::module::Module;
use burn::nn::Identity;
use burn::nn::LinearLayout;
use burn::nn::activation::ActivationConfig;
use burn::nn::activation::SwiGluConfig as PlainSwiGluConfig;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::Planner;
use crate::nn::activation::*;

/// One of the activations; Burn's `ActivationConfig` says which. Parameter paths are those of
/// `burn::nn::activation::Activation`.
#[derive(Module, Debug)]
#[allow(missing_docs, clippy::large_enum_variant)] // a network has few of them
pub enum Activation {
    Identity(Identity),
    Relu(Relu),
    LeakyRelu(LeakyRelu),
    Gelu(Gelu),
    PRelu(PRelu),
    SwiGlu(SwiGlu),
    Selu(Selu),
    Sigmoid(Sigmoid),
    Tanh(Tanh),
    HardSigmoid(HardSigmoid),
    HardSwish(HardSwish),
    Softplus(Softplus),
    Softsign(Softsign),
    Elu(Elu),
    Celu(Celu),
    ThresholdedRelu(ThresholdedRelu),
    HardShrink(HardShrink),
    SoftShrink(SoftShrink),
    Shrink(Shrink),
}

impl Activation {
    /// Builds the activation that `config` names, in the field at `path` of a network, with what the
    /// plan gives it: its path is the field's with its name, such as `pwff.activation.Gelu`.
    ///
    /// # Errors
    /// As [`Planner::layer`], and if there is no such activation here.
    pub fn init_planned(
        config: &ActivationConfig,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Self, Error> {
        use ActivationConfig as Config;
        let at = |name: &str| format!("{path}.{name}");
        Ok(match config {
            Config::Identity => Self::Identity(Identity::new()),
            Config::Relu => Self::Relu(planner.layer(at("Relu"), ReluConfig::new())?.init(device)),
            Config::Gelu => Self::Gelu(planner.layer(at("Gelu"), GeluConfig::new())?.init(device)),
            Config::GeluApproximate => {
                let config = GeluConfig::new().with_approximate(true);
                Self::Gelu(planner.layer(at("Gelu"), config)?.init(device))
            }
            Config::Selu => Self::Selu(planner.layer(at("Selu"), SeluConfig::new())?.init(device)),
            Config::Sigmoid => {
                let config = planner.layer(at("Sigmoid"), SigmoidConfig::new())?;
                Self::Sigmoid(config.init(device))
            }
            Config::Tanh => Self::Tanh(planner.layer(at("Tanh"), TanhConfig::new())?.init(device)),
            Config::HardSwish => {
                let config = planner.layer(at("HardSwish"), HardSwishConfig::new())?;
                Self::HardSwish(config.init(device))
            }
            Config::Softsign => {
                let config = planner.layer(at("Softsign"), SoftsignConfig::new())?;
                Self::Softsign(config.init(device))
            }
            Config::SwiGlu(config) => {
                let config = row_major(config, path)?;
                Self::SwiGlu(config.init_planned(planner, &at("SwiGlu"), device)?)
            }
            _ => Self::with_fields(config, planner, path, device)?,
        })
    }

    /// The same for those that have fields.
    fn with_fields(
        config: &ActivationConfig,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Self, Error> {
        use ActivationConfig as Config;
        let at = |name: &str| format!("{path}.{name}");
        Ok(match config {
            Config::LeakyRelu(c) => {
                let config = LeakyReluConfig::new().with_negative_slope(c.negative_slope);
                Self::LeakyRelu(planner.layer(at("LeakyRelu"), config)?.init(device))
            }
            Config::PRelu(c) => {
                let config = PReluConfig::new()
                    .with_num_parameters(c.num_parameters)
                    .with_alpha(c.alpha);
                Self::PRelu(planner.layer(at("PRelu"), config)?.init(device))
            }
            Config::HardSigmoid(c) => {
                let config = HardSigmoidConfig::new()
                    .with_alpha(c.alpha)
                    .with_beta(c.beta);
                Self::HardSigmoid(planner.layer(at("HardSigmoid"), config)?.init(device))
            }
            Config::Softplus(c) => {
                let config = SoftplusConfig::new()
                    .with_beta(c.beta)
                    .with_threshold(c.threshold);
                Self::Softplus(planner.layer(at("Softplus"), config)?.init(device))
            }
            Config::Elu(c) => {
                let config = EluConfig::new().with_alpha(c.alpha);
                Self::Elu(planner.layer(at("Elu"), config)?.init(device))
            }
            Config::Celu(c) => {
                let config = CeluConfig::new().with_alpha(c.alpha);
                Self::Celu(planner.layer(at("Celu"), config)?.init(device))
            }
            _ => Self::shrinking(config, planner, path, device)?,
        })
    }

    /// The same for those that make small numbers zero.
    fn shrinking(
        config: &ActivationConfig,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Self, Error> {
        use ActivationConfig as Config;
        let at = |name: &str| format!("{path}.{name}");
        Ok(match config {
            Config::ThresholdedRelu(c) => {
                let config = ThresholdedReluConfig::new().with_alpha(c.alpha);
                let config = planner.layer(at("ThresholdedRelu"), config)?;
                Self::ThresholdedRelu(config.init(device))
            }
            Config::HardShrink(c) => {
                let config = HardShrinkConfig::new().with_lambda(c.lambda);
                Self::HardShrink(planner.layer(at("HardShrink"), config)?.init(device))
            }
            Config::SoftShrink(c) => {
                let config = SoftShrinkConfig::new().with_lambda(c.lambda);
                Self::SoftShrink(planner.layer(at("SoftShrink"), config)?.init(device))
            }
            Config::Shrink(c) => {
                let config = ShrinkConfig::new().with_lambda(c.lambda).with_bias(c.bias);
                Self::Shrink(planner.layer(at("Shrink"), config)?.init(device))
            }
            other => {
                let message = format!("is {other:?}, of which there is no layer with slots");
                return Err(Error::config(path, message));
            }
        })
    }

    /// Applies the activation; any shape, that of the result the same but for a SwiGLU.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity(layer) => layer.forward(input),
            Self::Relu(layer) => layer.forward(input),
            Self::LeakyRelu(layer) => layer.forward(input),
            Self::Gelu(layer) => layer.forward(input),
            Self::PRelu(layer) => layer.forward(input),
            Self::SwiGlu(layer) => layer.forward(input),
            Self::Selu(layer) => layer.forward(input),
            Self::Sigmoid(layer) => layer.forward(input),
            Self::Tanh(layer) => layer.forward(input),
            Self::HardSigmoid(layer) => layer.forward(input),
            Self::HardSwish(layer) => layer.forward(input),
            Self::Softplus(layer) => layer.forward(input),
            Self::Softsign(layer) => layer.forward(input),
            Self::Elu(layer) => layer.forward(input),
            Self::Celu(layer) => layer.forward(input),
            Self::ThresholdedRelu(layer) => layer.forward(input),
            Self::HardShrink(layer) => layer.forward(input),
            Self::SoftShrink(layer) => layer.forward(input),
            Self::Shrink(layer) => layer.forward(input),
        }
    }
}

/// The same configuration here, where weights are `[d_input, d_output]`.
fn row_major(plain: &PlainSwiGluConfig, path: &str) -> Result<SwiGluConfig, Error> {
    if !matches!(plain.layout, LinearLayout::Row) {
        return Err(Error::config(
            path,
            "has its weights by columns, expected rows",
        ));
    }
    Ok(SwiGluConfig::new(plain.d_input, plain.d_output)
        .with_bias(plain.bias)
        .with_initializer(plain.initializer.clone()))
}
