//! The encoder of a transformer.

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

/// Configuration of a [`TransformerEncoder`]; the fields of
/// `burn::nn::transformer::TransformerEncoderConfig`.
#[derive(Config, Debug)]
pub struct TransformerEncoderConfig {
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

/// The encoder of a transformer (Vaswani et al., arXiv 1706.03762). Built by
/// [`TransformerEncoderConfig`]; parameter paths are those of
/// `burn::nn::transformer::TransformerEncoder`. Its tensors are those of its layers, with their slots,
/// which a plan reaches by paths such as `layers.0.mha.query`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::config::{Planner, QPlan};
/// use lowbit::nn::{TransformerEncoderConfig, TransformerEncoderInput};
///
/// let (plan, device) = (QPlan::tqt(4, 8), Device::flex());
/// let mut planner = Planner::new(&plan)?;
/// let config = TransformerEncoderConfig::new(8, 16, 2, 1);
/// let encoder = config.init_planned(&mut planner, "encoder", &device)?;
/// let layers = planner.finish()?;
/// assert_eq!(layers[0].path, "encoder.layers.0.mha");
/// let y = encoder.forward(TransformerEncoderInput::new(Tensor::zeros([1, 5, 8], &device)));
/// assert_eq!(y.dims(), [1, 5, 8]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct TransformerEncoder {
    /// The layers, in order.
    pub layers: Vec<TransformerEncoderLayer>,
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

/// What a [`TransformerEncoder`] reads.
#[derive(Debug, Clone)]
pub struct TransformerEncoderInput {
    tensor: Tensor<3>,
    mask_pad: Option<Tensor<2, Bool>>,
    mask_attn: Option<Tensor<3, Bool>>,
}

impl TransformerEncoderInput {
    /// Sequences, `[batch, length, d_model]`.
    pub fn new(tensor: Tensor<3>) -> Self {
        Self {
            tensor,
            mask_pad: None,
            mask_attn: None,
        }
    }

    /// With the positions that are padding, `[batch, length]`.
    pub fn mask_pad(mut self, mask_pad: Tensor<2, Bool>) -> Self {
        self.mask_pad = Some(mask_pad);
        self
    }

    /// With the positions that a position must not see, `[batch, length, length]`.
    pub fn mask_attn(mut self, mask_attn: Tensor<3, Bool>) -> Self {
        self.mask_attn = Some(mask_attn);
        self
    }
}

impl TransformerEncoderConfig {
    /// Builds the encoder in float.
    ///
    /// # Panics
    /// If a part cannot be built.
    pub fn init(&self, device: &Device) -> TransformerEncoder {
        with_parts_in_float(|planner| self.init_planned(planner, "TransformerEncoder", device))
    }

    /// Builds the encoder at `path` of a network, each of its parts with what the plan gives it.
    ///
    /// # Errors
    /// As [`TransformerEncoderLayer::planned`].
    pub fn init_planned(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<TransformerEncoder, Error> {
        let layer = |i| {
            let path = format!("{path}.layers.{i}");
            TransformerEncoderLayer::planned(self, planner, &path, device)
        };
        let layers: Result<Vec<_>, Error> = (0..self.n_layers).map(layer).collect();
        Ok(TransformerEncoder {
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

impl TransformerEncoder {
    /// Applies the encoder.
    ///
    /// # Shapes
    /// `input` and result: `[batch, length, d_model]`
    pub fn forward(&self, input: TransformerEncoderInput) -> Tensor<3> {
        let TransformerEncoderInput {
            tensor,
            mask_pad,
            mask_attn,
        } = input;
        self.layers.iter().fold(tensor, |x, layer| {
            layer.forward(x, mask_pad.clone(), mask_attn.clone())
        })
    }
}

/// A layer of a [`TransformerEncoder`]: attention and a feed-forward part, each with a normalization,
/// dropout of its result, and a sum with its input.
#[derive(Module, Debug)]
pub struct TransformerEncoderLayer {
    /// Attention of a sequence to itself.
    pub mha: MultiHeadAttention,
    /// The feed-forward part.
    pub pwff: PositionWiseFeedForward,
    /// Before the feed-forward part where the norm is first, after the attention's sum otherwise.
    pub norm_1: LayerNorm,
    /// Before the attention where the norm is first, after the feed-forward part's sum otherwise.
    pub norm_2: LayerNorm,
    /// Of the results of both parts.
    pub dropout: Dropout,
    /// The attention's sum.
    pub add_1: Add,
    /// The feed-forward part's sum.
    pub add_2: Add,
    /// Whether a part's input is normalized, not its sum with the part's result.
    pub norm_first: bool,
}

impl TransformerEncoderLayer {
    /// Builds a layer in float.
    ///
    /// # Panics
    /// If a part cannot be built.
    pub fn new(config: &TransformerEncoderConfig, device: &Device) -> Self {
        with_parts_in_float(|planner| {
            Self::planned(config, planner, "TransformerEncoderLayer", device)
        })
    }

    /// Builds a layer at `path` of a network, each of its parts with what the plan gives it.
    ///
    /// # Errors
    /// As [`Planner::layer`] and [`Activation::init_planned`](crate::nn::Activation::init_planned).
    pub fn planned(
        config: &TransformerEncoderConfig,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Self, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let mha = MultiHeadAttentionConfig::new(config.d_model, config.n_heads)
            .with_initializer(config.initializer.clone())
            .with_dropout(config.dropout)
            .with_quiet_softmax(config.quiet_softmax)
            .init_planned(planner, &at("mha"), device)?;
        let pwff = PositionWiseFeedForwardConfig::new(config.d_model, config.d_ff)
            .with_initializer(config.initializer.clone())
            .with_dropout(config.dropout)
            .with_activation(config.activation.clone())
            .init_planned(planner, &at("pwff"), device)?;
        let norm = LayerNormConfig::new(config.d_model).with_epsilon(config.layer_norm_eps);
        let norm_1 = planner.layer(at("norm_1"), norm.clone())?;
        let norm_2 = planner.layer(at("norm_2"), norm)?;
        let dropout = planner.layer(at("dropout"), DropoutConfig::new(config.dropout))?;
        let add_1 = planner.layer(at("add_1"), AddConfig::new())?;
        let add_2 = planner.layer(at("add_2"), AddConfig::new())?;
        Ok(Self {
            mha,
            pwff,
            norm_1: norm_1.init(device),
            norm_2: norm_2.init(device),
            dropout: dropout.init(device),
            add_1: add_1.init(device),
            add_2: add_2.init(device),
            norm_first: config.norm_first,
        })
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// `input` and result: `[batch, length, d_model]`; the masks those of [`TransformerEncoderInput`]
    pub fn forward(
        &self,
        input: Tensor<3>,
        mask_pad: Option<Tensor<2, Bool>>,
        mask_attn: Option<Tensor<3, Bool>>,
    ) -> Tensor<3> {
        let asked = match self.norm_first {
            true => self.norm_2.forward(input.clone()),
            false => input.clone(),
        };
        let mut asked = MhaInput::self_attn(asked);
        (asked.mask_pad, asked.mask_attn) = (mask_pad, mask_attn);
        let answered = self.dropout.forward(self.mha.forward(asked).context);
        let x = self.add_1.forward(input, answered);
        let (x, read) = match self.norm_first {
            true => (x.clone(), self.norm_1.forward(x)),
            false => {
                let x = self.norm_1.forward(x);
                (x.clone(), x)
            }
        };
        let made = self.dropout.forward(self.pwff.forward(read));
        let x = self.add_2.forward(x, made);
        match self.norm_first {
            true => x,
            false => self.norm_2.forward(x),
        }
    }
}

impl ModuleDisplay for TransformerEncoder {
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
