//! What each family calls its parameters.

/// The families that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Lan et al., arXiv 1909.11942.
    Albert,
    /// Devlin et al., arXiv 1810.04805.
    Bert,
    /// Radford et al., 2019.
    Gpt2,
    /// Touvron et al., arXiv 2302.13971, and those of its kind.
    Llama,
}

/// Where a parameter is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its name there.
    pub(crate) key: String,
    /// Which of how many equal parts of the columns, where several parameters are one there.
    pub(super) part: Option<[usize; 2]>,
    /// Whether a matrix has a row for each result there, as PyTorch's `Linear` has.
    pub(super) by_results: bool,
}

/// Names of modules: ours, theirs.
type Names = &'static [(&'static str, &'static str)];

const ALBERT: Names = &[
    ("word", "embeddings.word_embeddings"),
    ("position", "embeddings.position_embeddings"),
    ("token_type", "embeddings.token_type_embeddings"),
    ("norm", "embeddings.LayerNorm"),
    ("mapping", "encoder.embedding_hidden_mapping_in"),
];

const ALBERT_LAYER: Names = &[
    ("query", "attention.query"),
    ("key", "attention.key"),
    ("value", "attention.value"),
    ("dense", "attention.dense"),
    ("attention_norm", "attention.LayerNorm"),
    ("up", "ffn"),
    ("down", "ffn_output"),
    ("norm", "full_layer_layer_norm"),
];

const BERT_LAYER: Names = &[
    ("query", "attention.self.query"),
    ("key", "attention.self.key"),
    ("value", "attention.self.value"),
    ("dense", "attention.output.dense"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("up", "intermediate.dense"),
    ("down", "output.dense"),
    ("norm", "output.LayerNorm"),
];

const GPT2: Names = &[
    ("word", "wte"),
    ("position", "wpe"),
    ("norm.LayerNorm", "ln_f"),
];

const GPT2_LAYER: Names = &[
    ("attention_norm.LayerNorm", "ln_1"),
    ("query", "attn.c_attn"),
    ("key", "attn.c_attn"),
    ("value", "attn.c_attn"),
    ("dense", "attn.c_proj"),
    ("norm.LayerNorm", "ln_2"),
    ("ff.Plain.up", "mlp.c_fc"),
    ("ff.Plain.down", "mlp.c_proj"),
];

const LLAMA: Names = &[("word", "embed_tokens"), ("norm.RmsNorm", "norm")];

const LLAMA_LAYER: Names = &[
    ("attention_norm.RmsNorm", "input_layernorm"),
    ("query", "self_attn.q_proj"),
    ("key", "self_attn.k_proj"),
    ("value", "self_attn.v_proj"),
    ("dense", "self_attn.o_proj"),
    ("norm.RmsNorm", "post_attention_layernorm"),
    ("ff.Gated.gate", "mlp.gate_proj"),
    ("ff.Gated.up", "mlp.up_proj"),
    ("ff.Gated.down", "mlp.down_proj"),
];

impl Family {
    /// What is before every name of the network without its head; files that hold that alone lack it.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Albert => "albert.",
            Self::Bert => "bert.",
            Self::Gpt2 => "transformer.",
            Self::Llama => "model.",
        }
    }

    fn names(self) -> [Names; 2] {
        match self {
            Self::Albert => [ALBERT, ALBERT_LAYER],
            Self::Bert => [&ALBERT[..4], BERT_LAYER],
            Self::Gpt2 => [GPT2, GPT2_LAYER],
            Self::Llama => [LLAMA, LLAMA_LAYER],
        }
    }

    /// The name of a layer, of which ALBERT has `inner` in a group.
    fn layer(self, index: usize, inner: usize) -> String {
        match self {
            Self::Albert => {
                let [group, layer] = [index / inner, index % inner];
                format!("encoder.albert_layer_groups.{group}.albert_layers.{layer}")
            }
            Self::Bert => format!("encoder.layer.{index}"),
            Self::Gpt2 => format!("h.{index}"),
            Self::Llama => format!("layers.{index}"),
        }
    }

    /// Where the parameter `name` of the module at `path` is, of a network with `inner` layers in a
    /// group; nothing for a module that the family lacks.
    pub(crate) fn place(self, path: &str, name: &str, inner: usize) -> Option<Place> {
        let name = match name {
            "gamma" => "weight",
            "beta" => "bias",
            name => name,
        };
        let place = |key: String| Place {
            key: format!("{key}.{name}"),
            part: None,
            by_results: true,
        };
        let head = match path {
            "outputs" => Some("qa_outputs"),
            "head" => Some("lm_head"),
            _ => None,
        };
        if let Some(head) = head {
            return Some(place(head.into()));
        }
        let (_, path) = path.split_once('.')?;
        let [outside, inside] = self.names();
        let of = |names: Names, path: &str| {
            let found = names.iter().find(|(ours, _)| *ours == path);
            found.map(|(_, theirs)| *theirs)
        };
        let prefix = self.prefix();
        let Some(path) = path.strip_prefix("layers.") else {
            return Some(place(format!("{prefix}{}", of(outside, path)?)));
        };
        let (index, module) = path.split_once('.')?;
        let layer = self.layer(index.parse().ok()?, inner);
        let found = place(format!("{prefix}{layer}.{}", of(inside, module)?));
        let part = match (self, module) {
            (Self::Gpt2, "query") => Some([0, 3]),
            (Self::Gpt2, "key") => Some([1, 3]),
            (Self::Gpt2, "value") => Some([2, 3]),
            _ => None,
        };
        let by_results = self != Self::Gpt2;
        Some(Place {
            part,
            by_results,
            ..found
        })
    }

    /// Whether a tensor of a file belongs to another head than ours, so that it may stay beside ours. Of GPT-2 and
    /// Llama there is none: masks and tables are computed, and the head is ours.
    pub(crate) fn is_other(self, key: &str) -> bool {
        match self {
            Self::Albert | Self::Bert => self.is_unused(key) && !key.ends_with("position_ids"),
            Self::Gpt2 | Self::Llama => false,
        }
    }

    /// Whether a tensor of a file means nothing to what reads it: tables and masks that are computed, and
    /// other heads.
    pub(super) fn is_unused(self, key: &str) -> bool {
        let key = key.strip_prefix(self.prefix()).unwrap_or(key);
        let parts: &[&str] = match self {
            Self::Albert => &[
                "embeddings.position_ids",
                "pooler",
                "predictions",
                "sop_classifier",
            ],
            Self::Bert => &["embeddings.position_ids", "pooler", "cls"],
            Self::Gpt2 => {
                let last = key.rsplit_once("attn.").map(|(_, name)| name);
                return key == "lm_head.weight" || matches!(last, Some("bias" | "masked_bias"));
            }
            Self::Llama => {
                return key == "lm_head.weight" || key.ends_with("rotary_emb.inv_freq");
            }
        };
        let under = |part: &&str| key == *part || key.starts_with(&format!("{part}."));
        parts.iter().any(under)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_transformers() {
        let key = |family: Family, path: &str, name: &str| {
            let place = family.place(path, name, 2).unwrap();
            place.key
        };
        assert_eq!(
            key(Family::Albert, "encoder.layers.3.norm", "gamma"),
            "albert.encoder.albert_layer_groups.1.albert_layers.1.full_layer_layer_norm.weight"
        );
        assert_eq!(
            key(Family::Bert, "encoder.layers.0.query", "bias"),
            "bert.encoder.layer.0.attention.self.query.bias"
        );
        assert_eq!(key(Family::Llama, "head", "weight"), "lm_head.weight");
        let value = Family::Gpt2
            .place("decoder.layers.1.value", "weight", 1)
            .unwrap();
        assert_eq!(value.key, "transformer.h.1.attn.c_attn.weight");
        assert_eq!((value.part, value.by_results), (Some([2, 3]), false));
        assert!(Family::Bert.place("encoder.mapping", "weight", 1).is_none());
    }
}
