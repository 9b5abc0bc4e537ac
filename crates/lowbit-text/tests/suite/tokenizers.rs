//! Texts as tokens and back, against `transformers`.

use std::collections::HashMap;

use lowbit_text::{Encoding, SpecialIds, Tokenizer};
use proptest::prelude::*;
use serde::Deserialize;

use crate::reference::{TOKENIZERS, characters, path, read, tokenizer};

#[derive(Deserialize)]
struct Expected {
    special: HashMap<String, Option<u32>>,
    vocabulary_size: usize,
    encodings: Vec<Encoded>,
}

#[derive(Deserialize)]
struct Encoded {
    texts: Vec<String>,
    ids: Vec<u32>,
    type_ids: Vec<u32>,
    offsets: Vec<(usize, usize)>,
    special: Vec<u8>,
    sequences: Vec<Option<usize>>,
    decoded: String,
}

fn expected() -> HashMap<String, Expected> {
    read("encodings.json")
}

#[test]
fn texts_and_pairs_become_the_tokens_of_transformers() {
    for (name, expected) in expected() {
        let tokenizer = tokenizer(&name);
        for case in expected.encodings {
            let found = match case.texts.as_slice() {
                [text] => tokenizer.encode(text).unwrap(),
                [first, second] => tokenizer.encode_pair(first, second).unwrap(),
                _ => unreachable!(),
            };
            let place = format!("{name} {:?}", case.texts);
            assert_eq!(found.ids, case.ids, "{place}");
            assert_eq!(found.type_ids, case.type_ids, "{place}");
            assert_eq!(found.sequences, case.sequences, "{place}");
            let special: Vec<u8> = found.special.iter().map(|&it| it.into()).collect();
            assert_eq!(special, case.special, "{place}");
            assert_eq!(offsets(&found, &case.texts), case.offsets, "{place}");
            assert_eq!(
                tokenizer.decode(&found.ids).unwrap(),
                case.decoded,
                "{place}"
            );
        }
    }
}

fn offsets(found: &Encoding, texts: &[String]) -> Vec<(usize, usize)> {
    let spans = found.spans.iter().zip(&found.sequences);
    spans
        .map(|(span, sequence)| match sequence {
            Some(text) => characters(&texts[*text], span),
            None => (span.start, span.end),
        })
        .collect()
}

#[test]
fn special_ids_and_sizes_are_those_of_transformers() {
    for (name, expected) in expected() {
        let tokenizer = tokenizer(&name);
        let id = |role: &str| expected.special[role];
        let special = SpecialIds {
            cls: id("cls"),
            sep: id("sep"),
            pad: id("pad"),
            bos: id("bos"),
            eos: id("eos"),
            unk: id("unk"),
            mask: id("mask"),
        };
        assert_eq!(*tokenizer.special(), special, "{name}");
        assert_eq!(
            tokenizer.vocabulary_size(),
            expected.vocabulary_size,
            "{name}"
        );
    }
    assert_eq!(tokenizer("wordpiece").max_length(), Some(512));
    assert_eq!(tokenizer("bytes").max_length(), None);
}

#[test]
fn without_its_settings_a_tokenizer_still_knows_the_usual_special_tokens() {
    let folder = tempfile::tempdir().unwrap();
    for name in TOKENIZERS {
        let file = path(name).join("tokenizer.json");
        std::fs::copy(file, folder.path().join("tokenizer.json")).unwrap();
        let found = Tokenizer::open(folder.path()).unwrap();
        let (found, with) = (*found.special(), *tokenizer(name).special());
        assert_eq!(found.cls, with.cls, "{name}");
        assert_eq!(found.sep, with.sep, "{name}");
        assert_eq!(found.pad, with.pad, "{name}");
        assert_eq!(found.mask, with.mask, "{name}");
    }
}

#[test]
fn a_model_with_fewer_rows_than_ids_is_refused_in_one_line() {
    let tokenizer = tokenizer("wordpiece");
    let size = tokenizer.vocabulary_size();
    tokenizer.check_vocabulary(size).unwrap();
    tokenizer.check_vocabulary(size + 100).unwrap();
    let message = tokenizer
        .check_vocabulary(size - 1)
        .unwrap_err()
        .to_string();
    let expected = format!(
        "gives ids up to {}, but the model's vocab_size is {}; the tokenizer is of another model",
        size - 1,
        size - 1
    );
    assert!(message.ends_with(&expected), "{message}");
    assert!(message.contains("tokenizer.json: "), "{message}");
}

#[test]
fn a_folder_without_a_usable_tokenizer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = || Tokenizer::open(folder.path()).unwrap_err().to_string();
    let missing = message();
    assert!(
        missing.contains(": no tokenizer.json here; transformers writes it"),
        "{missing}"
    );

    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, "{\n\"model\": 3}").unwrap();
    let broken = message();
    assert!(
        broken.contains("tokenizer.json: does not hold a fast tokenizer: "),
        "{broken}"
    );
    assert!(!broken.contains('\n'), "{broken}");

    std::fs::copy(path("wordpiece").join("tokenizer.json"), &file).unwrap();
    let settings = folder.path().join("tokenizer_config.json");
    std::fs::write(&settings, r#"{"cls_token": {"content": "<cls>"}}"#).unwrap();
    let other = message();
    assert!(
        other.ends_with(
            "tokenizer_config.json: cls_token is `<cls>`, which tokenizer.json does not have"
        ),
        "{other}"
    );
    std::fs::write(&settings, r#"{"cls_token": 3}"#).unwrap();
    let number = message();
    assert!(
        number.contains("cls_token is neither a string nor an object"),
        "{number}"
    );
    std::fs::write(&settings, "[]").unwrap();
    assert!(message().contains("tokenizer_config.json: "));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Spans are at the bounds of characters, and those of one text do not go back.
    #[test]
    fn spans_can_be_cut_out(first in "\\PC{0,40}", second in any::<String>()) {
        for name in TOKENIZERS {
            let found = tokenizer(name).encode_pair(&first, &second).unwrap();
            let texts = [first.as_str(), second.as_str()];
            let mut before = [0, 0];
            for (span, sequence) in found.spans.iter().zip(&found.sequences) {
                if let Some(text) = *sequence {
                    prop_assert!(texts[text].get(span.clone()).is_some(), "{name} {span:?}");
                    prop_assert!(span.start >= before[text], "{name} {span:?}");
                    before[text] = span.start;
                }
            }
        }
    }

    /// A byte-level tokenizer loses nothing.
    #[test]
    fn bytes_come_back(text in any::<String>()) {
        let tokenizer = tokenizer("bytes");
        prop_assume!(!text.contains("<|endoftext|>"));
        let ids = tokenizer.encode(&text).unwrap().ids;
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
