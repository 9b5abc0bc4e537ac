//! Decoders of GPT-2's and Llama's kinds: each part's input is normalized, and none sees what comes.

use burn::module::Module;
use burn::nn::Initializer;
use burn::nn::activation::ActivationConfig;
use burn::tensor::{Bool, Device, Int, Tensor};

use super::positions::{Rotary, Turn, counted, unseen};
use crate::Error;
use crate::config::Planner;
use crate::nn::{
    Activation, Add, AddConfig, DotProductAttention, DotProductAttentionConfig, Embedding,
    EmbeddingConfig, KeyValues, LayerNorm, LayerNormConfig, Linear, LinearConfig, Mul, MulConfig,
    RmsNorm, RmsNormConfig, Silu, SiluConfig,
};

/// The sizes of a [`Decoder`], and which kind it is of.
#[derive(Debug, Clone)]
pub struct DecoderConfig {
    /// Tokens there are.
    pub vocabulary: usize,
    /// Positions there are.
    pub positions: usize,
    /// Features of a position.
    pub d_model: usize,
    /// Features between the linear layers of a feed-forward part.
    pub d_ff: usize,
    /// Layers.
    pub n_layers: usize,
    /// Heads that ask.
    pub n_heads: usize,
    /// Heads that answer.
    pub n_heads_kv: usize,
    /// Features of a head.
    pub d_head: usize,
    /// What normalizations add to a variance or a mean square.
    pub epsilon: f64,
    /// What differs between the kinds.
    pub kind: DecoderKind,
}

/// What differs between GPT-2 and Llama.
#[derive(Debug, Clone)]
pub enum DecoderKind {
    /// Learned positions, layer normalization, biases, one activation (Radford et al., "Language Models
    /// are Unsupervised Multitask Learners", 2019).
    Gpt2(ActivationConfig),
    /// Turned queries and keys, normalization by the root mean square, gates (Touvron et al.,
    /// arXiv 2302.13971).
    Llama(LlamaKind),
}

/// What differs between networks of Llama's kind.
#[derive(Debug, Clone)]
pub struct LlamaKind {
    /// How queries and keys are turned.
    pub rotary: Rotary,
    /// Whether query, key and value have a bias.
    pub query_bias: bool,
    /// Whether the output of the attention has one.
    pub output_bias: bool,
    /// Whether the feed-forward part's linear layers have one.
    pub ff_bias: bool,
}

/// A network that says of each position what the next is.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Vectors of tokens.
    pub word: Embedding,
    /// Vectors of positions, where they are learned.
    pub position: Option<Embedding>,
    /// The sum of the two.
    pub position_add: Add,
    /// The layers, in order.
    pub layers: Vec<DecoderLayer>,
    /// Of the last layer's result.
    pub norm: Norm,
    /// How queries and keys are turned, where they are.
    #[module(skip)]
    pub rotary: Option<Rotary>,
}

/// One layer of a [`Decoder`].
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Of the layer's input.
    pub attention_norm: Norm,
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
    /// Of the feed-forward part's input.
    pub norm: Norm,
    /// The feed-forward part.
    pub ff: FeedForward,
    /// Its sum with that input.
    pub add: Add,
}

/// A normalization of one of the two kinds.
#[derive(Module, Debug)]
#[allow(missing_docs)]
pub enum Norm {
    LayerNorm(LayerNorm),
    RmsNorm(RmsNorm),
}

/// A feed-forward part of one of the two kinds.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // a network has few of them
pub enum FeedForward {
    /// Up, an activation, down.
    Plain(Plain),
    /// Up times a gate, down (Shazeer, arXiv 2002.05202).
    Gated(Gated),
}

/// `down(activation(up(x)))`
#[derive(Module, Debug)]
pub struct Plain {
    /// To more features.
    pub up: Linear,
    /// Between the two.
    pub activation: Activation,
    /// Back.
    pub down: Linear,
}

/// `down(silu(gate(x)) up(x))`
#[derive(Module, Debug)]
pub struct Gated {
    /// Of the gate.
    pub gate: Linear,
    /// To more features.
    pub up: Linear,
    /// Of the gate's result.
    pub activation: Silu,
    /// The product of the two.
    pub product: Mul,
    /// Back.
    pub down: Linear,
}

/// What a [`Decoder`] knows of the positions so far, so that it need not look at them again.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    layers: Vec<Option<KeyValues>>,
    positions: usize,
}

impl Cache {
    /// Positions so far.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

impl DecoderConfig {
    /// Builds the decoder at `path` of a network, each of its parts with what the plan gives it.
    ///
    /// # Errors
    /// As [`Planner::layer`].
    pub fn init_planned(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Decoder, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let table = |rows| EmbeddingConfig::new(rows, self.d_model).with_initializer(INITIALIZER);
        let word = planner.first(at("word"), table(self.vocabulary))?;
        let (position, rotary) = match &self.kind {
            DecoderKind::Gpt2(_) => {
                let position = planner.layer(at("position"), table(self.positions))?;
                (Some(position.init(device)), None)
            }
            DecoderKind::Llama(kind) => (None, Some(kind.rotary.clone())),
        };
        let position_add = match position {
            None => AddConfig::new(),
            Some(_) => planner.layer(at("position_add"), AddConfig::new())?,
        };
        let layers = (0..self.n_layers).map(|index| {
            DecoderLayer::planned(self, planner, &format!("{path}.layers.{index}"), device)
        });
        Ok(Decoder {
            word: word.init(device),
            position,
            position_add: position_add.init(device),
            layers: layers.collect::<Result<_, _>>()?,
            norm: self.norm(planner, &at("norm"), device)?,
            rotary,
        })
    }

    fn norm(&self, planner: &mut Planner<'_>, path: &str, device: &Device) -> Result<Norm, Error> {
        Ok(match &self.kind {
            DecoderKind::Gpt2(_) => {
                let norm = LayerNormConfig::new(self.d_model).with_epsilon(self.epsilon);
                let norm = planner.layer(format!("{path}.LayerNorm"), norm)?;
                Norm::LayerNorm(norm.init(device))
            }
            DecoderKind::Llama(_) => {
                let norm = RmsNormConfig::new(self.d_model).with_epsilon(self.epsilon);
                let norm = planner.layer(format!("{path}.RmsNorm"), norm)?;
                Norm::RmsNorm(norm.init(device))
            }
        })
    }

    /// Whether query, key and value, the attention's output and the feed-forward part have biases.
    fn biases(&self) -> [bool; 3] {
        match &self.kind {
            DecoderKind::Gpt2(_) => [true; 3],
            DecoderKind::Llama(kind) => [kind.query_bias, kind.output_bias, kind.ff_bias],
        }
    }

    fn feed_forward(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<FeedForward, Error> {
        let [_, _, bias] = self.biases();
        let linear = |planner: &mut Planner<'_>, name: &str, from, to| {
            linear(planner, format!("{path}.{name}"), [from, to], bias, device)
        };
        let (d_model, d_ff) = (self.d_model, self.d_ff);
        Ok(match &self.kind {
            DecoderKind::Gpt2(activation) => FeedForward::Plain(Plain {
                up: linear(planner, "Plain.up", d_model, d_ff)?,
                activation: Activation::init_planned(
                    activation,
                    planner,
                    &format!("{path}.Plain.activation"),
                    device,
                )?,
                down: linear(planner, "Plain.down", d_ff, d_model)?,
            }),
            DecoderKind::Llama(_) => FeedForward::Gated(Gated {
                gate: linear(planner, "Gated.gate", d_model, d_ff)?,
                up: linear(planner, "Gated.up", d_model, d_ff)?,
                activation: planner
                    .layer(format!("{path}.Gated.activation"), SiluConfig::new())?
                    .init(device),
                product: planner
                    .layer(format!("{path}.Gated.product"), MulConfig::new())?
                    .init(device),
                down: linear(planner, "Gated.down", d_ff, d_model)?,
            }),
        })
    }
}

/// How the tables and the weights of linear layers start; biases start at 0 (Radford et al., "Improving
/// Language Understanding by Generative Pre-Training", 2018, section 4.1).
pub(super) const INITIALIZER: Initializer = Initializer::Normal {
    mean: 0.0,
    std: 0.02,
};

fn linear(
    planner: &mut Planner<'_>,
    path: String,
    [from, to]: [usize; 2],
    bias: bool,
    device: &Device,
) -> Result<Linear, Error> {
    let layer = LinearConfig::new(from, to)
        .with_bias(bias)
        .with_initializer(INITIALIZER);
    let mut layer = planner.layer(path, layer)?.init(device);
    if layer.bias.is_some() {
        layer.bias = Some(Initializer::Zeros.init([to], device));
    }
    Ok(layer)
}

impl Decoder {
    /// What is made of each position that is not in the cache yet, which then has it.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, length]`, those that follow what is in the cache
    /// - `padding`: `[batch, positions in the cache + length]`, those that none sees
    /// - result: `[batch, length, d_model]`
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
        cache: &mut Cache,
    ) -> Tensor<3> {
        let [_, length] = tokens.dims();
        let (mut x, seen) = self.begin(tokens, padding, cache.positions);
        cache.layers.resize_with(self.layers.len(), || None);
        for (layer, kept) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.forward(x, &seen, kept);
        }
        cache.positions += length;
        self.norm.forward(x)
    }

    /// What the first layer reads of tokens that follow `first` positions, `[batch, length, d_model]`, and
    /// what every layer is told of them.
    pub fn begin(
        &self,
        tokens: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
        first: usize,
    ) -> (Tensor<3>, Seen) {
        let [batch, length] = tokens.dims();
        let device = tokens.device();
        let mut x = self.word.forward(tokens);
        if let Some(position) = &self.position {
            let positions = position.forward(counted(first, length, &device));
            let [_, _, features] = positions.dims();
            let positions = positions.expand([batch, length, features]);
            x = self.position_add.forward(x, positions);
        }
        let turn = self.rotary.as_ref();
        let seen = Seen {
            added: unseen(first, length, padding, &device).map(DotProductAttention::hiding),
            turn: turn.map(|rotary| rotary.at(first, length, &device)),
        };
        (x, seen)
    }
}

/// What every layer of a [`Decoder`] is told of the positions.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What is added to scores, which hides positions.
    added: Option<Tensor<4>>,
    /// How queries and keys are turned.
    turn: Option<Turn>,
}

impl DecoderLayer {
    fn planned(
        config: &DecoderConfig,
        planner: &mut Planner<'_>,
        path: &str,
        device: &Device,
    ) -> Result<Self, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let heads = [config.n_heads, config.n_heads_kv];
        let [asks, answers] = heads.map(|heads| heads * config.d_head);
        let [bias, output_bias, _] = config.biases();
        let from_model = |planner: &mut Planner<'_>, name: &str, to| {
            linear(planner, at(name), [config.d_model, to], bias, device)
        };
        let attention_norm = config.norm(planner, &at("attention_norm"), device)?;
        let query = from_model(planner, "query", asks)?;
        let key = from_model(planner, "key", answers)?;
        let value = from_model(planner, "value", answers)?;
        let attention = DotProductAttentionConfig::new(config.d_head, heads[0], heads[1]);
        let attention = planner.layer(at("attention"), attention)?;
        let size = [asks, config.d_model];
        let dense = linear(planner, at("dense"), size, output_bias, device)?;
        let attention_add = planner.layer(at("attention_add"), AddConfig::new())?;
        let norm = config.norm(planner, &at("norm"), device)?;
        let ff = config.feed_forward(planner, &at("ff"), device)?;
        let add = planner.layer(at("add"), AddConfig::new())?;
        Ok(Self {
            attention_norm,
            query,
            key,
            value,
            attention: attention.init(device),
            dense,
            attention_add: attention_add.init(device),
            norm,
            ff,
            add: add.init(device),
        })
    }

    /// Applies the layer, which then keeps its keys and values in `kept`.
    ///
    /// # Shapes
    /// `x` and the result: `[batch, length, d_model]`
    pub fn forward(&self, x: Tensor<3>, seen: &Seen, kept: &mut Option<KeyValues>) -> Tensor<3> {
        let normalized = self.attention_norm.forward(x.clone());
        let by_heads = |layer: &Linear| self.attention.by_heads(layer.forward(normalized.clone()));
        let turned = |x: Tensor<4>| match &seen.turn {
            Some(turn) => turn.of(x),
            None => x,
        };
        let query = turned(by_heads(&self.query));
        let key = turned(by_heads(&self.key));
        let value = by_heads(&self.value);
        let all = self.attention.remember(key, value, kept);
        let added = seen.added.clone();
        let context = self.attention.forward(query, all.key, all.value, added);
        let x = self.attention_add.forward(self.dense.forward(context), x);
        let y = self.ff.forward(self.norm.forward(x.clone()));
        self.add.forward(y, x)
    }
}

impl Norm {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::LayerNorm(norm) => norm.forward(x),
            Self::RmsNorm(norm) => norm.forward(x),
        }
    }
}

impl FeedForward {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Plain(Plain {
                up,
                activation,
                down,
            }) => down.forward(activation.forward(up.forward(x))),
            Self::Gated(gated) => {
                let gate = gated.activation.forward(gated.gate.forward(x.clone()));
                let product = gated.product.forward(gate, gated.up.forward(x));
                gated.down.forward(product)
            }
        }
    }
}
