//! Text to tokens and back, by the `tokenizer.json` of a Hugging Face model folder.

mod special;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer as Inner;

use crate::Error;

pub use special::SpecialIds;

/// The file that a tokenizer is read from.
const FILE: &str = "tokenizer.json";

/// What turns text into a model's token ids and back: the pipeline of normalizer, pre-tokenizer, model
/// (WordPiece, Unigram, BPE, ...), template of special tokens and decoder that a model folder's `tokenizer.json`
/// describes, run by the `tokenizers` crate.
///
/// A truncation or padding that the file may hold is left out: lengths are the caller's.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Inner,
    file: PathBuf,
    special: SpecialIds,
    max_length: Option<usize>,
}

/// A text, or a pair of texts, as tokens. All fields have one entry a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The tokens' ids in the vocabulary.
    pub ids: Vec<u32>,
    /// The tokens' types, as the tokenizer's template sets them: of BERT and ALBERT, 0 in the first text and
    /// 1 in the second.
    pub type_ids: Vec<u32>,
    /// Where the token is in the text it is of, in bytes, always at the bounds of characters: `&text[span]` is
    /// what the token stands for. Of a token that the tokenizer has added, `0..0`.
    pub spans: Vec<Range<usize>>,
    /// Whether the token was added by the tokenizer, such as `[CLS]`.
    pub special: Vec<bool>,
    /// Which text the token is of: 0, 1 or, of an added one, `None`.
    pub sequences: Vec<Option<usize>>,
}

impl Encoding {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Tokenizer {
    /// The tokenizer of a model folder: its `tokenizer.json`, and the names of its special tokens from
    /// `tokenizer_config.json` or `special_tokens_map.json` where they are there.
    ///
    /// # Errors
    ///
    /// A folder without `tokenizer.json`, a file that cannot be read or does not hold a tokenizer, and a special
    /// token that is not in the vocabulary.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let file = folder.join(FILE);
        if !file.exists() {
            return Err(Error::file(
                folder,
                format!(
                    "no {FILE} here; transformers writes it with \
                     AutoTokenizer.from_pretrained(MODEL, use_fast=True).save_pretrained(FOLDER)"
                ),
            ));
        }
        let bytes = std::fs::read(&file).map_err(Error::io(&file))?;
        let mut inner = Inner::from_bytes(&bytes).map_err(|error| {
            Error::file(&file, format!("does not hold a fast tokenizer: {error}"))
        })?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| Error::file(&file, error))?;
        let settings = special::Settings::read(folder)?;
        Ok(Self {
            special: settings.ids(&inner)?,
            max_length: settings.max_length(),
            inner,
            file,
        })
    }

    /// The tokens of one text, with the special tokens of the tokenizer's template.
    ///
    /// # Errors
    ///
    /// A text that the tokenizer has no token for, where it has none for what is unknown either.
    pub fn encode(&self, text: &str) -> Result<Encoding, Error> {
        let found = self.inner.encode_char_offsets(text, true);
        let found = found.map_err(|error| Error::file(&self.file, error))?;
        Ok(convert(&found, &[text]))
    }

    /// The tokens of two texts in one sequence, such as of a question and the context it is asked of.
    ///
    /// # Errors
    ///
    /// Those of [`encode`](Self::encode).
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<Encoding, Error> {
        let found = self.inner.encode_char_offsets((first, second), true);
        let found = found.map_err(|error| Error::file(&self.file, error))?;
        Ok(convert(&found, &[first, second]))
    }

    /// The text that tokens stand for, as the tokenizer's decoder joins it. Special tokens are left out, and so
    /// are ids that the vocabulary does not have, which a model of more rows than its tokenizer has tokens may
    /// give.
    ///
    /// # Errors
    ///
    /// A decoder that fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let text = self.inner.decode(ids, true);
        text.map_err(|error| Error::file(&self.file, error))
    }

    /// The ids of the special tokens.
    pub fn special(&self) -> &SpecialIds {
        &self.special
    }

    /// The longest sequence the model was made for, in tokens, where `tokenizer_config.json` says it
    /// (`model_max_length`).
    pub fn max_length(&self) -> Option<usize> {
        self.max_length
    }

    /// The id of a token of the vocabulary, such as `[CLS]`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token with an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// One more than the largest id that the tokenizer can give: the rows that an embedding needs.
    pub fn vocabulary_size(&self) -> usize {
        let ids = self.inner.get_vocab(true).into_values();
        ids.max().map_or(0, |largest| largest as usize + 1)
    }

    /// Whether both make the same numbers of the same tokens.
    pub fn has_tokens_of(&self, other: &Self) -> bool {
        self.inner.get_vocab(true) == other.inner.get_vocab(true)
    }

    /// Checks that a model whose embedding has `rows` rows (`vocab_size` of its `config.json`) knows every id of
    /// the tokenizer. A model may have more rows than the tokenizer has tokens.
    ///
    /// # Errors
    ///
    /// A tokenizer that can give ids which the model lacks.
    pub fn check_vocabulary(&self, rows: usize) -> Result<(), Error> {
        let size = self.vocabulary_size();
        if size <= rows {
            return Ok(());
        }
        Err(Error::file(
            &self.file,
            format!(
                "gives ids up to {}, but the model's vocab_size is {rows}; the tokenizer is of another model",
                size - 1
            ),
        ))
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("file", &self.file)
            .field("vocabulary_size", &self.vocabulary_size())
            .field("special", &self.special)
            .finish_non_exhaustive()
    }
}

/// The crate's own encoding of what the `tokenizers` crate found in `texts`.
fn convert(found: &tokenizers::Encoding, texts: &[&str]) -> Encoding {
    let starts: Vec<Vec<usize>> = texts.iter().map(|text| character_starts(text)).collect();
    let sequences = found.get_sequence_ids();
    let spans = found.get_offsets().iter().zip(&sequences);
    Encoding {
        ids: found.get_ids().to_vec(),
        type_ids: found.get_type_ids().to_vec(),
        spans: spans
            .map(|(&(start, end), sequence)| {
                let starts = sequence.and_then(|text| starts.get(text));
                starts.map_or(0..0, |starts| byte(starts, start)..byte(starts, end))
            })
            .collect(),
        special: (found.get_special_tokens_mask().iter())
            .map(|&mask| mask == 1)
            .collect(),
        sequences,
    }
}

/// Where each character of a text begins, in bytes, and where the text ends.
pub(crate) fn character_starts(text: &str) -> Vec<usize> {
    let starts = text.char_indices().map(|(start, _)| start);
    starts.chain([text.len()]).collect()
}

fn byte(starts: &[usize], character: usize) -> usize {
    starts[character.min(starts.len() - 1)]
}
