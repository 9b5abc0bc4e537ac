//! A gate of a recurrent layer.

use burn::module::Module;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::Planner;
use crate::nn::{Linear, LinearConfig};

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
}
