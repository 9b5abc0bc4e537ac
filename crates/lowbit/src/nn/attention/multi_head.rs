//! Attention with several heads.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::Initializer;
use burn::tensor::{Bool, Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, Planner, QConfig};
use crate::nn::attention::heads::{Attention, SLOTS, Scoring, split};
use crate::nn::planned::with_parts_in_float;
use crate::nn::window::at_least_one;
use crate::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use crate::quantizers::Quantizers;

/// Configuration of a [`MultiHeadAttention`]; the fields of `burn::nn::attention::MultiHeadAttentionConfig`,
/// and what is quantized.
#[derive(Config, Debug)]
pub struct MultiHeadAttentionConfig {
    /// Features of a position, a multiple of the heads.
    pub d_model: usize,
    /// Heads, at least one.
    pub n_heads: usize,
    /// The probability that a weight of a position becomes zero in training, 0 to below 1.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// The score of a masked position.
    #[config(default = -1.0e4)]
    pub min_float: f64,
    /// Whether 1 is added to the softmax's denominator, so that a head can say nothing.
    #[config(default = false)]
    pub quiet_softmax: bool,
    /// How weights and biases start.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
    /// Whether keys have a bias.
    #[config(default = true)]
    pub key_bias: bool,
    /// Whether values have a bias.
    #[config(default = true)]
    pub value_bias: bool,
    /// Whether queries have a bias.
    #[config(default = true)]
    pub query_bias: bool,
    /// Whether the result has a bias.
    #[config(default = true)]
    pub output_bias: bool,
    /// What is quantized beside what the linear layers quantize; the slots are `query`, `key`,
    /// `value`, `scores`, `probabilities` and `context`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `softmax(Q K^T / sqrt(d_k)) V` of each head, with `d_k = d_model / n_heads` and linear layers of
/// queries, keys and values before and of the heads' results after it (Vaswani et al., arXiv
/// 1706.03762, section 3.2). Built by [`MultiHeadAttentionConfig`]; parameter paths are those of
/// `burn::nn::attention::MultiHeadAttention`.
///
/// The data flow: each linear layer quantizes what it reads, its weight and its bias. What the first
/// three make goes through the slots `query`, `key` and `value`, the scores through `scores`, before
/// they are masked, the softmax's results through `probabilities`, before dropout, and what the heads
/// make of the values through `context`; the last linear layer reads that. Composed of those layers
/// and Burn's products and softmax.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::{MhaInput, MultiHeadAttentionConfig};
///
/// let device = Device::flex();
/// let attention = MultiHeadAttentionConfig::new(8, 2).init(&device);
/// let y = attention.forward(MhaInput::self_attn(Tensor::zeros([1, 5, 8], &device)));
/// assert_eq!((y.context.dims(), y.weights.dims()), ([1, 5, 8], [1, 2, 5, 5]));
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct MultiHeadAttention {
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
    /// Features of a position.
    pub d_model: usize,
    /// Heads.
    pub n_heads: usize,
    /// Features of a head.
    pub d_k: usize,
    /// The score of a masked position.
    pub min_float: f64,
    /// Whether 1 is added to the softmax's denominator.
    pub quiet_softmax: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

/// What a [`MultiHeadAttention`] reads.
#[derive(Debug, Clone)]
pub struct MhaInput {
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    pub(crate) mask_pad: Option<Tensor<2, Bool>>,
    pub(crate) mask_attn: Option<Tensor<3, Bool>>,
}

impl MhaInput {
    /// One sequence that asks itself, `[batch, length, d_model]`.
    pub fn self_attn(tensor: Tensor<3>) -> Self {
        Self::new(tensor.clone(), tensor.clone(), tensor)
    }

    /// What is asked, `[batch, length, d_model]`, and by what it is answered, `[batch, answers,
    /// d_model]` both.
    pub fn new(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Self {
        Self {
            query,
            key,
            value,
            mask_pad: None,
            mask_attn: None,
        }
    }

    /// With the answers that are padding, `[batch, answers]`.
    pub fn mask_pad(mut self, mask_pad: Tensor<2, Bool>) -> Self {
        self.mask_pad = Some(mask_pad);
        self
    }

    /// With the answers that a position must not see, `[batch, length, answers]`.
    pub fn mask_attn(mut self, mask_attn: Tensor<3, Bool>) -> Self {
        self.mask_attn = Some(mask_attn);
        self
    }
}

/// What a [`MultiHeadAttention`] makes.
#[derive(Debug, Clone)]
pub struct MhaOutput {
    /// The weights of the answers, `[batch, n_heads, length, answers]`, in training after dropout.
    pub weights: Tensor<4>,
    /// The result, `[batch, length, d_model]`.
    pub context: Tensor<3>,
}

impl MultiHeadAttentionConfig {
    /// Builds the layer, its linear layers in float.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> MultiHeadAttention {
        let quantizers = self.init_quantizers(device);
        with_parts_in_float(|planner| {
            self.with_parts(planner, "MultiHeadAttention", quantizers, device)
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
    ) -> Result<MultiHeadAttention, Error> {
        let planned = planner.layer(path, self.clone())?;
        self.with_parts(planner, path, planned.init_quantizers(device), device)
    }

    fn with_parts(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        quantizers: Quantizers,
        device: &Device,
    ) -> Result<MultiHeadAttention, Error> {
        let mut linear = |name: &str, bias: bool| {
            let config = LinearConfig::new(self.d_model, self.d_model)
                .with_bias(bias)
                .with_initializer(self.initializer.clone());
            let config = planner.layer(format!("{path}.{name}"), config)?;
            Ok::<Linear, Error>(config.init(device))
        };
        let query = linear("query", self.query_bias)?;
        let key = linear("key", self.key_bias)?;
        let value = linear("value", self.value_bias)?;
        let output = linear("output", self.output_bias)?;
        let dropout = planner.layer(format!("{path}.dropout"), DropoutConfig::new(self.dropout))?;
        Ok(MultiHeadAttention {
            query,
            key,
            value,
            output,
            dropout: dropout.init(device),
            d_model: self.d_model,
            n_heads: self.n_heads,
            d_k: self.d_model / self.n_heads,
            min_float: self.min_float,
            quiet_softmax: self.quiet_softmax,
            quantizers,
        })
    }
}

impl Describe for MultiHeadAttentionConfig {
    fn describe(&self) -> Description {
        Description {
            slots: SLOTS.to_vec(),
            ..Description::new("MultiHeadAttention").leaving_grid()
        }
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        at_least_one("n_heads", &[self.n_heads])?;
        at_least_one("d_model", &[self.d_model])?;
        if self.d_model.is_multiple_of(self.n_heads) {
            return Ok(());
        }
        let (d_model, heads) = (self.d_model, self.n_heads);
        let message = format!("is {d_model}, expected a multiple of n_heads, {heads}");
        Err(Error::config("d_model", message))
    }
}

impl MultiHeadAttention {
    /// Applies the layer.
    ///
    /// # Shapes
    /// Those of [`MhaInput`] and [`MhaOutput`].
    pub fn forward(&self, input: MhaInput) -> MhaOutput {
        let heads = |x| split(x, self.n_heads);
        let query = heads(self.query.forward(input.query));
        let key = heads(self.key.forward(input.key));
        let value = heads(self.value.forward(input.value));
        let attention = Attention {
            quantizers: &self.quantizers,
            dropout: &self.dropout,
            quiet_softmax: self.quiet_softmax,
            shared: 1,
        };
        let scoring = Scoring {
            scale: |products: Tensor<4>| products.div_scalar((self.d_k as f32).sqrt()),
            mask: |scores: Tensor<4>| self.masked(scores, input.mask_pad, input.mask_attn),
        };
        let (weights, context) = attention.run([query, key, value], scoring);
        MhaOutput {
            weights,
            context: self.output.forward(context),
        }
    }

    fn masked(
        &self,
        scores: Tensor<4>,
        pad: Option<Tensor<2, Bool>>,
        attn: Option<Tensor<3, Bool>>,
    ) -> Tensor<4> {
        let scores = match pad {
            Some(pad) => {
                let [batch, answers] = pad.dims();
                scores.mask_fill(pad.reshape([batch, 1, 1, answers]), self.min_float)
            }
            None => scores,
        };
        match attn {
            Some(attn) => {
                let [batch, length, answers] = attn.dims();
                scores.mask_fill(attn.reshape([batch, 1, length, answers]), self.min_float)
            }
            None => scores,
        }
    }
}

impl ModuleDisplay for MultiHeadAttention {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("d_model", &self.d_model)
            .add("n_heads", &self.n_heads)
            .add("d_k", &self.d_k)
            .add("dropout", &self.dropout.prob)
            .add("min_float", &self.min_float)
            .add("quiet_softmax", &self.quiet_softmax)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// With linear layers that do nothing, the positions 1 and 0 have the scores 1 and 0 with
    /// position 1: weights 0.7310586 and 0.2689414; on a grid of quarters, 0.75 and 0.25. The result
    /// is the weight of the first.
    #[test]
    fn two_positions_by_hand() {
        let device = Device::flex();
        let quarters = FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap());
        let quarters = QConfig::new().with("probabilities", QuantizerConfig::Format(quarters));
        for (config, expected) in [(QConfig::new(), 0.731_058_6), (quarters, 0.75)] {
            let mut attention = MultiHeadAttentionConfig::new(1, 1)
                .with_initializer(Initializer::Zeros)
                .with_quantization(config)
                .init(&device);
            let MultiHeadAttention {
                query,
                key,
                value,
                output,
                ..
            } = &mut attention;
            for linear in [query, key, value, output] {
                linear.weight = Param::from_tensor(Tensor::ones([1, 1], &device));
            }
            let x = Tensor::<3>::from_floats([[[1.0], [0.0]]], &device);
            let y = attention.forward(MhaInput::self_attn(x));
            let first: f32 = y.context.into_data().iter::<f32>().next().unwrap();
            assert!((first - expected).abs() < 1e-6, "{first}");
        }
    }

    #[test]
    fn features_that_do_not_divide_into_heads_are_refused() {
        let refused = MultiHeadAttentionConfig::new(6, 4).check();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "MultiHeadAttention.d_model: is 6, expected a multiple of n_heads, 4"
        );
    }
}
