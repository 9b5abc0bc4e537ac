//! Encoders of BERT's kind: each part's sum with its input is normalized, and all see all.

use burn::module::Module;
use burn::nn::activation::ActivationConfig;
use burn::tensor::{Bool, Device, Int, Tensor};

use super::positions::counted;
use crate::Error;
use crate::config::Planner;
use crate::nn::{
    Activation, Add, AddConfig, DotProductAttention, DotProductAttentionConfig, Embedding,
    EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};

/// The sizes of an [`Encoder`].
#[derive(Debug, Clone)]
pub struct EncoderConfig {
    /// Tokens there are.
    pub vocabulary: usize,
    /// Positions there are.
    pub positions: usize,
    /// Types of tokens there are: of a question, of a context.
    pub types: usize,
    /// Features of a token's vector; where they are not `d_model`, a linear layer makes those of them.
    pub d_embedding: usize,
    /// Features of a position.
    pub d_model: usize,
    /// Features between the linear layers of a feed-forward part.
    pub d_ff: usize,
    /// Heads of an attention.
    pub n_heads: usize,
    /// Which layer is applied at each step; several steps may share one.
    pub order: Vec<usize>,
    /// Between the linear layers of a feed-forward part.
    pub activation: ActivationConfig,
    /// What normalizations add to a variance.
    pub epsilon: f64,
}

/// BERT's encoder (Devlin et al., arXiv 1810.04805), and ALBERT's (Lan et al., arXiv 1909.11942), whose
/// steps share layers and whose tokens have shorter vectors.
#[derive(Module, Debug)]
pub struct Encoder {
    /// Vectors of tokens.
    pub word: Embedding,
    /// Vectors of positions.
    pub position: Embedding,
    /// Vectors of types.
    pub token_type: Embedding,
    /// The sum of a token's and its type's vectors.
    pub type_add: Add,
    /// Its sum with the position's.
    pub position_add: Add,
    /// Of the sum of the three.
    pub norm: LayerNorm,
    /// Makes the layers' features of the vectors', where they differ.
    pub mapping: Option<Linear>,
    /// The layers.
    pub layers: Vec<EncoderLayer>,
    /// Which is applied at each step.
    #[module(skip)]
    pub order: Vec<usize>,
}

/// One layer of an [`Encoder`].
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Of what is asked.
    pub query: Linear,
    /// Of what is answered.
    pub key: Linear,
    /// Of what the answers say.
    pub value: Linear,
    /// Of the heads.
    pub attention: DotProductAttention,
    /// Of the heads' results.
    pub dense: Linear,
    /// Its sum with the layer's input.
    pub attention_add: Add,
    /// Of that sum.
    pub attention_norm: LayerNorm,
    /// The feed-forward part's first.
    pub up: Linear,
    /// Between the two.
    pub activation: Activation,
    /// The feed-forward part's second.
    pub down: Linear,
    /// Its sum with the part's input.
    pub add: Add,
    /// Of that sum.
    pub norm: LayerNorm,
}

/// What an [`Encoder`] reads, a row for each sequence.
#[derive(Debug, Clone)]
pub struct EncoderInput {
    /// Numbers of tokens, `[batch, length]`
    pub tokens: Tensor<2, Int>,
    /// Their types, `[batch, length]`
    pub types: Tensor<2, Int>,
    /// Which are padding, `[batch, length]`; none where there is nothing.
    pub padding: Option<Tensor<2, Bool>>,
}

impl EncoderConfig {
    /// Builds the encoder at `path` of a network, each of its parts with what the plan gives it.
    ///
    /// # Errors
    /// As [`Planner::layer`].
    pub fn init_planned(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Encoder, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let table = |rows| EmbeddingConfig::new(rows, self.d_embedding);
        let word = planner.first(at("word"), table(self.vocabulary))?;
        let position = planner.layer(at("position"), table(self.positions))?;
        let token_type = planner.layer(at("token_type"), table(self.types))?;
        let type_add = planner.layer(at("type_add"), AddConfig::new())?;
        let position_add = planner.layer(at("position_add"), AddConfig::new())?;
        let norm = LayerNormConfig::new(self.d_embedding).with_epsilon(self.epsilon);
        let norm = planner.layer(at("norm"), norm)?;
        let mapping = match self.d_embedding == self.d_model {
            true => None,
            false => {
                let mapping = LinearConfig::new(self.d_embedding, self.d_model);
                Some(planner.layer(at("mapping"), mapping)?.init(device))
            }
        };
        let count = self.order.iter().max().map_or(0, |last| last + 1);
        let layers = (0..count).map(|index| {
            EncoderLayer::planned(self, planner, &format!("{path}.layers.{index}"), device)
        });
        Ok(Encoder {
            word: word.init(device),
            position: position.init(device),
            token_type: token_type.init(device),
            type_add: type_add.init(device),
            position_add: position_add.init(device),
            norm: norm.init(device),
            mapping,
            layers: layers.collect::<Result<_, _>>()?,
            order: self.order.clone(),
        })
    }
}

impl Encoder {
    /// What is made of each position.
    ///
    /// # Shapes
    /// result: `[batch, length, d_model]`
    pub fn forward(&self, input: EncoderInput) -> Tensor<3> {
        let [batch, length] = input.tokens.dims();
        let positions = counted(0, length, &input.tokens.device());
        let x = self.word.forward(input.tokens);
        let x = self
            .type_add
            .forward(x, self.token_type.forward(input.types));
        let positions = self.position.forward(positions);
        let [_, _, features] = positions.dims();
        let x = self
            .position_add
            .forward(x, positions.expand([batch, length, features]));
        let x = self.norm.forward(x);
        let x = match &self.mapping {
            Some(mapping) => mapping.forward(x),
            None => x,
        };
        let added = input
            .padding
            .map(|padding| DotProductAttention::hiding(padding.reshape([batch, 1, 1, length])));
        let layers = self.order.iter().map(|&index| &self.layers[index]);
        layers.fold(x, |x, layer| layer.forward(x, added.clone()))
    }
}

impl EncoderLayer {
    fn planned(
        config: &EncoderConfig,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Self, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let (d_model, heads) = (config.d_model, config.n_heads);
        let linear = |planner: &mut Planner<'_>, name: &str, from, to| {
            let layer = planner.layer(at(name), LinearConfig::new(from, to))?;
            Ok::<Linear, Error>(layer.init(device))
        };
        let norm = || LayerNormConfig::new(d_model).with_epsilon(config.epsilon);
        let query = linear(planner, "query", d_model, d_model)?;
        let key = linear(planner, "key", d_model, d_model)?;
        let value = linear(planner, "value", d_model, d_model)?;
        let attention = DotProductAttentionConfig::new(d_model / heads, heads, heads);
        let attention = planner.layer(at("attention"), attention)?;
        let dense = linear(planner, "dense", d_model, d_model)?;
        let attention_add = planner.layer(at("attention_add"), AddConfig::new())?;
        let attention_norm = planner.layer(at("attention_norm"), norm())?;
        let up = linear(planner, "up", d_model, config.d_ff)?;
        let activation = &config.activation;
        let activation = Activation::init_planned(activation, planner, &at("activation"), device)?;
        let down = linear(planner, "down", config.d_ff, d_model)?;
        let add = planner.layer(at("add"), AddConfig::new())?;
        let norm = planner.layer(at("norm"), norm())?;
        Ok(Self {
            query,
            key,
            value,
            attention: attention.init(device),
            dense,
            attention_add: attention_add.init(device),
            attention_norm: attention_norm.init(device),
            up,
            activation,
            down,
            add: add.init(device),
            norm: norm.init(device),
        })
    }

    /// Applies the layer; what is added to scores is `[batch, 1, 1, length]`.
    fn forward(&self, x: Tensor<3>, added: Option<Tensor<4>>) -> Tensor<3> {
        let by_heads = |layer: &Linear| self.attention.by_heads(layer.forward(x.clone()));
        let [query, key, value] = [&self.query, &self.key, &self.value].map(by_heads);
        let context = self.attention.forward(query, key, value, added);
        let seen = self.dense.forward(context);
        let x = self
            .attention_norm
            .forward(self.attention_add.forward(seen, x));
        let inner = self.activation.forward(self.up.forward(x.clone()));
        let y = self.down.forward(inner);
        self.norm.forward(self.add.forward(y, x))
    }
}
