//! The files that tests/fixtures/make_squad.py wrote.

use std::ops::Range;
use std::path::PathBuf;

use lowbit_text::Tokenizer;
use serde::de::DeserializeOwned;

pub(crate) fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/squad");
    folder.join(name)
}

pub(crate) fn read<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The names of the folders with tokenizers.
pub(crate) const TOKENIZERS: [&str; 3] = ["wordpiece", "unigram", "bytes"];

pub(crate) fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::open(path(name)).unwrap()
}

/// A span in characters, as Python counts them.
pub(crate) fn characters(text: &str, span: &Range<usize>) -> (usize, usize) {
    let count = |bytes: usize| text[..bytes].chars().count();
    (count(span.start), count(span.end))
}
