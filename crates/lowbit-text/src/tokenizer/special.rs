//! Which tokens of a tokenizer are special.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::Error;

/// The ids of the tokens that have a role of their own; `None` for a role that the tokenizer has no token for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// What begins a sequence that is classified, and stands for "no answer": `[CLS]`.
    pub cls: Option<u32>,
    /// What ends each text of a sequence: `[SEP]`.
    pub sep: Option<u32>,
    /// What fills a sequence up to its batch's length.
    pub pad: Option<u32>,
    /// What begins a text that is written on.
    pub bos: Option<u32>,
    /// What ends a text.
    pub eos: Option<u32>,
    /// What stands for anything the vocabulary does not have.
    pub unk: Option<u32>,
    /// What stands for a word to be guessed.
    pub mask: Option<u32>,
}

/// The JSON files of a model folder that name its special tokens, those that it has, in the order they count.
pub(super) struct Settings(Vec<(PathBuf, Map<String, Value>)>);

impl Settings {
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let names = ["tokenizer_config.json", "special_tokens_map.json"];
        let files = names.map(|name| folder.join(name));
        let there = files.into_iter().filter(|path| path.exists());
        let read = there.map(|path| {
            let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
            let fields = serde_json::from_slice(&bytes).map_err(|error| Error::file(&path, error));
            Ok((path, fields?))
        });
        Ok(Self(read.collect::<Result<_, Error>>()?))
    }

    /// The special tokens' ids. Where no file names a role's token, it is the one that such tokenizers
    /// usually have, if the tokenizer holds it as a special token.
    pub(super) fn ids(&self, tokenizer: &Tokenizer) -> Result<SpecialIds, Error> {
        let find = |role: &str, usual: &[&str]| match self.named(role)? {
            Some((path, token)) => {
                let id = tokenizer.token_to_id(&token);
                let missing = || {
                    Error::file(
                        path,
                        format!("{role} is `{token}`, which tokenizer.json does not have"),
                    )
                };
                id.map(Some).ok_or_else(missing)
            }
            None => Ok(usual_id(tokenizer, usual)),
        };
        Ok(SpecialIds {
            cls: find("cls_token", &["[CLS]"])?,
            sep: find("sep_token", &["[SEP]"])?,
            pad: find("pad_token", &["[PAD]", "<pad>"])?,
            bos: find("bos_token", &["<s>", "<|begin_of_text|>", "<|endoftext|>"])?,
            eos: find("eos_token", &["</s>", "<|end_of_text|>", "<|endoftext|>"])?,
            unk: find("unk_token", &["[UNK]", "<unk>"])?,
            mask: find("mask_token", &["[MASK]", "<mask>"])?,
        })
    }

    /// The token that has a role, and the file that says so. `transformers` writes it as a string or as an object
    /// with its `content`.
    fn named(&self, role: &str) -> Result<Option<(&Path, String)>, Error> {
        for (path, fields) in &self.0 {
            let token = match fields.get(role) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(object)) => object.get("content"),
                token => token,
            };
            let token = token.and_then(Value::as_str).ok_or_else(|| {
                Error::file(
                    path,
                    format!("{role} is neither a string nor an object with `content`"),
                )
            })?;
            return Ok(Some((path, token.to_owned())));
        }
        Ok(None)
    }

    /// `model_max_length`, which `transformers` sets to about 1e30 where a model has none.
    pub(super) fn max_length(&self) -> Option<usize> {
        let mut fields = self.0.iter().map(|(_, fields)| fields);
        let length = fields.find_map(|fields| fields.get("model_max_length")?.as_f64())?;
        (1.0..1e9).contains(&length).then_some(length as usize)
    }
}

fn usual_id(tokenizer: &Tokenizer, names: &[&str]) -> Option<u32> {
    let added = tokenizer.get_added_tokens_decoder();
    let ids = names.iter().filter_map(|name| tokenizer.token_to_id(name));
    let mut special = ids.filter(|id| added.get(id).is_some_and(|token| token.special));
    special.next()
}
