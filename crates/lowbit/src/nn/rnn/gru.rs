//! Gated recurrent unit.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::Initializer;
use burn::nn::activation::{Activation, ActivationConfig};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, Planner, QConfig};
use crate::nn::planned::{check_function, with_parts_in_float};
use crate::nn::rnn::gate_controller::{GateController, GateSteps, Gates};
use crate::nn::rnn::{CANDIDATE, GATES, HIDDEN, check_clip, sequence_of};
use crate::nn::window::at_least_one;
use crate::quantizers::{Quantizers, Slot};

/// Configuration of a [`Gru`]; the fields of `burn::nn::GruConfig`, and what is quantized.
#[derive(Config, Debug)]
pub struct GruConfig {
    /// Features in, at least one.
    pub d_input: usize,
    /// Features of the hidden state, at least one.
    pub d_hidden: usize,
    /// Whether gates have biases.
    pub bias: bool,
    /// Whether the reset gate comes after the product with the hidden state, not before it.
    #[config(default = "true")]
    pub reset_after: bool,
    /// How weights and biases start.
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    /// The function of the update and the reset gate; one without parameters.
    #[config(default = "ActivationConfig::Sigmoid")]
    pub gate_activation: ActivationConfig,
    /// The function of the new gate; one without parameters.
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
    /// The hidden state is clamped to this on either side, if given; finite and positive.
    pub clip: Option<f64>,
    /// What is quantized beside what the gates' linear layers quantize; the slots are `input`,
    /// `output`, `error`, and those that [`Gru`] names.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Gated recurrent unit (Cho et al., arXiv 1406.1078). Of step `t`:
///
/// ```text
/// z = s(x_t Wz + bz + h Uz + cz)           update gate
/// r = s(x_t Wr + br + h Ur + cr)           reset gate
/// n = tanh(x_t Wn + bn + r (h Un + cn))    new gate, the candidate
/// n = tanh(x_t Wn + bn + (r h) Un + cn)    the same, reset before the product
/// h' = (1 - z) n + z h                     hidden state, the result
/// ```
///
/// Built by [`GruConfig`]; parameter paths are those of `burn::nn::Gru`. The data flow: the sequence
/// goes through the slot `input`, what a gate's linear layers read, their weights and biases through
/// theirs (at `update_gate.input_transform` and so on), `z` and `r` through `gates`, `n` through
/// `candidate`, `h'`, and the hidden state at the start, through `hidden`, and the sequence of `h'`
/// through `output`. A weight is quantized once for all steps, and its whole gradient once; the linear
/// layers of the input read all steps at once. Composed of those layers and tensor operations. Burn's
/// sums have another order.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::GruConfig;
///
/// let device = Device::flex();
/// let gru = GruConfig::new(8, 16, true).init(&device);
/// let y = gru.forward(Tensor::zeros([2, 5, 8], &device), None);
/// assert_eq!(y.dims(), [2, 5, 16]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Gru {
    /// What stays of the hidden state.
    pub update_gate: GateController,
    /// What of the hidden state the candidate sees.
    pub reset_gate: GateController,
    /// What may enter the hidden state.
    pub new_gate: GateController,
    /// Features of the hidden state.
    pub d_hidden: usize,
    /// Whether the reset gate comes after the product.
    pub reset_after: bool,
    /// The function of the update and the reset gate.
    pub gate_activation: Activation,
    /// The function of the new gate.
    pub hidden_activation: Activation,
    /// To what the hidden state is clamped.
    pub clip: Option<f64>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

/// The gates on their way over a sequence.
struct GruSteps<'a> {
    update: GateSteps<'a>,
    reset: GateSteps<'a>,
    new: GateSteps<'a>,
}

impl GruConfig {
    /// Builds the layer, the gates' linear layers in float.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Gru {
        let quantizers = self.init_quantizers(device);
        with_parts_in_float(|planner| self.with_parts(planner, "Gru", quantizers, device))
    }

    /// Builds the layer at `path` of a network: itself and each of its parts with what the plan gives
    /// them.
    ///
    /// # Errors
    /// As [`Planner::layer`].
    pub fn init_planned(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Gru, Error> {
        let planned = planner.layer(path, self.clone())?;
        self.with_parts(planner, path, planned.init_quantizers(device), device)
    }

    fn with_parts(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        quantizers: Quantizers,
        device: &Device,
    ) -> Result<Gru, Error> {
        let gates = Gates {
            d_input: self.d_input,
            d_hidden: self.d_hidden,
            bias: self.bias,
            initializer: &self.initializer,
        };
        let mut gate = |name: &str| gates.gate(planner, &format!("{path}.{name}"), device);
        Ok(Gru {
            update_gate: gate("update_gate")?,
            reset_gate: gate("reset_gate")?,
            new_gate: gate("new_gate")?,
            d_hidden: self.d_hidden,
            reset_after: self.reset_after,
            gate_activation: self.gate_activation.init(device),
            hidden_activation: self.hidden_activation.init(device),
            clip: self.clip,
            quantizers,
        })
    }
}

impl Describe for GruConfig {
    fn describe(&self) -> Description {
        Description {
            slots: vec![
                Slot::INPUT,
                Slot::OUTPUT,
                Slot::ERROR,
                CANDIDATE,
                GATES,
                HIDDEN,
            ],
            ..Description::new("Gru").leaving_grid()
        }
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        at_least_one("d_input", &[self.d_input])?;
        at_least_one("d_hidden", &[self.d_hidden])?;
        check_clip(self.clip)?;
        check_function("gate_activation", &self.gate_activation)?;
        check_function("hidden_activation", &self.hidden_activation)
    }
}

impl Gru {
    /// Applies the layer, from a hidden state or from zeros. Returns the hidden state after each step.
    ///
    /// # Shapes
    /// - `input`: `[batch, length, d_input]`
    /// - `state`: `[batch, d_hidden]`
    /// - result: `[batch, length, d_hidden]`
    pub fn forward(&self, input: Tensor<3>, state: Option<Tensor<2>>) -> Tensor<3> {
        self.run(input, state, false).0
    }

    /// The same in either direction, with the hidden state after the last step.
    pub(super) fn run(
        &self,
        input: Tensor<3>,
        state: Option<Tensor<2>>,
        reverse: bool,
    ) -> (Tensor<3>, Tensor<2>) {
        let input = self.quantizers.input(input).quantized();
        let [batch, length, _] = input.dims();
        let state = state.unwrap_or_else(|| Tensor::zeros([batch, self.d_hidden], &input.device()));
        let over = |gate| GateController::over(gate, input.clone(), reverse);
        let gates = GruSteps {
            update: over(&self.update_gate),
            reset: over(&self.reset_gate),
            new: over(&self.new_gate),
        };
        let mut hidden = self.through(HIDDEN, state);
        let mut all = Vec::new();
        for step in 0..length {
            hidden = self.step(&gates, step, hidden);
            all.push(hidden.clone());
        }
        (self.quantizers.output(sequence_of(all, reverse)), hidden)
    }

    /// The hidden state after a step.
    fn step(&self, gates: &GruSteps<'_>, step: usize, hidden: Tensor<2>) -> Tensor<2> {
        let gate = |gate: &GateSteps<'_>| {
            let sum = gate.gate_product(step, hidden.clone());
            self.through(GATES, self.gate_activation.forward(sum))
        };
        let update = gate(&gates.update);
        let reset = gate(&gates.reset);
        let sum = if self.reset_after {
            let [input, hidden] = gates.new.products(step, hidden.clone());
            input + reset * hidden
        } else {
            gates.new.gate_product(step, hidden.clone() * reset)
        };
        let candidate = self.through(CANDIDATE, self.hidden_activation.forward(sum));
        let one_minus = update.clone().neg().add_scalar(1.0);
        let hidden = candidate * one_minus + update * hidden;
        let hidden = match self.clip {
            Some(clip) => hidden.clamp(-clip, clip),
            None => hidden,
        };
        self.through(HIDDEN, hidden)
    }

    fn through(&self, slot: &str, x: Tensor<2>) -> Tensor<2> {
        self.quantizers.activation(slot, x).quantized()
    }
}

impl ModuleDisplay for Gru {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_input, _] = self.update_gate.input_transform.weight.dims();
        content
            .add("d_input", &d_input)
            .add("d_hidden", &self.d_hidden)
            .add("bias", &self.update_gate.input_transform.bias.is_some())
            .add("reset_after", &self.reset_after)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// With all weights zero, the gates are 1/2 and the candidate is tanh(1) = 0.761594. A hidden
    /// state of 1 becomes 0.880797; on a grid of quarters the candidate is 0.75, and that 0.875.
    #[test]
    fn one_step_by_hand() {
        let device = Device::flex();
        let quarters = FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap());
        let quarters = QConfig::new().with("candidate", QuantizerConfig::Format(quarters));
        for (config, expected) in [(QConfig::new(), 0.880_797), (quarters, 0.875)] {
            let mut gru = GruConfig::new(1, 1, true)
                .with_initializer(Initializer::Zeros)
                .with_quantization(config)
                .init(&device);
            let one = Tensor::<1>::from_floats([1.0], &device);
            gru.new_gate.input_transform.bias = Some(Param::from_tensor(one));
            let state = Tensor::ones([1, 1], &device);
            let y = gru.forward(Tensor::ones([1, 1, 1], &device), Some(state));
            let found = y.into_scalar::<f32>();
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
    }
}
