//! Attention alone, between linear layers that are another's.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::attention::heads::{Attention, SLOTS, Scoring, check_shared, split};
use crate::nn::window::at_least_one;
use crate::nn::{Dropout, DropoutConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Taps};

/// Slot of the keys that are kept for what comes.
const KEY_CACHE: &str = "key_cache";
/// Slot of the values that are kept for what comes.
const VALUE_CACHE: &str = "value_cache";

/// The score of what is hidden, as `transformers` has it: a row of which all is hidden has a mean.
const HIDDEN: f32 = f32::MIN;

/// Configuration of a [`DotProductAttention`]: its heads, and what is quantized.
#[derive(Config, Debug)]
pub struct DotProductAttentionConfig {
    /// Features of a head.
    pub d_head: usize,
    /// Heads that ask, a multiple of those that answer.
    pub n_heads: usize,
    /// Heads that answer: fewer than those that ask for grouped queries.
    pub n_heads_kv: usize,
    /// The probability that a weight of a position becomes zero in training, 0 to below 1.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// What is quantized; the slots are `query`, `key`, `value`, `scores`, `probabilities`, `context`,
    /// and `key_cache` and `value_cache` of what is kept for the positions that follow.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `softmax(Q K^T / sqrt(d_head)) V` of each head (Vaswani et al., arXiv 1706.03762), with several heads
/// that ask for each that answers (Ainslie et al., arXiv 2305.13245), of queries, keys and values that are
/// there already: what a network does to them before, such as a rotation by their positions, is its own.
///
/// One pass, unless something is dropped, `scores` have a quantizer, or `probabilities` one that learns or looks at
/// more than a number at a time; two products and a softmax then, whose sums have another order.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::{DotProductAttentionConfig, KeyValues};
///
/// let device = Device::flex();
/// let attention = DotProductAttentionConfig::new(4, 2, 1).init(&device);
/// let asks = Tensor::zeros([1, 2, 3, 4], &device);
/// let answers = || Tensor::zeros([1, 1, 3, 4], &device);
/// let mut kept = None;
/// let KeyValues { key, value } = attention.remember(answers(), answers(), &mut kept);
/// assert_eq!(attention.forward(asks, key, value, None).dims(), [1, 3, 8]);
/// ```
#[derive(Module, Debug)]
pub struct DotProductAttention {
    /// Of the weights.
    pub dropout: Dropout,
    /// Features of a head.
    pub d_head: usize,
    /// Heads that ask for each that answers.
    pub shared: usize,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

/// Keys and values of the positions so far.
#[derive(Debug, Clone)]
pub struct KeyValues {
    /// `[batch, n_heads_kv, positions, d_head]`
    pub key: Tensor<4>,
    /// `[batch, n_heads_kv, positions, d_head]`
    pub value: Tensor<4>,
}

impl DotProductAttentionConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> DotProductAttention {
        DotProductAttention {
            dropout: DropoutConfig::new(self.dropout).init(device),
            d_head: self.d_head,
            shared: self.n_heads / self.n_heads_kv,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for DotProductAttentionConfig {
    fn describe(&self) -> Description {
        Description {
            slots: SLOTS.into_iter().chain([KEY_CACHE, VALUE_CACHE]).collect(),
            ..Description::new("DotProductAttention").leaving_grid()
        }
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        for (name, size) in [
            ("d_head", self.d_head),
            ("n_heads_kv", self.n_heads_kv),
            ("n_heads", self.n_heads),
        ] {
            at_least_one(name, &[size])?;
        }
        check_shared(self.n_heads, self.n_heads_kv)
    }
}

impl DotProductAttention {
    /// What is added to scores so that what is hidden has no weight: 0, or the least `f32` where `hidden` is
    /// true. To be made once for all layers.
    pub fn hiding(hidden: Tensor<4, Bool>) -> Tensor<4> {
        let zeros = Tensor::zeros(hidden.dims(), &hidden.device());
        zeros.mask_fill(hidden, HIDDEN)
    }

    /// `[batch, heads, length, d_head]` of `[batch, length, heads * d_head]`, as this layer reads it.
    pub fn by_heads(&self, x: Tensor<3>) -> Tensor<4> {
        let [_, _, features] = x.dims();
        split(x, features / self.d_head)
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - `query`: `[batch, n_heads, length, d_head]`
    /// - `key`, `value`: `[batch, n_heads_kv, answers, d_head]`
    /// - `added` to scores, see [`hiding`](Self::hiding): `[1 or batch, 1, 1 or length, answers]`
    /// - result: `[batch, length, n_heads * d_head]`
    pub fn forward(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        added: Option<Tensor<4>>,
    ) -> Tensor<3> {
        let attention = Attention {
            quantizers: &self.quantizers,
            dropout: &self.dropout,
            quiet_softmax: false,
            shared: self.shared,
        };
        let operands = attention.operands([query, key, value]);
        let scale = (self.d_head as f64).sqrt().recip();
        let of_scores = added.clone();
        let scoring = Scoring {
            scale: |products: Tensor<4>| products * scale,
            mask: |scores: Tensor<4>| match of_scores {
                Some(added) => scores + added,
                None => scores,
            },
        };
        let device = operands[0].device();
        let drops = self.dropout.prob > 0.0 && device.is_autodiff();
        let inside = attention.inside(&device).filter(|_| !drops);
        let Some(inside) = inside else {
            let (_, context) = attention.weighted(operands, scoring);
            return attention.context(context);
        };
        if Taps::are_attached() {
            // To be seen only: the one pass makes the result.
            attention.weighted(operands.clone(), scoring);
        }
        attention.context(ops::attention_of(operands, scale as f32, added, inside))
    }

    /// Adds the keys and values of new positions to those that are kept, as the slots of the cache
    /// quantize them, once each; returns all of them.
    ///
    /// # Shapes
    /// `key`, `value`: `[batch, n_heads_kv, new positions, d_head]`
    pub fn remember(
        &self,
        key: Tensor<4>,
        value: Tensor<4>,
        kept: &mut Option<KeyValues>,
    ) -> KeyValues {
        let key = self.quantizers.activation(KEY_CACHE, key).quantized();
        let value = self.quantizers.activation(VALUE_CACHE, value).quantized();
        let all = match kept.take() {
            None => KeyValues { key, value },
            Some(before) => KeyValues {
                key: Tensor::cat(vec![before.key, key], 2),
                value: Tensor::cat(vec![before.value, value], 2),
            },
        };
        kept.insert(all).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    fn row(values: &[f32]) -> Tensor<4> {
        let tensor = Tensor::<1>::from_floats(values, &Device::flex());
        tensor.reshape([1, 1, values.len(), 1])
    }

    /// Weights of scores 0 and ln 3 are 1/4 and 3/4; a hidden answer has none.
    #[test]
    fn means_are_weighted_by_hand() {
        let layer = DotProductAttentionConfig::new(1, 1, 1).init(&Device::flex());
        let (asks, answers) = (row(&[1.0]), row(&[0.0, 3.0_f32.ln()]));
        let seen = |hidden: Option<Tensor<4, Bool>>| {
            let added = hidden.map(DotProductAttention::hiding);
            let context = layer.forward(asks.clone(), answers.clone(), row(&[4.0, 8.0]), added);
            context.into_data().try_to_vec::<f32>().unwrap()[0]
        };
        assert!((seen(None) - 7.0).abs() < 1e-6);
        let hidden = Tensor::<4, Bool>::from_data([[[[false, true]]]], &Device::flex());
        assert_eq!(seen(Some(hidden)), 4.0);
    }

    /// Halves are kept as ones or zeros, ties to even; what is kept is not rounded again.
    #[test]
    fn what_is_kept_is_quantized_once() {
        let ones =
            QuantizerConfig::Format(FormatQuantizerConfig::new("fixed(8,0)".parse().unwrap()));
        let quantization = QConfig::new().with(KEY_CACHE, ones);
        let layer = DotProductAttentionConfig::new(1, 1, 1).with_quantization(quantization);
        let layer = layer.init(&Device::flex());
        let mut kept = None;
        layer.remember(row(&[0.5, 1.5]), row(&[0.5, 1.5]), &mut kept);
        let all = layer.remember(row(&[2.6]), row(&[2.6]), &mut kept);
        let values = |tensor: Tensor<4>| tensor.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(values(all.key), [0.0, 2.0, 3.0]);
        assert_eq!(values(all.value), [0.5, 1.5, 2.6]);
    }

    #[test]
    fn heads_that_do_not_share_evenly_are_refused() {
        let refused = DotProductAttentionConfig::new(2, 4, 3).check();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "DotProductAttention.n_heads: is 4, expected a multiple of n_heads_kv, 3"
        );
    }
}
