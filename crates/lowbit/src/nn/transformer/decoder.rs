//! The decoder of a transformer.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::Initializer;
use burn::nn::activation::ActivationConfig;
use burn::tensor::{Bool, Device, Tensor};

use crate::Error;
use crate::config::Planner;
use crate::nn::planned::with_parts_in_float;
use crate::nn::transformer::pwff::{PositionWiseFeedForward, PositionWiseFeedForwardConfig};
use crate::nn::{
    Add, AddConfig, Dropout, DropoutConfig, LayerNorm, LayerNormConfig, MhaInput,
    MultiHeadAttention, MultiHeadAttentionConfig,
};

/// Configuration of a [`TransformerDecoder`]; the fields of
/// `burn::nn::transformer::TransformerDecoderConfig`.
#[derive(Config, Debug)]
pub struct TransformerDecoderConfig {
    /// Features of a position, a multiple of the heads.
    pub d_model: usize,
    /// Features between the linear layers of a feed-forward part.
    pub d_ff: usize,
    /// Heads of an attention, at least one.
    pub n_heads: usize,
    /// Layers.
    pub n_layers: usize,
    /// The probability that a number becomes zero in training, 0 to below 1.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// Whether a part's input is normalized, not its sum with the part's result.
    #[config(default = false)]
    pub norm_first: bool,
    /// Whether 1 is added to a softmax's denominator, so that a head can say nothing.
    #[config(default = false)]
    pub quiet_softmax: bool,
    /// How weights and biases start.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
    /// The activation of a feed-forward part.
    #[config(default = "ActivationConfig::Gelu")]
    pub activation: ActivationConfig,
    /// Added to the variance of a normalization.
    #[config(default = 1e-5)]
    pub layer_norm_eps: f64,
}

/// The decoder of a transformer (Vaswani et al., arXiv 1706.03762). Built by
/// [`TransformerDecoderConfig`]; parameter paths are those of
/// `burn::nn::transformer::TransformerDecoder`. Its tensors are those of its layers, with their slots,
/// which a plan reaches by paths such as `layers.0.cross_attn.query`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::{TransformerDecoderConfig, TransformerDecoderInput};
///
/// let device = Device::flex();
/// let decoder = TransformerDecoderConfig::new(8, 16, 2, 1).init(&device);
/// let (target, memory) = (Tensor::zeros([1, 3, 8], &device), Tensor::zeros([1, 5, 8], &device));
/// let y = decoder.forward(TransformerDecoderInput::new(target, memory));
/// assert_eq!(y.dims(), [1, 3, 8]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct TransformerDecoder {
    /// The layers, in order.
    pub layers: Vec<TransformerDecoderLayer>,
    /// Features of a position.
    pub d_model: usize,
    /// Features between the linear layers of a feed-forward part.
    pub d_ff: usize,
    /// Heads of an attention.
    pub n_heads: usize,
    /// Layers.
    pub n_layers: usize,
    /// The probability that a number becomes zero in training.
    pub dropout: f64,
    /// Whether a part's input is normalized, not its sum with the part's result.
    pub norm_first: bool,
    /// Whether 1 is added to a softmax's denominator.
    pub quiet_softmax: bool,
}

/// What a [`TransformerDecoder`] reads.
#[derive(Debug, Clone)]
pub struct TransformerDecoderInput {
    target: Tensor<3>,
    target_mask_pad: Option<Tensor<2, Bool>>,
    target_mask_attn: Option<Tensor<3, Bool>>,
    memory: Tensor<3>,
    memory_mask_pad: Option<Tensor<2, Bool>>,
    memory_mask_attn: Option<Tensor<3, Bool>>,
}

impl TransformerDecoderInput {
    /// What is decoded, `[batch, length, d_model]`, and what the encoder made, `[batch, answers,
    /// d_model]`.
    pub fn new(target: Tensor<3>, memory: Tensor<3>) -> Self {
        Self {
            target,
            target_mask_pad: None,
            target_mask_attn: None,
            memory,
            memory_mask_pad: None,
            memory_mask_attn: None,
        }
    }

    /// With the positions of the memory that are padding, `[batch, answers]`.
    pub fn memory_mask_pad(mut self, mask_pad: Tensor<2, Bool>) -> Self {
        self.memory_mask_pad = Some(mask_pad);
        self
    }

    /// With the positions of the memory that a position must not see, `[batch, length, answers]`.
    pub fn memory_mask_attn(mut self, mask_attn: Tensor<3, Bool>) -> Self {
        self.memory_mask_attn = Some(mask_attn);
        self
    }

    /// With the positions that are padding, `[batch, length]`.
    pub fn target_mask_pad(mut self, mask_pad: Tensor<2, Bool>) -> Self {
        self.target_mask_pad = Some(mask_pad);
        self
    }

    /// With the positions that a position must not see, `[batch, length, length]`.
    pub fn target_mask_attn(mut self, mask_attn: Tensor<3, Bool>) -> Self {
        self.target_mask_attn = Some(mask_attn);
        self
    }
}

impl TransformerDecoderConfig {
    /// Builds the decoder in float.
    ///
    /// # Panics
    /// If a part cannot be built.
    pub fn init(&self, device: &Device) -> TransformerDecoder {
        with_parts_in_float(|planner| self.init_planned(planner, "TransformerDecoder", device))
    }

    /// Builds the decoder at `path` of a network, each of its parts with what the plan gives it.
    ///
    /// # Errors
    /// As [`TransformerDecoderLayer::planned`].
    pub fn init_planned(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<TransformerDecoder, Error> {
        let layer = |i| {
            let path = format!("{path}.layers.{i}");
            TransformerDecoderLayer::planned(self, planner, &path, device)
        };
        let layers: Result<Vec<_>, Error> = (0..self.n_layers).map(layer).collect();
        Ok(TransformerDecoder {
            layers: layers?,
            d_model: self.d_model,
            d_ff: self.d_ff,
            n_heads: self.n_heads,
            n_layers: self.n_layers,
            dropout: self.dropout,
            norm_first: self.norm_first,
            quiet_softmax: self.quiet_softmax,
        })
    }
}

impl TransformerDecoder {
    /// Applies the decoder.
    ///
    /// # Shapes
    /// Those of [`TransformerDecoderInput`]; the result is as what is decoded.
    pub fn forward(&self, input: TransformerDecoderInput) -> Tensor<3> {
        let layers = self.layers.iter();
        layers
            .fold(input, |input, layer| layer.forward(input))
            .target
    }
}

/// A layer of a [`TransformerDecoder`]: attention to what is decoded, attention to the memory and a
/// feed-forward part, each with a normalization, dropout of its result, and a sum with its input.
#[derive(Module, Debug)]
pub struct TransformerDecoderLayer {
    /// Attention to the memory.
    pub cross_attn: MultiHeadAttention,
    /// Attention to what is decoded.
    pub self_attn: MultiHeadAttention,
    /// The feed-forward part.
    pub pwff: PositionWiseFeedForward,
    /// Before the attention to the memory where the norm is first, after the first sum otherwise.
    pub norm_1: LayerNorm,
    /// Before the feed-forward part where the norm is first, after the second sum otherwise.
    pub norm_2: LayerNorm,
    /// Before the first attention where the norm is first, after the last sum otherwise.
    pub norm_3: LayerNorm,
    /// Of the results of all parts.
    pub dropout: Dropout,
    /// The sum of the attention to what is decoded.
    pub add_1: Add,
    /// The sum of the attention to the memory.
    pub add_2: Add,
    /// The feed-forward part's sum.
    pub add_3: Add,
    /// Whether a part's input is normalized, not its sum with the part's result.
    pub norm_first: bool,
}

impl TransformerDecoderLayer {
    /// Builds a layer in float.
    ///
    /// # Panics
    /// If a part cannot be built.
    pub fn new(config: &TransformerDecoderConfig, device: &Device) -> Self {
        with_parts_in_float(|planner| {
            Self::planned(config, planner, "TransformerDecoderLayer", device)
        })
    }

    /// Builds a layer at `path` of a network, each of its parts with what the plan gives it.
    ///
    /// # Errors
    /// As [`Planner::layer`] and [`Activation::init_planned`](crate::nn::Activation::init_planned).
    pub fn planned(
        config: &TransformerDecoderConfig,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Self, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let attention = MultiHeadAttentionConfig::new(config.d_model, config.n_heads)
            .with_initializer(config.initializer.clone())
            .with_dropout(config.dropout)
            .with_quiet_softmax(config.quiet_softmax);
        let pwff = PositionWiseFeedForwardConfig::new(config.d_model, config.d_ff)
            .with_initializer(config.initializer.clone())
            .with_dropout(config.dropout)
            .with_activation(config.activation.clone());
        let self_attn = attention.init_planned(planner, &at("self_attn"), device)?;
        let cross_attn = attention.init_planned(planner, &at("cross_attn"), device)?;
        let pwff = pwff.init_planned(planner, &at("pwff"), device)?;
        let mut norm = |name: &str| {
            let norm = LayerNormConfig::new(config.d_model).with_epsilon(config.layer_norm_eps);
            let norm = planner.layer(at(name), norm)?;
            Ok::<LayerNorm, Error>(norm.init(device))
        };
        let norms = [norm("norm_1")?, norm("norm_2")?, norm("norm_3")?];
        let mut add = |name: &str| {
            let add = planner.layer(at(name), AddConfig::new())?;
            Ok::<Add, Error>(add.init(device))
        };
        let adds = [add("add_1")?, add("add_2")?, add("add_3")?];
        let dropout = planner.layer(at("dropout"), DropoutConfig::new(config.dropout))?;
        let ([norm_1, norm_2, norm_3], [add_1, add_2, add_3]) = (norms, adds);
        Ok(Self {
            cross_attn,
            self_attn,
            pwff,
            norm_1,
            norm_2,
            norm_3,
            dropout: dropout.init(device),
            add_1,
            add_2,
            add_3,
            norm_first: config.norm_first,
        })
    }

    /// Applies the layer; what is decoded becomes the result, and the rest stays.
    ///
    /// # Shapes
    /// Those of [`TransformerDecoderInput`].
    pub fn forward(&self, input: TransformerDecoderInput) -> TransformerDecoderInput {
        let before = |norm: &LayerNorm, x: Tensor<3>| match self.norm_first {
            true => norm.forward(x),
            false => x,
        };
        let after = |norm: &LayerNorm, x: Tensor<3>| match self.norm_first {
            true => x,
            false => norm.forward(x),
        };
        let TransformerDecoderInput { target, memory, .. } = input.clone();
        let asked = before(&self.norm_3, target.clone());
        let mut asked = MhaInput::self_attn(asked);
        asked.mask_pad = input.target_mask_pad.clone();
        asked.mask_attn = input.target_mask_attn.clone();
        let answered = self.dropout.forward(self.self_attn.forward(asked).context);
        let x = after(&self.norm_1, self.add_1.forward(target, answered));

        let asked = before(&self.norm_1, x.clone());
        let mut asked = MhaInput::new(asked, memory.clone(), memory);
        asked.mask_pad = input.memory_mask_pad.clone();
        asked.mask_attn = input.memory_mask_attn.clone();
        let answered = self.dropout.forward(self.cross_attn.forward(asked).context);
        let x = after(&self.norm_2, self.add_2.forward(x, answered));

        let made = self.pwff.forward(before(&self.norm_2, x.clone()));
        let made = self.dropout.forward(made);
        let x = after(&self.norm_3, self.add_3.forward(x, made));
        TransformerDecoderInput { target: x, ..input }
    }
}

impl ModuleDisplay for TransformerDecoder {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("d_model", &self.d_model)
            .add("d_ff", &self.d_ff)
            .add("n_heads", &self.n_heads)
            .add("n_layers", &self.n_layers)
            .add("dropout", &self.dropout)
            .add("norm_first", &self.norm_first)
            .add("quiet_softmax", &self.quiet_softmax)
            .optional()
    }
}
