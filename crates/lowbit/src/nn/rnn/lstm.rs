//! Long short-term memory.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::activation::{Activation, ActivationConfig};
use burn::nn::{Initializer, LstmState};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, Planner, QConfig};
use crate::nn::planned::{check_function, with_parts_in_float};
use crate::nn::rnn::gate_controller::{GateController, GateSteps, Gates};
use crate::nn::rnn::{
    ACTIVATED_CELL, CANDIDATE, CELL, GATES, HIDDEN, check_clip, sequence_of, with_batch_first,
};
use crate::nn::window::at_least_one;
use crate::quantizers::{Quantizers, Slot};

/// Configuration of an [`Lstm`]; the fields of `burn::nn::LstmConfig`, and what is quantized.
#[derive(Config, Debug)]
pub struct LstmConfig {
    /// Features in, at least one.
    pub d_input: usize,
    /// Features of the hidden and the cell state, at least one.
    pub d_hidden: usize,
    /// Whether gates have biases.
    pub bias: bool,
    /// How weights and biases start.
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    /// Whether sequences are `[batch, length, features]`, not `[length, batch, features]`.
    #[config(default = true)]
    pub batch_first: bool,
    /// Whether a sequence is read from its end.
    #[config(default = false)]
    pub reverse: bool,
    /// The cell state is clamped to this on either side, if given; finite and positive.
    pub clip: Option<f64>,
    /// Whether the forget gate is 1 less the input gate.
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
    /// What is quantized beside what the gates' linear layers quantize; the slots are `input`,
    /// `output`, `error`, and those that [`Lstm`] names.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Long short-term memory (Hochreiter and Schmidhuber, Neural Computation 9(8), 1997, with the forget
/// gate of Gers et al., 2000). Of step `t`:
///
/// ```text
/// i = s(x_t Wi + bi + h Ui + ci)        input gate
/// f = s(x_t Wf + bf + h Uf + cf)        forget gate
/// o = s(x_t Wo + bo + h Uo + co)        output gate
/// g = tanh(x_t Wg + bg + h Ug + cg)     cell gate, the candidate
/// c' = f c + i g                        cell state
/// h' = o tanh(c')                       hidden state, the result
/// ```
///
/// Built by [`LstmConfig`]; parameter paths are those of `burn::nn::Lstm`. The data flow: the sequence
/// goes through the slot `input`, what a gate's linear layers read, their weights and biases through
/// theirs (at `input_gate.input_transform` and so on), `i`, `f` and `o` through `gates`, `g` through
/// `candidate`, `c'`, and the cell at the start, through `cell`, `tanh(c')` through `activated_cell`,
/// `h'`, and the hidden state at the start, through `hidden`, and the sequence of `h'` through
/// `output`. A weight is quantized once for all steps, and its whole gradient once; the linear layers of
/// the input read all steps at once. Composed of those layers and tensor operations. Burn's sums have
/// another order.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::LstmConfig;
///
/// let device = Device::flex();
/// let lstm = LstmConfig::new(8, 16, true).init(&device);
/// let (y, state) = lstm.forward(Tensor::zeros([2, 5, 8], &device), None);
/// assert_eq!((y.dims(), state.hidden.dims()), ([2, 5, 16], [2, 16]));
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Lstm {
    /// What enters the cell.
    pub input_gate: GateController,
    /// What stays in the cell; none where the input gate says so, too.
    pub forget_gate: Option<GateController>,
    /// What of the cell is shown.
    pub output_gate: GateController,
    /// What may enter the cell.
    pub cell_gate: GateController,
    /// Features of the hidden and the cell state.
    pub d_hidden: usize,
    /// Whether the batch comes before the sequence.
    pub batch_first: bool,
    /// Whether a sequence is read from its end.
    pub reverse: bool,
    /// To what the cell state is clamped.
    pub clip: Option<f64>,
    /// Whether the forget gate is 1 less the input gate.
    pub input_forget: bool,
    /// The function of the input, the forget and the output gate.
    pub gate_activation: Activation,
    /// The function of the cell gate.
    pub cell_activation: Activation,
    /// The function of the cell state before the output gate.
    pub hidden_activation: Activation,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

/// The gates on their way over a sequence.
struct LstmSteps<'a> {
    input: GateSteps<'a>,
    forget: Option<GateSteps<'a>>,
    output: GateSteps<'a>,
    cell: GateSteps<'a>,
}

impl LstmConfig {
    /// Builds the layer, the gates' linear layers in float.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Lstm {
        let quantizers = self.init_quantizers(device);
        with_parts_in_float(|planner| self.with_parts(planner, "Lstm", quantizers, device))
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
    ) -> Result<Lstm, Error> {
        let planned = planner.layer(path, self.clone())?;
        self.with_parts(planner, path, planned.init_quantizers(device), device)
    }

    fn with_parts(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        quantizers: Quantizers,
        device: &Device,
    ) -> Result<Lstm, Error> {
        let gates = Gates {
            d_input: self.d_input,
            d_hidden: self.d_hidden,
            bias: self.bias,
            initializer: &self.initializer,
        };
        let mut gate = |name: &str| gates.gate(planner, &format!("{path}.{name}"), device);
        let input_gate = gate("input_gate")?;
        let forget_gate = (!self.input_forget).then(|| gate("forget_gate"));
        Ok(Lstm {
            input_gate,
            forget_gate: forget_gate.transpose()?,
            output_gate: gate("output_gate")?,
            cell_gate: gate("cell_gate")?,
            d_hidden: self.d_hidden,
            batch_first: self.batch_first,
            reverse: self.reverse,
            clip: self.clip,
            input_forget: self.input_forget,
            gate_activation: self.gate_activation.init(device),
            cell_activation: self.cell_activation.init(device),
            hidden_activation: self.hidden_activation.init(device),
            quantizers,
        })
    }
}

impl Describe for LstmConfig {
    fn describe(&self) -> Description {
        Description {
            slots: vec![
                Slot::INPUT,
                Slot::OUTPUT,
                Slot::ERROR,
                ACTIVATED_CELL,
                CANDIDATE,
                CELL,
                GATES,
                HIDDEN,
            ],
            ..Description::new("Lstm").leaving_grid()
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
        check_function("cell_activation", &self.cell_activation)?;
        check_function("hidden_activation", &self.hidden_activation)
    }
}

impl Lstm {
    /// Applies the layer, from a state or from zeros. Returns the hidden state after each step, and
    /// the state after the last.
    ///
    /// # Shapes
    /// - `input`: `[batch, length, d_input]`, or `[length, batch, d_input]` where the batch does not
    ///   come first
    /// - the first result: the same with `d_hidden`
    /// - states: `[batch, d_hidden]`
    pub fn forward(
        &self,
        input: Tensor<3>,
        state: Option<LstmState<2>>,
    ) -> (Tensor<3>, LstmState<2>) {
        self.run(input, state, self.reverse)
    }

    pub(super) fn run(
        &self,
        input: Tensor<3>,
        state: Option<LstmState<2>>,
        reverse: bool,
    ) -> (Tensor<3>, LstmState<2>) {
        let input = self.quantizers.input(input).quantized();
        let input = with_batch_first(input, self.batch_first);
        let [batch, length, _] = input.dims();
        let state =
            state.unwrap_or_else(|| LstmState::initial([batch, self.d_hidden], &input.device()));
        let mut state = LstmState::new(
            self.through(CELL, state.cell),
            self.through(HIDDEN, state.hidden),
        );
        let over = |gate| GateController::over(gate, input.clone(), reverse);
        let gates = LstmSteps {
            input: over(&self.input_gate),
            forget: self.forget_gate.as_ref().map(over),
            output: over(&self.output_gate),
            cell: over(&self.cell_gate),
        };
        let mut hidden = Vec::new();
        for step in 0..length {
            state = self.step(&gates, step, state);
            hidden.push(state.hidden.clone());
        }
        let output = with_batch_first(sequence_of(hidden, reverse), self.batch_first);
        (self.quantizers.output(output), state)
    }

    /// The state after a step.
    fn step(&self, gates: &LstmSteps<'_>, step: usize, state: LstmState<2>) -> LstmState<2> {
        let LstmState { cell, hidden } = state;
        let sum = |gate: &GateSteps<'_>| gate.gate_product(step, hidden.clone());
        let gate = |gate| self.through(GATES, self.gate_activation.forward(sum(gate)));
        let input = gate(&gates.input);
        let forget = match &gates.forget {
            Some(forget) => gate(forget),
            None => input.clone().neg().add_scalar(1.0),
        };
        let output = gate(&gates.output);
        let candidate = self.cell_activation.forward(sum(&gates.cell));
        let candidate = self.through(CANDIDATE, candidate);
        let cell = forget * cell + input * candidate;
        let cell = match self.clip {
            Some(clip) => cell.clamp(-clip, clip),
            None => cell,
        };
        let cell = self.through(CELL, cell);
        let activated = self.hidden_activation.forward(cell.clone());
        let hidden = output * self.through(ACTIVATED_CELL, activated);
        LstmState::new(cell, self.through(HIDDEN, hidden))
    }

    fn through(&self, slot: &str, x: Tensor<2>) -> Tensor<2> {
        self.quantizers.activation(slot, x).quantized()
    }
}

impl ModuleDisplay for Lstm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_input, _] = self.input_gate.input_transform.weight.dims();
        content
            .add("d_input", &d_input)
            .add("d_hidden", &self.d_hidden)
            .add("bias", &self.input_gate.input_transform.bias.is_some())
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use super::*;
    use crate::config::QPlan;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// With all weights zero, the gates are 1/2 and the candidate is tanh of its bias. A cell of 1
    /// becomes 1/2 + tanh(1) / 2 = 0.880797, and its hidden state tanh(0.880797) / 2 = 0.353409; on a
    /// grid of quarters the cell is 1, and the hidden state 0.380797.
    #[test]
    fn one_step_by_hand() {
        let device = Device::flex();
        let quarters = FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap());
        let quarters = QConfig::new().with("cell", QuantizerConfig::Format(quarters));
        for (config, expected) in [
            (QConfig::new(), [0.880_797, 0.353_409]),
            (quarters, [1.0, 0.380_797]),
        ] {
            let mut lstm = LstmConfig::new(1, 1, true)
                .with_initializer(Initializer::Zeros)
                .with_quantization(config)
                .init(&device);
            let one = || Tensor::<1>::from_floats([1.0], &device);
            lstm.cell_gate.input_transform.bias = Some(Param::from_tensor(one()));
            let state = LstmState::new(
                Tensor::ones([1, 1], &device),
                Tensor::zeros([1, 1], &device),
            );
            let (_, state) = lstm.forward(Tensor::ones([1, 1, 1], &device), Some(state));
            let found = [state.cell, state.hidden].map(|t| t.into_scalar::<f32>());
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found}");
            }
        }
    }

    #[test]
    fn a_plan_reaches_its_parts_by_their_paths() {
        let plan = QPlan::tqt(4, 8);
        let mut planner = Planner::new(&plan).unwrap();
        let config = LstmConfig::new(2, 3, true).with_input_forget(true);
        let device = Device::flex();
        let lstm = config.init_planned(&mut planner, "rnn", &device).unwrap();
        let linear = &lstm.cell_gate.hidden_transform;
        assert!(linear.quantizers.get("weight").is_some());
        let layers = planner.finish().unwrap();
        let paths: Vec<&str> = layers.iter().map(|layer| layer.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "rnn",
                "rnn.input_gate.input_transform",
                "rnn.input_gate.hidden_transform",
                "rnn.output_gate.input_transform",
                "rnn.output_gate.hidden_transform",
                "rnn.cell_gate.input_transform",
                "rnn.cell_gate.hidden_transform",
            ]
        );
    }

    #[test]
    fn an_activation_with_parameters_is_refused() {
        let config = LstmConfig::new(1, 1, true);
        let learned = ActivationConfig::PRelu(burn::nn::PReluConfig::new());
        let refused = config.with_gate_activation(learned).check();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "Lstm.gate_activation: has parameters, which no slot would quantize"
        );
    }
}
