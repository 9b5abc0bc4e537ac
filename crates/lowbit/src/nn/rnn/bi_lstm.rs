//! Long short-term memory in both directions.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::activation::ActivationConfig;
use burn::nn::{Initializer, LstmState};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::Planner;
use crate::nn::planned::with_parts_in_float;
use crate::nn::rnn::lstm::{Lstm, LstmConfig};
use crate::nn::rnn::with_batch_first;

/// Configuration of a [`BiLstm`]; the fields of `burn::nn::BiLstmConfig`.
#[derive(Config, Debug)]
pub struct BiLstmConfig {
    /// Features in, at least one.
    pub d_input: usize,
    /// Features of the states of a direction, at least one.
    pub d_hidden: usize,
    /// Whether gates have biases.
    pub bias: bool,
    /// How weights and biases start.
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    /// Whether sequences are `[batch, length, features]`, not `[length, batch, features]`.
    #[config(default = true)]
    pub batch_first: bool,
    /// The cell states are clamped to this on either side, if given.
    pub clip: Option<f64>,
    /// Whether a forget gate is 1 less the input gate.
    #[config(default = false)]
    pub input_forget: bool,
    /// The function of the input, the forget and the output gate; one without parameters.
    #[config(default = "ActivationConfig::Sigmoid")]
    pub gate_activation: ActivationConfig,
    /// The function of the cell gate; one without parameters.
    #[config(default = "ActivationConfig::Tanh")]
    pub cell_activation: ActivationConfig,
    /// The function of the cell state before the output gate; one without parameters.
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
}

/// An [`Lstm`] that reads a sequence from its start and one that reads it from its end (Graves and
/// Schmidhuber, IJCNN 2005), with their slots. Built by [`BiLstmConfig`]; parameter paths are those
/// of `burn::nn::BiLstm`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::BiLstmConfig;
///
/// let device = Device::flex();
/// let lstm = BiLstmConfig::new(8, 16, true).init(&device);
/// let (y, state) = lstm.forward(Tensor::zeros([2, 5, 8], &device), None);
/// assert_eq!((y.dims(), state.hidden.dims()), ([2, 5, 32], [2, 2, 16]));
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BiLstm {
    /// From the start.
    pub forward: Lstm,
    /// From the end.
    pub reverse: Lstm,
    /// Features of the states of a direction.
    pub d_hidden: usize,
    /// Whether the batch comes before the sequence.
    pub batch_first: bool,
}

impl BiLstmConfig {
    /// Builds the layer in float.
    ///
    /// # Panics
    /// With the one line of [`LstmConfig`]'s check where that is an error.
    pub fn init(&self, device: &Device) -> BiLstm {
        with_parts_in_float(|planner| self.init_planned(planner, "BiLstm", device))
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
    ) -> Result<BiLstm, Error> {
        let direction = LstmConfig::new(self.d_input, self.d_hidden, self.bias)
            .with_initializer(self.initializer.clone())
            .with_clip(self.clip)
            .with_input_forget(self.input_forget)
            .with_gate_activation(self.gate_activation.clone())
            .with_cell_activation(self.cell_activation.clone())
            .with_hidden_activation(self.hidden_activation.clone());
        Ok(BiLstm {
            forward: direction.init_planned(planner, &format!("{path}.forward"), device)?,
            reverse: direction.init_planned(planner, &format!("{path}.reverse"), device)?,
            d_hidden: self.d_hidden,
            batch_first: self.batch_first,
        })
    }
}

impl BiLstm {
    /// Applies the layer, from a state or from zeros. Returns the hidden states of both directions at
    /// each step, and the states after each direction's last.
    ///
    /// # Shapes
    /// - `input`: `[batch, length, d_input]`, or `[length, batch, d_input]` where the batch does not
    ///   come first
    /// - the first result: the same with `2 d_hidden`
    /// - states: `[2, batch, d_hidden]`
    pub fn forward(
        &self,
        input: Tensor<3>,
        state: Option<LstmState<3>>,
    ) -> (Tensor<3>, LstmState<3>) {
        let input = with_batch_first(input, self.batch_first);
        let of = |i: usize| {
            let state = state.clone()?;
            Some(state.map_state(|of_both| of_both.narrow(0, i, 1).squeeze_dim::<2>(0)))
        };
        let (forward, after) = self.forward.run(input.clone(), of(0), false);
        let (reverse, before) = self.reverse.run(input, of(1), true);
        let output = Tensor::cat(vec![forward, reverse], 2);
        let output = with_batch_first(output, self.batch_first);
        (output, LstmState::stack(vec![after, before], 0))
    }
}

impl ModuleDisplay for BiLstm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let linear = &self.forward.input_gate.input_transform;
        let [d_input, _] = linear.weight.dims();
        content
            .add("d_input", &d_input)
            .add("d_hidden", &self.d_hidden)
            .add("bias", &linear.bias.is_some())
            .optional()
    }
}
