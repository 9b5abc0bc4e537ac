//! `config.json`, as `transformers` writes it.

use std::path::Path;

use burn::nn::activation::ActivationConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DecoderConfig, DecoderKind, EncoderConfig, Family, LlamaKind, Rotary, Stretch};
use crate::Error;

/// What a folder's `config.json` says of its network.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Whose names the parameters have.
    pub family: Family,
    /// The network without its head.
    pub architecture: Architecture,
    /// Whether the language model's head is the table of tokens.
    pub tied: bool,
    /// Layers in a group of ALBERT's.
    pub(crate) inner: usize,
    /// What is to be said of the file, a line each.
    pub(crate) notes: Vec<String>,
}

/// A network without its head.
#[derive(Debug, Clone)]
pub enum Architecture {
    /// All see all.
    Encoder(EncoderConfig),
    /// None sees what comes.
    Decoder(DecoderConfig),
}

/// Kinds that `model_type` may name.
const KNOWN: &str = "albert, bert, gpt2, llama, mistral or qwen2";

impl ModelConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, names no family that is known, lacks a field, or has one that cannot be
    /// built; the message names file and field.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let config = Self::parse(&text);
        config.map_err(|error| Error::file(path, error))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// As [`read`](Self::read); the message names the field.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text).map_err(|e| Error::field("text", e))?;
        let Some(kind) = value["model_type"].as_str() else {
            return Err(Error::field(
                "model_type",
                format!("is missing, expected {KNOWN}"),
            ));
        };
        let config = match kind {
            "albert" => albert(of(&value)?),
            "bert" => bert(of(&value)?),
            "gpt2" => gpt2(of(&value)?),
            "llama" => llama(of(&value)?, false),
            "mistral" => llama(of(&value)?, false),
            "qwen2" => llama(of(&value)?, true),
            other => {
                let message = format!("is `{other}`, expected {KNOWN}");
                Err(Error::field("model_type", message))
            }
        };
        Ok(Self {
            notes: quantized(&value["quantization_config"])?,
            ..config?
        })
    }

    /// Tokens that the network knows.
    pub fn vocabulary(&self) -> usize {
        match &self.architecture {
            Architecture::Encoder(config) => config.vocabulary,
            Architecture::Decoder(config) => config.vocabulary,
        }
    }

    /// Positions that it knows.
    pub fn positions(&self) -> usize {
        match &self.architecture {
            Architecture::Encoder(config) => config.positions,
            Architecture::Decoder(config) => config.positions,
        }
    }
}

/// What is to be said of weights that are packed.
///
/// # Errors
/// If they are packed in another way than compressed-tensors'.
fn quantized(config: &Value) -> Result<Vec<String>, Error> {
    if config.is_null() {
        return Ok(Vec::new());
    }
    let method = config["quant_method"].as_str().unwrap_or("missing");
    if method != "compressed-tensors" {
        let message = format!("is {method}, expected compressed-tensors");
        return Err(Error::field("quantization_config.quant_method", message));
    }
    let groups = config["config_groups"].as_object();
    let mut groups = groups.into_iter().flat_map(|groups| groups.values());
    let mut tiles = groups
        .clone()
        .map(|group| &group["weights"]["block_structure"]);
    if let Some(tile) =
        tiles.find(|tile| !tile.is_null() && **tile != serde_json::json!([128, 128]))
    {
        let message = format!("is {tile}, expected [128,128]");
        return Err(Error::field("quantization_config.block_structure", message));
    }
    let of_inputs = groups.any(|group| !group["input_activations"].is_null());
    let note =
        "config.json quantizes what layers read, too; that is in float unless a plan says it";
    Ok(of_inputs.then(|| note.to_string()).into_iter().collect())
}

fn of<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    serde_json::from_value(value.clone()).map_err(|error| Error::field("config", error))
}

/// Of ALBERT and BERT.
#[derive(Deserialize)]
struct EncoderJson {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "epsilon_of_bert")]
    layer_norm_eps: f64,
    hidden_act: Option<String>,
    embedding_size: Option<usize>,
    num_hidden_groups: Option<usize>,
    inner_group_num: Option<usize>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn two() -> usize {
    2
}

fn epsilon_of_bert() -> f64 {
    1e-12
}

impl EncoderJson {
    fn config(&self, order: Vec<usize>, activation: &str) -> Result<EncoderConfig, Error> {
        let kind = self.position_embedding_type.as_deref();
        expected(
            "position_embedding_type",
            kind.unwrap_or("absolute"),
            "absolute",
        )?;
        if self.is_decoder {
            return Err(Error::field("is_decoder", "is true, expected false"));
        }
        heads(self.hidden_size, self.num_attention_heads)?;
        let activation = self.hidden_act.as_deref().unwrap_or(activation);
        Ok(EncoderConfig {
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
            types: self.type_vocab_size,
            d_embedding: self.embedding_size.unwrap_or(self.hidden_size),
            d_model: self.hidden_size,
            d_ff: self.intermediate_size,
            n_heads: self.num_attention_heads,
            order,
            activation: activated("hidden_act", activation)?,
            epsilon: self.layer_norm_eps,
        })
    }
}

fn albert(json: EncoderJson) -> Result<ModelConfig, Error> {
    let groups = json.num_hidden_groups.unwrap_or(1);
    let inner = json.inner_group_num.unwrap_or(1);
    let layers = json.num_hidden_layers;
    let at_least_one = [("num_hidden_groups", groups), ("inner_group_num", inner)];
    for (field, count) in at_least_one {
        if count == 0 {
            return Err(Error::field(field, "is 0, expected at least 1"));
        }
    }
    // `int(i / (layers / groups))` of the original, in its floating point.
    let group = |step: usize| (step as f64 / (layers as f64 / groups as f64)) as usize;
    let order = (0..layers).flat_map(|step| (0..inner).map(move |i| group(step) * inner + i));
    let mut config = json.config(order.collect(), "gelu_new")?;
    config.d_embedding = json.embedding_size.unwrap_or(128);
    Ok(ModelConfig {
        family: Family::Albert,
        architecture: Architecture::Encoder(config),
        tied: true,
        inner,
        notes: Vec::new(),
    })
}

fn bert(json: EncoderJson) -> Result<ModelConfig, Error> {
    let mut config = json.config((0..json.num_hidden_layers).collect(), "gelu")?;
    config.d_embedding = json.hidden_size;
    Ok(ModelConfig {
        family: Family::Bert,
        architecture: Architecture::Encoder(config),
        tied: true,
        inner: 1,
        notes: Vec::new(),
    })
}

#[derive(Deserialize)]
struct Gpt2Json {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: Option<String>,
    #[serde(default = "epsilon_of_gpt2")]
    layer_norm_epsilon: f64,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn epsilon_of_gpt2() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

fn gpt2(json: Gpt2Json) -> Result<ModelConfig, Error> {
    if !json.scale_attn_weights {
        return Err(Error::field(
            "scale_attn_weights",
            "is false, expected true",
        ));
    }
    if json.scale_attn_by_inverse_layer_idx {
        let field = "scale_attn_by_inverse_layer_idx";
        return Err(Error::field(field, "is true, expected false"));
    }
    heads(json.n_embd, json.n_head)?;
    let activation = json.activation_function.as_deref().unwrap_or("gelu_new");
    let activation = activated("activation_function", activation)?;
    let config = DecoderConfig {
        vocabulary: json.vocab_size,
        positions: json.n_positions,
        d_model: json.n_embd,
        d_ff: json.n_inner.unwrap_or(4 * json.n_embd),
        n_layers: json.n_layer,
        n_heads: json.n_head,
        n_heads_kv: json.n_head,
        d_head: json.n_embd / json.n_head,
        epsilon: json.layer_norm_epsilon,
        kind: DecoderKind::Gpt2(activation),
    };
    Ok(ModelConfig {
        family: Family::Gpt2,
        architecture: Architecture::Decoder(config),
        tied: json.tie_word_embeddings,
        inner: 1,
        notes: Vec::new(),
    })
}

#[derive(Deserialize)]
struct LlamaJson {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "positions_of_llama")]
    max_position_embeddings: usize,
    #[serde(default = "epsilon_of_llama")]
    rms_norm_eps: f64,
    hidden_act: Option<String>,
    rope_theta: Option<f32>,
    rope_scaling: Option<RopeJson>,
    /// What newer files have in place of the two.
    rope_parameters: Option<RopeJson>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    #[serde(default)]
    tie_word_embeddings: bool,
}

#[derive(Deserialize)]
struct RopeJson {
    rope_theta: Option<f32>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<f32>,
}

fn positions_of_llama() -> usize {
    2048
}

fn epsilon_of_llama() -> f64 {
    1e-6
}

impl LlamaJson {
    fn rotary(&self, d_head: usize) -> Result<Rotary, Error> {
        let rope = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let theta = rope.and_then(|rope| rope.rope_theta).or(self.rope_theta);
        let stretch = match rope {
            Some(rope) => rope.stretch()?,
            None => None,
        };
        Ok(Rotary::new(d_head, theta.unwrap_or(10_000.0), stretch))
    }

    /// Whether positions see only so many before them.
    fn check_window(&self) -> Result<(), Error> {
        let used = self.use_sliding_window.unwrap_or(true);
        let narrow = |&window: &usize| window < self.max_position_embeddings;
        match self.sliding_window.filter(narrow).filter(|_| used) {
            None => Ok(()),
            Some(window) => {
                let positions = self.max_position_embeddings;
                let message = format!("is {window}, expected none, or at least {positions}");
                Err(Error::field("sliding_window", message))
            }
        }
    }
}

impl RopeJson {
    fn stretch(&self) -> Result<Option<Stretch>, Error> {
        let kind = self.rope_type.as_deref().unwrap_or("default");
        if kind == "default" {
            return Ok(None);
        }
        if kind != "llama3" {
            let message = format!("is `{kind}`, expected default or llama3");
            return Err(Error::field("rope_type", message));
        }
        let of = |field: &str, value: Option<f32>| {
            value.ok_or_else(|| Error::field(field, "is missing, which llama3 has"))
        };
        Ok(Some(Stretch {
            factor: of("factor", self.factor)?,
            low: of("low_freq_factor", self.low_freq_factor)?,
            high: of("high_freq_factor", self.high_freq_factor)?,
            context: of(
                "original_max_position_embeddings",
                self.original_max_position_embeddings,
            )?,
        }))
    }
}

/// `query_bias` where the family has biases there, whatever the file says.
fn llama(json: LlamaJson, query_bias: bool) -> Result<ModelConfig, Error> {
    expected(
        "hidden_act",
        json.hidden_act.as_deref().unwrap_or("silu"),
        "silu",
    )?;
    json.check_window()?;
    let asks = json.num_attention_heads;
    let d_head = match json.head_dim {
        Some(d_head) => d_head,
        None => heads(json.hidden_size, asks)?,
    };
    if !d_head.is_multiple_of(2) || d_head == 0 {
        return Err(Error::field(
            "head_dim",
            format!("is {d_head}, expected an even number"),
        ));
    }
    let biased = json.attention_bias.unwrap_or(false);
    let kind = LlamaKind {
        rotary: json.rotary(d_head)?,
        query_bias: biased || query_bias,
        output_bias: biased && !query_bias,
        ff_bias: json.mlp_bias.unwrap_or(false),
    };
    let config = DecoderConfig {
        vocabulary: json.vocab_size,
        positions: json.max_position_embeddings,
        d_model: json.hidden_size,
        d_ff: json.intermediate_size,
        n_layers: json.num_hidden_layers,
        n_heads: asks,
        n_heads_kv: json.num_key_value_heads.unwrap_or(asks),
        d_head,
        epsilon: json.rms_norm_eps,
        kind: DecoderKind::Llama(kind),
    };
    Ok(ModelConfig {
        family: Family::Llama,
        architecture: Architecture::Decoder(config),
        tied: json.tie_word_embeddings,
        inner: 1,
        notes: Vec::new(),
    })
}

/// Features of a head.
fn heads(features: usize, heads: usize) -> Result<usize, Error> {
    if heads > 0 && features.is_multiple_of(heads) {
        return Ok(features / heads);
    }
    let message = format!("is {heads}, expected a divisor of the {features} features");
    Err(Error::field("num_attention_heads", message))
}

fn expected(field: &str, found: &str, wanted: &str) -> Result<(), Error> {
    match found == wanted {
        true => Ok(()),
        false => Err(Error::field(
            field,
            format!("is `{found}`, expected {wanted}"),
        )),
    }
}

/// The activation that `transformers` calls so.
fn activated(field: &str, name: &str) -> Result<ActivationConfig, Error> {
    Ok(match name {
        "gelu" => ActivationConfig::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" => ActivationConfig::GeluApproximate,
        "relu" => ActivationConfig::Relu,
        "tanh" => ActivationConfig::Tanh,
        other => {
            let known = "gelu, gelu_new, gelu_pytorch_tanh, relu or tanh";
            return Err(Error::field(
                field,
                format!("is `{other}`, expected {known}"),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        ModelConfig::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_family_is_refused() {
        assert_eq!(
            refused(r#"{ "model_type": "t5" }"#),
            "model_type: is `t5`, expected albert, bert, gpt2, llama, mistral or qwen2"
        );
        let bare = refused(r#"{ "model_type": "gpt2" }"#);
        assert_eq!(bare, "config: missing field `vocab_size`");
    }

    #[test]
    fn packed_weights_of_others_are_refused() {
        let with = |method: &str| {
            let quantization = format!(
                r#"{{ "quant_method": "{method}", "config_groups": {{ "group_0": {{ "input_activations": {{}} }} }} }}"#
            );
            let text = format!(
                r#"{{ "model_type": "gpt2", "vocab_size": 9, "n_positions": 4, "n_embd": 8, "n_layer": 1,
                    "n_head": 2, "quantization_config": {quantization} }}"#
            );
            ModelConfig::parse(&text)
        };
        let refused = with("gptq").unwrap_err().to_string();
        assert_eq!(
            refused,
            "quantization_config.quant_method: is gptq, expected compressed-tensors"
        );
        assert_eq!(with("compressed-tensors").unwrap().notes.len(), 1);
    }

    /// Twelve steps of four groups of two layers: three of the first group, and so on.
    #[test]
    fn alberts_steps_share_layers() {
        let text = r#"{ "model_type": "albert", "vocab_size": 9, "hidden_size": 8,
            "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 8,
            "max_position_embeddings": 4, "num_hidden_groups": 4, "inner_group_num": 2 }"#;
        let config = ModelConfig::parse(text).unwrap();
        let Architecture::Encoder(encoder) = config.architecture else {
            panic!("expected an encoder")
        };
        assert_eq!(encoder.order.len(), 24);
        assert_eq!(encoder.order[..8], [0, 1, 0, 1, 0, 1, 2, 3]);
        assert_eq!(encoder.order.last(), Some(&7));
    }
}
