//! A gate of a recurrent layer.

use burn::module::Module;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::Planner;
use crate::nn::rnn::steps_of;
use crate::nn::{Linear, LinearConfig};
use crate::quantizers::Parameters;

/// What a gate of an [`Lstm`](crate::nn::Lstm) or a [`Gru`](crate::nn::Gru) reads: a linear layer of
/// the input, and one of the hidden state. Each quantizes what it reads and its weight and bias.
/// Parameter paths are those of `burn::nn::GateController`.
#[derive(Module, Debug)]
pub struct GateController {
    /// Of the input, `[d_input, d_hidden]`.
    pub input_transform: Linear,
    /// Of the hidden state, `[d_hidden, d_hidden]`.
    pub hidden_transform: Linear,
}

/// What the gates of a layer have in common.
#[derive(Debug, Clone)]
pub(super) struct Gates<'a> {
    pub(super) d_input: usize,
    pub(super) d_hidden: usize,
    pub(super) bias: bool,
    pub(super) initializer: &'a Initializer,
}

impl Gates<'_> {
    /// The gate at `path`, its linear layers with what the plan gives them.
    pub(super) fn gate(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<GateController, Error> {
        let mut linear = |name: &str, d_input: usize| {
            let config = LinearConfig::new(d_input, self.d_hidden)
                .with_bias(self.bias)
                .with_initializer(self.initializer.clone());
            let config = planner.layer(format!("{path}.{name}"), config)?;
            Ok::<Linear, Error>(config.init(device))
        };
        Ok(GateController {
            input_transform: linear("input_transform", self.d_input)?,
            hidden_transform: linear("hidden_transform", self.d_hidden)?,
        })
    }
}

impl GateController {
    /// `input W + b` of the input, and the same of the hidden state.
    ///
    /// # Shapes
    /// - `input`: `[batch, d_input]`
    /// - `hidden` and each result: `[batch, d_hidden]`
    pub fn products(&self, input: Tensor<2>, hidden: Tensor<2>) -> [Tensor<2>; 2] {
        let input = self.input_transform.forward(input);
        [input, self.hidden_transform.forward(hidden)]
    }

    /// The sum of both.
    ///
    /// # Shapes
    /// As [`products`](Self::products).
    pub fn gate_product(&self, input: Tensor<2>, hidden: Tensor<2>) -> Tensor<2> {
        let [input, hidden] = self.products(input, hidden);
        input + hidden
    }

    /// The gate on its way over a sequence `[batch, length, d_input]`, from its end where it is
    /// reversed.
    pub(super) fn over(&self, sequence: Tensor<3>, reverse: bool) -> GateSteps<'_> {
        GateSteps {
            inputs: steps_of(self.input_transform.forward(sequence), reverse),
            hidden_transform: &self.hidden_transform,
            parameters: self.hidden_transform.parameters(),
        }
    }
}

/// A gate on its way over a sequence: the products of all inputs at once, and the weight of the hidden
/// state's, quantized once.
pub(super) struct GateSteps<'a> {
    /// `input W + b` of each step, `[batch, d_hidden]`.
    inputs: Vec<Tensor<2>>,
    hidden_transform: &'a Linear,
    parameters: Parameters<2>,
}

impl GateSteps<'_> {
    /// What [`GateController::products`] gives at a step.
    pub(super) fn products(&self, step: usize, hidden: Tensor<2>) -> [Tensor<2>; 2] {
        let hidden = self.hidden_transform.forward_with(hidden, &self.parameters);
        [self.inputs[step].clone(), hidden]
    }

    /// The sum of both.
    pub(super) fn gate_product(&self, step: usize, hidden: Tensor<2>) -> Tensor<2> {
        let [input, hidden] = self.products(step, hidden);
        input + hidden
    }
}
