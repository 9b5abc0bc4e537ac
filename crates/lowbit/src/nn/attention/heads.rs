//! What the layers of attention share: heads, and the way from scores to the means of values.

use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::nn::Dropout;
use crate::ops;
use crate::ops::OperandQuantization;
use crate::quantizers::{Quantizer, Quantizers, is_measuring, is_observing};

/// Slot of what the heads ask for.
const QUERY: &str = "query";
/// Slot of what they are answered by.
const KEY: &str = "key";
/// Slot of what the answers say.
const VALUE: &str = "value";
/// Slot of the products of queries and keys, before they are masked.
const SCORES: &str = "scores";
/// Slot of what the softmax makes of them, before dropout.
const PROBABILITIES: &str = "probabilities";
/// Slot of the means of values, before the output's linear layer.
const CONTEXT: &str = "context";

/// The slots of a layer of attention.
pub(super) const SLOTS: [&str; 6] = [CONTEXT, KEY, PROBABILITIES, QUERY, SCORES, VALUE];

/// Whether each head that answers has as many that ask.
pub(super) fn check_shared(heads: usize, answers: usize) -> Result<(), Error> {
    if heads.is_multiple_of(answers) {
        return Ok(());
    }
    let message = format!("is {heads}, expected a multiple of n_heads_kv, {answers}");
    Err(Error::config("n_heads", message))
}

/// `[batch, heads, length, features]` of `[batch, length, heads * features]`.
pub(super) fn split(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, length, features] = x.dims();
    x.reshape([batch, length, heads, features / heads])
        .swap_dims(1, 2)
}

/// Each head so many times, one after the other.
fn repeated(x: Tensor<4>, times: usize) -> Tensor<4> {
    if times == 1 {
        return x;
    }
    let [batch, heads, length, features] = x.dims();
    x.reshape([batch, heads, 1, length, features])
        .expand([batch, heads, times, length, features])
        .reshape([batch, heads * times, length, features])
}

/// The quantizers and options of such a layer.
pub(super) struct Attention<'a> {
    pub(super) quantizers: &'a Quantizers,
    pub(super) dropout: &'a Dropout,
    pub(super) quiet_softmax: bool,
    /// Heads that ask for each that answers.
    pub(super) shared: usize,
}

/// What makes scores of products, and what hides some of them.
pub(super) struct Scoring<S, M> {
    pub(super) scale: S,
    pub(super) mask: M,
}

impl Attention<'_> {
    /// The weights, `[batch, heads, length, answers]`, and the means of values, `[batch, length, heads *
    /// features]`, of queries, keys and values by heads, the latter by those that answer.
    pub(super) fn run<S, M>(
        &self,
        operands: [Tensor<4>; 3],
        scoring: Scoring<S, M>,
    ) -> (Tensor<4>, Tensor<3>)
    where
        S: FnOnce(Tensor<4>) -> Tensor<4>,
        M: FnOnce(Tensor<4>) -> Tensor<4>,
    {
        let (weights, context) = self.weighted(self.operands(operands), scoring);
        (weights, self.context(context))
    }

    /// Queries, keys and values as their slots quantize them.
    pub(super) fn operands(&self, [query, key, value]: [Tensor<4>; 3]) -> [Tensor<4>; 3] {
        let through = |slot, x| self.quantizers.activation(slot, x).quantized();
        [
            through(QUERY, query),
            through(KEY, key),
            through(VALUE, value),
        ]
    }

    /// What is made of the means of values.
    pub(super) fn context(&self, context: Tensor<3>) -> Tensor<3> {
        self.quantizers.activation(CONTEXT, context).quantized()
    }

    /// How the probabilities are quantized, where the one pass over all can do that: one number at a time,
    /// with nothing learned, without a quantizer of scores, and nobody who looks at what is clipped.
    pub(super) fn inside(&self, device: &Device) -> Option<OperandQuantization> {
        if self.quantizers.get(SCORES).is_some() {
            return None;
        }
        let format = match self.quantizers.get(PROBABILITIES) {
            None => return Some(OperandQuantization::Float),
            Some(Quantizer::Format(format)) if !is_observing() && !is_measuring() => format,
            Some(_) => return None,
        };
        if !format.number().rounding.is_nearest() {
            // A number drawn here would be drawn again.
            return None;
        }
        let operand = format.operand(Tensor::<1>::zeros([1], device));
        let is_on = operand.quantization().is_some();
        let parts = operand.into_parts();
        // What looks at more than a number is done already.
        (is_on != parts.quantization.is_float()).then_some(parts.quantization)
    }

    /// The weights and the means of operands that are quantized already.
    pub(super) fn weighted<S, M>(
        &self,
        [query, key, value]: [Tensor<4>; 3],
        scoring: Scoring<S, M>,
    ) -> (Tensor<4>, Tensor<3>)
    where
        S: FnOnce(Tensor<4>) -> Tensor<4>,
        M: FnOnce(Tensor<4>) -> Tensor<4>,
    {
        let [batch, heads, length, _] = query.dims();
        let [_, _, _, features] = value.dims();
        let key = repeated(key, self.shared);
        let scores = (scoring.scale)(ops::matmul(query.into(), key.transpose().into()));
        let scores = (scoring.mask)(self.quantizers.activation(SCORES, scores).quantized());
        let probabilities = match self.quiet_softmax {
            true => ops::quiet_softmax(scores, 3),
            false => ops::softmax(scores, 3),
        };
        let probabilities = self.quantizers.activation(PROBABILITIES, probabilities);
        let weights = self.dropout.forward(probabilities.quantized());
        let value = repeated(value, self.shared);
        let context = ops::matmul(weights.clone().into(), value.into());
        let context = context.swap_dims(1, 2);
        (weights, context.reshape([batch, length, heads * features]))
    }
}
