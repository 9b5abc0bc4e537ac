//! Transformers of text, as a person asks them.

use std::fs;
use std::path::Path;

use super::program::{error, text};

/// A folder with a network's files and a tokenizer's, and a text.
fn folder(network: &str, tokenizer: &str) -> tempfile::TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lowbit-text/tests/fixtures");
    let temporary = tempfile::tempdir().unwrap();
    let model = temporary.path().join("model");
    fs::create_dir(&model).unwrap();
    for from in [format!("models/{network}"), format!("squad/{tokenizer}")] {
        for file in fs::read_dir(fixtures.join(from)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), model.join(file.file_name())).unwrap();
        }
    }
    let told =
        "The tower was built in 1889. It stands in Paris, by the river, and is made of iron.";
    fs::write(temporary.path().join("context.txt"), told).unwrap();
    let squad = serde_json::json!({ "version": "1.1", "data": [{ "title": "Tower", "paragraphs": [{
        "context": told,
        "qas": [{ "id": "1", "question": "When?",
            "answers": [{ "text": "1889", "answer_start": 23 }] }],
    }] }] });
    fs::write(temporary.path().join("squad.json"), squad.to_string()).unwrap();
    temporary
}

#[test]
fn questions_are_answered_in_float_and_in_formats() {
    let temporary = folder("bert", "wordpiece");
    let at = temporary.path();
    let ask = "qa --model model --question When? --context context.txt --answers 3";
    let table = text(at, ask);
    assert_eq!(table.lines().count(), 4, "{table}");
    let json = text(
        at,
        &format!("{ask} --plan posit-albert --compare e4m3 int8 --json"),
    );
    let ways: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&str> = ways
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["way"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["float", "posit-albert", "e4m3", "int8"]);
    let answers = |way: usize| ways[way]["answers"][0]["score"].as_f64().unwrap();
    assert!(answers(0) != answers(1) && answers(0) != answers(2));

    let table = text(at, "qa --model model --data squad.json --compare mxfp4");
    assert!(
        table.starts_with("1 questions\n") && table.contains("\nmxfp4 "),
        "{table}"
    );
}

#[test]
fn a_text_is_expected_and_goes_on() {
    let temporary = folder("gpt2", "bytes");
    let at = temporary.path();
    let table = text(at, "lm --model model --text context.txt --compare e4m3");
    assert!(
        table.contains("perplexity") && table.contains("\ne4m3 "),
        "{table}"
    );
    let write = "lm --model model --prompt The --tokens 8 --temperature 1 --seed 3";
    let written = text(at, write);
    assert!(written.starts_with("The"), "{written}");
    assert_eq!(text(at, write), written);
}

#[test]
fn what_does_not_fit_is_told_in_one_line() {
    let temporary = folder("bert", "wordpiece");
    let at = temporary.path();
    let ask = "qa --model model --question When? --context context.txt";
    let refused = |arguments: &str| error(at, arguments);
    assert_eq!(
        refused(&format!("{ask} --max-length 99")),
        "error: max_length: is 99, the network knows 64 positions\n"
    );
    assert_eq!(
        refused("lm --model model --prompt a"),
        "error: model/config.json: model_type: is of an encoder, expected gpt2, llama, mistral or qwen2, which \
         write text\n"
    );
    assert_eq!(
        refused(&ask.replace("context.txt", "none.txt")),
        "error: none.txt: No such file or directory (os error 2)\n"
    );
    fs::remove_file(at.join("model/tokenizer.json")).unwrap();
    assert!(refused(ask).starts_with("error: model: no tokenizer.json here; "));
    fs::remove_file(at.join("model/model.safetensors")).unwrap();
    let expected =
        "error: model: holds neither model.safetensors nor model.safetensors.index.json\n";
    assert_eq!(refused(ask), expected);
}
