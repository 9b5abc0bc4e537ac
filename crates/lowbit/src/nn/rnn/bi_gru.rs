//! Gated recurrent units in both directions.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::Initializer;
use burn::nn::activation::ActivationConfig;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::Planner;
use crate::nn::planned::with_parts_in_float;
use crate::nn::rnn::gru::{Gru, GruConfig};
use crate::nn::rnn::with_batch_first;

/// Configuration of a [`BiGru`]; the fields of `burn::nn::BiGruConfig`.
#[derive(Config, Debug)]
pub struct BiGruConfig {
    /// Features in, at least one.
    pub d_input: usize,
    /// Features of the hidden state of a direction, at least one.
    pub d_hidden: usize,
    /// Whether gates have biases.
    pub bias: bool,
    /// Whether the reset gate comes after the product with the hidden state, not before it.
    #[config(default = "true")]
    pub reset_after: bool,
    /// How weights and biases start.
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    /// Whether sequences are `[batch, length, features]`, not `[length, batch, features]`.
    #[config(default = true)]
    pub batch_first: bool,
    /// The function of the update and the reset gate; one without parameters.
    #[config(default = "ActivationConfig::Sigmoid")]
    pub gate_activation: ActivationConfig,
    /// The function of the new gate; one without parameters.
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
    /// The hidden states are clamped to this on either side, if given.
    pub clip: Option<f64>,
}

/// A [`Gru`] that reads a sequence from its start and one that reads it from its end, with their
/// slots. Built by [`BiGruConfig`]; parameter paths are those of `burn::nn::BiGru`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::BiGruConfig;
///
/// let device = Device::flex();
/// let gru = BiGruConfig::new(8, 16, true).init(&device);
/// let (y, state) = gru.forward(Tensor::zeros([2, 5, 8], &device), None);
/// assert_eq!((y.dims(), state.dims()), ([2, 5, 32], [2, 2, 16]));
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BiGru {
    /// From the start.
    pub forward: Gru,
    /// From the end.
    pub reverse: Gru,
    /// Features of the hidden state of a direction.
    pub d_hidden: usize,
    /// Whether the batch comes before the sequence.
    pub batch_first: bool,
}

impl BiGruConfig {
    /// Builds the layer in float.
    ///
    /// # Panics
    /// With the one line of [`GruConfig`]'s check where that is an error.
    pub fn init(&self, device: &Device) -> BiGru {
        with_parts_in_float(|planner| self.init_planned(planner, "BiGru", device))
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
    ) -> Result<BiGru, Error> {
        let direction = GruConfig::new(self.d_input, self.d_hidden, self.bias)
            .with_reset_after(self.reset_after)
            .with_initializer(self.initializer.clone())
            .with_gate_activation(self.gate_activation.clone())
            .with_hidden_activation(self.hidden_activation.clone())
            .with_clip(self.clip);
        Ok(BiGru {
            forward: direction.init_planned(planner, &format!("{path}.forward"), device)?,
            reverse: direction.init_planned(planner, &format!("{path}.reverse"), device)?,
            d_hidden: self.d_hidden,
            batch_first: self.batch_first,
        })
    }
}

impl BiGru {
    /// Applies the layer, from hidden states or from zeros. Returns the hidden states of both
    /// directions at each step, and those after each direction's last.
    ///
    /// # Shapes
    /// - `input`: `[batch, length, d_input]`, or `[length, batch, d_input]` where the batch does not
    ///   come first
    /// - the first result: the same with `2 d_hidden`
    /// - states: `[2, batch, d_hidden]`
    pub fn forward(&self, input: Tensor<3>, state: Option<Tensor<3>>) -> (Tensor<3>, Tensor<3>) {
        let input = with_batch_first(input, self.batch_first);
        let of = |i: usize| Some(state.clone()?.narrow(0, i, 1).squeeze_dim::<2>(0));
        let (forward, after) = self.forward.run(input.clone(), of(0), false);
        let (reverse, before) = self.reverse.run(input, of(1), true);
        let output = Tensor::cat(vec![forward, reverse], 2);
        let output = with_batch_first(output, self.batch_first);
        (output, Tensor::stack(vec![after, before], 0))
    }
}

impl ModuleDisplay for BiGru {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let linear = &self.forward.update_gate.input_transform;
        let [d_input, _] = linear.weight.dims();
        content
            .add("d_input", &d_input)
            .add("d_hidden", &self.d_hidden)
            .add("bias", &linear.bias.is_some())
            .optional()
    }
}
