//! Attention of one sequence to another.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::Initializer;
use burn::tensor::{Bool, Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, Planner, QConfig};
use crate::nn::attention::heads::{Attention, SLOTS, Scoring, check_shared, split};
use crate::nn::planned::with_parts_in_float;
use crate::nn::window::at_least_one;
use crate::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use crate::quantizers::Quantizers;

/// Configuration of a [`CrossAttention`]; the fields of `burn::nn::attention::CrossAttentionConfig`, and
/// what is quantized.
#[derive(Config, Debug)]
pub struct CrossAttentionConfig {
    /// Features of a position that asks.
    pub d_model: usize,
    /// Features of a position that answers.
    pub d_context: usize,
    /// Heads that ask, a multiple of those that answer.
    pub n_heads: usize,
    /// Heads that answer: one for multi-query attention, fewer than those that ask for grouped queries.
    pub n_heads_kv: usize,
    /// Features of a head.
    pub d_head: usize,
    /// The probability that a weight of a position becomes zero in training, 0 to below 1.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// The score of a masked position.
    #[config(default = -1.0e4)]
    pub min_float: f64,
    /// Whether 1 is added to the softmax's denominator, so that a head can say nothing.
    #[config(default = false)]
    pub quiet_softmax: bool,
    /// What is quantized beside what the linear layers quantize; the slots are `query`, `key`,
    /// `value`, `scores`, `probabilities` and `context`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `softmax(Q K^T / sqrt(d_head)) V` of each head, the queries made of one sequence, keys and values of
/// another; several heads may share keys and values (Ainslie et al., arXiv 2305.13245). Built by
/// [`CrossAttentionConfig`]; parameter paths are those of `burn::nn::attention::CrossAttention`. The
/// data flow is that of a [`MultiHeadAttention`](crate::nn::MultiHeadAttention); `key` and `value` are
/// quantized once for the heads that share them.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::CrossAttentionConfig;
///
/// let device = Device::flex();
/// let attention = CrossAttentionConfig::new(8, 6, 4, 2, 3).init(&device);
/// let (asks, answers) = (Tensor::zeros([1, 5, 8], &device), Tensor::zeros([1, 7, 6], &device));
/// assert_eq!(attention.forward(asks, answers, None).dims(), [1, 5, 8]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct CrossAttention {
    /// Of what is asked.
    pub query: Linear,
    /// Of what is answered.
    pub key: Linear,
    /// Of what the answers say.
    pub value: Linear,
    /// Of the heads' results.
    pub output: Linear,
    /// Of the weights.
    pub dropout: Dropout,
    /// Heads that ask.
    pub n_heads: usize,
    /// Heads that answer.
    pub n_heads_kv: usize,
    /// Features of a head.
    pub d_head: usize,
    /// The score of a masked position.
    pub min_float: f64,
    /// Whether 1 is added to the softmax's denominator.
    pub quiet_softmax: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl CrossAttentionConfig {
    /// Builds the layer, its linear layers in float.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> CrossAttention {
        let quantizers = self.init_quantizers(device);
        with_parts_in_float(|planner| {
            self.with_parts(planner, "CrossAttention", quantizers, device)
        })
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
    ) -> Result<CrossAttention, Error> {
        let planned = planner.layer(path, self.clone())?;
        self.with_parts(planner, path, planned.init_quantizers(device), device)
    }

    fn with_parts(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        quantizers: Quantizers,
        device: &Device,
    ) -> Result<CrossAttention, Error> {
        let initializer = Initializer::KaimingUniform {
            gain: 1.0 / (self.d_head as f64).sqrt(),
            fan_out_only: false,
        };
        let mut linear = |name: &str, [from, to]: [usize; 2]| {
            let config = LinearConfig::new(from, to).with_initializer(initializer.clone());
            let config = planner.layer(format!("{path}.{name}"), config)?;
            Ok::<Linear, Error>(config.init(device))
        };
        let [asks, answers] = [self.n_heads, self.n_heads_kv].map(|heads| heads * self.d_head);
        let query = linear("query", [self.d_model, asks])?;
        let key = linear("key", [self.d_context, answers])?;
        let value = linear("value", [self.d_context, answers])?;
        let output = linear("output", [asks, self.d_model])?;
        let dropout = planner.layer(format!("{path}.dropout"), DropoutConfig::new(self.dropout))?;
        Ok(CrossAttention {
            query,
            key,
            value,
            output,
            dropout: dropout.init(device),
            n_heads: self.n_heads,
            n_heads_kv: self.n_heads_kv,
            d_head: self.d_head,
            min_float: self.min_float,
            quiet_softmax: self.quiet_softmax,
            quantizers,
        })
    }
}

impl Describe for CrossAttentionConfig {
    fn describe(&self) -> Description {
        Description {
            slots: SLOTS.to_vec(),
            ..Description::new("CrossAttention").leaving_grid()
        }
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        let sizes = [
            ("d_model", self.d_model),
            ("d_context", self.d_context),
            ("n_heads_kv", self.n_heads_kv),
            ("n_heads", self.n_heads),
            ("d_head", self.d_head),
        ];
        for (name, size) in sizes {
            at_least_one(name, &[size])?;
        }
        check_shared(self.n_heads, self.n_heads_kv)
    }
}

impl CrossAttention {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `query`: `[batch, length, d_model]`
    /// - `context`: `[batch, answers, d_context]`
    /// - `mask`: `[batch, answers]`, the answers that are hidden
    /// - result: `[batch, length, d_model]`
    pub fn forward(
        &self,
        query: Tensor<3>,
        context: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
    ) -> Tensor<3> {
        let query = split(self.query.forward(query), self.n_heads);
        let key = split(self.key.forward(context.clone()), self.n_heads_kv);
        let value = split(self.value.forward(context), self.n_heads_kv);
        let attention = Attention {
            quantizers: &self.quantizers,
            dropout: &self.dropout,
            quiet_softmax: self.quiet_softmax,
            shared: self.n_heads / self.n_heads_kv,
        };
        let scoring = Scoring {
            scale: |products: Tensor<4>| products * (self.d_head as f64).sqrt().recip(),
            mask: |scores: Tensor<4>| match mask {
                Some(mask) => {
                    let [batch, answers] = mask.dims();
                    scores.mask_fill(mask.reshape([batch, 1, 1, answers]), self.min_float)
                }
                None => scores,
            },
        };
        let (_, context) = attention.run([query, key, value], scoring);
        self.output.forward(context)
    }
}

impl ModuleDisplay for CrossAttention {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("n_heads", &self.n_heads)
            .add("n_heads_kv", &self.n_heads_kv)
            .add("d_head", &self.d_head)
            .add("dropout", &self.dropout.prob)
            .add("min_float", &self.min_float)
            .add("quiet_softmax", &self.quiet_softmax)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_do_not_share_evenly_are_refused() {
        let refused = CrossAttentionConfig::new(8, 6, 4, 3, 2).check();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "CrossAttention.n_heads: is 4, expected a multiple of n_heads_kv, 3"
        );
        let refused = CrossAttentionConfig::new(8, 6, 4, 0, 2).check();
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.starts_with("CrossAttention.n_heads_kv: "),
            "{refused}"
        );
    }
}
