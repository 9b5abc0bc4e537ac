//! Folders of networks that read characters, for `transformers` and for [`ModelFolder`](crate::ModelFolder).

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::quantizers::{QUANTIZERS, quantizers};
use super::save::{file, tensors};
use super::{DecoderConfig, Family, LanguageModel};

/// A network of GPT-2's kind that reads characters.
#[derive(Debug, Clone, Copy)]
pub struct CharacterModel<'a> {
    /// The network.
    pub network: &'a LanguageModel,
    /// Its sizes.
    pub sizes: &'a DecoderConfig,
    /// The character of each class.
    pub alphabet: &'a [char],
}

impl CharacterModel<'_> {
    /// The files of a folder as `save_pretrained` writes it: `config.json` of a GPT-2 whose head has weights of
    /// its own, `model.safetensors` in float32, and a `tokenizer.json` that makes a token of each character; and
    /// what quantizers learned.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let text = |value: Value| format!("{value:#}\n").into_bytes();
        let special = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.sizes.positions,
            "clean_up_tokenization_spaces": false,
        });
        let files = [
            ("config.json", text(self.config())),
            (
                "model.safetensors",
                file(tensors(self.network, Family::Gpt2, 1)),
            ),
            ("tokenizer.json", text(self.tokenizer())),
            ("tokenizer_config.json", text(special)),
        ];
        let learned = quantizers(self.network).map(|bytes| (QUANTIZERS, bytes));
        files
            .into_iter()
            .chain(learned)
            .map(|(name, bytes)| (PathBuf::from(name), bytes))
            .collect()
    }

    fn config(&self) -> Value {
        let sizes = self.sizes;
        json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": sizes.vocabulary,
            "n_positions": sizes.positions,
            "n_embd": sizes.d_model,
            "n_inner": sizes.d_ff,
            "n_layer": sizes.n_layers,
            "n_head": sizes.n_heads,
            "activation_function": "gelu",
            "layer_norm_epsilon": sizes.epsilon,
            "tie_word_embeddings": false,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
            // No character ends a text, or begins one.
            "bos_token_id": null,
            "eos_token_id": null,
            "torch_dtype": "float32",
        })
    }

    fn tokenizer(&self) -> Value {
        let ids = self.alphabet.iter().enumerate();
        let vocabulary: Map<String, Value> =
            ids.map(|(id, c)| (c.to_string(), id.into())).collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
            "normalizer": null,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": { "Regex": "[\\s\\S]" },
                "behavior": "Isolated",
                "invert": false,
            },
            "post_processor": null,
            "decoder": { "type": "Fuse" },
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
        })
    }
}
